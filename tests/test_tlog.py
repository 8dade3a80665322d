"""Tiles, bundles, checkpoints and proofs in their public form, and the tree that the relay keeps."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from relay.protocol.errors import Malformed, Unknown, Unverified
from relay.protocol.merkle import EMPTY_ROOT, MerkleTree, leaf_hash, verify_consistency, verify_inclusion
from relay.protocol.tiles import (
    Tile,
    entry_bundle,
    parse_entry_bundle,
    parse_tile,
    parse_tile_path,
    tile_of,
    tile_path,
    tiles_between,
)
from relay.protocol.tiletree import TileTree
from relay.protocol.tlog import (
    Checkpoint,
    format_checkpoint_body,
    parse_checkpoint_body,
)

SIZE = 70_000
LEAVES = [leaf_hash(number.to_bytes(4, "big")) for number in range(SIZE)]
WHOLE = MerkleTree(LEAVES)


class Shelf:
    """Storage of tiles: keeps the widest content of each, remembers what was asked for."""

    def __init__(self):
        self.tiles = {}
        self.asked = []

    def put(self, tiles):
        for tile, content in tiles:
            self.tiles[tile.level, tile.index] = content

    def load(self, level, index, width):
        self.asked.append((level, index, width))
        return parse_tile(self.tiles[level, index][: 32 * width], width)


def shelf_of(size):
    shelf = Shelf()
    shelf.put((tile, tile_of(tile.level, tile.index, tile.width, WHOLE.node)) for tile in tiles_between(0, size))
    return shelf


@pytest.mark.parametrize(
    ("tile", "path"),
    [  # the examples of tlog-tiles
        (Tile(0, 1234067, 256), "tile/0/x001/x234/067"),
        (Tile(0, 273, 112), "tile/0/273.p/112"),
        (Tile(1, 0, 256), "tile/1/000"),
        (Tile(63, 0, 1), "tile/63/000.p/1"),
        (Tile("entries", 273, 112), "tile/entries/273.p/112"),
        (Tile("entries", 1000, 256), "tile/entries/x001/000"),
    ],
)
def test_a_tile_has_the_path_of_the_specification(tile, path):
    assert tile_path(tile.level, tile.index, tile.width) == path
    assert parse_tile_path(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "", "tile/0/0", "tile/00/000", "tile/64/000", "tile/-1/000", "tile/0/x000/001", "tile/0/001/002", "tile/0/000.p/0",
        "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/1000", "tile/0/000/", "/tile/0/000", "tile/0/../000",
        "tile/0/x1/000", "tile/0/000\n", "tile/data/000", "tile/0/\u0661\u0661\u0661", "tile/0/" + "x999/" * 7 + "999",
    ],
)  # fmt: skip
def test_another_spelling_of_a_tile_path_is_malformed(path):
    with pytest.raises(Malformed):
        parse_tile_path(path)


@given(st.one_of(st.just("entries"), st.integers(0, 63)), st.integers(0, 10**12), st.integers(1, 256))
def test_every_tile_finds_back_from_its_path(level, index, width):
    assert parse_tile_path(tile_path(level, index, width)) == Tile(level, index, width)


def test_a_log_of_70000_entries_publishes_the_tiles_of_the_specification():
    tiles = list(tiles_between(0, SIZE))
    assert tiles[:273] == [Tile(0, index, 256) for index in range(273)]
    assert tiles[273:] == [Tile(0, 273, 112), Tile(1, 0, 256), Tile(1, 1, 17), Tile(2, 0, 1)]


def test_256_entries_fill_one_tile_and_begin_the_next_level():
    assert list(tiles_between(0, 256)) == [Tile(0, 0, 256), Tile(1, 0, 1)]
    assert list(tiles_between(256, 256)) == []
    assert list(tiles_between(255, 257)) == [Tile(0, 0, 256), Tile(0, 1, 1), Tile(1, 0, 1)]


@given(st.lists(st.binary(max_size=300), min_size=1, max_size=256))
def test_an_entry_bundle_gives_its_entries_back(entries):
    assert parse_entry_bundle(entry_bundle(entries), len(entries)) == entries


@pytest.mark.parametrize(
    ("bundle", "width"),
    [(b"", 0), (b"", 1), (b"\x00", 1), (b"\x00\x02a", 1), (b"\x00\x01a", 2), (b"\x00\x01ab", 1)],
)
def test_a_bundle_that_is_cut_off_or_of_another_width_is_malformed(bundle, width):
    with pytest.raises(Malformed):
        parse_entry_bundle(bundle, width)


@pytest.mark.parametrize("entries", [[], [b""] * 257, [b"x" * 65536]])
def test_a_bundle_takes_1_to_256_entries_of_at_most_64_kib(entries):
    with pytest.raises(Malformed):
        entry_bundle(entries)


@pytest.mark.parametrize(("content", "width"), [(b"", 0), (b"x" * 32, 2), (b"x" * 33, 1), (b"x" * 32 * 257, 257)])
def test_a_tile_has_exactly_its_width_in_hashes(content, width):
    with pytest.raises(Malformed):
        parse_tile(content, width)


def test_a_checkpoint_body_is_three_lines():
    body = "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n"
    stated = parse_checkpoint_body(body)
    assert (stated.origin, stated.size) == ("example.com/behind-the-sofa", 20852163)
    assert format_checkpoint_body(stated.origin, stated.size, stated.root) == body


ROOT64 = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="


@pytest.mark.parametrize(
    "body",
    [
        "", "o\n0\n", f"o\n0\n{ROOT64}", f"o\n00\n{ROOT64}\n", f"o\n+1\n{ROOT64}\n", f"o\n1 \n{ROOT64}\n", f"\n1\n{ROOT64}\n",
        f"o\n-1\n{ROOT64}\n", f"o\n1\n{ROOT64[:-1]}\n", f"o\n1\n{ROOT64[:-4]}\n", f"o\n1\n{ROOT64}\nextension\n",
        f"o\n9223372036854775808\n{ROOT64}\n", f"o\n1\n{ROOT64[:-2]}V=\n", f"o\n\u0661\n{ROOT64}\n", f"o\n\n{ROOT64}\n",
        f"o\n1\n{ROOT64[:20]} {ROOT64[20:]}\n", f"o\r\n1\r\n{ROOT64}\r\n",
    ],
)  # fmt: skip
def test_any_other_checkpoint_body_is_malformed(body):
    with pytest.raises(Malformed):
        parse_checkpoint_body(body)


def test_the_empty_log_has_size_0_and_the_empty_root():
    assert parse_checkpoint_body(f"o\n0\n{ROOT64}\n") == Checkpoint("o", 0, EMPTY_ROOT)


@given(st.binary(max_size=120))
def test_noise_is_malformed_never_worse(noise):
    for parse in (
        lambda octets: parse_entry_bundle(octets, 1),
        lambda octets: parse_tile(octets, 1),
    ):
        with suppress(Malformed):
            parse(noise)
    for parse in (parse_checkpoint_body, parse_tile_path):
        with suppress(Malformed):
            parse(noise.decode("latin-1"))


def test_a_restored_tree_reads_only_its_right_edge():
    shelf = shelf_of(SIZE)
    tree = TileTree(shelf.load, SIZE)
    assert tree.root() == WHOLE.root()
    assert shelf.asked == [(0, 273, 112), (1, 1, 17), (2, 0, 1)]


def test_a_restored_tree_grows_and_proves_as_the_whole_one():
    shelf = shelf_of(69_000)
    tree = TileTree(shelf.load, 69_000, remembered=4)
    for leaf in LEAVES[69_000:]:
        tree.append(leaf)
    assert tree.root() == WHOLE.root()
    assert tree.root(69_001) == WHOLE.root(69_001)
    for index in range(0, SIZE, 997):
        proof = tree.inclusion_proof(index, SIZE)
        assert proof == WHOLE.inclusion_proof(index, SIZE)
        verify_inclusion(LEAVES[index], index, SIZE, proof, WHOLE.root())
        proof = tree.consistency_proof(index, SIZE)
        verify_consistency(index, WHOLE.root(index), SIZE, WHOLE.root(), proof)


def test_memory_stays_bounded_however_old_the_questions():
    tree = TileTree(shelf_of(SIZE).load, SIZE, remembered=3)
    for index in range(0, SIZE, 1500):
        tree.inclusion_proof(index, SIZE)
    assert len(tree._older) <= 3


def test_a_batch_of_proofs_at_one_size_loads_nothing():
    shelf = shelf_of(69_000)
    tree = TileTree(shelf.load, 69_000)
    staged = [tree.append(leaf) for leaf in LEAVES[69_000:69_500]]
    shelf.asked.clear()
    for index in staged:
        assert tree.inclusion_proof(index, tree.size) == WHOLE.inclusion_proof(index, tree.size)
    assert shelf.asked == []


@pytest.mark.parametrize("which", [(0, 100), (1, 0)])
def test_a_tile_altered_in_storage_is_noticed(which):
    shelf = shelf_of(SIZE)
    content = shelf.tiles[which]
    shelf.tiles[which] = content[:-1] + bytes([content[-1] ^ 1])
    tree = TileTree(shelf.load, SIZE)
    assert tree.root() == WHOLE.root()
    with pytest.raises(Unverified, match="not the one under this log's root"):
        tree.inclusion_proof(100 * 256 + 3, SIZE)


def test_an_altered_right_edge_shows_in_the_root():
    shelf = shelf_of(SIZE)
    content = shelf.tiles[0, 273]
    shelf.tiles[0, 273] = content[:-1] + bytes([content[-1] ^ 1])
    assert TileTree(shelf.load, SIZE).root() != WHOLE.root()


def test_a_tile_of_the_wrong_width_is_refused():
    with pytest.raises(Unverified, match="expected 112 hashes"):
        TileTree(lambda level, index, width: [bytes(32)] * (width - 1), SIZE)


def test_no_node_beyond_the_tree_is_answered():
    tree = TileTree(shelf_of(SIZE).load, SIZE)
    for level, index in [(0, SIZE), (17, 0), (8, 273), (-1, 0), (0, -1)]:
        with pytest.raises(Unknown):
            tree.node(level, index)
    with pytest.raises(Unknown):
        tree.inclusion_proof(0, SIZE + 1)


class StagedTree(RuleBasedStateMachine):
    """A tree beside its storage, against the tree in memory: batches, failed commits, restarts."""

    @initialize()
    def begin(self):
        self.shelf = Shelf()
        self.tree = TileTree(self.shelf.load, remembered=2)
        self.committed = 0

    @rule(count=st.one_of(st.integers(1, 5), st.integers(250, 260), st.integers(500, 1100)))
    def append_a_batch(self, count):
        size = self.tree.size
        for leaf in LEAVES[size : size + count]:
            self.tree.append(leaf)

    @rule()
    def the_database_commits(self):
        changed = self.tree.changed()
        full = [(tile, content) for tile, content in changed if tile.width == 256]
        assert sorted(full, key=lambda stored: (stored[0].level, stored[0].index)) == self.tree.completed()
        self.shelf.put(changed)
        self.tree.commit()
        self.committed = self.tree.size

    @rule()
    def the_database_fails(self):
        self.tree.rollback()
        assert self.tree.size == self.committed

    @rule()
    def the_relay_restarts(self):
        self.tree = TileTree(self.shelf.load, self.committed, remembered=2)

    @rule(data=st.data())
    def somebody_asks_for_a_proof(self, data):
        if self.tree.size:
            size = data.draw(st.integers(1, self.tree.size))
            index = data.draw(st.integers(0, size - 1))
            assert self.tree.inclusion_proof(index, size) == WHOLE.inclusion_proof(index, size)
            assert self.tree.consistency_proof(index, size) == WHOLE.consistency_proof(index, size)

    @invariant()
    def the_root_is_that_of_the_definition(self):
        if hasattr(self, "tree"):
            assert self.tree.root() == WHOLE.root(self.tree.size)


TestStagedTree = StagedTree.TestCase
TestStagedTree.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
