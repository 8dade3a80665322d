"""Retention: what is due is gone with its bytes, and the log still verifies.

The relay's clock is set forward for the sweep alone; everything else is real: its database file is read, the
auditor pulls over HTTP, and the Go program checks what the relay publishes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sqlite3
import time
from dataclasses import replace

import pytest
from sqlalchemy import func, select

import relay.core.retention
from acts import run, screen
from forge import call
from go_programs import GO, NO_GO, run_go, write
from jobs import cheap_entry
from liaison.audit.pull import AuditPull
from liaison.holding import state_hold
from processes import told
from relay.core.retention import Sweep
from relay.protocol.access import Judge
from relay.protocol.entry import parse_access_entry
from relay.protocol.errors import Malformed, Unverified
from relay.protocol.hold import Action
from relay.protocol.identity import Kind
from relay.protocol.label import Label, PolicyRef
from relay.protocol.policy_extensions import parse_extensions
from relay.protocol.retention import Destruction, entry_end, parse_destruction
from relay.protocol.spif import read_spif
from relay.store.log import Log
from relay.store.log_schema import log_entry
from relay.store.schema import key_batch, key_package, part, slot
from retained import (
    ANNA,
    AUDITOR,
    DAY,
    FULL,
    JEAN,
    OPEN,
    PERIODS,
    check,
    entries_of,
    later,
    officers,
    on_both,
    rows_of,
    sent,
    sweep,
)
from test_backup import log_many
from world import POLICY_NAME, POLICY_OID, TEST_SPIF


def files(built) -> bytes:
    return b"".join(each.read_bytes() for each in built.settings.data.glob("relay.sqlite*"))


def contents(built, message_id: bytes) -> list[bytes]:
    """Octets that only this message's rows hold."""
    with built.relay._readers.connect() as connection:
        sealed = connection.scalars(select(part.c.sealed).where(part.c.message_id == message_id)).all()
        (slot_bytes,) = connection.scalars(select(slot.c.encoded).where(slot.c.message_id == message_id)).all()
    return [bytes(each)[:200] for each in sealed] + [bytes(slot_bytes)[-48:]]


def test_a_message_goes_with_all_its_bytes_thirty_days_after_it_expired_and_not_before(emptied_offices):
    message_id = sent(emptied_offices)
    octets = contents(emptied_offices, message_id)
    assert all(each in files(emptied_offices) for each in octets)
    assert sweep(emptied_offices, 30) == (0, 0)
    assert rows_of(emptied_offices, message_id)
    assert sweep(emptied_offices, 31.1) == (1, 0)
    assert rows_of(emptied_offices, message_id) == 0
    assert not [each for each in octets if each in files(emptied_offices)]


def key_rows(built) -> tuple[int, int, int]:
    """Key packages that were used, all of them, and batches of them."""
    with built.relay._readers.connect() as connection:
        used, every, batches = (
            connection.scalar(select(func.count(column)))
            for column in (key_package.c.used_by, key_package.c.ref, key_batch.c.digest)
        )
    return used, every, batches


@on_both
def test_key_packages_go_when_they_have_ended_and_not_before_and_their_devices_bring_new_ones(
    fresh_offices, monkeypatch
):
    monkeypatch.setattr("relay.core.keyroom._ENDED_AT_ONCE", 7)
    sent(fresh_offices)
    used, every, batches = before = key_rows(fresh_offices)
    assert used == 1
    sweep(fresh_offices, 6.9)
    assert key_rows(fresh_offices) == before
    sweep(fresh_offices, 7.1)
    assert key_rows(fresh_offices) == (1, every - 2, batches)  # each device's last-resort one
    sweep(fresh_offices, 60.1)
    assert key_rows(fresh_offices) == (0, 0, 0)
    fresh_offices.clients[JEAN].inbox()
    assert key_rows(fresh_offices)[1:] == (65, 1)
    sent(fresh_offices)


@on_both
def test_a_classification_has_its_own_period(fresh_offices):
    soon, late = sent(fresh_offices, OPEN), sent(fresh_offices)
    assert sweep(fresh_offices, 2.1) == (1, 4)
    assert (rows_of(fresh_offices, soon), bool(rows_of(fresh_offices, late))) == (0, True)


def test_what_no_known_policy_speaks_of_is_kept(emptied_offices, monkeypatch):
    message_id = sent(emptied_offices)
    monkeypatch.setattr(emptied_offices.relay._shelf, "read", lambda *_: None)
    assert sweep(emptied_offices, 10_000) == (0, 0)
    assert rows_of(emptied_offices, message_id)


def test_what_fills_one_transaction_leaves_the_rest_to_the_next(emptied_offices, monkeypatch):
    monkeypatch.setattr(relay.core.retention, "_OCTETS", 1)  # a message each
    there = [sent(emptied_offices) for _ in range(3)]
    assert sweep(emptied_offices, 31.1).messages == 3
    assert [rows_of(emptied_offices, message_id) for message_id in there] == [0, 0, 0]


def test_an_entry_that_concerns_an_office_that_keeps_everything_is_kept(emptied_offices):
    emptied_offices.office("lo-bergen", "NOR")
    emptied_offices.agreement("lo-bergen", "lo-paris")
    kari = emptied_offices.device("kari.moe@lo-bergen", clearances=FULL)
    message_id = kari.send([JEAN], label=OPEN, body="Ferry at dawn.", expires_in=DAY).message_id
    emptied_offices.clients[JEAN].acknowledge(message_id)
    about = places_of(emptied_offices, message_id)
    assert sweep(emptied_offices, 31.1).messages == 1
    assert None not in stored_entries(emptied_offices, about)


@on_both
def test_where_another_office_keeps_its_entries_longer_so_stays_the_one_that_says_that_the_message_went(fresh_offices):
    longer = PERIODS.replace(b"OPEN = 172800", b"OPEN = 864000")
    fresh_offices.authorities["lo-paris"].publish_policy(TEST_SPIF, longer)
    _ewa, _ola, luc = officers(fresh_offices)
    opened, held, alone = (sent(fresh_offices, OPEN), *(unread(fresh_offices) for _ in range(2)))
    state_hold(luc, Action.PLACE, held, "inquiry 7")
    assert sweep(fresh_offices, 2.1) == (3, 3)  # their accept entries
    assert sweep(fresh_offices, 5) == (0, 1)
    assert check(fresh_offices) == []
    assert [len(places_of(fresh_offices, each)) for each in (opened, held, alone)] == [4, 2, 0]
    sweep(fresh_offices, 13)
    assert [len(places_of(fresh_offices, each)) for each in (opened, held, alone)] == [0, 0, 0]
    assert check(fresh_offices) == []


def unread(built) -> bytes:
    """A message that expires in a day, of nobody's interest."""
    return built.clients[ANNA].send([JEAN], label=OPEN, body="Ferry at dawn.", expires_in=DAY).message_id


def test_what_is_due_behind_many_entries_that_nobody_destroys_is_found(emptied_offices):
    for _ in range(2):
        asyncio.run(emptied_offices.relay._writer.submit(log_many))
    about = places_of(emptied_offices, sent(emptied_offices, OPEN))
    sweep(emptied_offices, 2.1)
    assert stored_entries(emptied_offices, about) == [None] * 4


def log_ahead(batch):
    """Two pages, by a clock that was ten years ahead."""
    for _ in range(512):
        batch.log(replace(cheap_entry(), time=batch.now_ms + 3650 * DAY * 1000))
    return lambda _committed: None


def test_a_clock_that_was_ahead_for_a_while_keeps_nothing_behind_it_from_being_found(emptied_offices):
    asyncio.run(emptied_offices.relay._writer.submit(log_ahead))
    about = places_of(emptied_offices, sent(emptied_offices, OPEN))
    sweep(emptied_offices, 2.1)
    assert stored_entries(emptied_offices, about) == [None] * 4


def test_what_cannot_be_read_is_kept_and_stops_no_sweep(emptied_offices, capsys):
    harmed, other = sent(emptied_offices), sent(emptied_offices, OPEN)
    about, (first, *_rest) = places_of(emptied_offices, other), places_of(emptied_offices, harmed)
    with sqlite3.connect(emptied_offices.settings.data / "relay.sqlite", timeout=30) as connection:
        (before,) = connection.execute("SELECT entry FROM log_entry WHERE log = 2 AND idx = ?", (first,)).fetchone()
        connection.execute("UPDATE message SET encoded = x'80' WHERE message_id = ?", (harmed,))
        connection.execute("UPDATE log_entry SET entry = x'80' WHERE log = 2 AND idx = ?", (first,))
    connection.close()
    assert sweep(emptied_offices, 200).messages == 1
    assert (rows_of(emptied_offices, other), stored_entries(emptied_offices, about)) == (0, [None] * 4)
    assert rows_of(emptied_offices, harmed)
    assert stored_entries(emptied_offices, [first]) == [b"\x80"]
    with sqlite3.connect(emptied_offices.settings.data / "relay.sqlite", timeout=30) as connection:
        connection.execute("UPDATE log_entry SET entry = ? WHERE log = 2 AND idx = ?", (before, first))
    connection.close()


def test_slots_count_for_what_fills_one_transaction(emptied_offices, monkeypatch):
    for _ in range(3):
        sent(emptied_offices)
    monkeypatch.setattr(relay.core.retention, "_OCTETS", 20_000)

    def destroyed_at_once() -> int:
        with emptied_offices.relay._readers.connect() as connection:
            job = Sweep().next_job(connection, emptied_offices.relay.judge(), int(time.time()) + 32 * DAY)
        return len(job.args[0])

    assert destroyed_at_once() == 3
    monkeypatch.setattr(relay.core.retention, "_SLOT", 20_000)
    assert destroyed_at_once() == 1


def test_what_was_not_due_is_not_read_again_before_it_can_be(emptied_offices, monkeypatch):
    asyncio.run(emptied_offices.relay._writer.submit(log_many))
    about = places_of(emptied_offices, sent(emptied_offices, OPEN))
    for _ in range(2):
        asyncio.run(emptied_offices.relay._writer.submit(log_many))
    sweep(emptied_offices, 1.5)  # the message is there, and what is said of it
    parsed, parse = [], relay.core.retention.parse_access_entry

    def parsing(encoded):
        parsed.append(encoded)
        return parse(encoded)

    monkeypatch.setattr(relay.core.retention, "parse_access_entry", parsing)
    assert sweep(emptied_offices, 1.6) == (0, 0)
    assert len(parsed) < 256  # of the page that is not full
    assert sweep(emptied_offices, 2.1).messages == 1
    assert stored_entries(emptied_offices, about) == [None] * 4


def places_of(built, message_id: bytes) -> list[int]:
    """Indexes of the entries of a message, as they are stored."""
    with built.relay._readers.connect() as connection:
        kept = select(log_entry.c.idx, log_entry.c.entry).where(
            log_entry.c.log == Log.ACCESS, log_entry.c.entry.is_not(None)
        )
        rows = connection.execute(kept).all()
    return [row.idx for row in rows if parse_access_entry(bytes(row.entry)).message_id == message_id]


def stored_entries(built, indexes):
    with built.relay._readers.connect() as connection:
        wanted = select(log_entry.c.entry).where(log_entry.c.log == Log.ACCESS, log_entry.c.idx.in_(indexes))
        return connection.scalars(wanted).all()


def test_entries_that_were_found_due_are_decided_again_when_they_are_destroyed(emptied_offices):
    sent(emptied_offices)
    assert sweep(emptied_offices, 31.1).messages == 1
    with emptied_offices.relay._readers.connect() as connection:
        destroy = Sweep().next_job(connection, emptied_offices.relay.judge(), int(time.time()) + 101 * DAY)
    unknowing = Judge(emptied_offices.relay._committer.directory, lambda *_: None)
    with later(101):
        assert asyncio.run(emptied_offices.relay._writer.submit(lambda batch: destroy(batch, unknowing))) == (0, 0)
        judge = emptied_offices.relay.judge()
        assert asyncio.run(emptied_offices.relay._writer.submit(lambda batch: destroy(batch, judge))).entries >= 4


@pytest.mark.parametrize(
    ("periods", "end"),
    [((10, 20), 120), ((20, 10), 120), ((10, None), None), ((None, 10), None), ((10, "unknown"), None), ((), None)],
)
def test_an_entry_is_kept_for_the_longest_that_any_office_wants(periods, end):
    label = Label(PolicyRef(POLICY_NAME, POLICY_OID, 1, bytes(32)), "OPEN")
    policies = [None if each == "unknown" else policy_that_keeps(each) for each in periods]
    assert entry_end(policies, label, 100) == end


def policy_that_keeps(seconds: int | None):
    extensions = b"" if seconds is None else b"entry_retention = { OPEN = %d }\n" % seconds
    return read_spif(TEST_SPIF, parse_extensions(extensions))[0]


@on_both
def test_after_their_retention_the_contents_of_entries_are_gone_and_both_auditors_programs_agree(
    fresh_offices, request, tmp_path, monkeypatch
):
    # The relay's clock is set back after the sweep, which auditors would rightly find.
    monkeypatch.setattr("relay.protocol.dating.TOLERANCE", 366 * DAY * 1000)
    message_id = sent(fresh_offices)
    about = entries_of(fresh_offices, message_id)
    with fresh_offices.relay._readers.connect() as connection:
        wanted = (
            select(log_entry.c.entry, log_entry.c.leaf_hash)
            .where(log_entry.c.log == Log.ACCESS, log_entry.c.idx.in_(about))
            .order_by(log_entry.c.idx)
        )
        before = [(bytes(row.entry), bytes(row.leaf_hash)) for row in connection.execute(wanted)]
    # Accept, open, opened, acknowledged; the message's own expire entry is younger.
    assert sweep(fresh_offices, 100.1) == (1, len(about)) == (1, 4)
    assert not [entry for entry, _leaf in before if entry[:200] in files(fresh_offices)]
    fresh = fresh_offices.device("new@lo-warsaw", clearances=[], kind=Kind.AUDITOR, scope=["lo-paris"])
    fresh_offices.grant_audit("lo-paris", fresh)
    shown = [json.loads(line) for line in screen(fresh, "audit", "pull")]
    assert [{name: value for name, value in shown[index].items() if value is not None} for index in about] == [
        {"v": 1, "index": index, "leaf_hash": leaf.hex(), "erased": True}
        for index, (_entry, leaf) in zip(about, before, strict=True)
    ]
    assert {entry["event"] for entry in shown} >= {"expire", "destroy"}
    settings = fresh_offices.settings
    told("check", "--data", settings.data, *(["--database", settings.database] if settings.database else []))
    # He who pulled before, he who has only seen the hashes, and the Go program: the tree holds.
    for auditor in (fresh_offices.clients[AUDITOR], fresh):
        assert "hold" in run(auditor, "audit", "verify").output
    if GO is None:
        pytest.skip(NO_GO)
    size = publish(fresh_offices, tmp_path / "log")
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


def test_an_entry_that_was_emptied_without_a_record_is_found_and_named(fresh_offices, tmp_path):
    (index, *_, last) = entries_of(fresh_offices, sent(fresh_offices))
    data = fresh_offices.settings.data
    with sqlite3.connect(data / "relay.sqlite") as connection:
        for each in (index, last):
            connection.execute("UPDATE log_entry SET entry = NULL WHERE log = 2 AND idx = ?", (each,))
    connection.close()
    faults = [f"access log, entry {each}: was erased, and no record says so" for each in (index, last)]
    assert set(faults) <= set(told("check", "--data", data, code=5).stdout.splitlines())
    told("backup", tmp_path / "file", "--data", data)
    (tmp_path / "other").mkdir()
    shutil.copy(data / "log-keys.json", tmp_path / "other")
    restored = told("restore", tmp_path / "file", "--data", tmp_path / "other", "--accept-loss", code=5)
    assert faults[0] in restored.stderr
    assert not list((tmp_path / "other").glob("relay.sqlite*"))
    with pytest.raises(Unverified, match=f"entry {index} of the access log was erased, and no record says so"):
        AuditPull(fresh_offices.clients[AUDITOR]).verify()


def test_a_record_says_what_it_covers_and_nothing_else():
    record = Destruction(2, (3, 4, 5, 9), (hashlib.sha256(b"").digest(),))
    assert parse_destruction(record.detail()) == record
    assert " entries=3-5,9 " in record.detail()
    assert parse_destruction(Destruction(1, (), ()).detail()).entries == ()
    for entries in ("5-3", "0-999999999", "9" * 5000, "٣", "3,4", "9,3", "3,3", "03", "5-5", "0-255,257"):
        with pytest.raises(Malformed):
            parse_destruction(f"messages=1 entries={entries} policies=")
    for wrong in ("", "messages=1", "messages=1 entries= policies=ab"):
        with pytest.raises(Malformed):
            parse_destruction(wrong)
