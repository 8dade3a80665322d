"""On PostgreSQL messages and log lie in partitions that are made ahead: nobody who sends or reads notices."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time

import pytest
from alembic import command
from sqlalchemy import create_engine, func, make_url, select, text, update

from databases import administer, fresh_database
from forge import Forge, call
from jobs import log_one
from logcheck import verify_all_consistent, verify_receipt
from processes import told
from relay.core.accept import _BY_ID
from relay.core.sweeper import tend_partitions
from relay.house import check_all, migrate
from relay.pipeline.batch import Job
from relay.protocol.entry import parse_logged_entry
from relay.protocol.envelope import parse_message
from relay.protocol.errors import LiaisonError, Unavailable
from relay.settings import Settings
from relay.store.engine import open_writer
from relay.store.log_schema import log_entry
from relay.store.migrate import _config, upgrade
from relay.store.partitions import BY_DAY, BY_INDEX, Widths, _holds_any, _ranges, tend
from relay.store.schema import message, message_place, part, slot
from world import clearance, world

pytestmark = pytest.mark.postgres
ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"
SMALL = {"partition_days": 1, "partition_entries": 8}
WIDTHS = Widths(1, 8)


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("partitions")
    with fresh_database("postgresql", folder) as url:
        migrate(Settings(data=folder / "relay", database=url, **SMALL))
        with world(folder, database=url, **SMALL) as built:
            built.office("lo-warsaw", "POL")
            built.office("lo-paris", "FRA")
            built.agreement("lo-warsaw", "lo-paris")
            built.device(ANNA, clearances=[clearance(nations=["POL"])])
            built.device(JEAN, clearances=[clearance(nations=["FRA"])])
            built.clients[ANNA].sync()
            yield built


def today() -> int:
    return int(time.time()) // 86400


def filled(connection, table: str) -> list[str]:
    """The partitions with something in them, the default one included."""
    return [name for name in (*_ranges(connection, table), f"{table}_default") if _holds_any(connection, name)]


def sweep(offices) -> None:
    asyncio.run(offices.relay.sweeper.sweep())


def carry(offices, message_id: bytes, day: int) -> None:
    """As if the message had been accepted on another day."""
    with offices.relay._committer._engine.begin() as connection:
        # From one partition to another is a deletion to triggers, and a message that is deleted takes all with it.
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        for table in (message_place, message, part, slot):
            connection.execute(update(table).where(table.c.message_id == message_id).values(day=day))


def test_the_log_goes_on_from_partition_to_partition_as_one_history(offices):
    forge = Forge(offices.clients[ANNA]).prepare(JEAN)
    readers, receipts = forge.last_resort(offices), []
    for _ in range(5):
        for _ in range(5):
            receipts.append(parse_logged_entry(forge.post(forge.seal(readers=readers).encoded()).content))
        sweep(offices)
    indexes = [receipt.index for receipt in receipts]
    assert indexes == list(range(indexes[0], indexes[0] + 25))
    checkpoints = [verify_receipt(offices.relay.vkeys, receipt) for receipt in receipts]
    verify_all_consistent(offices.url, offices.relay.vkeys, checkpoints)
    with offices.relay._readers.connect() as connection:
        for table in BY_INDEX:
            assert len(filled(connection, table)) >= 4
            assert f"{table}_default" not in filled(connection, table)
    assert list(check_all(offices.settings, [], lambda *_: None)) == []


def test_messages_of_several_partitions_are_listed_read_and_acknowledged(offices):
    anna, jean = offices.clients[ANNA], offices.clients[JEAN]
    days = [0, today(), today() + 1]
    sent = [anna.send([JEAN], label="TEST SEALED RELEASABLE TO FRA, POL", body=f"{day}\n").message_id for day in days]
    for message_id, day in zip(sent, days, strict=True):
        carry(offices, message_id, day)
    with offices.relay._readers.connect() as connection:
        for table in BY_DAY:
            assert len(filled(connection, table)) == 3
    listed = [item.message_id for item in jean.inbox()]
    assert set(sent) <= set(listed)
    assert [jean.read(message_id).portions[0].text for message_id in sent] == [f"{day}\n" for day in days]
    for message_id in sent:
        jean.acknowledge(message_id)
        receipts = call(anna, "GET", f"/v1/messages/{message_id.hex()}/receipts").content
        assert (b"opened" in receipts, b"acknowledged" in receipts) == (True, True)
    assert list(check_all(offices.settings, [], lambda *_: None)) == []


def test_a_message_is_accepted_once_however_old_its_partition(offices):
    forge = Forge(offices.clients[ANNA]).prepare(JEAN)
    submission = forge.seal()
    first = forge.post(submission.encoded())
    carry(offices, parse_message(submission.message).core.message_id, 7)
    assert forge.post(submission.encoded()).content == first.content
    same_id = forge.seal(readers=forge.claim(), message_id=parse_message(submission.message).core.message_id)
    assert forge.post(same_id.encoded()).status_code == 409


def test_nothing_is_refused_where_nobody_has_made_a_partition(offices):
    sweep(offices)
    beyond = today() + 400
    forge = Forge(offices.clients[ANNA]).prepare(JEAN)
    submission = forge.seal(readers=forge.claim())
    message_id = parse_message(submission.message).core.message_id
    assert forge.post(submission.encoded()).status_code == 201
    carry(offices, message_id, beyond)
    for _ in range(5 * WIDTHS.entries):
        (outcome,) = offices.relay._committer.commit([Job(log_one)])
        assert outcome.error is None
    with offices.relay._readers.connect() as connection:
        for table in (*BY_DAY, *BY_INDEX):
            assert f"{table}_default" in filled(connection, table)
    assert tend(offices.relay._readers, beyond, WIDTHS)
    with offices.relay._readers.connect() as connection:
        for table in (*BY_DAY, *BY_INDEX):
            assert f"{table}_default" not in filled(connection, table)
    assert message_id in [item.message_id for item in offices.clients[JEAN].inbox()]
    assert list(check_all(offices.settings, [], lambda *_: None)) == []


@pytest.fixture
def engine(tmp_path):
    """Of a new database whose partitions were tended on day 100."""
    with fresh_database("postgresql", tmp_path) as url:
        made = open_writer(url)
        upgrade(made, "relay-test")
        tend(made, 100, WIDTHS)
        yield made
        made.dispose()


def test_a_partition_goes_when_the_last_message_in_it_is_gone(engine):
    for day in (100, 101):
        with engine.begin() as connection:
            add_message(connection, bytes([day]) * 16, day)
    tend(engine, 110, WIDTHS)
    with engine.connect() as connection:
        assert all(len(filled(connection, table)) == 2 for table in BY_DAY)
        gone, kept = (held_by(connection, "message", day) for day in (100, 101))
    with engine.begin() as connection:
        connection.execute(message_place.delete().where(message_place.c.day == 100))
    tend(engine, 110, WIDTHS)
    with engine.connect() as connection:
        assert gone not in _ranges(connection, "message")
        assert kept in _ranges(connection, "message")
        assert [connection.scalar(select(func.count()).select_from(table)) for table in (message, part, slot)] == [
            1
        ] * 3


def test_a_message_for_days_that_are_gone_stops_neither_messages_nor_log(engine):
    tend(engine, 110, WIDTHS)
    add_all(engine, 100)  # a host whose clock was set back
    assert tend(engine, 111, WIDTHS)
    with engine.connect() as connection:
        assert held_by(connection, "message", 111)
        assert filled(connection, "message") == ["message_default"]
    add_all(engine, 200)  # and for three months nobody tended them
    assert tend(engine, 200, WIDTHS)
    add_all(engine, 201)
    with engine.connect() as connection:
        assert filled(connection, "message") == [held_by(connection, "message", 201), "message_default"]
        connection.execute(message_place.delete().where(message_place.c.day < 201))
        connection.commit()
    assert tend(engine, 203, WIDTHS)
    with engine.connect() as connection:
        assert filled(connection, "message") == [held_by(connection, "message", 201)]


def test_a_message_from_a_clock_that_is_far_ahead_stops_nothing(engine):
    add_all(engine, 250)
    assert tend(engine, 101, WIDTHS)
    with engine.connect() as connection:
        assert filled(connection, "message") == [held_by(connection, "message", 250)]


def test_a_range_of_days_is_there_for_who_is_a_little_late(engine):
    tend(engine, 102, WIDTHS)
    add_all(engine, 100)
    with engine.connect() as connection:
        assert filled(connection, "message") == [held_by(connection, "message", 100)]


def test_the_log_has_its_partitions_though_those_of_the_messages_cannot_be_made(tmp_path, caplog):
    settings = Settings(data=tmp_path / "relay", **SMALL)
    with fresh_database("postgresql", tmp_path) as url:
        engine = open_writer(url)
        upgrade(engine, "relay-test")
        with engine.begin() as connection:
            first = max(end for _first, end in _ranges(connection, "message").values())
            connection.exec_driver_sql(f"CREATE TABLE message_{first} ()")  # the name is taken
        with pytest.raises(LiaisonError, match="the partitions were not tended"):
            migrate(settings.model_copy(update={"database": url}))
        tend_partitions(engine, WIDTHS)  # the sweeper's way: told, and tried again
        assert "partitions not tended" in caplog.text
        with engine.connect() as connection:
            assert [len(_ranges(connection, table)) > 1 for table in ("log_entry", "message")] == [True, False]
        engine.dispose()


def add_all(engine, day: int) -> None:
    with engine.begin() as connection:
        add_message(connection, bytes([day]) * 16, day)


def held_by(connection, table: str, day: int) -> str:
    return next(name for name, (first, end) in _ranges(connection, table).items() if (first or 0) <= day < end)


def test_who_is_in_the_way_of_a_new_partition_is_not_waited_for(tmp_path):
    with fresh_database("postgresql", tmp_path) as url:
        engine, other = open_writer(url), create_engine(url)
        upgrade(engine, "relay-test")
        with other.begin() as looking:
            looking.execute(select(func.count()).select_from(message))
            assert not tend(engine, 100, WIDTHS)
            with engine.connect() as connection:
                assert len(_ranges(connection, "message")) == 1
        assert tend(engine, 100, WIDTHS)
        with engine.connect() as connection:
            assert len(_ranges(connection, "message")) == 3
        other.dispose()
        engine.dispose()


def test_migrate_does_not_call_up_to_date_what_somebody_is_in_the_way_of(tmp_path, monkeypatch):
    with fresh_database("postgresql", tmp_path) as url:
        where = ("--data", tmp_path / "relay", "--database", url)
        told("migrate", *where)
        monkeypatch.setenv("RELAY_PARTITION_DAYS", "400")  # as if weeks had passed
        other = create_engine(url)
        with other.begin() as looking:
            looking.execute(select(func.count()).select_from(message))
            said = told("migrate", *where, code=7).stderr
        other.dispose()
        assert "the partitions were not tended: a reader is in the way" in said
        assert "up to date" in told("migrate", *where).stderr


def test_migrate_does_not_call_up_to_date_what_only_the_owner_of_the_tables_can_do(tmp_path, monkeypatch):
    role = f"app_{secrets.token_hex(4)}"
    with fresh_database("postgresql", tmp_path) as url:
        told("migrate", "--data", tmp_path / "relay", "--database", url)
        monkeypatch.setenv("RELAY_PARTITION_DAYS", "400")
        administer(url, f"CREATE ROLE {role}")
        try:
            administer(url, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
            administer(url, f"GRANT ALL ON SCHEMA public TO {role}")
            other = make_url(url).update_query_dict({"options": f"-c role={role}"}).render_as_string(False)
            said = told("migrate", "--data", tmp_path / "relay", "--database", other, code=1).stderr
        finally:
            administer(url, f"DROP OWNED BY {role}")
            administer(url, f"DROP ROLE {role}")
        assert "the partitions were not tended: must be owner of" in said
        assert "run it as the owner of the tables" in said


def add_message(connection, message_id: bytes, day: int | None = None) -> None:
    """Rows as a version before partitions writes them where no `day` is given."""
    at = {} if day is None else {"day": day}
    row = {
        "message_id": message_id, "ref": bytes(32), "digest": message_id * 2, "sender_device": bytes(16),
        "seq": int.from_bytes(message_id[:6], "big"), "precedence": 1, "expires": 1, "encoded": b"", "endorsements": b"",
        "entry": 0,
    }  # fmt: skip
    part_row = {"message_id": message_id, "idx": 0, "sealed": b"", "upload_id": None}
    slot_row = {"message_id": message_id, "device_id": bytes(16), "position": 0, "precedence": 1, "proof": b""}
    if day is not None:
        place = {name: row[name] for name in ("message_id", "sender_device", "seq", "digest", "entry")}
        connection.execute(message_place.insert(), {**place, **at})
    for table, values in (("message", row), ("part", part_row), ("slot", slot_row)):
        names = [*values, *at]
        statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES (:{', :'.join(names)})"
        connection.execute(text(statement), {**values, **at})


def test_the_earlier_version_serves_on_while_its_tables_become_partitions(tmp_path):
    with fresh_database("postgresql", tmp_path) as url:
        engine, earlier = open_writer(url), open_writer(url)
        command.upgrade(_config(engine), "0008")
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO log_head VALUES (1, 0), (2, 0)"))
            connection.execute(text("INSERT INTO setting VALUES ('name', 'relay-test')"))
        written, problems, more = [], [], threading.Event()

        def load() -> None:
            while not more.is_set():
                message_id = os.urandom(16)
                try:
                    write_as_before(earlier, message_id, len(written))
                except Exception as problem:  # noqa: BLE001 - told below
                    problems.append(problem)
                    return
                written.append(message_id)

        thread = threading.Thread(target=load)
        thread.start()
        wait_for(thread, lambda: len(written) >= 50)
        upgrade(engine, "relay-test")
        tend(engine, 100, Widths(1, 1 << 20))
        migrated = len(written)
        wait_for(thread, lambda: len(written) >= migrated + 50)
        with earlier.begin() as connection:
            connection.execute(text("DELETE FROM message WHERE message_id = :gone"), {"gone": written[0]})
        more.set()
        thread.join()
        assert problems == []
        with earlier.connect() as connection:
            counted = [
                connection.scalar(select(func.count()).select_from(t)) for t in (message_place, message, part, slot)
            ]
            assert counted == [len(written) - 1] * 4
            assert {row[0] for row in _BY_ID.select.rows_of(connection, written)} == set(written[1:])
            assert connection.scalars(select(log_entry.c.idx).order_by(log_entry.c.idx)).all() == list(
                range(len(written))
            )
            assert filled(connection, "message") == ["message_first"]
        earlier.dispose()
        engine.dispose()


def test_a_migration_that_finds_a_reader_in_the_way_is_run_again(tmp_path):
    with fresh_database("postgresql", tmp_path) as url:
        engine, other = open_writer(url), create_engine(url)
        command.upgrade(_config(engine), "0008")
        with engine.begin() as connection:
            add_message(connection, b"m" * 16)
        with other.begin() as looking:
            looking.execute(text("SELECT FROM checkpoint"))
            with pytest.raises(Unavailable, match="lock timeout"):
                upgrade(engine, "relay-test")
        upgrade(engine, "relay-test")
        with engine.connect() as connection:
            assert filled(connection, "message") == ["message_first"]
        other.dispose()
        engine.dispose()


def write_as_before(engine, message_id: bytes, index: int) -> None:
    with engine.begin() as connection:
        connection.execute(text("SELECT size FROM log_head ORDER BY log FOR UPDATE")).all()
        entry = "INSERT INTO log_entry (log, idx, leaf_hash, entry, office, concerns) VALUES (2, :idx, :leaf, :leaf, '', '')"
        connection.execute(text(entry), {"idx": index, "leaf": bytes(32)})
        connection.execute(text("UPDATE log_head SET size = :size WHERE log = 2"), {"size": index + 1})
        add_message(connection, message_id)


def wait_for(thread: threading.Thread, done) -> None:
    while not done() and thread.is_alive():
        thread.join(0.01)
