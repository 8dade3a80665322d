"""Fixtures that many tests share."""

from __future__ import annotations

import functools

import pytest

import liaison.vault
from forge import Forge
from relay.protocol.errors import Unknown
from relay.protocol.identity import Kind
from world import clearance, world

pytest.register_assert_rewrite("model")  # whose modules compare, too

# Argon2id is a pure function and most of what a world costs: the same passphrase and salt are stretched once a process.
liaison.vault._stretch = functools.cache(liaison.vault._stretch)


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
