"""The message's formats: what is written reads back, and nothing else is read."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liaison.keys import SigningKey
from relay.protocol.canonical import LAST_SECOND, decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import MAX_ENTRY, MAX_WARRANT, AccessEntry, Event, LoggedEntry, parse_access_entry
from relay.protocol.envelope import (
    MESSAGE,
    RECEIPT,
    Delivery,
    Receipt,
    Submission,
    format_slot,
    message_payload,
    parse_delivery,
    parse_message,
    parse_slot,
    parse_submission,
    part_context,
    read_receipt,
    slot_info,
    wrap_header,
)
from relay.protocol.errors import Malformed
from relay.protocol.header import (
    MAX_ADDRESSEES,
    MAX_LABEL,
    MAX_PORTIONS,
    Addressee,
    AddresseeKind,
    Core,
    MessageHandling,
    Portion,
    Precedence,
    fresh_message_id,
    parse_core,
)
from relay.protocol.hold import MAX_REASON
from relay.protocol.suite import SUITE_1

KEY = SigningKey.generate()
CORE = Core(
    suite=SUITE_1,
    message_id=bytes(16),
    sender="anna.nowak@lo-warsaw",
    sender_device=KEY.device_id,
    sender_kid=KEY.kid,
    created=1000,
    expires=2000,
    label=b"label",
    addressees=(
        Addressee(AddresseeKind.ACTION, "jean.petit@lo-paris"),
        Addressee(AddresseeKind.INFO, "duty@lo-paris"),
    ),
    portions=(Portion(300, bytes(32), b"label"), Portion(400, bytes(32), b"lower")),
    seq=1,
    prev=bytes(32),
    directory=("relay/directory", 7, bytes(32)),
    handling=MessageHandling(Precedence.PRIORITY, Precedence.ROUTINE, 960),
)
NAMES = st.from_regex(r"[a-z]{1,8}@lo-[a-z]{1,8}", fullmatch=True)


@st.composite
def cores(draw):
    addresses = draw(st.lists(NAMES, min_size=1, max_size=5, unique=True))
    rows = [Addressee(AddresseeKind.ACTION, addresses[0])]
    rows += [Addressee(draw(st.sampled_from(AddresseeKind)), each) for each in addresses[1:]]
    action = draw(st.sampled_from(Precedence))
    created = draw(st.integers(0, LAST_SECOND - 366 * 86400))
    return replace(
        CORE,
        message_id=draw(st.binary(min_size=16, max_size=16)),
        created=created,
        expires=created + draw(st.integers(1, 366 * 86400)),
        addressees=tuple(sorted(rows, key=lambda each: (each.kind, each.address))),
        portions=tuple(
            Portion(draw(st.integers(1, 1 << 30)), draw(st.binary(min_size=32, max_size=32)), draw(st.binary()))
            for _ in range(draw(st.integers(1, 4)))
        ),
        handling=MessageHandling(
            precedence=action,
            info_precedence=Precedence(draw(st.integers(0, action))),
            dtg=60 * draw(st.integers(0, 1 << 30)),
            message_type=draw(st.sampled_from(["operation", "exercise", "project", "drill"])),
            references=tuple(draw(st.lists(st.binary(min_size=16, max_size=16), max_size=3))),
            require_ack=draw(st.booleans()),
            originator_controlled=draw(st.booleans()),
        ),
    )


@settings(max_examples=50, deadline=None)
@given(cores())
def test_a_header_reads_back(core):
    assert parse_core(core.encoded()) == core


@settings(max_examples=25, deadline=None)
@given(cores(), st.data())
def test_a_changed_octet_is_another_header_or_none(core, data):
    encoded = bytearray(core.encoded())
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= data.draw(st.integers(1, 255))
    try:
        changed = parse_core(bytes(encoded))
    except Malformed:
        return
    assert changed != core
    assert changed.encoded() == bytes(encoded)


def _handling(**fields):
    return {13: decode(CORE.encoded())[13] | {int(key[1:]): value for key, value in fields.items()}}


JEAN = [1, "jean.petit@lo-paris"]
WRONG_CORES = {
    "an unknown suite": {1: 2},
    "a suite that is a truth value": {1: True},
    "a short id": {2: bytes(15)},
    "a sender that is no address": {3: ["anna", KEY.device_id, KEY.kid]},
    "a device that is not its key's": {3: ["anna@lo-warsaw", bytes(16), KEY.kid]},
    "a sender of two": {3: ["anna@lo-warsaw", KEY.device_id]},
    "an end before its beginning": {5: 1000},
    "a life of more than a year": {5: 1001 + 366 * 86400},
    "a time that is text": {4: "now"},
    "a label that is text": {6: "label"},
    "no label": {6: None},
    "no addressees": {7: []},
    "only exempted addressees": {7: [[3, "jean.petit@lo-paris"]]},
    "an addressee of an unknown kind": {7: [[4, "jean.petit@lo-paris"]]},
    "an addressee that is no address": {7: [[1, "jean"]]},
    "an addressee twice": {7: [JEAN, JEAN]},
    "an addressee in two kinds": {7: [JEAN, [2, "jean.petit@lo-paris"]]},
    "addressees out of order": {7: [[2, "a@lo-paris"], [1, "b@lo-paris"]]},
    "too many addressees": {7: [[1, f"n{number:05}@lo-paris"] for number in range(MAX_ADDRESSEES + 1)]},
    "no portions": {8: []},
    "too many portions": {8: [[1, bytes(32), b""]] * (MAX_PORTIONS + 1)},
    "a portion of no length": {8: [[0, bytes(32), b""]]},
    "a portion with a short digest": {8: [[1, bytes(31), b""]]},
    "a portion without a label": {8: [[1, bytes(32), None]]},
    "another content algorithm": {9: "A256GCM"},
    "a number that is text": {10: "1"},
    "a number before the first": {10: 0},
    "a number below nothing": {10: -5},
    "a first with one before it": {10: 1, 11: b"\7" * 32},
    "a short link of the chain": {11: bytes(31)},
    "a directory without a root": {12: ["relay/directory", 7]},
    "a directory of nobody": {12: ["relay/directory", 0, bytes(32)]},
    "a directory that steers a terminal": {12: ["\x1b]52;c;ZXZpbA==\x07", 7, bytes(32)]},
    "a directory that turns the reading": {12: ["relay/\u202eyrotcerid", 7, bytes(32)]},
    "a directory of two words": {12: ["relay directory", 7, bytes(32)]},
    "a directory without a name": {12: ["", 7, bytes(32)]},
    "a directory of a long name": {12: ["r" * 256, 7, bytes(32)]},
    "an unknown precedence": _handling(_1=6),
    "an info precedence above the action's": _handling(_2=5),
    "a DTG within a minute": _handling(_3=961),
    "a DTG of the year 10000": _handling(_3=LAST_SECOND + 1),
    "a DTG before 1970": _handling(_3=-60),
    "a creation before 1970": {4: -1},
    "an end after the year 9999": {4: LAST_SECOND, 5: LAST_SECOND + 1},
    "an unknown type": _handling(_4="game"),
    "a type that is a list": _handling(_4=["operation"]),
    "a reference of another size": _handling(_5=[bytes(15)]),
    "an acknowledgement that is a number": _handling(_6=1),
    "an unknown handling": _handling(_8=True),
    "an unknown field": {14: b""},
}


@pytest.mark.parametrize("why", WRONG_CORES)
def test_a_header_is_malformed_with(why):
    fields = decode(CORE.encoded())
    assert parse_core(encode(fields)) == CORE
    with pytest.raises(Malformed):
        parse_core(encode(fields | WRONG_CORES[why]))


@pytest.mark.parametrize("key", range(1, 14))
def test_no_field_of_a_header_is_optional(key):
    fields = decode(CORE.encoded())
    del fields[key]
    with pytest.raises(Malformed):
        parse_core(encode(fields))


# -- slots ------------------------------------------------------------------------------------------------------------

DEVICE, REF = bytes(16), bytes(range(32))


def _slot(granted=(0, 1), **changed):
    wrapped = os.urandom(1120 + 32 * len(granted) + 16)
    encoded = format_slot(DEVICE, REF, tuple(granted), wrap_header(SUITE_1, REF), wrapped, SUITE_1)
    fields = decode(encoded)
    return encode([changed.get(str(place), value) for place, value in enumerate(fields)]) if changed else encoded


@pytest.mark.parametrize("granted", [(0,), (1,), (0, 1)])
def test_a_slot_reads_back(granted):
    encoded = _slot(granted)
    slot = parse_slot(encoded, CORE)
    assert (slot.device_id, slot.kp_ref, slot.granted, slot.encoded) == (DEVICE, REF, granted, encoded)
    again = format_slot(slot.device_id, slot.kp_ref, slot.granted, slot.protected, slot.enc + slot.wrapped, CORE.suite)
    assert again == encoded


def _wrap(place, value):
    wrap = decode(_slot())[3]
    wrap[place] = value
    return wrap


WRONG_SLOTS = {
    "another device size": _slot(**{"0": bytes(15)}),
    "a short package reference": _slot(**{"1": bytes(31)}),
    "a reference that its header does not name": _slot(**{"1": bytes(32)}),
    "no portion": _slot(**{"2": []}),
    "a portion that does not exist": _slot((0, 2)),
    "a portion before the first": _slot(**{"2": [-1, 0]}),
    "a portion twice": _slot(**{"2": [0, 0]}),
    "portions out of order": _slot(**{"2": [1, 0]}),
    "a portion that is a truth value": _slot(**{"2": [False, 1]}),
    "fewer portions than keys": _slot(**{"2": [0]}),
    "another algorithm": _slot(**{"3": _wrap(0, encode({1: -35, 4: REF}))}),
    "an unexpected header": _slot(**{"3": _wrap(1, {-4: bytes(1120), 5: b""})}),
    "no encapsulated key": _slot(**{"3": _wrap(1, {})}),
    "a short encapsulated key": _slot(**{"3": _wrap(1, {-4: bytes(1119)})}),
    "short wrapped keys": _slot(**{"3": _wrap(2, bytes(79))}),
    "a wrap of two": _slot(**{"3": [b"", {}]}),
}


@pytest.mark.parametrize("why", WRONG_SLOTS)
def test_a_slot_is_malformed_with(why):
    parse_slot(_slot(), CORE)
    with pytest.raises(Malformed):
        parse_slot(WRONG_SLOTS[why], CORE)


def test_a_slots_binding_differs_with_everything_that_it_speaks_of():
    digest, header = bytes(32), wrap_header(SUITE_1, REF)
    other = SigningKey.generate()
    infos = {
        slot_info(CORE, digest, DEVICE, KEY.kid, (0, 1), header),
        slot_info(CORE, b"\1" * 32, DEVICE, KEY.kid, (0, 1), header),
        slot_info(replace(CORE, sender_kid=other.kid), digest, DEVICE, KEY.kid, (0, 1), header),
        slot_info(CORE, digest, b"\1" * 16, KEY.kid, (0, 1), header),
        slot_info(CORE, digest, DEVICE, other.kid, (0, 1), header),
        slot_info(CORE, digest, DEVICE, KEY.kid, (0,), header),
        slot_info(CORE, digest, DEVICE, KEY.kid, (0, 1), wrap_header(SUITE_1, bytes(32))),
    }
    assert len(infos) == 7
    contexts = {
        part_context(message_id, kid, index)
        for message_id in (bytes(16), b"\1" * 16)
        for kid in (KEY.kid, other.kid)
        for index in (0, 1)
    }
    assert len(contexts) == 8


# -- messages, submissions, deliveries, receipts ----------------------------------------------------------------------


def _message(core=CORE, key=KEY, count=1, root=bytes(32)):
    return key.sign_object(MESSAGE, message_payload(core.encoded(), count, root))


def test_a_message_reads_back():
    message = parse_message(_message())
    assert (message.core, message.slot_count, message.slot_root) == (CORE, 1, bytes(32))


WRONG_MESSAGES = {
    "another signer than its sender": _message(key=SigningKey.generate()),
    "no slots": _message(count=0),
    "too many slots": _message(count=5001),
    "a count that is a truth value": _message(count=True),
    "a short root": _message(root=bytes(31)),
    "another type": KEY.sign_object(RECEIPT, message_payload(CORE.encoded(), 1, bytes(32))),
    "a header that is no octets": KEY.sign_object(MESSAGE, encode([None, 1, bytes(32)])),
    "no root": KEY.sign_object(MESSAGE, encode([CORE.encoded(), 1])),
}


@pytest.mark.parametrize("why", WRONG_MESSAGES)
def test_a_message_is_malformed_with(why):
    with pytest.raises(Malformed):
        parse_message(WRONG_MESSAGES[why])


@given(st.binary(max_size=50), st.lists(st.binary(max_size=50)), st.lists(st.binary(max_size=50)))
def test_a_submission_reads_back(message, slots, parts):
    submission = Submission(message, tuple(slots), tuple(parts))
    assert parse_submission(submission.encoded()) == submission


HASHES = st.lists(st.binary(min_size=32, max_size=32), max_size=3).map(tuple)


@given(st.binary(max_size=50), st.integers(0, 5000), st.binary(max_size=50), HASHES, HASHES)
def test_a_delivery_reads_back(message, index, slot, proof, consistency):
    release = LoggedEntry(b"entry", index, proof, b"note", consistency)
    delivery = Delivery(message, index, slot, proof, release)
    assert parse_delivery(delivery.encoded()) == delivery


@pytest.mark.parametrize(
    "wrong",
    [
        [b"", 0, b"", [], []],
        [b"", 0, b"", [b""], [b"", 0, [], b"", []]],
        [b"", 0, b"", [], [b"", 0, [bytes(31)], b"", []]],
        [b"", True, b"", [], [b"", 0, [], b"", []]],
        [b"", 0, None, [], [b"", 0, [], b"", []]],
        [b"", 0, b"", [], [b"", 0, [], b"", [], b""]],
        [b"", 0, b""],
    ],
)
def test_a_delivery_of_another_shape_is_malformed(wrong):
    with pytest.raises(Malformed):
        parse_delivery(encode(wrong))


@given(st.sampled_from(["opened", "acknowledged"]), st.integers(0, LAST_SECOND))
def test_a_receipt_reads_back(state, at):
    receipt = Receipt(bytes(16), bytes(32), KEY.device_id, state, at)
    assert read_receipt(parse_sign1(RECEIPT_BY_KEY(receipt.payload()), RECEIPT)) == receipt


def RECEIPT_BY_KEY(payload):  # noqa: N802 - signing is slow; the signature does not matter here
    protected, unprotected, _payload, signature = decode(SIGNED_RECEIPT)
    return encode([protected, unprotected, payload, signature])


SIGNED_RECEIPT = KEY.sign_object(RECEIPT, b"")


@pytest.mark.parametrize(
    "wrong",
    [
        [2, bytes(16), bytes(32), bytes(16), "opened", 0],
        [1, bytes(16), bytes(32), bytes(16), "burnt", 0],
        [1, bytes(15), bytes(32), bytes(16), "opened", 0],
        [1, bytes(16), bytes(31), bytes(16), "opened", 0],
        [1, bytes(16), bytes(32), bytes(16), "opened", None],
        [1, bytes(16), bytes(32), bytes(16), "opened", LAST_SECOND + 1],
        [1, bytes(16), bytes(32), bytes(16), "opened", -1],
        [1, bytes(16), bytes(32), bytes(16), "opened"],
        [1, bytes(16), bytes(32), bytes(16), ["opened"], 0],
        [True, bytes(16), bytes(32), bytes(16), "opened", 0],
    ],
)
def test_a_receipt_of_another_shape_is_malformed(wrong):
    with pytest.raises(Malformed):
        read_receipt(parse_sign1(RECEIPT_BY_KEY(encode(wrong)), RECEIPT))


def test_a_message_id_begins_with_its_time_and_all_else_is_noise():
    assert fresh_message_id(0x6743F1C2, bytes(range(12))) == bytes.fromhex("6743f1c2") + bytes(range(12))
    with pytest.raises(Malformed):
        fresh_message_id(0x6743F1C2, bytes(11))


@pytest.mark.parametrize("label", [5, [], "x", True, {}])
def test_an_entry_whose_label_is_no_octets_is_malformed(label):
    entry = AccessEntry(Event.ACCEPT, 1, bytes(16), bytes(16), "a@b", "b")
    for right in (None, b"", b"x"):
        assert parse_access_entry(replace(entry, label=right).encoded()).label == right
    with pytest.raises(Malformed, match="label"):
        parse_access_entry(replace(entry, label=label).encoded())


def test_a_label_leaves_room_for_the_entry_of_a_hold():
    fits = replace(CORE, label=bytes(MAX_LABEL), portions=(Portion(1, bytes(32), b"label"),))
    assert parse_core(fits.encoded()) == fits
    with pytest.raises(Malformed, match="label"):
        parse_core(replace(fits, label=bytes(MAX_LABEL + 1)).encoded())
    for longer in (
        replace(CORE, portions=(Portion(1, bytes(32), bytes(MAX_LABEL + 1)),)),
        replace(CORE, alternatives=((bytes(MAX_LABEL + 1), b""),)),
        replace(CORE, alternatives=((b"", bytes(MAX_LABEL + 1)),)),
    ):
        with pytest.raises(Malformed, match=f"label of more than {MAX_LABEL} octets|alternative of more than"):
            parse_core(longer.encoded())
    words = (bytes(5_000),) * MAX_WARRANT
    held = AccessEntry(Event.HOLD, 1, bytes(16), bytes(16), "a" * 128, "b" * 63, label=fits.label, warrant=words)
    assert len(replace(held, detail="\U0001f512" * MAX_REASON).encoded()) < MAX_ENTRY
