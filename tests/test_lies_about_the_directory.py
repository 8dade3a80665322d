"""Every lie that a relay can tell about its directory is caught: who is who, and what stands in which order."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import pytest

from liaison.keys import SigningKey
from liaison.trust import DIRECTORY
from lies import ANNA, OPEN, SECRET, caught, send, under_the_name_of
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import format_sign1, parse_sign1, protected_header
from relay.protocol.entry import Change, parse_directory_entry
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Refused, Unverified
from relay.protocol.identity import CERTIFICATE, STATEMENT, Certificate, Kind, Statement, read_certificate
from relay.protocol.merkle import MerkleTree
from simulator import directory_entry, lie_about_delivery, lying, signed_anew
from world import TEST_SPIF, clearance


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


def test_a_certificate_that_another_authority_signed_is_caught(two_offices, jean, forger):
    rogue, device = SigningKey.generate(), SigningKey.generate()
    payload = _certificate(device, ANNA).payload()
    warsaw = two_offices.authorities["lo-warsaw"].profile.signing
    for signed in (
        rogue.sign_object(CERTIFICATE, payload),
        under_the_name_of(rogue, warsaw.kid, CERTIFICATE, payload),
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
    certificate = rogue.sign_object(CERTIFICATE, _certificate(device, ANNA, request_public=b"\1" * 32).payload())

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
