"""Every lie that a relay can tell a reader about what it delivers is caught, named, and gives away nothing.

What "caught" means is in `lies.py`.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from liaison import Attachment, seal
from liaison.keys import SigningKey
from lies import LUC, OPEN, SECRET, caught, double_of, send, to_both
from octets import flipped
from relay.protocol.canonical import decode, encode
from relay.protocol.entry import parse_access_entry
from relay.protocol.envelope import parse_delivery, parse_message
from relay.protocol.errors import Unavailable, Unknown, Unverified
from relay.protocol.header import Addressee, AddresseeKind, parse_core
from relay.protocol.label import label_bytes, parse_label
from relay.store.log import Log
from simulator import Forger, altered, lie_about_delivery, lying, rewritten, signed_anew, with_signature

# -- the message ------------------------------------------------------------------------------------------------------


def _addressed_to_more(core):
    more = {*core.addressees, Addressee(AddresseeKind.INFO, LUC)}
    return replace(core, addressees=tuple(sorted(more, key=lambda each: (each.kind, each.address))))


def _labelled(label, anna):
    return label_bytes(anna.labels.read(label))


CORE_LIES = {
    "its label lowered": lambda core, anna: replace(core, label=_labelled(OPEN, anna)),
    "its label taken off": lambda core, _anna: replace(core, label=b""),
    "a portion's label lowered": lambda core, anna: replace(
        core, portions=(replace(core.portions[0], label=_labelled(OPEN, anna)), *core.portions[1:])
    ),
    "an addressee added": lambda core, _anna: _addressed_to_more(core),
    "its life prolonged": lambda core, _anna: replace(core, expires=core.expires + 60),
    "its place in the chain changed": lambda core, _anna: replace(core, seq=core.seq + 7),
    "its precedence raised": lambda core, _anna: replace(
        core, handling=replace(core.handling, precedence=type(core.handling.precedence)(4))
    ),
}


@pytest.mark.parametrize("lie", CORE_LIES)
def test_a_header_changed_on_the_way_is_caught(anna, jean, lie):
    sent = send(anna)
    with caught(jean, sent, "the signature does not verify"), lying(jean) as relay:
        lie_about_delivery(
            relay,
            lambda d: replace(d, message=rewritten(d.message, lambda core: CORE_LIES[lie](core, anna))),
        )
        jean.read(sent)


@pytest.mark.parametrize(("half", "place"), [("lattice", 100), ("lattice", 3308), ("curve", 3309), ("curve", -1)])
def test_a_signature_of_which_one_half_is_forged_is_caught(anna, jean, half, place):
    sent = send(anna)
    with caught(jean, sent, "the signature does not verify"), lying(jean) as relay:
        lie_about_delivery(
            relay,
            lambda d: replace(d, message=with_signature(d.message, lambda signature: flipped(signature, place))),
        )
        jean.read(sent)


@pytest.mark.parametrize("cut", [3309, 64, 0])
def test_a_signature_of_which_one_half_is_left_out_is_caught(anna, jean, cut):
    sent = send(anna)
    with caught(jean, sent, "signature of .* octets"), lying(jean) as relay:
        lie_about_delivery(relay, lambda d: replace(d, message=with_signature(d.message, lambda s: s[:cut])))
        jean.read(sent)


def test_a_message_that_another_device_signed_as_its_own_does_not_open(two_offices, anna, jean, luc):
    """Authorship theft: Luc, with the relay's help, puts his name over Anna's slots and parts."""
    sent, thief = send(anna), luc.profile.signing

    def stolen(delivery):
        def his(core):
            return replace(core, sender=LUC, sender_device=thief.device_id, sender_kid=thief.kid, seq=1, prev=bytes(32))

        return replace(delivery, message=signed_anew(parse_message(delivery.message), thief, his))

    with caught(jean, sent, "log entry of its own release"), lying(jean) as relay:
        lie_about_delivery(relay, stolen)
        jean.read(sent)

    # And if the relay logs the stolen message's release as well, the slot itself says no.
    forger, entries = Forger(two_offices), []

    def stolen_and_logged(delivery):
        lie = stolen(delivery)
        release = parse_access_entry(delivery.release.entry)
        entries[:] = [
            *forger.entries(Log.ACCESS),
            altered(release, message_ref=parse_message(lie.message).ref, concerns=""),
        ]
        return replace(lie, release=forger.logged(entries, len(entries) - 1, jean.trust.seen()))

    sent = send(anna)
    with double_of(jean) as copy, lying(copy) as relay, caught(copy, sent, "slot: it does not open", then_read=False):
        lie_about_delivery(relay, stolen_and_logged)
        copy.read(sent)


def test_a_sender_whom_no_authority_certified_is_caught(anna, jean):
    sent, nobody = send(anna), SigningKey.generate()

    def invented(core):
        return replace(core, sender_device=nobody.device_id, sender_kid=nobody.kid)

    with caught(jean, sent, "not in the directory"), lying(jean) as relay:
        lie_about_delivery(relay, lambda d: replace(d, message=signed_anew(parse_message(d.message), nobody, invented)))
        jean.read(sent)


def test_the_delivery_of_another_message_is_caught(anna, jean):
    wanted, other = send(anna), send(anna, body="Other.")
    delivery = jean.transport.post(f"/v1/messages/{other.hex()}/open", b"")
    with caught(jean, wanted, "another message than was asked for"), lying(jean) as relay:
        relay.invent("POST", r"/open$", lambda **_: delivery)
        jean.read(wanted)


def test_what_is_no_delivery_at_all_is_caught(anna, jean):
    sent = send(anna)
    for garbage in (b"", b"\xff", encode([]), encode([b"", 0, b"", [], []])):
        with caught(jean, sent, "what the relay answered", then_read=False), lying(jean) as relay:
            relay.invent("POST", r"/open$", lambda garbage=garbage, **_: garbage)
            jean.read(sent)


# -- dropping, replaying, reordering ----------------------------------------------------------------------------------


def test_a_delivery_is_not_taken_twice(anna, jean):
    sent = send(anna)
    with lying(jean) as relay:
        jean.read(sent)
    (delivery,) = [answer for method, path, answer in relay.heard if path.endswith("/open")]
    with lying(jean) as relay:
        relay.invent("POST", r"/open$", lambda **_: delivery)
        with pytest.raises(Unverified, match="replayed"):
            jean._incoming().open(sent, int(time.time()), pytest.fail)
        with pytest.raises(Unverified, match="another message than was asked for"):
            jean.read(os.urandom(16))


def test_a_message_that_the_relay_lists_twice_is_in_the_inbox_once(anna, jean):
    sent = send(anna)

    def twice(answer):
        cursor, items = decode(answer)
        return encode([cursor, [*items, *([place, message] for place, message in items)]])

    with lying(jean) as relay:
        relay.lie("GET", r"/inbox", twice)
        assert [item.message_id for item in jean.inbox()].count(sent) == 1


def test_a_broken_chain_of_a_senders_device_is_caught(anna, jean, monkeypatch):
    """What a relay cannot fake shows here: two devices with one key, or a sender who rewrites what he sent before."""
    first = send(anna)
    jean.read(first)
    with monkeypatch.context() as patch:
        seq, _ref = anna.profile.cabinet.chain()
        patch.setattr(anna.profile.cabinet, "chain", lambda: (seq, bytes(32)))
        second = send(anna)
    with caught(jean, second, "chain of its messages is broken", then_read=False):
        jean.read(second)


def test_a_dropped_message_shows_to_the_sender_and_to_no_reader(anna, jean):
    """What is detectable is detected: the sender gets no receipt, and the auditor sees an accept without an open.

    A reader cannot tell a withheld message from one that went to others only: its number is missing in both
    cases. So a reader sees the gap, and nothing that would be wrong to be seen.
    """
    first, dropped, last = (send(anna, body=f"{SECRET} {number}") for number in range(3))

    def without(answer):
        cursor, items = decode(answer)
        return encode([cursor, [item for item in items if parse_message(item[1]).core.message_id != dropped]])

    def gone(**_):
        raise Unknown("no such message is available to this device")

    with lying(jean) as relay:
        relay.lie("GET", r"/inbox", without).invent("POST", f"{dropped.hex()}/open$", gone)
        assert dropped not in {item.message_id for item in jean.inbox()}
        with pytest.raises(Unknown):
            jean.read(dropped)
        seqs = [jean.read(message_id).message.core.seq for message_id in (first, last)]
    assert seqs[1] == seqs[0] + 2
    assert decode(anna.transport.get(f"/v1/messages/{first.hex()}/receipts")) != []
    assert decode(anna.transport.get(f"/v1/messages/{dropped.hex()}/receipts")) == []


# -- slots and parts --------------------------------------------------------------------------------------------------


def test_another_devices_slot_is_caught(anna, jean, luc):
    sent = to_both(anna)
    his = parse_delivery(luc.transport.post(f"/v1/messages/{sent.hex()}/open", b""))
    with caught(jean, sent, "another device's slot"), lying(jean) as relay:
        lie_about_delivery(relay, lambda d: replace(d, index=his.index, slot=his.slot, proof=his.proof))
        jean.read(sent)


def test_slots_in_another_order_are_caught(anna, jean, luc):
    sent = to_both(anna)
    his = parse_delivery(luc.transport.post(f"/v1/messages/{sent.hex()}/open", b""))
    with caught(jean, sent, "inclusion proof"), lying(jean) as relay:
        lie_about_delivery(relay, lambda d: replace(d, index=his.index, proof=his.proof))
        jean.read(sent)


def test_a_slot_that_the_sender_did_not_sign_is_caught(anna, jean):
    sent = send(anna)
    with caught(jean, sent, "inclusion proof"), lying(jean) as relay:
        lie_about_delivery(relay, lambda d: replace(d, slot=flipped(d.slot, -1)))
        jean.read(sent)


PART_LIES = {
    "swapped": lambda parts, index: parts[1 - index],
    "truncated": lambda parts, index: parts[index][:-1],
    "cut at a chunk's border": lambda parts, index: parts[index][: 56 + 16400],
    "changed": lambda parts, index: flipped(parts[index], 60),
    "empty": lambda _parts, _index: b"",
}


@pytest.mark.parametrize("lie", PART_LIES)
def test_a_part_that_is_not_the_one_that_was_signed_is_caught(anna, jean, lie):
    sent = send(anna, attachments=[Attachment("map.bin", bytes(40_000))])
    jean.transport.post(f"/v1/messages/{sent.hex()}/open", b"")
    parts = [jean.transport.get(f"/v1/messages/{sent.hex()}/parts/{index}") for index in range(2)]
    with caught(jean, sent, "not the one that was signed"), lying(jean) as relay:
        for index in range(2):
            relay.invent("GET", f"/parts/{index}$", lambda index=index, **_: PART_LIES[lie](parts, index))
        jean.read(sent)


def test_one_ciphertext_with_two_keys_is_caught_by_the_commitment(anna, jean, luc, monkeypatch):
    """A salamander: a dishonest sender, not the relay, gives one of two readers another key."""
    honest, luc_id = seal.seal_slot, luc.profile.signing.device_id

    def dishonest(core, digest, reader, keys):
        return honest(core, digest, reader, [os.urandom(32)] if reader.device_id == luc_id else keys)

    with monkeypatch.context() as patch:
        patch.setattr(seal, "seal_slot", dishonest)
        sent = to_both(anna)
    assert jean.read(sent).portions[0].text == SECRET
    with caught(luc, sent, "commitment", then_read=False):
        luc.read(sent)


def test_a_label_inside_that_is_not_the_label_outside_is_caught(anna, jean, monkeypatch):
    honest, inside = seal.pack, _labelled(OPEN, anna)
    with monkeypatch.context() as patch:
        patch.setattr(seal, "pack", lambda portion: honest(replace(portion, label=inside)))
        sent = send(anna)
    with caught(jean, sent, "label inside is not the label outside", then_read=False):
        jean.read(sent)


def test_content_that_is_not_the_format_inside_is_caught(anna, jean, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(seal, "pack", lambda portion: portion.content.ljust(256, b"\xff"))
        sent = send(anna)
    with caught(jean, sent, "part", then_read=False):
        jean.read(sent)


# -- no lies


def test_a_relay_that_does_not_answer_is_no_liar(anna, jean):
    """Unavailability is told apart from lying: nothing is lost, no alarm is kept."""
    sent = send(anna)

    def silence(**_):
        raise Unavailable("the relay cannot be reached")

    with lying(jean) as relay:
        relay.invent("GET", r"/parts/", silence)
        with pytest.raises(Unavailable):
            jean.read(sent)
    assert jean.profile.cabinet.alarms() == []
    assert jean.read(sent).portions[0].text == SECRET


def test_the_lies_above_are_about_a_header_that_holds(anna):
    """So that no test above passes for a wrong reason: rewriting without a change is no lie."""
    sent = send(anna)
    encoded = anna.read(sent).encoded
    assert rewritten(encoded, lambda core: core) == encoded
    core = parse_message(encoded).core
    assert parse_core(core.encoded()) == core
    assert parse_label(core.label)
