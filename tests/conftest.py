"""Fixtures that many tests share."""

from __future__ import annotations

import functools
import sqlite3
from functools import partial

import pytest

import liaison.home.vault
from cabinets import STATE_KEY
from databases import BOTH, migrated_database
from evidence_packages import ANNA, opened_and_recalled, two_with_auditors, verdict_of_both
from forge import Forge
from go_programs import GO, GOPATH, built
from liaison.evidence.collect import collect
from liaison.home.cabinet import Cabinet, create_cabinet
from recalls import two_with_security_officers
from relay.protocol.errors import Unknown
from relay.protocol.identity import Kind
from retained import JEAN, two_offices_with_periods
from simulator import Forger, double
from witnessed import three_at_work, two_witnessed_offices
from world import clearance, world

pytest.register_assert_rewrite("model")  # whose modules compare, too

# Argon2id is a pure function and most of what a world costs: the same passphrase and salt are stretched once a process.
liaison.home.vault._stretch = functools.cache(liaison.home.vault._stretch)

_LONGEST = ("test_transcripts.py", "test_tampering.py", "test_walkthrough.py")


def pytest_collection_modifyitems(items):
    """The longest files first: begun as the last, they would run on one core while the others are idle."""
    items.sort(key=lambda item: item.path.name not in _LONGEST)


@pytest.fixture(scope="session")
def verify(tmp_path_factory):
    return built(tmp_path_factory, "verify")


@pytest.fixture(scope="session")
def sumdb(tmp_path_factory):
    if not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        pytest.skip("no golang.org/x/mod here (apt-get install golang-golang-x-mod-dev)")
    return built(tmp_path_factory, "sumdb", GO111MODULE="off", GOPATH=str(GOPATH))


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


@pytest.fixture(scope="module")
def audited(tmp_path_factory):
    """Warsaw and Paris with an auditor each, for evidence packages."""
    with two_with_auditors(tmp_path_factory.mktemp("evidence")) as built:
        yield built


@pytest.fixture(scope="module")
def recalled(audited):
    """The id of a message that was opened and acknowledged by one, destroyed unread for the other."""
    return opened_and_recalled(audited)


@pytest.fixture(scope="module")
def right(audited, recalled):
    """An evidence package of that message, by its originator; with nothing wrong."""
    return collect(audited.clients[ANNA], recalled)


@pytest.fixture
def verdict(request, tmp_path):
    """What both verifiers say of an evidence package; where there is no Go, the first one alone."""
    program = request.getfixturevalue("verify") if GO is not None else None
    return partial(verdict_of_both, program, tmp_path / "package.zip")


@pytest.fixture(scope="module")
def three_witnesses(tmp_path_factory):
    """Three witnesses at work: (their folder, the witnesses)."""
    folder = tmp_path_factory.mktemp("witnessed")
    with three_at_work(folder) as some:
        yield folder, some


@pytest.fixture(scope="module")
def witnessed(three_witnesses):
    """Warsaw and Paris, with an auditor each, at a relay whose logs these three cosign."""
    with two_witnessed_offices(three_witnesses[0]) as built:
        yield built


@pytest.fixture
def cabinet_path(tmp_path):
    create_cabinet(tmp_path / "cabinet", STATE_KEY)
    return tmp_path / "cabinet"


@pytest.fixture
def cabinet(cabinet_path):
    with Cabinet(cabinet_path, STATE_KEY) as opened:
        yield opened


@pytest.fixture(scope="module", params=BOTH)
def secured(tmp_path_factory, request):
    """Warsaw and Paris with a security officer each, over either kind of database."""
    folder = tmp_path_factory.mktemp("recall")
    database = migrated_database(request.param, folder / "database")
    with database as url, two_with_security_officers(folder, url) as built:
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
    database = migrated_database(request.param, tmp_path / "database")
    with database as url, two_offices_with_periods(tmp_path, url) as built:
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
