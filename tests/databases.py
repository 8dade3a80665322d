"""Fresh databases for tests, of both kinds that the relay serves from."""

from __future__ import annotations

import secrets
from contextlib import contextmanager

import pytest
from sqlalchemy import create_engine, make_url, text

from postgres import postgres_url
from relay.store.engine import open_writer
from relay.store.migrate import upgrade

BOTH = ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)]


@contextmanager
def fresh_database(kind: str, folder):
    """The URL of an empty database; skips with the reason where there is no PostgreSQL."""
    if kind == "sqlite":
        folder.mkdir(parents=True, exist_ok=True)
        yield f"sqlite:///{folder / 'relay.sqlite'}"
        return
    server, reason = postgres_url()
    if server is None:
        pytest.skip(reason)
    name = f"relay_{secrets.token_hex(6)}"
    administer(server, f"CREATE DATABASE {name}")
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        administer(server, f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def migrated_database(kind: str, folder):
    """The same with a relay's tables in it."""
    with fresh_database(kind, folder) as url:
        engine = open_writer(url)
        upgrade(engine, "relay-test")
        engine.dispose()
        yield url


def administer(server: str, statement: str) -> None:
    engine = create_engine(server, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
