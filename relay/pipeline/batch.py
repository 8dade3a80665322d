"""One transaction in the making, and what its jobs may ask of it.

The rules:
  - what jobs look up is read for all of them at once: a job names its `needs`, the committer reads them with one
    statement each, and `find` answers from memory, what earlier jobs of the batch have staged included;
  - what jobs write is staged, and goes in together: one statement, many rows;
  - a job that refuses raises before it has staged anything; a refusal that must be logged stages its entry and
    *returns* the refusal.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Table, insert

from relay.protocol.dating import goes_back
from relay.protocol.directory import Directory
from relay.protocol.entry import MAX_ENTRY, AccessEntry, Change, DirectoryEntry, LoggedEntry
from relay.protocol.errors import TooLarge, Unavailable
from relay.protocol.tiletree import TileTree
from relay.store.log import Log
from relay.store.prepared import Prepared, together

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Row = tuple[Any, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Lookup(Generic[K, V]):
    """Rows that jobs find by a key of their own: `select` takes a list of them as its parameter `keys`."""

    select: Prepared
    key: Callable[[Row], K]
    value: Callable[[Row], V]


Needs = Iterable[tuple[Lookup[Any, Any], Sequence[Hashable]]]


@dataclass(frozen=True, slots=True)
class Job:
    """What one request wants of the database; `run` decides and stages, and returns what to answer after the commit."""

    run: Callable[[Batch], Answer]
    needs: Needs = ()


@dataclass(slots=True)
class Batch:
    """One transaction in the making."""

    connection: Connection
    directory: Directory
    now_ms: int
    sizes: dict[Log, int]  # before the batch
    staged: dict[Log, list[tuple[bytes, str, str]]] = field(default_factory=lambda: {log: [] for log in Log})
    rows: dict[Prepared, list[dict[str, Any]]] = field(default_factory=dict)
    found: dict[Lookup[Any, Any], dict[Hashable, Any]] = field(default_factory=dict)
    woken: set[bytes] = field(default_factory=set)  # devices that have mail once this is committed
    events: Counter[str] = field(default_factory=Counter)  # of the access log, for whoever counts
    charges: dict[tuple[str, str], int] | None = None  # what the quota has charged in this batch
    closing: list[Callable[[], None]] = field(default_factory=list)  # in the transaction, after the last job
    settled: list[Callable[[], None]] = field(default_factory=list)  # once it is durable
    staged_count: int = 0  # rows and entries staged so far, flushed ones included

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return self.now_ms // 1000

    def read(self, jobs: Iterable[Job]) -> None:
        """Look up what these jobs will ask for."""
        for job in jobs:
            for lookup, keys in job.needs:
                self.found.setdefault(lookup, {}).update(dict.fromkeys(keys))
        with together(self.connection):
            asked = {lookup: lookup.select.rows_of(self.connection, list(self.found[lookup])) for lookup in self.found}
            for lookup, rows in asked.items():
                self._take(lookup, rows)

    def find(self, lookup: Lookup[K, V], key: K) -> V | None:
        """What is stored or staged under this key."""
        found = self.found.setdefault(lookup, {})
        if key not in found:
            found[key] = None
            self._take(lookup, lookup.select.rows_of(self.connection, [key]))
        return found[key]  # type: ignore[no-any-return]  # the lookup's own `value` made it

    def note(self, lookup: Lookup[K, V], key: K, value: V) -> None:
        """Let the jobs after this one find what it has staged."""
        self.found.setdefault(lookup, {})[key] = value

    def forget(self, lookup: Lookup[K, V], which: Callable[[K], bool]) -> None:
        """What was found under these keys no longer holds: let the jobs after this one read it again."""
        found = self.found.get(lookup, {})
        for key in [key for key in found if which(key)]:  # type: ignore[arg-type]  # the lookup's own keys
            del found[key]

    def add(self, table: Table, row: dict[str, Any]) -> None:
        """Stage a row."""
        self.stage(_insert(table), row)

    def stage(self, statement: Prepared, row: dict[str, Any]) -> None:
        """Stage parameters of a statement; all of one statement go together, in the order of their first."""
        self.rows.setdefault(statement, []).append(row)
        self.staged_count += 1

    def log(self, entry: AccessEntry) -> int:
        """Stage an access-log entry; the answer is its index."""
        self.events[entry.event.value] += 1
        return self._stage(Log.ACCESS, _fitting(entry.encoded()), entry.office, entry.concerns)

    def change(self, change: Change, payload: bytes, approvals: Sequence[bytes] = ()) -> int:
        """Apply a change to the directory and stage its entry. Raises what `Directory.apply` raises; Unavailable."""
        if goes_back(self.now * 1000, self.directory.latest):  # whole seconds, as the checkpoint will state
            raise Unavailable(
                "the relay's clock is behind the directory log, and nothing is published until it has caught up",
                hint="its operator sets the clock; nothing was changed",
            )
        made = DirectoryEntry(change, self.now_ms, os.urandom(16), payload, tuple(approvals))
        entry = _fitting(made.encoded())
        self.directory.apply(entry)
        return self._stage(Log.DIRECTORY, entry, "", "")

    def flush(self) -> None:
        """Send what is staged, so that what follows in this batch can see it."""
        for statement, rows in self.rows.items():
            statement.run(self.connection, rows)
        self.rows.clear()

    def _take(self, lookup: Lookup[K, V], rows: Iterable[Row]) -> None:
        found = self.found[lookup]
        for row in rows:
            found[lookup.key(row)] = lookup.value(row)

    def _stage(self, log: Log, encoded: bytes, office: str, concerns: str) -> int:
        self.staged[log].append((encoded, office, concerns))
        self.staged_count += 1
        return self.sizes[log] + len(self.staged[log]) - 1


@cache
def _insert(table: Table) -> Prepared:
    return Prepared(insert(table))


@dataclass(frozen=True, slots=True)
class Committed:
    """What is known once the batch is durable: sizes, checkpoints, and how to prove an entry of it."""

    trees: dict[Log, TileTree]
    notes: dict[Log, bytes]
    entries: dict[tuple[Log, int], bytes]

    def prove(self, index: int, seen: int = 0) -> LoggedEntry:
        """A staged access entry of this batch with its proof, and consistency with `seen` entries."""
        return self.prove_stored(self.entries[Log.ACCESS, index], index, self.notes[Log.ACCESS], seen)

    def prove_stored(self, entry: bytes, index: int, note: bytes, seen: int) -> LoggedEntry:
        """An access entry proven under `note`, which may be an older checkpoint than the newest."""
        tree, size = self.trees[Log.ACCESS], checkpoint_size(note)
        return LoggedEntry(
            entry=entry,
            index=index,
            proof=tuple(tree.inclusion_proof(index, size)),
            checkpoint=note,
            consistency=consistency(tree, seen, size),
        )


Answer = Callable[[Committed], Any]


def checkpoint_size(note: bytes) -> int:
    """The size that one of our own checkpoints states, on its second line."""
    return int(note.split(b"\n", 2)[1])


def consistency(tree: TileTree, seen: int, size: int) -> tuple[bytes, ...]:
    """Hashes between the tree of `seen` entries and that of `size`, whichever is older; none where none are needed."""
    old, new = sorted((seen, size))
    return tuple(tree.consistency_proof(old, new)) if 0 < old < new <= tree.size else ()


def _fitting(encoded: bytes) -> bytes:
    # A longer entry would make its whole bundle unreadable, for ever.
    if len(encoded) > MAX_ENTRY:
        raise TooLarge(f"a log entry of {len(encoded)} octets; the limit is {MAX_ENTRY}")
    return encoded
