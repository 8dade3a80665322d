"""Evidence packages: a right one, what a forger makes of it, and two verifiers that share no code.

What a forger can repair, he repairs: a changed file gets a manifest signed anew, a changed entry a log and a checkpoint
signed anew by the relay's own keys.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from go_programs import run_go
from liaison.evidence.package import read_package, write_package
from liaison.evidence.verify import verify_evidence
from liaison.recalling import recall
from relay.protocol.canonical import encode
from relay.protocol.entry import Event, parse_access_entry
from relay.protocol.errors import LiaisonError
from relay.protocol.identity import Kind
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.store.log import Log
from simulator import Forger
from world import World, clearance, world

LABEL, SHOWN = "TEST CLOSED RELEASABLE TO FRA, POL", "TEST CLOSED RELEASABLE TO POL, FRA"
ANNA, PETIT, BAS = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris"
AUDIT = "audit@lo-warsaw"


@contextmanager
def two_with_auditors(folder: Path) -> Iterator[World]:
    with world(folder) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=[clearance(nations=["POL"])])
        for address in (PETIT, BAS):
            built.device(address, clearances=[clearance(nations=["FRA"])])
        for address in (AUDIT, "audit@lo-paris"):
            built.device(address, kind=Kind.AUDITOR, clearances=[])
        yield built


def opened_and_recalled(offices: World) -> bytes:
    """A message opened and acknowledged by one, destroyed unread for the other."""
    anna, jean = offices.clients[ANNA], offices.clients[PETIT]
    sent = anna.send([PETIT, BAS], label=LABEL, body="Meet at nine.\n").message_id
    jean.read(sent)
    jean.acknowledge(sent)
    recall(anna, sent, "Wrong annex", spill=False)
    return sent


def verdict_of_both(program: Path | None, file: Path, octets: bytes, *vkeys: str) -> bool:
    """What ours and the program in Go say, or ours alone where there is no Go; of one that holds they say the same."""
    try:
        found, told = verify_evidence(octets, vkeys).as_json(), None
    except LiaisonError as problem:
        found, told = None, problem
    if program is not None:
        file.write_bytes(octets)
        second, refused = run_go(program, "evidence", file, *vkeys)
        assert (second is not None) is (found is not None), (refused, told)
        if found is not None:
            assert second.pop("entries") == len(found["events"])
            assert second == {name: found[name] for name in second}
    return found is not None


def members_of(octets: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(octets)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def resigned(offices: World, octets: bytes, change: Callable[[dict[str, bytes]], None], by: str = ANNA) -> bytes:
    """The package with files changed and a manifest that lists them, signed by the exporter."""
    package = read_package(octets)[0]
    members = dict(package.members)
    change(members)
    return write_package(replace(package, members=members), offices.clients[by].profile.signing)


def relogged(offices: World, octets: bytes, log: Log, change: Callable[[int, bytes], bytes], by: str = ANNA) -> bytes:
    """The package over a log with other entries, correctly hashed and signed by the relay's own keys."""
    forger, folder = Forger(offices), log.name.lower()
    entries = [change(index, entry) for index, entry in enumerate(forger.entries(log))]
    tree = MerkleTree(leaf_hash(entry) for entry in entries)

    def again(members: dict[str, bytes]) -> None:
        members[f"{folder}/checkpoint"] = forger.checkpoint(log, tree)
        for name in [name for name in members if name.startswith(f"{folder}/") and name.endswith(".cbor")]:
            index = int(name[-15:-5])
            members[name] = encode([entries[index], index, tree.inclusion_proof(index, tree.size)])

    return resigned(offices, octets, again, by)


def changed_entry(message_id: bytes, which: Event, **fields) -> Callable[[int, bytes], bytes]:
    def change(_index: int, encoded: bytes) -> bytes:
        entry = parse_access_entry(encoded)
        return replace(entry, **fields).encoded() if (entry.message_id, entry.event) == (message_id, which) else encoded

    return change
