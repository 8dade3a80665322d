"""Fixtures that many tests share."""

from __future__ import annotations

import functools
import sqlite3

import pytest

import liaison.home.vault
from databases import fresh_database
from forge import Forge
from relay.protocol.errors import Unknown
from relay.protocol.identity import Kind
from relay.store.engine import open_writer
from relay.store.migrate import upgrade
from retained import JEAN, two_offices_with_periods
from simulator import Forger, double
from world import clearance, world

# Argon2id is a pure function and most of what a world costs: the same passphrase and salt are stretched once a process.
liaison.home.vault._stretch = functools.cache(liaison.home.vault._stretch)

_LONGEST = ("test_transcripts.py", "test_tampering.py", "test_walkthrough.py")


def pytest_collection_modifyitems(items):
    """The longest files first: begun as the last, they would run on one core while the others are idle."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture(scope="module")
def two_offices(tmp_path_factory):
    """Warsaw and Paris with an agreement up to SEALED; Anna and Jean cleared for everything, Luc for OPEN only."""
    with world(tmp_path_factory.mktemp("two-offices")) as built:
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.agreement("lo-warsaw", "lo-paris")
        built.device("anna.nowak@lo-warsaw", clearances=[clearance(nations=["POL"])])
        built.device("jean.petit@lo-paris", clearances=[clearance(nations=["FRA"])], roles=["duty"])
        built.device("luc.bas@lo-paris", clearances=[clearance(levels=["OPEN"], nations=["FRA"])])
        yield built


@pytest.fixture
def anna(two_offices):
    return two_offices.clients["anna.nowak@lo-warsaw"]


@pytest.fixture
def jean(two_offices):
    return two_offices.clients["jean.petit@lo-paris"]


@pytest.fixture
def luc(two_offices):
    return two_offices.clients["luc.bas@lo-paris"]


@pytest.fixture
def forger(two_offices):
    return Forger(two_offices)


@pytest.fixture
def jeans_double(jean, tmp_path):
    """Jean's profile once more, for lies that hold and would stay in it."""
    jean.sync()
    with double(jean, tmp_path / "double") as copy:
        yield copy


@pytest.fixture(scope="module")
def forge(two_offices):
    """Anna's, with a message to Jean planned."""
    return Forge(two_offices.clients["anna.nowak@lo-warsaw"]).prepare("jean.petit@lo-paris")


@pytest.fixture(scope="module")
def auditor(two_offices):
    """Paris's, after Jean has read two messages of Anna's and asked for one that is none."""
    anna, jean = two_offices.clients["anna.nowak@lo-warsaw"], two_offices.clients["jean.petit@lo-paris"]
    made = two_offices.device("audit@lo-paris", clearances=[], kind=Kind.AUDITOR, scope=["lo-paris"])
    for level in ("OPEN", "SEALED"):
        label = f"TEST {level} RELEASABLE TO FRA, POL"
        jean.read(anna.send([jean.profile.pins.address], label=label, body="Ferry at dawn.").message_id)
    with pytest.raises(Unknown):
        jean.read(bytes(16))
    return made


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


@pytest.fixture(scope="module")
def offices_with_periods(tmp_path_factory):
    with two_offices_with_periods(tmp_path_factory.mktemp("retention")) as built:
        yield built


@pytest.fixture
def emptied_offices(offices_with_periods):
    """Two offices without a message."""
    offices_with_periods.clients[JEAN].inbox()  # brings new keys: a sweep long after now has forgotten the others
    yield offices_with_periods
    with sqlite3.connect(offices_with_periods.settings.data / "relay.sqlite", timeout=30) as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM message")
    connection.close()
