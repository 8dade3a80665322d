"""Entries of both logs that are not what happened, in evidence packages whose logs and manifest hold.

A changed entry gets a log and a checkpoint signed anew by the relay's own keys, a changed certificate or agreement its own
authority's signature: what an operator can repair, he repairs.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from acts import run
from evidence_packages import ANNA, BAS, PETIT, changed_entry, members_of, relogged, resigned
from liaison.evidence.package import read_package
from relay.protocol.agreement import AGREEMENT, read_agreement
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import Change, DirectoryEntry, Event, parse_access_entry, parse_directory_entry
from relay.protocol.envelope import RECEIPT, Receipt
from relay.protocol.identity import CERTIFICATE, read_certificate
from relay.protocol.label import label_bytes, label_of
from relay.store.log import Log
from simulator import Forger


def test_an_honest_log_hashed_and_signed_again_is_believed(audited, right, verdict):
    """So what the next tests refuse is refused for the one thing that they change."""
    for log in Log:
        assert verdict(relogged(audited, right, log, lambda _index, entry: entry))


def test_entries_that_an_operator_rewrote_are_refused_though_log_and_manifest_hold(audited, right, recalled, verdict):
    accepted = parse_access_entry(decode(next(c for n, c in sorted(members_of(right).items()) if "access/0" in n))[0])
    other = label_bytes(replace(label_of(accepted.label), classification="OPEN"))
    changes = {
        "label changed": (Event.ACCEPT, {"label": other}),
        "label of an opening changed": (Event.OPEN, {"label": other}),
        "other devices": (Event.ACCEPT, {"detail": "00" * 32 + " routine"}),
        "another precedence": (Event.ACCEPT, {"detail": f"{accepted.detail.partition(' ')[0]} flash"}),
        "no precedence": (Event.ACCEPT, {"detail": accepted.detail.partition(" ")[0]}),
        "a precedence that is none": (Event.ACCEPT, {"detail": f"{accepted.detail} "}),
        "other portions": (Event.OPEN, {"detail": "portions 0-1"}),
        "another opener": (Event.OPEN, {"device_id": audited.clients[BAS].profile.signing.device_id}),
        "a denial": (Event.OPEN, {"permitted": False}),
        "another message": (Event.OPEN, {"message_ref": bytes(32)}),
        "an opening made an audit": (Event.OPEN, {"event": Event.AUDIT}),
        "a receipt of another state": (Event.ACKNOWLEDGE, {"detail": "opened"}),
        "another office": (Event.ACCEPT, {"office": "lo-oslo"}),
        "a recall that is none": (Event.RECALL, {"detail": f"recalled {'0' * 64} Wrong annex"}),
        "a recall without a reason": (Event.RECALL, {"detail": f"recall {'0' * 64} "}),
        "opened under another's name": (Event.OPEN, {"address": BAS}),
        "opened under an office that nobody audits": (Event.OPEN, {"office": "lo-nowhere"}),
        "opened past the originator's auditors": (Event.OPEN, {"concerns": ""}),
        "accepted under another's name": (Event.ACCEPT, {"address": "adam.lis@lo-warsaw"}),
        "acknowledged under another's name": (Event.ACKNOWLEDGE, {"address": BAS}),
        "recalled under another's name": (Event.RECALL, {"address": "adam.lis@lo-warsaw"}),
        "recalled after the log with it was signed": (Event.RECALL, {"time": int(time.time() + 120) * 1000}),
        "opened long before it was accepted": (Event.OPEN, {"time": accepted.time - 61_000}),
    }
    for what, (event, fields) in changes.items():
        assert not verdict(relogged(audited, right, Log.ACCESS, changed_entry(recalled, event, **fields))), what


def test_an_opening_that_stands_behind_the_recall_is_refused(audited, right, recalled, verdict):
    stored = Forger(audited).entries(Log.ACCESS)
    parsed = [parse_access_entry(each) for each in stored]
    at = {entry.event: index for index, entry in enumerate(parsed) if entry.message_id == recalled}
    opened, taken = at[Event.OPEN], at[Event.RECALL]
    swapped = {opened: stored[taken], taken: stored[opened]}
    assert not verdict(relogged(audited, right, Log.ACCESS, swapped.get))


def test_an_acknowledgement_that_stands_in_front_of_the_opening_is_refused(audited, right, recalled, verdict):
    stored = Forger(audited).entries(Log.ACCESS)
    parsed = [parse_access_entry(each) for each in stored]
    of_it = [index for index, entry in enumerate(parsed) if entry.message_id == recalled]
    opened = next(index for index in of_it if parsed[index].event is Event.OPEN)
    acknowledged = next(index for index in of_it if parsed[index].event is Event.ACKNOWLEDGE)
    swapped = {opened: stored[acknowledged], acknowledged: stored[opened]}
    assert not verdict(relogged(audited, right, Log.ACCESS, swapped.get))


LAST = 253_402_300_799_999


@pytest.mark.parametrize("time", [LAST, LAST + 1, 10**17, -1])
def test_an_entry_of_a_time_that_is_not_yet_or_that_no_calendar_has_is_refused(
    audited, right, recalled, verdict, tmp_path, time
):
    def dated(_index, encoded):
        return replace(parse_directory_entry(encoded), time=time).encoded()

    assert not verdict(relogged(audited, right, Log.DIRECTORY, dated))
    late = relogged(audited, right, Log.ACCESS, changed_entry(recalled, Event.RECALL, time=time))
    assert not verdict(late)
    (tmp_path / "late.zip").write_bytes(late)
    shown = run(audited.clients[ANNA], "evidence", "verify", str(tmp_path / "late.zip"))
    assert shown.exit_code == 5, shown.output


def test_a_wrong_proof_or_index_is_refused(audited, right, verdict):
    for name in (name for name in members_of(right) if name.endswith(".cbor") and "/" in name):
        entry, index, proof = decode(members_of(right)[name])
        for wrong in ([entry, index, proof[:-1]], [entry, index, [*proof, bytes(32)]], [entry, index + 1, proof]):
            assert not verdict(resigned(audited, right, lambda m, n=name, w=wrong: m.update({n: encode(w)}))), name


def test_a_receipt_by_another_key_or_for_another_message_is_refused(audited, right, recalled, verdict):
    jean, luc = (audited.clients[each].profile.signing for each in (PETIT, BAS))
    name = f"receipts/{jean.device_id.hex()}-opened.cose"
    ref = read_package(right)[0].message_ref
    good = Receipt(recalled, ref, jean.device_id, "opened", int(time.time()))
    cases = (
        (jean, good, True), (luc, good, False), (jean, replace(good, message_ref=bytes(32)), False),
        (jean, replace(good, state="acknowledged"), False), (jean, replace(good, at=1), False),
    )  # fmt: skip
    for key, stated, holds in cases:
        receipt = key.sign_object(RECEIPT, stated.payload())
        assert (
            verdict(resigned(audited, right, lambda members, receipt=receipt: members.update({name: receipt}))) is holds
        )
    unread = luc.sign_object(RECEIPT, replace(good, device_id=luc.device_id).payload())
    extra = f"receipts/{luc.device_id.hex()}-opened.cose"
    assert not verdict(resigned(audited, right, lambda members: members.update({extra: unread})))


@pytest.mark.parametrize(("seconds", "holds"), [(-61, False), (-30, True), (30, True), (120, False)])
def test_a_directory_entry_that_is_dated_where_it_does_not_stand_is_refused(audited, right, verdict, seconds, holds):
    """Before the one in front of it in the package, or after the log with it was signed."""
    last = max(int(name[10:20]) for name in members_of(right) if name.startswith("directory/0"))
    stored = [parse_directory_entry(each) for each in Forger(audited).entries(Log.DIRECTORY)]
    time_ms = (int(time.time() * 1000) if seconds > 0 else max(each.time for each in stored[:last])) + seconds * 1000

    def change(index: int, encoded: bytes) -> bytes:
        return replace(stored[index], time=time_ms).encoded() if index == last else encoded

    assert verdict(relogged(audited, right, Log.DIRECTORY, change)) is holds


def recertified(audited, address: str, **fields) -> Callable[[int, bytes], bytes]:
    """The directory with another certificate for this device, by its own authority."""
    device = audited.clients[address].profile.signing.device_id
    authority = audited.authorities[address.partition("@")[2]].profile.signing

    def change(_index: int, encoded: bytes) -> bytes:
        entry = parse_directory_entry(encoded)
        if entry.change is not Change.CERTIFICATE:
            return encoded
        certificate = read_certificate(parse_sign1(entry.payload, CERTIFICATE))
        if certificate.device_id != device:
            return encoded
        signed = authority.sign_object(CERTIFICATE, replace(certificate, **fields).payload())
        return DirectoryEntry(entry.change, entry.time, entry.salt, signed).encoded()

    return change


def test_an_expired_certificate_is_refused_also_if_its_authority_signed_it(audited, right, verdict):
    now = int(time.time())
    assert verdict(relogged(audited, right, Log.DIRECTORY, recertified(audited, ANNA, not_after=now + 60)))
    for who in (ANNA, PETIT):
        past = recertified(audited, who, not_before=now - 9000, not_after=now - 3600)
        assert not verdict(relogged(audited, right, Log.DIRECTORY, past)), who
        future = recertified(audited, who, not_before=now + 3600)
        assert not verdict(relogged(audited, right, Log.DIRECTORY, future)), who


def test_a_certificate_for_anybody_elses_key_or_for_half_of_its_own_is_refused(audited, right, verdict):
    anna, jean = (audited.clients[each].profile for each in (ANNA, PETIT))
    statement = audited.authorities["lo-paris"].profile.statement
    shared = {
        "its own Ed25519 key": anna.signing.public[1952:],
        "another's Ed25519 key": jean.signing.public[1952:],
        "another's request key": jean.request.public_key().public_bytes_raw(),
        "an authority's request key": statement.request_public,
    }
    assert verdict(relogged(audited, right, Log.DIRECTORY, recertified(audited, ANNA, request_public=bytes(32))))
    for what, key in shared.items():
        altered = relogged(audited, right, Log.DIRECTORY, recertified(audited, ANNA, request_public=key))
        assert not verdict(altered), what


def test_a_certificate_by_another_authority_is_refused(audited, right, verdict):
    paris = audited.authorities["lo-paris"].profile.signing
    honest = recertified(audited, ANNA)

    def change(index: int, encoded: bytes) -> bytes:
        entry = parse_directory_entry(honest(index, encoded))
        if entry.change is not Change.CERTIFICATE or honest(index, encoded) == encoded:
            return encoded
        payload = parse_sign1(entry.payload, CERTIFICATE).payload
        return replace(entry, payload=paris.sign_object(CERTIFICATE, payload)).encoded()

    assert not verdict(relogged(audited, right, Log.DIRECTORY, change))


def agreed_anew(audited, **fields) -> Callable[[int, bytes], bytes]:
    """The directory with other terms in every agreement, signed by its parties' own authorities."""

    def change(_index: int, encoded: bytes) -> bytes:
        entry = parse_directory_entry(encoded)
        if entry.change is not Change.AGREEMENT:
            return encoded
        signed = parse_sign1(entry.payload, AGREEMENT)
        keys = (authority.profile.signing for authority in audited.authorities.values())
        (by,) = (key for key in keys if key.kid == signed.kid)
        terms = replace(read_agreement(signed.payload), **fields)
        return replace(entry, payload=by.sign_object(AGREEMENT, terms.payload())).encoded()

    return change


@pytest.fixture(scope="module")
def times(right):
    """When the message was accepted and opened, in seconds."""
    entries = [parse_access_entry(decode(each)[0]) for name, each in members_of(right).items() if "access/0" in name]
    return {each.event: each.time // 1000 for each in reversed(entries)}


def test_an_agreement_that_was_not_valid_when_the_message_was_accepted_or_opened_is_none(
    audited, right, times, recalled, verdict
):
    accepted = times[Event.ACCEPT]
    for fields, holds in (
        ({"not_before": accepted, "not_after": times[Event.OPEN] + 1}, True),
        ({"not_before": accepted + 86400}, False),
        ({"not_before": 0, "not_after": accepted - 1}, False),
    ):
        assert verdict(relogged(audited, right, Log.DIRECTORY, agreed_anew(audited, **fields))) is holds, fields
    brief = relogged(audited, right, Log.DIRECTORY, agreed_anew(audited, not_after=accepted + 20))
    for seconds, holds in ((20, True), (21, False)):
        later = {"time": (accepted + seconds) * 1000}
        assert verdict(relogged(audited, brief, Log.ACCESS, changed_entry(recalled, Event.OPEN, **later))) is holds


def test_an_agreement_that_was_signed_after_the_message_was_accepted_is_none(audited, right, times, verdict):
    ever = relogged(audited, right, Log.DIRECTORY, agreed_anew(audited, not_before=0))
    for seconds, holds in ((0, True), (3600, False)):

        def earlier(_index: int, encoded: bytes, by: int = seconds * 1000) -> bytes:
            entry = parse_access_entry(encoded)
            return replace(entry, time=entry.time - by).encoded()

        assert verdict(relogged(audited, ever, Log.ACCESS, earlier)) is holds
