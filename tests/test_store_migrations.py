"""Migrations and the schema say the same, forwards and backwards, on both databases."""

from __future__ import annotations

import asyncio
import shutil
import threading

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select, text

from databases import BOTH, fresh_database
from jobs import log_one
from relay.house import migrate, open_relay
from relay.protocol.errors import LiaisonError
from relay.settings import Settings
from relay.store import migrate as migrations
from relay.store.engine import open_writer
from relay.store.migrate import _config, relay_name, upgrade
from relay.store.schema import hold, message_place, metadata, setting


@pytest.fixture(params=BOTH)
def engine(request, tmp_path):
    with fresh_database(request.param, tmp_path) as url:
        opened = open_writer(url)
        yield opened
        opened.dispose()


def tables(engine):
    """Those that are no other's partition."""
    names = set(inspect(engine).get_table_names())
    if engine.dialect.name == "sqlite":
        return names
    with engine.connect() as connection:
        return names - set(connection.scalars(text("SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid")))


def of_its_own(engine):
    found = tables(engine)
    return lambda name, kind, _parents: kind != "table" or name in found


def test_the_migrations_build_the_schema_that_the_code_speaks_of(engine):
    upgrade(engine, "relay-test")
    compared = {"compare_type": True, "compare_server_default": True, "include_name": of_its_own(engine)}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=compared)
        assert compare_metadata(context, metadata) == []


def test_an_empty_database_goes_up_and_down_and_up_again(engine):
    upgrade(engine, "relay-test")
    assert tables(engine) == {*metadata.tables, "alembic_version"}
    command.downgrade(_config(engine), "base")
    assert tables(engine) == {"alembic_version"}
    upgrade(engine, "relay-again")
    assert relay_name(engine) == "relay-again"


def test_the_name_of_a_relay_is_chosen_once(engine):
    upgrade(engine, "relay-first")
    upgrade(engine, "relay-second")
    assert relay_name(engine) == "relay-first"
    with engine.connect() as connection:
        assert connection.scalars(select(setting.c.value)).all() == ["relay-first"]


def test_a_database_of_another_age_is_not_served(engine):
    with pytest.raises(LiaisonError, match="revision") as refused:
        relay_name(engine)
    assert refused.value.hint == "run: relay migrate"


STORED = {  # one row of each, as revision 0008 has them
    "message": {
        "message_id": b"m" * 16, "ref": b"r" * 32, "digest": b"d" * 32, "sender_device": b"s" * 16, "seq": 7,
        "precedence": 1, "expires": 9, "encoded": b"e", "endorsements": b"", "entry": 3, "grants": b"g",
    },
    "part": {"message_id": b"m" * 16, "idx": 0, "sealed": b"p"},
    "slot": {"message_id": b"m" * 16, "device_id": b"v" * 16, "position": 0, "precedence": 1, "proof": b""},
    "receipt": {"message_id": b"m" * 16, "device_id": b"v" * 16, "state": "opened", "encoded": b"", "entry": 4},
    "recall": {"message_id": b"m" * 16, "digest": b"c" * 32, "spill": False, "encoded": b"", "entry": 5},
    "hold": {
        "message_id": b"m" * 16, "office": "lo-oslo", "device_id": b"v" * 16, "address": "a", "completes": False,
        "encoded": b"", "entry": 6,
    },
}  # fmt: skip


def test_what_is_stored_is_still_there_after_the_partitions_and_goes_as_one(engine):
    command.upgrade(_config(engine), "0008")
    with engine.begin() as connection:
        for table, row in STORED.items():
            names = list(row)
            statement = f"INSERT INTO {table} ({', '.join(names)}) VALUES (:{', :'.join(names)})"
            connection.execute(text(statement), row)
    upgrade(engine, "relay-test")
    with engine.begin() as connection:
        for table, row in STORED.items():
            found = connection.execute(select(metadata.tables[table])).mappings().one()
            assert {name: found[name] for name in row} == row
        place = connection.execute(select(message_place)).mappings().one()
        assert dict(place) == {**{name: STORED["message"][name] for name in place if name != "day"}, "day": 0}
    command.downgrade(_config(engine), "0008")
    upgrade(engine, "relay-test")
    with engine.begin() as connection:
        connection.execute(message_place.delete())
        for table in STORED:
            assert connection.execute(select(metadata.tables[table])).all() == []


@pytest.mark.parametrize(
    ("completes", "standing"),
    [
        ("0", "1"),
        ("00", "01"),
        ("01", "02"),
        ("010", "021"),
        ("0101", "0000"),
        ("01010", "00001"),
        ("010101", "000002"),
    ],
)
def test_the_words_about_a_hold_that_were_stored_before_stand_as_they_add_up(engine, completes, standing):
    command.upgrade(_config(engine), "0013")
    place = {"message_id": b"m" * 16, "sender_device": b"s" * 16, "seq": 1, "digest": b"d" * 32, "entry": 1, "day": 1}
    with engine.begin() as connection:
        connection.execute(message_place.insert(), place)
        for count, completed in enumerate(completes):
            row = STORED["hold"] | {"completes": completed == "1", "entry": count}
            names = list(row)
            connection.execute(text(f"INSERT INTO hold ({', '.join(names)}) VALUES (:{', :'.join(names)})"), row)
    upgrade(engine, "relay-test")
    with engine.begin() as connection:
        found = connection.scalars(select(hold.c.standing).order_by(hold.c.entry)).all()
        assert "".join(map(str, found)) == standing


ADDING = """
from alembic import op
import sqlalchemy as sa
revision, down_revision, branch_labels, depends_on = "added", HEAD, None, None
def upgrade():
    op.add_column("message", sa.Column("made_up", sa.Integer(), nullable=True))
"""


@pytest.mark.postgres
def test_a_migration_that_adds_runs_while_the_earlier_version_serves(tmp_path, monkeypatch):
    with fresh_database("postgresql", tmp_path) as url:
        settings = Settings(data=tmp_path / "relay", database=url)
        migrate(settings)
        relay = open_relay(settings)
        relay.start()
        answers, more = [], threading.Event()

        def load() -> None:
            while not more.is_set():
                answers.append(asyncio.run(relay._writer.submit(log_one)).index)

        thread = threading.Thread(target=load)
        thread.start()
        copied = shutil.copytree(migrations._CHECKOUT, tmp_path / "migrations")
        adding = ADDING.replace("HEAD", repr(ScriptDirectory(str(copied)).get_current_head()))
        (copied / "versions" / "added.py").write_text(adding)
        monkeypatch.setattr(migrations, "_BESIDE", copied)
        migrate(settings)
        before = len(answers)
        while len(answers) < before + 20 and thread.is_alive():
            thread.join(0.01)
        more.set()
        thread.join()
        relay.close()
        assert answers == list(range(len(answers)))
        assert len(answers) >= before + 20
        engine = open_writer(url)
        assert "made_up" in {column["name"] for column in inspect(engine).get_columns("message")}
        engine.dispose()
