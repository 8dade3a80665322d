"""A growing tree in bounded memory: the right edge always, older tiles on demand.

The rules:
  - appended leaves are *staged*: `commit` makes them permanent, `rollback` forgets them. Whoever stages
    writes `completed()` and the new entries in one transaction, commits the database, then the tree, and
    only then lets a checkpoint out;
  - a tile read back is checked against its parent before use, up to the edge; so a tree restored under a
    signed root accepts no tile that the root does not cover;
  - one owner: the tree has no lock.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from hashlib import sha256

from .errors import Unknown, Unverified
from .merkle import HASH_SIZE, consistency_proof, inclusion_proof, root
from .tiles import TILE_WIDTH, Tile, tiles_between

TileLoader = Callable[[int, int, int], Sequence[bytes]]
"""(level, index, width) -> the hashes of that tile, as stored; only ever asked for committed ones."""

_Levels = list[list[bytes]]  # an expanded tile: the binary levels 0..7 between its hashes and its root


class TileTree:
    """The tree of a log of `size` leaves, its older tiles behind `load`, some of them remembered.

    A remembered tile costs some 40 KB. Restoring reads one tile per level, the right edge; compare `root()`
    with the checkpoint afterwards.
    """

    def __init__(self, load: TileLoader, size: int = 0, *, remembered: int = 64) -> None:
        self._load = load
        self._size = self._committed = size
        self._remembered = remembered
        self._edge: list[_Levels] = []
        self._completed: dict[tuple[int, int], _Levels] = {}
        self._older: OrderedDict[tuple[int, int], _Levels] = OrderedDict()
        level = 0
        while count := size >> 8 * level:
            width = count % TILE_WIDTH
            tile = _empty_tile()
            for digest in self._read(level, count // TILE_WIDTH, width) if width else ():
                _extend(tile, digest)
            self._edge.append(tile)
            level += 1

    @property
    def size(self) -> int:
        """Leaves, staged ones included."""
        return self._size

    def append(self, leaf_hash: bytes) -> int:
        """Stage one leaf; the answer is its index."""
        if len(leaf_hash) != HASH_SIZE:
            raise ValueError("a leaf hash has 32 octets")
        level, digest = 0, leaf_hash
        while True:
            if level == len(self._edge):
                self._edge.append(_empty_tile())
            top = _extend(self._edge[level], digest)
            if top is None:
                break
            self._completed[level, self._size >> 8 * (level + 1)] = self._edge[level]
            self._edge[level] = _empty_tile()
            level, digest = level + 1, top
        self._size += 1
        return self._size - 1

    def completed(self) -> list[tuple[Tile, bytes]]:
        """The tiles filled by staged leaves, with their content: what to store before `commit`."""
        return [
            (Tile(level, index, TILE_WIDTH), b"".join(levels[0]))
            for (level, index), levels in sorted(self._completed.items())
        ]

    def changed(self) -> list[tuple[Tile, bytes]]:
        """Every tile that the staged leaves fill or extend, partial ones too, with its content."""
        return [(tile, self._content(tile)) for tile in tiles_between(self._committed, self._size)]

    def commit(self) -> None:
        """Make the staged leaves permanent: storage has them."""
        self._older.update(self._completed)
        self._completed.clear()
        self._committed = self._size
        self._forget()

    def rollback(self) -> None:
        """Forget the staged leaves."""
        for level, tile in enumerate(self._edge):
            index, width = divmod(self._committed >> 8 * level, TILE_WIDTH)
            kept = self._completed.get((level, index), tile)
            for height, digests in enumerate(kept):
                del digests[width >> height :]
            self._edge[level] = kept
        while self._edge and not self._committed >> 8 * (len(self._edge) - 1):
            self._edge.pop()
        self._completed.clear()
        self._size = self._committed

    def node(self, level: int, index: int) -> bytes:
        """The hash of a complete subtree, staged or stored. Raises Unknown if there is none."""
        if level < 0 or index < 0 or (index + 1) << level > self._size:
            raise Unknown(f"no complete subtree ({level}, {index}) in a tree of {self._size}")
        tile_level, height = level >> 3, level & 7
        tile_index = index >> (8 - height)
        if tile_index == self._size >> 8 * (tile_level + 1):
            tile = self._edge[tile_level]
        else:
            tile = self._full(tile_level, tile_index)
        return tile[height][index & (TILE_WIDTH >> height) - 1]

    def root(self, size: int | None = None) -> bytes:
        """The root now, staged leaves included, or as it was at `size` leaves."""
        return root(self._size if size is None else size, self.node)

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        return inclusion_proof(index, size, self.node)

    def consistency_proof(self, old: int, new: int) -> list[bytes]:
        return consistency_proof(old, new, self.node)

    def _full(self, level: int, index: int) -> _Levels:
        key = (level, index)
        tile = self._completed.get(key) or self._older.get(key)
        if tile is None:
            tile = self._older[key] = self._load_full(level, index)
            self._forget()
        elif key in self._older:
            self._older.move_to_end(key)
        return tile

    def _load_full(self, level: int, index: int) -> _Levels:
        tile = _empty_tile()
        top = None
        for digest in self._read(level, index, TILE_WIDTH):
            top = _extend(tile, digest)
        if top != self.node(8 * (level + 1), index):
            raise Unverified(f"tile ({level}, {index}) is not the one under this log's root")
        return tile

    def _read(self, level: int, index: int, width: int) -> Sequence[bytes]:
        digests = self._load(level, index, width)
        if len(digests) != width or any(len(digest) != HASH_SIZE for digest in digests):
            raise Unverified(f"tile ({level}, {index}): expected {width} hashes of 32 octets")
        return digests

    def _content(self, tile: Tile) -> bytes:
        level = int(tile.level)
        levels = self._edge[level] if tile.width < TILE_WIDTH else self._completed[level, tile.index]
        return b"".join(levels[0])

    def _forget(self) -> None:
        while len(self._older) > self._remembered:
            self._older.popitem(last=False)


def _empty_tile() -> _Levels:
    return [[] for _ in range(8)]


def _extend(tile: _Levels, digest: bytes) -> bytes | None:
    """Append one hash to an expanded tile; the answer is the tile's root once it has all 256."""
    for digests in tile:
        digests.append(digest)
        if len(digests) & 1:
            return None
        digest = sha256(b"\x01" + digests[-2] + digest).digest()
    return digest
