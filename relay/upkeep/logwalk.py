"""A stored log walked once from its first entry to its head: by `relay check`, by `relay restore` before it commits.

The rules:
  - every leaf is hashed anew, every full tile and every root computed from the leaves, every signature verified;
  - no entry of the directory is dated before one in front of it, nor after the signature over it (dating.py);
  - checkpoints that others hold are compared on the way, where the tree has their size;
  - a page at a time: memory does not grow with the log;
  - an entry that was erased is taken by its leaf hash, and a destruction record after it names it. Nothing else may be
    missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from relay.logkeys import LogKeys
from relay.protocol.dating import goes_back
from relay.protocol.directory import Directory
from relay.protocol.entry import AccessEntry, parse_access_entry
from relay.protocol.errors import LiaisonError, Unverified
from relay.protocol.merkle import leaf_hash
from relay.protocol.retention import Erased
from relay.protocol.tiletree import TileTree
from relay.protocol.tlog import Checkpoint
from relay.store import log as log_rows
from relay.store.log import Log
from relay.store.log_schema import checkpoint, log_entry, log_head, log_node

PAGE = 500
Progress = Callable[[str, int], None]
"""(what is looked at, how many of them so far)"""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that does not hold, and where."""

    place: str
    wrong: str

    def __str__(self) -> str:
        return f"{self.place}: {self.wrong}"


class _Reached(NamedTuple):
    """What a log comes to at some size."""

    root: bytes
    latest: int  # milliseconds; the latest time of an entry of the directory


@dataclass(slots=True)
class LogWalk:
    """One log in one snapshot. After `faults`, `directory` is what the directory log adds up to."""

    connection: Connection
    keys: LogKeys
    origin: str
    log: Log
    outside: dict[int, set[bytes]] = field(default_factory=dict)  # size → roots that others hold, until compared
    speaks_of: Callable[[Sequence[tuple[int, AccessEntry]]], Iterator[Fault]] = lambda _page: iter(())
    directory: Directory = field(default_factory=Directory)
    _tree: TileTree = field(default_factory=lambda: TileTree(_nothing))
    _erased: Erased = field(default_factory=Erased)

    @property
    def name(self) -> str:
        return f"{self.log.name.lower()} log"

    def hold_against(self, others: Sequence[Checkpoint]) -> None:
        """Take up the checkpoints of this log among those that others hold."""
        for each in others:
            if each.origin == self.origin:
                self.outside.setdefault(each.size, set()).add(each.root)

    def faults(self, progress: Progress) -> Iterator[Fault]:
        """Every fault, in the order of the log."""
        size = self.connection.scalar(select(log_head.c.size).where(log_head.c.log == self.log))
        if size is None:
            yield Fault(self.name, "has no head")
            return
        yield from self._compare(self._stored(-1, 0), {0: _Reached(self._tree.root(), 0)})
        while self._tree.size < size:
            first, before = self._tree.size, self._tree.size
            page = list(log_rows.entries(self.connection, self.log, first, min(PAGE, size - first)))
            notes, reached, spoken = (
                self._stored(first, first + len(page)),
                dict[int, _Reached](),
                list[tuple[int, AccessEntry]](),
            )
            for index, entry, leaf, office, concerns in page:
                if index != self._tree.size:
                    break
                yield from self._read(index, entry, leaf, (office, concerns), spoken)
                # What follows can be compared all the same, if the entry is still there.
                self._tree.append(bytes(leaf) if len(leaf) == 32 else leaf_hash(bytes(entry or b"")))
                if self._tree.size in notes or self._tree.size in self.outside:
                    reached[self._tree.size] = _Reached(self._tree.root(), self.directory.latest)
            yield from self._check_tiles()
            yield from self._compare(notes, reached)
            yield from self.speaks_of(spoken)
            progress(f"{self.name}: entries", self._tree.size)
            if self._tree.size < before + min(PAGE, size - before):
                yield Fault(f"{self.name}, entry {self._tree.size}", "is missing, and what follows cannot be checked")
                return
        for index in self._erased.left():
            yield Fault(f"{self.name}, entry {index}", "was erased, and no record says so")
        yield from self._check_extent(size)

    def _read(
        self,
        index: int,
        entry: bytes | None,
        leaf: bytes,
        columns: tuple[str, str],
        spoken: list[tuple[int, AccessEntry]],
    ) -> Iterator[Fault]:
        place = f"{self.name}, entry {index}"
        if entry is not None and leaf_hash(bytes(entry)) != bytes(leaf):
            yield Fault(place, "the leaf hash is not that of the entry")
        elif len(leaf) != 32:
            yield Fault(place, "the leaf hash is none")
        try:
            if self.log is Log.DIRECTORY:
                self.directory.apply(bytes(entry or b""))
            elif entry is None:
                self._erased.add(index)
            else:
                found = parse_access_entry(bytes(entry))
                spoken.append((index, found))
                self._erased.read(index, found)
                if (found.office, found.concerns) != columns:
                    raise Unverified("its columns name other offices than the entry")
        except LiaisonError as problem:
            yield Fault(place, str(problem))

    def _check_tiles(self) -> Iterator[Fault]:
        for tile, _content in self._tree.completed():
            level = int(tile.level) + 1
            stored = log_rows.hashes(self.connection, self.log, level, tile.index, 1)
            if [bytes(each) for each in stored] != [self._tree.node(8 * level, tile.index)]:
                yield Fault(f"{self.name}, node {tile.index} of level {level}", "is not the root of the tile below it")
        self._tree.commit()

    def _stored(self, low: int, high: int) -> dict[int, bytes]:
        sizes = (checkpoint.c.log == self.log, checkpoint.c.size > low, checkpoint.c.size <= high)
        wanted = select(checkpoint.c.size, checkpoint.c.note).where(*sizes).order_by(checkpoint.c.size)
        return {size: bytes(note) for size, note in self.connection.execute(wanted)}

    def _compare(self, notes: dict[int, bytes], reached: dict[int, _Reached]) -> Iterator[Fault]:
        for size in sorted(notes.keys() & reached.keys()):
            place = f"{self.name}, checkpoint of {size}"
            try:
                stated = self.keys.read_checkpoint(self.origin, notes[size])
                if (stated.size, stated.root) != (size, reached[size].root):
                    yield Fault(place, "is not that of the entries before it")
                if self._is_early(notes[size], reached[size]):
                    yield Fault(place, "is signed before an entry of it is dated")
            except LiaisonError as problem:
                yield Fault(place, str(problem))
        for size in sorted(self.outside.keys() & reached.keys()):
            if self.outside.pop(size) != {reached[size].root}:
                yield Fault(f"{self.name}, {size} entries", "a checkpoint held outside shows another history: a fork")

    def _is_early(self, note: bytes, reached: _Reached) -> bool:
        return self.log is Log.DIRECTORY and goes_back(1000 * self.keys.signed_at(self.origin, note), reached.latest)

    def _check_extent(self, size: int) -> Iterator[Fault]:
        """Nothing beyond the head, a checkpoint at it, no node too many, and nobody who has seen more."""
        counted = select(func.count()).select_from(log_node).where(log_node.c.log == self.log)
        if self.connection.scalar(counted) != sum(size >> 8 * level for level in range(1, 8)):
            yield Fault(f"{self.name}, nodes", "there are not as many as full tiles")
        for column, what in ((log_entry.c.idx + 1, "entry"), (checkpoint.c.size, "checkpoint")):
            log = column.table.c.log if what == "checkpoint" else log_entry.c.log
            last = self.connection.scalar(select(func.max(column)).where(log == self.log)) or 0
            if last > size:
                yield Fault(f"{self.name}, {what} of size {last}", f"is beyond the head, which says {size}")
        if log_rows.checkpoint_at(self.connection, self.log, size) is None:
            yield Fault(f"{self.name}, {size} entries", "no checkpoint signs the head")
        if self.outside:
            seen = max(self.outside)
            yield Fault(
                f"{self.name}, {size} entries",
                f"a checkpoint held outside has {seen}: the last {seen - size} are not here",
            )


def _nothing(level: int, index: int, _width: int) -> Sequence[bytes]:
    # A walk goes forward only: what it needs is at the tree's edge.
    raise Unverified(f"tile ({level}, {index}) was asked for again")
