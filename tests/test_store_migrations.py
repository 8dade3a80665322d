"""Migrations and the schema say the same, forwards and backwards, on both databases."""

from __future__ import annotations

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import inspect, select

from databases import BOTH, fresh_database
from relay.protocol.errors import LiaisonError
from relay.store.engine import open_writer
from relay.store.migrate import _config, relay_name, upgrade
from relay.store.schema import metadata, setting


@pytest.fixture(params=BOTH)
def engine(request, tmp_path):
    with fresh_database(request.param, tmp_path) as url:
        opened = open_writer(url)
        yield opened
        opened.dispose()


def test_the_migrations_build_the_schema_that_the_code_speaks_of(engine):
    upgrade(engine, "relay-test")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, metadata) == []


def test_an_empty_database_goes_up_and_down_and_up_again(engine):
    upgrade(engine, "relay-test")
    assert set(inspect(engine).get_table_names()) == {*metadata.tables, "alembic_version"}
    command.downgrade(_config(engine), "base")
    assert set(inspect(engine).get_table_names()) == {"alembic_version"}
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
