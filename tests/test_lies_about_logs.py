"""Every lie that a relay can tell about its access log is caught: what it released, and in which order."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from lies import JEAN, LUC, SECRET, caught, send, to_both
from relay.protocol.canonical import encode
from relay.protocol.entry import Event, parse_access_entry, parse_logged_entry
from relay.protocol.envelope import parse_delivery
from relay.protocol.errors import Unknown, Unverified
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.protocol.note import format_note, parse_note
from relay.store.log import Log
from simulator import altered, fresh_log_keys, lie_about_delivery, lying


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
    other, sent = to_both(anna), to_both(anna)

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
    sent = to_both(anna)
    with lying(luc) as relay:
        luc.read(sent)
    (his,) = [answer for method, path, answer in relay.heard if path.endswith("/receipts")]
    with lying(jean) as relay:
        relay.invent("POST", r"/receipts$", lambda **_: his)
        with pytest.raises(Unverified, match="another receipt than was sent"):
            jean.read(sent)
