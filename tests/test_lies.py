"""Every lie that a relay can tell a reader or a sender is caught, named, and gives away nothing.

`caught` states what "caught" means: Unverified (exit 5 of the command) in words that name the lie; nothing of
the message kept or shown; an alarm where the lie is one of the logs; and the truth, told afterwards, is believed.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest

from liaison import Attachment, seal
from liaison.keys import SigningKey, make_key_package
from liaison.trust import DIRECTORY
from octets import flipped
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import format_sign1, parse_sign1, protected_header
from relay.protocol.entry import Change, Event, parse_access_entry, parse_directory_entry, parse_logged_entry
from relay.protocol.envelope import parse_delivery, parse_message
from relay.protocol.errors import Refused, Unavailable, Unknown, Unverified
from relay.protocol.header import Addressee, AddresseeKind, parse_core
from relay.protocol.identity import CERTIFICATE, STATEMENT, Certificate, Kind, Statement, read_certificate
from relay.protocol.label import label_bytes, parse_label
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.protocol.note import format_note, parse_note
from relay.protocol.prekey import KEY_BATCH, KeyBatch, parse_key_package
from relay.store.log import Log
from simulator import (
    Forger,
    altered,
    directory_entry,
    double,
    fresh_log_keys,
    lie_about_delivery,
    lying,
    rewritten,
    signed_anew,
    with_signature,
)
from world import TEST_SPIF, clearance

ANNA, JEAN, LUC = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris"
SECRET = "Ferry at dawn."
SEALED, OPEN = "TEST SEALED RELEASABLE TO FRA, POL", "TEST OPEN RELEASABLE TO FRA, POL"


@pytest.fixture
def anna(two_offices):
    return two_offices.clients[ANNA]


@pytest.fixture
def jean(two_offices):
    return two_offices.clients[JEAN]


@pytest.fixture
def luc(two_offices):
    return two_offices.clients[LUC]


@pytest.fixture
def forger(two_offices):
    return Forger(two_offices)


@pytest.fixture
def jeans_double(jean, tmp_path):
    """Jean's profile once more, for lies that hold and would stay in it."""
    jean.sync()
    with double(jean, tmp_path / "double") as copy:
        yield copy


def send(anna, *to, label=SEALED, body=SECRET, **draft):
    return anna.send(to or [JEAN], label=label, body=body, **draft).message_id


@contextmanager
def caught(reader, message_id, words, *, alarm=False, then_read=True):
    """Inside, the relay lies; afterwards it does not."""
    keys = sum(row.one_time for row in reader.profile.cabinet.prekeys())
    with pytest.raises(Unverified, match=words) as told:
        yield
    assert SECRET not in f"{told.value} {told.value.hint}"
    assert reader.profile.cabinet.message(message_id) is None
    assert sum(row.one_time for row in reader.profile.cabinet.prekeys()) >= keys
    alarms = reader.profile.cabinet.alarms()
    assert bool(alarms) is alarm
    if alarm:
        with pytest.raises(Unverified, match="unresolved alarm"):
            reader.sync()
        for each in alarms:
            reader.profile.cabinet.resolve_alarm(each.alarm_id)
    if then_read:
        assert reader.read(message_id).portions[0].text == SECRET


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


@contextmanager
def double_of(client):
    folder = client.profile.folder.with_name(f"double-{os.urandom(4).hex()}")
    client.sync()
    with double(client, folder) as copy:
        yield copy


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


def _to_both(anna, **draft):
    return send(anna, JEAN, LUC, label=OPEN, **draft)


def test_another_devices_slot_is_caught(anna, jean, luc):
    sent = _to_both(anna)
    his = parse_delivery(luc.transport.post(f"/v1/messages/{sent.hex()}/open", b""))
    with caught(jean, sent, "another device's slot"), lying(jean) as relay:
        lie_about_delivery(relay, lambda d: replace(d, index=his.index, slot=his.slot, proof=his.proof))
        jean.read(sent)


def test_slots_in_another_order_are_caught(anna, jean, luc):
    sent = _to_both(anna)
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
        sent = _to_both(anna)
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


# -- the access log ---------------------------------------------------------------------------------------------------


def test_a_slot_without_a_log_entry_is_caught(anna, jean, forger):
    """The entry looks right, but the checkpoint's tree does not hold it."""
    sent = send(anna)
    with caught(jean, sent, "inclusion proof", alarm=True), lying(jean) as relay:
        lie_about_delivery(
            relay,
            lambda d: replace(
                d,
                release=replace(d.release, entry=altered(parse_access_entry(d.release.entry), salt=bytes(16))),
            ),
        )
        jean.read(sent)


def test_a_slot_with_the_entry_of_something_else_is_caught(anna, jean, luc):
    other, sent = _to_both(anna), _to_both(anna)

    def opened(client, message_id):
        return parse_delivery(client.transport.post(f"/v1/messages/{message_id.hex()}/open", b"", client.trust.seen()))

    with lying(anna) as relay:
        send(anna)
    (receipt,) = [answer for method, path, answer in relay.heard if path == "/v1/messages"]
    releases = {
        "another message": opened(jean, other).release,
        "another device": opened(luc, sent).release,
        "another event": parse_logged_entry(receipt),
    }
    for release in releases.values():
        with caught(jean, sent, "log entry of its own release", then_read=False), lying(jean) as relay:
            lie_about_delivery(relay, lambda d, release=release: replace(d, release=release))
            jean.read(sent)
    assert jean.read(sent).portions[0].text == SECRET


def test_a_slot_with_a_logged_denial_is_caught(anna, jean):
    denied = os.urandom(16)
    with pytest.raises(Unknown):
        jean.read(denied)
    sent = send(anna)
    forger_entry = {"event": Event.DENY, "permitted": False}
    with caught(jean, sent, "inclusion proof", alarm=True), lying(jean) as relay:
        lie_about_delivery(
            relay,
            lambda d: replace(
                d, release=replace(d.release, entry=altered(parse_access_entry(d.release.entry), **forger_entry))
            ),
        )
        jean.read(sent)


@pytest.mark.parametrize(
    ("fields", "words", "alarm"),
    [
        ({"address": LUC}, f"logged as '{LUC}', and the device is {JEAN}'s", True),
        ({"office": "lo-nowhere"}, "logged under 'lo-nowhere'", True),
        ({"concerns": ""}, "as if it did not concern lo-warsaw", False),
    ],
)
def test_an_opening_that_is_logged_as_somebody_elses_or_past_the_originators_auditors_is_caught(
    anna, forger, jeans_double, fields, words, alarm
):
    """It is in the log, which an honest relay then does not grow from: only the double has believed in it."""
    sent = send(anna)

    def logged(delivery):
        before = forger.entries(Log.ACCESS)[:-1]
        entries = [*before, altered(parse_access_entry(delivery.release.entry), **fields)]
        return replace(delivery, release=forger.logged(entries, len(before), jeans_double.trust.seen()))

    with caught(jeans_double, sent, words, alarm=alarm, then_read=False), lying(jeans_double) as relay:
        lie_about_delivery(relay, logged)
        jeans_double.read(sent)


def test_a_checkpoint_of_unknown_keys_is_caught(anna, jean, forger, tmp_path):
    sent = send(anna)

    def release(delivery):
        entries = forger.entries(Log.ACCESS)
        index = entries.index(delivery.release.entry)
        return replace(delivery, release=forger.logged(entries, index, jean.trust.seen(), fresh_log_keys(tmp_path)))

    with caught(jean, sent, "not signed by", alarm=True), lying(jean) as relay:
        lie_about_delivery(relay, release)
        jean.read(sent)


@pytest.mark.parametrize("kept", [0, 1])
def test_a_checkpoint_that_only_one_of_the_two_algorithms_signed_is_caught(anna, jean, kept):
    sent = send(anna)

    def release(delivery):
        note = delivery.release.checkpoint
        lines = note.decode().rpartition("\n\n")[2].splitlines(keepends=True)
        assert len(lines) == len(parse_note(note).signatures) == 2
        half = format_note(parse_note(note).text, lines[kept])
        return replace(delivery, release=replace(delivery.release, checkpoint=half))

    missing = ("0x06", "0x01")[kept]
    with caught(jean, sent, f"not signed by .*{missing}", alarm=True), lying(jean) as relay:
        lie_about_delivery(relay, release)
        jean.read(sent)


def test_a_forked_access_log_of_the_same_size_is_caught(anna, jean, forger):
    sent = send(anna)
    jean.read(send(anna))  # so that the head is the newest checkpoint

    def release(delivery):
        size = jean.trust.seen()
        entries = [*forger.entries(Log.ACCESS)[: size - 1], delivery.release.entry]
        return replace(delivery, release=forger.logged(entries, size - 1))

    with caught(jean, sent, "the access log was forked", alarm=True), lying(jean) as relay:
        lie_about_delivery(relay, release)
        jean.read(sent)


@pytest.mark.parametrize("answer", ["a forged proof", "the honest proof", "no proof"])
def test_an_access_log_whose_old_entries_changed_is_caught(anna, jean, forger, answer):
    sent = send(anna)

    def release(delivery):
        entries = forger.entries(Log.ACCESS)
        index = entries.index(delivery.release.entry)
        entries[3] = altered(parse_access_entry(entries[3]), address="nobody@lo-paris")
        return replace(delivery, release=forger.logged(entries, index, jean.trust.seen()))

    def refuse(**_):
        raise Unknown("no such message is available to this device")

    def forged(old, new):
        entries = forger.entries(Log.ACCESS)
        entries[3] = b"changed"
        return encode(MerkleTree(map(leaf_hash, entries)).consistency_proof(int(old), int(new)))

    words = "cannot prove that the access log grew" if answer == "no proof" else "consistency proof"
    with caught(jean, sent, words, alarm=True), lying(jean) as relay:
        lie_about_delivery(relay, release)
        if answer == "no proof":
            relay.invent("GET", r"/consistency", refuse)
        if answer == "a forged proof":
            relay.invent("GET", r"/consistency", forged)
        jean.read(sent)


def test_an_access_log_that_was_rolled_back_and_grown_anew_is_caught(anna, jean, forger):
    sent = send(anna)
    jean.read(send(anna))

    def release(delivery):
        entries = [*forger.entries(Log.ACCESS)[: jean.trust.seen() - 3], delivery.release.entry]
        return replace(delivery, release=forger.logged(entries, len(entries) - 1, jean.trust.seen()))

    with caught(jean, sent, "consistency proof", alarm=True), lying(jean) as relay:
        lie_about_delivery(relay, release)
        jean.read(sent)


def test_a_receipt_of_another_devices_acknowledgement_is_caught(anna, jean, luc):
    sent = _to_both(anna)
    with lying(luc) as relay:
        luc.read(sent)
    (his,) = [answer for method, path, answer in relay.heard if path.endswith("/receipts")]
    with lying(jean) as relay:
        relay.invent("POST", r"/receipts$", lambda **_: his)
        with pytest.raises(Unverified, match="another receipt than was sent"):
            jean.read(sent)


# -- the directory ----------------------------------------------------------------------------------------------------


def _untouched(client):
    state = client.profile.cabinet.log_state(DIRECTORY)
    return state.size, state.root, client.trust.directory.size, set(client.trust.directory.devices)


def directory_lie_is_caught(client, words, directory):
    """The lie is named and kept as an alarm, and the directory is what it was before."""
    client.sync()
    before = _untouched(client)
    with lying(client) as relay:
        relay.invent("GET", r"^/v1/directory", directory)
        with pytest.raises(Unverified, match=words):
            client.sync()
    assert _untouched(client) == before
    (alarm,) = client.profile.cabinet.alarms()
    with pytest.raises(Unverified, match="unresolved alarm"):
        client.inbox()
    client.profile.cabinet.resolve_alarm(alarm.alarm_id)
    client.sync()
    assert _untouched(client) == before


def _certificate(key, address, **fields):
    now = int(time.time())
    certificate = Certificate(
        device_id=key.device_id,
        address=address,
        kind=Kind.OFFICER,
        roles=(),
        clearances=(clearance(nations=["POL", "FRA"]),),
        scope=(),
        suite=1,
        signature_public=key.public,
        request_public=bytes(32),
        not_before=now - 60,
        not_after=now + 86400,
        serial=bytes(16),
    )
    return replace(certificate, **fields)


def _under_the_name_of(signer, named, typ, payload):
    """Signed by one key, naming another."""
    honest = signer.sign_object(typ, payload)
    protected = protected_header(parse_sign1(honest, typ).alg, named, typ)
    return format_sign1(protected, payload, parse_sign1(honest, typ).signature)


def test_a_certificate_that_another_authority_signed_is_caught(two_offices, jean, forger):
    rogue, device = SigningKey.generate(), SigningKey.generate()
    payload = _certificate(device, ANNA).payload()
    warsaw = two_offices.authorities["lo-warsaw"].profile.signing
    for signed in (
        rogue.sign_object(CERTIFICATE, payload),
        _under_the_name_of(rogue, warsaw.kid, CERTIFICATE, payload),
    ):
        entry = directory_entry(Change.CERTIFICATE, signed)
        lie = forger.directory(lambda entries, entry=entry: [*entries, entry])
        directory_lie_is_caught(jean, "directory entry .* does not hold", lie)


def test_a_certificate_for_another_office_than_its_signers_is_caught(two_offices, jean, forger):
    paris = two_offices.authorities["lo-paris"].profile.signing
    signed = paris.sign_object(CERTIFICATE, _certificate(SigningKey.generate(), ANNA).payload())
    lie = forger.directory(lambda entries: [*entries, directory_entry(Change.CERTIFICATE, signed)])
    directory_lie_is_caught(jean, "directory entry .* does not hold", lie)


@pytest.mark.parametrize(
    ("seconds", "signed", "words"),
    [
        (61, 0, "of the directory log is dated after a tree of"),
        (3600, 3600, "of the directory log is dated after a tree of"),
        (-3600, 0, "dated before an earlier one"),
    ],
    ids=["ahead", "ahead of a log that is signed ahead", "back"],
)
def test_a_directory_entry_that_is_dated_where_it_does_not_stand_is_caught(
    jean, forger, monkeypatch, seconds, signed, words
):
    """Else quorums were counted, and warrants judged, by a directory of another day."""
    now = int(time.time())
    monkeypatch.setattr("simulator.time", SimpleNamespace(time=lambda: now + signed))
    batch = directory_entry(Change.KEY_BATCH, encode([jean.profile.signing.device_id, bytes(32)]))
    dated = replace(parse_directory_entry(batch), time=(now + seconds) * 1000).encoded()
    directory_lie_is_caught(jean, words, forger.directory(lambda entries: [*entries, dated]))


def test_a_forged_clearance_is_caught_by_whoever_reads_it_first(jean, forger, jeans_double, luc):
    """Luc's certificate, cleared for more under the old signature, in a directory that is otherwise the same."""
    luc_id = luc.profile.signing.device_id

    def raised(entries):
        changed = []
        for encoded in entries:
            entry = parse_directory_entry(encoded)
            if entry.change is Change.CERTIFICATE:
                signed = parse_sign1(entry.payload, CERTIFICATE)
                certificate = read_certificate(signed)
                if certificate.device_id == luc_id:
                    payload = replace(certificate, clearances=(clearance(nations=["FRA"]),)).payload()
                    protected = protected_header(signed.alg, signed.kid, CERTIFICATE)
                    lie = format_sign1(protected, payload, signed.signature)
                    encoded = replace(entry, payload=lie).encoded()  # noqa: PLW2901
            changed.append(encoded)
        assert changed != entries
        return changed

    directory_lie_is_caught(jean, "forked|went back", forger.directory(raised))
    newcomer = jeans_double
    newcomer.profile.cabinet._shelves["entry"].clear()
    newcomer.profile.cabinet._shelves["log"].clear()
    newcomer.trust.__init__(newcomer.profile.cabinet, newcomer.trust.own_kid, newcomer.trust.relay_keys)
    with lying(newcomer) as relay:
        relay.invent("GET", r"^/v1/directory", forger.directory(raised))
        with pytest.raises(Unverified, match=r"directory entry .* does not hold"):
            newcomer.sync()


def test_a_forked_directory_is_caught(jean, forger):
    def other_history(entries):
        return [entries[0], replace(parse_directory_entry(entries[1]), salt=bytes(16)).encoded(), *entries[2:]]

    directory_lie_is_caught(jean, "forked: another history", forger.directory(other_history))


def test_a_directory_that_was_rolled_back_is_caught(jean, forger):
    directory_lie_is_caught(jean, "went back from", forger.directory(lambda entries: entries[:-2]))


def test_withheld_directory_entries_are_caught(two_offices, jean, forger):
    jean.sync()
    two_offices.authorities["lo-paris"].publish_policy(TEST_SPIF)
    with lying(jean) as relay:
        relay.lie("GET", r"^/v1/directory", lambda answer: encode([decode(answer)[0], []]))
        with pytest.raises(Unverified, match="of the directory log are withheld"):
            jean.sync()
    (alarm,) = jean.profile.cabinet.alarms()
    jean.profile.cabinet.resolve_alarm(alarm.alarm_id)
    jean.sync()


def test_a_directory_without_end_is_read_no_further_than_its_signed_size(jean, forger):
    jean.sync()
    note, _page = decode(forger.directory(lambda entries: entries)())
    before, pages = _untouched(jean), iter(range(3))

    def endless(**_query):
        return encode([note, [b"page %d" % next(pages)]])

    with lying(jean) as relay:
        relay.invent("GET", r"^/v1/directory", endless)
        jean.sync()
    assert (_untouched(jean), next(pages)) == (before, 1)


def test_a_directory_that_grew_for_the_sender_but_not_for_the_reader_is_caught(two_offices, anna, jean, forger):
    """The relay freezes Jean at an old, correctly signed checkpoint. Anna's message says what she saw."""
    jean.sync()
    with lying(jean) as relay:
        jean.sync()
    frozen = [answer for method, path, answer in relay.heard if path == "/v1/directory"][-1]
    two_offices.authorities["lo-paris"].publish_policy(TEST_SPIF)
    sent = send(anna)
    with caught(jean, sent, "we were shown"), lying(jean) as relay:
        relay.invent("GET", r"^/v1/directory", lambda **_: frozen)
        jean.read(sent)


def test_a_directory_that_is_another_for_the_sender_is_caught(anna, jean, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(anna.trust, "tree", MerkleTree(bytes([n]) * 32 for n in range(anna.trust.tree.size)))
        patch.setattr(anna, "sync", lambda: None)
        sent = send(anna)
    with caught(jean, sent, "the sender was shown another history", then_read=False):
        jean.read(sent)


def test_a_second_authority_under_an_offices_name_is_believed_by_nobody(anna, jeans_double, forger):
    """The operator removes Warsaw, admits "Warsaw" with a key of his own and certifies an Anna of his own."""
    rogue, device = SigningKey.generate(), SigningKey.generate()
    statement = Statement("lo-warsaw", "POL", 1, rogue.public, bytes(32), int(time.time()), ())
    certificate = rogue.sign_object(CERTIFICATE, _certificate(device, ANNA).payload())

    def coup(entries):
        return [
            *entries,
            directory_entry(Change.OFFICE_REMOVED, encode(["lo-warsaw"])),
            directory_entry(Change.OFFICE, rogue.sign_object(STATEMENT, statement.payload())),
            directory_entry(Change.CERTIFICATE, certificate),
        ]

    sent = send(anna)
    jean, lie = jeans_double, forger.directory(coup)

    def forged(delivery):
        def hers(core):
            return replace(core, sender_device=device.device_id, sender_kid=device.kid)

        return replace(delivery, message=signed_anew(parse_message(delivery.message), device, hers))

    with lying(jean) as relay:
        relay.invent("GET", r"^/v1/directory", lie)
        lie_about_delivery(relay, forged)
        with caught(jean, sent, "no agreement that our authority has signed", then_read=False):
            jean.read(sent)
        with pytest.raises(Refused) as refused:
            jean.send([ANNA], label=OPEN, body=SECRET)
        assert refused.value.rules == ("untrusted-authority",)


def test_a_swapped_policy_file_is_caught(anna, jean):
    sent = send(anna)
    for file in (jean.profile.folder / "documents").iterdir():
        file.unlink()
    jean.documents._compiled.clear()
    with caught(jean, sent, "other bytes than were signed"), lying(jean) as relay:
        relay.lie("GET", r"/documents/", lambda answer: answer.replace(b"excludedClass", b"excludedClas2"))
        jean.read(sent)


# -- the keys ---------------------------------------------------------------------------------------------------------


@contextmanager
def nothing_leaves(sender, words):
    """The lie is named before anything is sealed; nothing waits to be sent."""
    before = sender.profile.cabinet.chain()
    with lying(sender) as relay:
        yield relay
        with pytest.raises(Unverified, match=words):
            sender.send([JEAN], label=SEALED, body=SECRET)
    assert sender.profile.cabinet.outbox() == []
    assert sender.profile.cabinet.chain() == before
    assert [path for method, path, _ in relay.heard if path == "/v1/messages"] == []


def _claimed(change):
    """POST /v1/keys/claim with each row [device, package, batch] changed."""
    return lambda answer: encode([change(*row) for row in decode(answer)])


def _own_package(device_id):
    return make_key_package(device_id, 0, int(time.time()), 86400, one_time=True)[1]


def test_a_key_of_the_relays_own_is_caught(anna):
    with nothing_leaves(anna, "its device's batch does not list: this key was swapped in") as relay:
        relay.lie(
            "POST", r"/claim$", _claimed(lambda device, _, batch: [device, _own_package(device).encoded(), batch])
        )


def test_a_key_of_the_relays_own_in_a_batch_of_its_own_is_caught(anna, jean):
    rogue = SigningKey.generate()

    def swapped(device, _package, _batch):
        own = _own_package(device)
        payload = KeyBatch(device, 0, (own.ref,)).payload()
        return [device, own.encoded(), _under_the_name_of(rogue, jean.profile.signing.kid, KEY_BATCH, payload)]

    def under_its_own_name(device, _package, _batch):
        own = _own_package(device)
        return [device, own.encoded(), rogue.sign_object(KEY_BATCH, KeyBatch(device, 0, (own.ref,)).payload())]

    with nothing_leaves(anna, "not in the directory log: this key was swapped in") as relay:
        relay.lie("POST", r"/claim$", _claimed(swapped))
    with nothing_leaves(anna, "key batch: signed by another device") as relay:
        relay.lie("POST", r"/claim$", _claimed(under_its_own_name))


def test_a_key_of_the_relays_own_in_a_batch_that_it_logged_is_caught(anna, jean, forger, tmp_path):
    rogue, own = SigningKey.generate(), _own_package(jean.profile.signing.device_id)
    batch = KeyBatch(own.device_id, 0, (own.ref,))
    forged = _under_the_name_of(rogue, jean.profile.signing.kid, KEY_BATCH, batch.payload())
    digest = hashlib.sha256(batch.payload()).digest()
    logged = directory_entry(Change.KEY_BATCH, encode([own.device_id, digest]))
    anna.sync()
    with double(anna, tmp_path / "anna") as copy, nothing_leaves(copy, "keybatch: the signature does not") as relay:
        relay.invent("GET", r"^/v1/directory", forger.directory(lambda entries: [*entries, logged]))
        relay.lie("POST", r"/claim$", _claimed(lambda device, _p, _b: [device, own.encoded(), forged]))


def test_a_batch_that_its_device_signed_but_the_directory_does_not_hold_is_caught(anna, jean):
    """A stolen signing key does not publish keys unseen."""
    own = _own_package(jean.profile.signing.device_id)
    signed = jean.profile.signing.sign_object(KEY_BATCH, KeyBatch(own.device_id, 0, (own.ref,)).payload())
    with nothing_leaves(anna, "not in the directory log") as relay:
        relay.lie("POST", r"/claim$", _claimed(lambda device, _p, _b: [device, own.encoded(), signed]))


def test_the_key_of_another_device_is_caught(anna, luc):
    (row,) = decode(anna.transport.post("/v1/keys/claim", encode([luc.profile.signing.device_id])))
    assert parse_key_package(row[1]).device_id == luc.profile.signing.device_id
    with nothing_leaves(anna, "another device's key package") as relay:
        relay.lie("POST", r"/claim$", _claimed(lambda device, _p, _b: [device, *row[1:]]))
    with nothing_leaves(anna, "for other devices than were asked for") as relay:
        relay.lie("POST", r"/claim$", _claimed(lambda *_: row))


def test_what_is_no_key_at_all_is_caught(anna):
    for garbage in (b"", encode([[1, 2]]), encode({})):
        with nothing_leaves(anna, "relay answered") as relay:
            relay.invent("POST", r"/claim$", lambda garbage=garbage, **_: garbage)
    for more in (5, [1, 2], b"x", [b"", None, None, 4]):
        with nothing_leaves(anna, "for other devices than were asked for") as relay:
            relay.lie("POST", r"/claim$", lambda answer, more=more: encode([*decode(answer), more]))


# -- the receipt ------------------------------------------------------------------------------------------------------


def test_a_receipt_for_something_else_is_caught_and_the_message_stays_in_the_outbox(anna, jean):
    with lying(anna) as relay:
        send(anna)
    (other,) = [answer for method, path, answer in relay.heard if path == "/v1/messages"]
    with lying(anna) as relay:
        relay.lie("POST", r"^/v1/messages$", lambda _honest: other)
        with pytest.raises(Unverified, match="receipt is for something else"):
            send(anna)
    ((message_id, _submission),) = anna.profile.cabinet.outbox()
    anna.sync()  # the truth, asked for again
    assert anna.profile.cabinet.outbox() == []
    assert jean.read(message_id).portions[0].text == SECRET


def test_an_acceptance_that_is_logged_as_somebody_elses_is_caught(anna, forger):
    def logged(**_):
        entries = forger.entries(Log.ACCESS)
        accepted = next(each for each in map(parse_access_entry, entries) if each.event is Event.ACCEPT)
        entries.append(altered(accepted, address="adam.lis@lo-warsaw"))
        return forger.logged(entries, len(entries) - 1, copy.trust.seen()).encoded()

    send(anna)
    with double_of(anna) as copy, lying(copy) as relay:
        relay.invent("POST", r"^/v1/messages$", logged)
        with pytest.raises(Unverified, match=f"the device is {ANNA}'s"):
            send(copy)
        assert copy.profile.cabinet.alarms()


def test_a_receipt_of_a_forked_log_is_caught(anna, forger):
    def forked(answer):
        logged = parse_logged_entry(answer)
        entries = forger.entries(Log.ACCESS)
        entries[0] = altered(parse_access_entry(entries[0]), address="nobody@lo-paris")
        return forger.logged(entries, logged.index, anna.trust.seen()).encoded()

    send(anna)
    with lying(anna) as relay:
        relay.lie("POST", r"^/v1/messages$", forked)
        with pytest.raises(Unverified, match="consistency proof"):
            send(anna)
    (alarm,) = anna.profile.cabinet.alarms()
    assert alarm.evidence
    with pytest.raises(Unverified, match="unresolved alarm"):
        send(anna)
    anna.profile.cabinet.resolve_alarm(alarm.alarm_id)
    anna.sync()
    assert anna.profile.cabinet.outbox() == []


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
