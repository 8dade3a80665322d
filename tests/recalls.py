"""Recalls: two offices with security officers, messages to take back, and what the log has of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from liaison import Client
from relay.protocol.entry import parse_access_entry
from relay.protocol.identity import Kind
from relay.store.log import Log
from simulator import Forger
from world import World, clearance, world

LABEL = "TEST CLOSED RELEASABLE TO FRA, POL"
PETIT, BAS = "jean.petit@lo-paris", "luc.bas@lo-paris"


@contextmanager
def two_with_security_officers(folder: Path, database: str) -> Iterator[World]:
    with world(folder, database=database) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        pol, fra = [clearance(nations=["POL"])], [clearance(nations=["FRA"])]
        built.device("anna.nowak@lo-warsaw", clearances=pol)
        built.device("jan.lis@lo-warsaw", clearances=pol)
        built.device("ewa.sowa@lo-warsaw", clearances=pol, roles=["security"])
        built.device("feed@lo-warsaw", clearances=pol, kind=Kind.SYSTEM)
        built.device(PETIT, clearances=fra, roles=["security"])
        built.device(BAS, clearances=fra)
        built.device("audit@lo-warsaw", kind=Kind.AUDITOR, clearances=[])
        yield built


def people(offices: World) -> list[Client]:
    """Anna in Warsaw, Jean and Luc in Paris."""
    return [offices.clients[name] for name in ("anna.nowak@lo-warsaw", PETIT, BAS)]


def sent(anna: Client, *to: str) -> bytes:
    return anna.send(list(to), label=LABEL, body="Meet at nine.\n").message_id


def last_entries(offices: World, message_id: bytes) -> list:
    entries = [parse_access_entry(each) for each in Forger(offices).entries(Log.ACCESS)]
    return [entry for entry in entries if entry.message_id == message_id]
