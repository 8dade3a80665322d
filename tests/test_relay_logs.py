"""The two logs from outside: whatever is fetched verifies with relay.protocol alone, and contents stay with the entitled."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace

import httpx2
import pytest
from sqlalchemy import select

from forge import call, problem
from liaison.trust import Trust
from logcheck import fetch, read_checkpoint, verify_all_consistent
from relay.house import commit_alone
from relay.protocol.canonical import decode, encode
from relay.protocol.directory import Directory
from relay.protocol.entry import AccessEntry, Change, Event, parse_access_entry
from relay.protocol.errors import Unavailable
from relay.protocol.identity import Kind
from relay.protocol.merkle import MerkleTree, leaf_hash, verify_consistency
from relay.protocol.tiles import TILE_WIDTH, Tile, parse_entry_bundle, parse_tile, tile_path, tiles_between
from relay.store import log as log_rows
from relay.store.log import Log
from relay.store.log_schema import checkpoint
from world import clearance, world

ENTRIES, CANARY = 600, "what the operator did that nobody else hears of"


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    """Two offices, an auditor, and an access log of more than two full tiles."""
    with world(tmp_path_factory.mktemp("logs")) as built:
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.device("anna.nowak@lo-warsaw", clearances=[clearance(nations=["POL"])])
        built.device("audit@lo-paris", kind=Kind.AUDITOR, clearances=[])

        def fill(batch):
            for office in ("lo-warsaw", "lo-paris") * (ENTRIES // 2):
                batch.log(AccessEntry(Event.OPERATOR, 1, os.urandom(16), bytes(16), "operator", office, detail=CANARY))
            return lambda _committed: None

        commit_alone(built.settings, fill)
        built.clients["anna.nowak@lo-warsaw"].sync()
        yield built


def test_nothing_is_published_while_the_relays_clock_is_behind_what_it_has_published(offices, monkeypatch):
    """No client would believe it: refused, with nothing stored, until the clock is set."""
    device_id = offices.clients["anna.nowak@lo-warsaw"].profile.signing.device_id

    def publish(seconds: int):
        clock = {"time_ns": lambda: time.time_ns() - seconds * 10**9, "perf_counter": time.perf_counter}
        monkeypatch.setattr("relay.pipeline.committer.time", SimpleNamespace(time=time.time, **clock))

        def stage(batch):
            index = batch.change(Change.KEY_BATCH, encode([device_id, os.urandom(32)]))
            batch.log(AccessEntry(Event.OPERATOR, batch.now_ms, os.urandom(16), bytes(16), "operator", ""))
            return lambda _committed: index

        return commit_alone(offices.settings, stage)

    last = publish(0)
    with offices.relay._readers.connect() as connection:
        before = log_rows.sizes(connection)
    with pytest.raises(Unavailable, match="the relay's clock is behind"):
        publish(70)
    with offices.relay._readers.connect() as connection:
        assert log_rows.sizes(connection) == before
    assert publish(50) == last + 1
    offices.clients["anna.nowak@lo-warsaw"].sync()


def tile(offices, log: str, wanted: Tile) -> list[bytes]:
    content = fetch(offices.url, f"/v1/log/{log}/{tile_path(wanted.level, wanted.index, wanted.width)}")
    return parse_tile(content, wanted.width)


@pytest.mark.parametrize("log", ["access", "directory"])
def test_the_tiles_of_a_log_add_up_to_the_root_that_its_checkpoint_signs(offices, log):
    newest = read_checkpoint(offices.relay.vkeys, fetch(offices.url, f"/v1/log/{log}/checkpoint"), log)
    wanted = list(tiles_between(0, newest.size))
    if log == "access":
        assert {(each.level, each.width == TILE_WIDTH) for each in wanted} == {(0, True), (0, False), (1, False)}
    tree = MerkleTree()
    for each in wanted:
        found = tile(offices, log, each)
        if each.level == 0:
            for digest in found:
                tree.append(digest)
    assert (tree.size, tree.root()) == (newest.size, newest.root)
    for each in wanted:
        if each.level == 1:
            below = [tile(offices, log, Tile(0, index, TILE_WIDTH)) for index in range(each.width)]
            assert tile(offices, log, each) == [root_of_tile(digests) for digests in below]


def root_of_tile(digests) -> bytes:
    tree = MerkleTree()
    for digest in digests:
        tree.append(digest)
    return tree.root()


def test_a_partial_tile_of_any_width_up_to_the_edge_is_the_beginning_of_the_full_one(offices):
    full = tile(offices, "access", Tile(0, 0, TILE_WIDTH))
    for width in (1, 7, 255):
        assert tile(offices, "access", Tile(0, 0, width)) == full[:width]


def test_full_tiles_may_be_cached_for_ever_and_partial_ones_not(offices):
    full = httpx2.get(offices.url + "/v1/log/access/tile/0/000")
    partial = httpx2.get(offices.url + "/v1/log/access/tile/0/000.p/3")
    assert "immutable" in full.headers["cache-control"]
    assert "cache-control" not in partial.headers


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("access/tile/0/002", 404),  # not full yet
        ("access/tile/0/003", 404),
        ("access/tile/2/000.p/1", 404),
        ("access/tile/63/000.p/1", 404),
        ("access/tile/0/x999/x999/x999/x999/x999/x999/999", 404),
        ("access/tile/0/000.p/256", 400),
        ("access/tile/0/000.p/0", 400),
        ("access/tile/0/0", 400),
        ("access/tile/0/x000/000", 400),
        ("access/tile/64/000", 400),
        ("access/tile/entries/000", 404),
        ("access/tile/0/%2e%2e/checkpoint", 400),
        ("access/checkpoint/", 404),
        ("nothing/checkpoint", 400),
        ("access/consistency?old=0&new=1", 400),
        ("access/consistency?old=2&new=1", 404),
        ("access/consistency?old=1&new=4611686018427387904", 404),
    ],
)
def test_what_a_log_does_not_hold_is_not_found_and_a_second_spelling_is_malformed(offices, path, status):
    response = httpx2.get(f"{offices.url}/v1/log/{path}")
    told = problem(response)
    assert (response.status_code, told["status"]) == (status, status)
    assert "message" not in told["detail"]


def test_every_checkpoint_ever_signed_lies_on_one_history(offices):
    for log in Log:
        name = log.name.lower()
        with offices.relay._readers.connect() as connection:
            notes = list(connection.scalars(select(checkpoint.c.note).where(checkpoint.c.log == log)))
        known = [read_checkpoint(offices.relay.vkeys, note, name) for note in notes]
        assert len(known) > 5
        verify_all_consistent(offices.url, offices.relay.vkeys, known, name)


def test_the_directory_bundles_replay_to_the_directory_that_the_tiles_commit_to(offices):
    anna = offices.clients["anna.nowak@lo-warsaw"]
    newest = read_checkpoint(offices.relay.vkeys, fetch(offices.url, "/v1/log/directory/checkpoint"), "directory")
    response = call(anna, "GET", f"/v1/log/directory/tile/entries/000.p/{newest.size}")
    entries = parse_entry_bundle(response.content, newest.size)
    tree, directory = MerkleTree(leaf_hash(entry) for entry in entries), Directory()
    for entry in entries:
        directory.apply(entry)
    assert tree.root() == newest.root
    assert set(directory.offices) == {"lo-warsaw", "lo-paris"}
    assert entries == decode(call(anna, "GET", "/v1/directory").content)[1]


def test_entries_of_the_access_log_are_nobodys_but_an_auditors_and_only_in_scope(offices):
    anna, auditor = offices.clients["anna.nowak@lo-warsaw"], offices.clients["audit@lo-paris"]
    for who in (anna, auditor):
        for path in ("000", "000.p/1"):
            response = call(who, "GET", f"/v1/log/access/tile/entries/{path}")
            assert (response.status_code, CANARY.encode() in response.content) == (404, False)
    size, shown = decode(call(auditor, "GET", "/v1/audit/entries?count=1000").content)
    assert len(shown) == size
    seen = [parse_access_entry(entry) for in_scope, entry in shown if in_scope]
    assert {entry.office for entry in seen} == {"lo-paris"}
    assert sum(entry.detail == CANARY for entry in seen) == ENTRIES // 2
    leaves = [leaf_hash(value) if in_scope else value for in_scope, value in shown]
    tree = MerkleTree(leaves)
    newest = read_checkpoint(offices.relay.vkeys, fetch(offices.url, "/v1/log/access/checkpoint"))
    proof = decode(fetch(offices.url, f"/v1/log/access/consistency?old={size}&new={newest.size}"))
    verify_consistency(size, tree.root(), newest.size, newest.root, proof)


def test_each_look_of_an_auditor_is_an_entry_and_pages_go_on_where_they_ended(offices):
    auditor = offices.clients["audit@lo-paris"]
    size, first = decode(call(auditor, "GET", "/v1/audit/entries?after=10&count=5").content)
    again, second = decode(call(auditor, "GET", f"/v1/audit/entries?after={size}&count=5").content)
    assert (again, len(first), len(second)) == (size + 1, 5, 1)
    looked = parse_access_entry(second[0][1])
    assert (looked.event, looked.address, looked.detail) == (Event.AUDIT, "audit@lo-paris", "entries 10 to 15")


def test_a_client_that_verified_before_verifies_the_grown_log_after(offices):
    anna = offices.clients["anna.nowak@lo-warsaw"]
    trust: Trust = anna.trust
    before = trust.tree.size
    offices.device("tom@lo-warsaw")
    anna.sync()
    assert trust.tree.size > before
