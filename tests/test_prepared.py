"""Statements that take many rows at a time: none lost, none doubled, on both databases."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, Table, Text, bindparam, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from databases import BOTH, fresh_database
from relay.core import accept, acknowledge, keyroom, nonces, reading, uploads
from relay.core import open as opening
from relay.store import log as log_rows
from relay.store import prepared
from relay.store.engine import open_writer
from relay.store.migrate import upgrade
from relay.store.prepared import Prepared, given, together

THING = Table(
    "thing",
    MetaData(),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("octets", LargeBinary),
    Column("word", Text),
)
COUNTS = [1, 2, 3, 255, 256, 257, 700]


@pytest.fixture(params=BOTH)
def connection(request, tmp_path):
    with fresh_database(request.param, tmp_path) as url:
        engine = open_writer(url)
        with engine.begin() as opened:
            THING.create(opened)
            yield opened
        engine.dispose()


def row(number):
    return {"id": number, "octets": None if number % 3 else number.to_bytes(8), "word": f"(?, %s) VALUES {number}"}


def stored(connection):
    return [dict(each._mapping) for each in connection.execute(select(THING).order_by(THING.c.id))]


def test_every_row_of_an_insert_is_there_once(connection):
    statement, first = Prepared(insert(THING)), 0
    for count in COUNTS:
        statement.run(connection, [row(number) for number in range(first, first + count)])
        first += count
    assert stored(connection) == [row(number) for number in range(first)]


def test_an_insert_that_replaces_does_so_row_by_row(connection):
    dialect = {"sqlite": sqlite, "postgresql": postgresql}[connection.dialect.name]
    on_conflict = dialect.insert(THING)
    statement = Prepared(
        on_conflict.on_conflict_do_update(index_elements=["id"], set_={"word": on_conflict.excluded.word})
    )
    statement.run(connection, [row(number) for number in range(5)])
    statement.run(connection, [{**row(number), "word": f"again {number}"} for number in range(3, 10)])
    words = [each["word"] for each in stored(connection)]
    assert words == [row(number)["word"] for number in range(3)] + [f"again {number}" for number in range(3, 10)]


@pytest.mark.parametrize("count", COUNTS)
def test_an_update_gives_each_row_its_own_value_and_leaves_the_others(connection, count):
    Prepared(insert(THING)).run(connection, [row(number) for number in range(2 * count)])
    rows = given(which=BigInteger(), octets=LargeBinary())
    statement = Prepared(update(THING).where(THING.c.id == rows.c.which).values(octets=rows.c.octets))
    statement.run(connection, [{"which": 2 * number, "octets": b"new %d" % number} for number in range(count)])
    expected = [{**row(n), "octets": row(n)["octets"] if n % 2 else b"new %d" % (n // 2)} for n in range(2 * count)]
    assert stored(connection) == expected


def test_a_statement_without_rows_of_values_is_run_for_each(connection):
    Prepared(insert(THING)).run(connection, [row(number) for number in range(3)])
    statement = Prepared(update(THING).where(THING.c.id == bindparam("which")).values(word=bindparam("said")))
    statement.run(connection, [{"which": 0, "said": "a"}, {"which": 2, "said": "b"}])
    assert [each["word"] for each in stored(connection)] == ["a", row(1)["word"], "b"]


def test_rows_are_found_by_keys_of_several_columns(connection):
    Prepared(insert(THING)).run(connection, [row(number) for number in range(40)])
    wanted = given(which=BigInteger(), word=Text())
    statement = Prepared(
        select(THING.c.id).select_from(
            wanted.join(THING, (THING.c.id == wanted.c.which) & (THING.c.word == wanted.c.word))
        )
    )
    for count in (1, 2, 3, 31, 32, 33):
        keys = [(number, row(number)["word"]) for number in range(count)]
        assert sorted(statement.rows_of(connection, [*keys, (0, "another"), (700, keys[0][1])])) == [
            (number,) for number in range(count)
        ]


def test_what_is_sent_together_is_done_in_order(connection):
    with together(connection):
        Prepared(insert(THING)).run(connection, [row(number) for number in range(300)])
        found = Prepared(select(THING.c.id).where(THING.c.id.in_(bindparam("keys", expanding=True))))
        asked = [found.rows_of(connection, keys) for keys in ([7, 299, 300], [], [8])]
        assert [sorted(rows) for rows in asked] == [[(7,), (299,)], [], [(8,)]]
        Prepared(insert(THING)).run(connection, [row(300)])
    assert stored(connection) == [row(number) for number in range(301)]


def run_together(connection, *statements):
    with together(connection):
        for statement, rows in statements:
            statement.run(connection, rows)


def test_one_that_fails_among_those_sent_together_is_told_and_nothing_of_the_transaction_is_left(connection):
    statement = Prepared(insert(THING))
    savepoint = connection.begin_nested()
    statement.run(connection, [row(0)])
    with pytest.raises(IntegrityError):
        run_together(connection, *((statement, [row(number)]) for number in (1, 0, 2)))
    savepoint.rollback()
    assert stored(connection) == []
    statement.run(connection, [row(0)])
    assert stored(connection) == [row(0)]


@pytest.mark.postgres
def test_nobody_waits_for_a_statement_that_is_sent_with_others(tmp_path):
    sleep = Prepared(select(func.pg_sleep(bindparam("seconds"))))
    with fresh_database("postgresql", tmp_path) as url:
        engine = open_writer(url)
        with engine.begin() as connection:
            began = time.monotonic()
            with together(connection):
                sleep.run(connection, [{"seconds": 1.0}])
                sent = time.monotonic() - began
            done = time.monotonic() - began
        engine.dispose()
    assert sent < 1.0 <= done


MANY_KEYS = {
    "openings": (opening.ROWS, (b"m" * 16, b"d" * 16)),
    "message ids": (accept._BY_ID, b"m" * 16),
    "sequence numbers": (accept._BY_SEQ, (b"d" * 16, 1)),
    "receipts": (acknowledge._EARLIER, (b"m" * 16, b"d" * 16, "opened")),
    "key packages": (keyroom.PACKAGES, b"r" * 32),
    "uploads": (uploads._BOUND, b"u" * 16),
    "nonces": (nonces._USED, (b"d" * 16, b"n" * 16)),
}


@pytest.fixture
def plans(tmp_path, monkeypatch):
    """An empty relay's database; SQLite's plan of each statement that runs on it."""
    told, engine, send = [], open_writer(f"sqlite:///{tmp_path / 'relay.sqlite'}"), prepared._sent
    upgrade(engine, "relay-test")

    def explained(connection, sql, parameters):
        told.extend(str(step[3]) for step in send(connection, f"EXPLAIN QUERY PLAN {sql}", parameters))
        return send(connection, sql, parameters)

    monkeypatch.setattr(prepared, "_sent", explained)
    with engine.connect() as opened:
        yield opened, told
    engine.dispose()


@pytest.mark.parametrize("count", [1, 4, 32, 256])
@pytest.mark.parametrize("name", MANY_KEYS)
def test_no_look_up_of_a_batch_reads_a_whole_table(plans, name, count):
    """SQLite would for four tuples in VALUES: then each batch costs the more, the more messages there are."""
    (lookup, key), (opened, told) = MANY_KEYS[name], plans
    assert list(lookup.select.rows_of(opened, [key] * count)) == []
    scanned = [step for step in told if step.startswith("SCAN") and "CONSTANT ROW" not in step]
    assert told
    assert all(step.startswith("SCAN given") for step in scanned), told


LOOKS = {
    "a part": lambda c: reading._SEALED_PART.rows(c, message_id=b"m" * 16, device_id=b"d" * 16, idx=0),
    "mail": lambda c: reading._WAITING.rows(c, device_id=b"d" * 16, now=1, cursor=0, most=9),
    "urgent mail": lambda c: reading._URGENT_WAITING.rows(c, device_id=b"d" * 16, now=1, cursor=0, most=9),
    "keys to claim": lambda c: list(keyroom._NEXT_PACKAGES.rows_of(c, [(b"d" * 16, 1)] * 9)),
    "stock": lambda c: keyroom.stock_of(c, b"d" * 16, 1),
    "leaves": lambda c: log_rows.hashes(c, log_rows.Log.ACCESS, 0, 0, 9),
    "nodes": lambda c: log_rows.hashes(c, log_rows.Log.ACCESS, 1, 0, 9),
    "entries": lambda c: log_rows.entries(c, log_rows.Log.ACCESS, 0, 9),
    "a checkpoint": lambda c: log_rows.checkpoint_at(c, log_rows.Log.ACCESS, 9),
    "the next checkpoint": lambda c: log_rows.first_checkpoint_after(c, log_rows.Log.ACCESS, 9),
}


def test_a_new_last_resort_key_takes_the_old_ones_place_without_a_look_at_every_key(plans):
    opened, _told = plans
    retire = keyroom._retire(b"d" * 16).compile(dialect=opened.dialect, compile_kwargs={"literal_binds": True})
    plan = [str(step[3]) for step in opened.exec_driver_sql(f"EXPLAIN QUERY PLAN {retire}")]
    assert [step for step in plan if step.startswith("SEARCH") and "ix_key_package_claimable" in step] == plan


@pytest.mark.parametrize("name", LOOKS)
def test_no_look_reads_a_whole_table_or_sorts_one(plans, name):
    opened, told = plans
    LOOKS[name](opened)
    read = [step for step in told if not step.startswith(("SCAN given", "SCAN 16 CONSTANT ROWS"))]
    assert read
    assert not [step for step in read if step.startswith("SCAN") or "TEMP B-TREE" in step], told
