"""The one place where state changes and the logs grow: many jobs, one transaction, one checkpoint per log.

The rules:
  - A job gets an open `Batch`: it reads, decides, stages rows and log entries, and returns what to answer once
    the batch is durable. Nothing is answered before the commit.
  - A job that refuses raises a LiaisonError before it has staged anything; its neighbours do not notice.
    A refusal that must be logged stages its entry and *returns* the refusal.
  - Anything else that goes wrong rolls the whole batch back and runs its jobs again one by one, so the one at
    fault fails alone. A database that does not take a transaction at all is nobody's fault: all are told.
  - Another process may have written since: every batch begins by locking the log heads and taking in what is
    new, so indexes never collide and a revocation elsewhere holds here. What these keys did not sign is not taken in,
    neither a tree nor, at the start too, an entry of the directory that is not its leaf.
State ownership: the two trees and the directory belong to whoever runs `commit`; one thread at a time.
Crash states: before the database commit nothing happened; after it everything did, checkpoint included. A commit
whose answer is lost is one of the two: nobody is answered, nothing is run again, the next batch finds out which.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from relay import observe
from relay.logkeys import LogKeys
from relay.protocol.directory import Directory
from relay.protocol.errors import LiaisonError, Unavailable, Unverified
from relay.protocol.merkle import leaf_hash
from relay.protocol.tiletree import TileTree
from relay.store import log as log_rows
from relay.store.engine import DATABASE_AWAY, unavailable, with_reader
from relay.store.log import Log
from relay.store.mail import notify
from relay.store.prepared import together

from .batch import Answer, Batch, Committed, Job

_NEAR = 4096  # entries of another process that are taken in one by one; beyond, the tree is restored from its edge


@dataclass(slots=True)
class Outcome:
    """A job's result: what to hand to whoever waits for it."""

    value: Any = None
    error: BaseException | None = None


class Committer:
    """Runs jobs in transactions. Not thread-safe: one owner."""

    def __init__(self, writer: Engine, readers: Engine, keys: LogKeys, name: str) -> None:
        self._engine = writer
        self._readers = readers
        self._keys = keys
        self.origins = {Log.DIRECTORY: f"{name}/directory", Log.ACCESS: f"{name}/access"}
        self.directory = Directory()
        self._trees = {log: TileTree(self._loader(log)) for log in Log}
        with self._engine.begin() as connection:
            for log, size in log_rows.lock_sizes(connection).items():
                self._own(connection, log, size)
            self._take_in(connection)

    def commit(
        self,
        jobs: Sequence[Job],
        is_pressed: Callable[[], bool] = lambda: False,
        more: Callable[[], Sequence[Job]] = tuple,
    ) -> list[Outcome]:
        """Run the jobs in one transaction; one outcome per job, in order, each only after the commit.

        Once the lock is held, `more` is asked for those that have come meanwhile; they go along as the last. Once it
        `is_pressed`, no further job of these is begun: there are fewer outcomes than jobs, but at least one.
        """
        jobs = list(jobs)
        try:
            return self._commit_together(jobs, is_pressed, more)
        except Exception as problem:  # noqa: BLE001 - whatever it was, the batch is rolled back and told apart below
            self._forget_staged()
            if isinstance(problem, (Unavailable, *DATABASE_AWAY)):
                observe.DATABASE_ERRORS.inc()
            if isinstance(problem, Unavailable) or (isinstance(problem, DBAPIError) and problem.connection_invalidated):
                return [Outcome(error=unavailable()) for _ in jobs]
            if len(jobs) == 1:
                return [Outcome(error=unavailable() if isinstance(problem, DATABASE_AWAY) else problem)]
            return [outcome for job in jobs for outcome in self.commit([job])]

    def _commit_together(
        self, jobs: list[Job], is_pressed: Callable[[], bool], more: Callable[[], Sequence[Job]]
    ) -> list[Outcome]:
        began = time.perf_counter()
        with self._locked() as (connection, sizes):
            jobs.extend(more())
            batch = Batch(connection, self.directory, time.time_ns() // 1_000_000, sizes)
            batch.read(jobs)
            attempts = []
            for job in jobs:
                attempts.append(_attempt(job, batch))
                if is_pressed():
                    break
            for step in batch.closing:
                step()
            with together(connection):
                batch.flush()
                notes = {log: self._append(connection, log, batch) for log in Log if batch.staged[log]}
                notify(connection, batch.woken)
        for log in notes:
            self._trees[log].commit()
        for step in batch.settled:
            step()
        grown = {log.name.lower(): tree.size for log, tree in self._trees.items()}
        observe.committed(len(attempts), time.perf_counter() - began, batch.events, grown)
        committed = Committed(self._trees, notes, _entries(batch))
        return [_finish(attempt, committed) for attempt in attempts]

    def close(self) -> None:
        """Let go of the writing connection."""
        self._engine.dispose()

    @contextmanager
    def _locked(self) -> Iterator[tuple[Connection, dict[Log, int]]]:
        """A transaction that holds the heads and has caught up.

        Unavailable if the database gives none, or does not say whether it committed: then the next batch reads what
        became of this one, and whoever asks again is answered by that.
        """
        with ExitStack() as stack:
            try:
                connection = stack.enter_context(self._engine.connect())
            except (DBAPIError, *DATABASE_AWAY) as problem:  # what a ping meets on a dying connection has many names
                raise unavailable() from problem
            try:
                transaction = stack.enter_context(connection.begin())
                sizes = self._take_in(connection)
            except DATABASE_AWAY as problem:
                raise unavailable() from problem
            yield connection, sizes
            try:
                transaction.commit()
            except DBAPIError as problem:
                raise unavailable() from problem

    def _append(self, connection: Connection, log: Log, batch: Batch) -> bytes:
        tree, rows = self._trees[log], []
        for encoded, office, concerns in batch.staged[log]:
            leaf = leaf_hash(encoded)
            index = tree.append(leaf)
            rows.append({
                "log": int(log), "idx": index, "leaf_hash": leaf,
                "entry": encoded, "office": office, "concerns": concerns,
            })  # fmt: skip
        log_rows.add_entries(connection, rows)
        log_rows.add_nodes(
            connection,
            [
                {
                    "log": int(log),
                    "level": tile.level + 1,
                    "idx": tile.index,
                    "hash": tree.node(8 * (tile.level + 1), tile.index),
                }
                for tile, _ in tree.completed()
                if isinstance(tile.level, int)
            ],
        )
        log_rows.set_size(connection, log, tree.size)
        return self._sign(connection, log, batch.now)

    def _own(self, connection: Connection, log: Log, size: int) -> None:
        """Go on under the keys that signed the newest checkpoint, or begin the log. Under the lock: two hosts agree."""
        note = log_rows.checkpoint_at(connection, log, size)
        if note is None:
            if size == 0:  # entries that nothing signed are not taken in
                self._sign(connection, log, int(time.time()))
            return
        try:
            self._keys.read_checkpoint(self.origins[log], note)
        except LiaisonError as problem:
            raise Unverified(
                f"these log keys did not sign the newest checkpoint of the {log.name.lower()} log",
                hint="every host of one relay has the same log-keys.json: copy it from one that serves this database",
            ) from problem

    def _sign(self, connection: Connection, log: Log, now: int) -> bytes:
        tree = self._trees[log]
        note = self._keys.sign_checkpoint(self.origins[log], tree.size, tree.root(), now)
        log_rows.add_checkpoint(connection, log, tree.size, note)
        return note

    def _take_in(self, connection: Connection) -> dict[Log, int]:
        """Lock the heads and catch up with what other processes have written."""
        sizes = log_rows.lock_sizes(connection)
        for log in Log:
            if sizes[log] < (known := self._trees[log].size):
                # A standby that lacked what was acknowledged, or an old copy: to go on would fork the log.
                raise LiaisonError(
                    f"the {log.name.lower()} log went back from {known} entries to {sizes[log]}",
                    hint="the database is not the one that was served; see SPEC.md, Operations",
                )
            if sizes[log] != self._trees[log].size:
                self._trees[log] = self._caught_up(connection, log, sizes[log])
        self._replay(connection, sizes[Log.DIRECTORY])
        return sizes

    def _caught_up(self, connection: Connection, log: Log, size: int) -> TileTree:
        """The tree of the stored leaves, if it is the one that these keys signed: nothing grows on a tampered one."""
        tree, note = self._trees[log], log_rows.checkpoint_at(connection, log, size)
        try:
            stated = self._keys.read_checkpoint(self.origins[log], note or b"")
            if 0 < size - tree.size <= _NEAR:
                for leaf in log_rows.hashes(connection, log, 0, tree.size, size - tree.size):
                    tree.append(bytes(leaf))
            else:
                tree = TileTree(self._loader(log), size)
            if (stated.size, stated.root) != (size, tree.root(size)):
                raise Unverified("another tree")
        except LiaisonError as problem:  # to whoever asks it is no fault of theirs
            raise LiaisonError(
                f"the rows of the {log.name.lower()} log are not those that its checkpoint signed",
                hint=log_rows.OPERATOR_LOOKS,
            ) from problem
        tree.commit()  # not before: what was refused once is refused the next time
        return tree

    def _replay(self, connection: Connection, size: int) -> None:
        while (first := self.directory.size) < size:
            rows = log_rows.entries(connection, Log.DIRECTORY, first, min(1000, size - first))
            for index, entry in enumerate([row[1] for row in rows] or [None], first):
                if entry is None or not self._is_signed(entry, index):
                    raise LiaisonError(
                        f"the directory log from entry {index} on is not the one that its checkpoint signed",
                        hint=log_rows.OPERATOR_LOOKS,
                    )
                self.directory.apply(entry)

    def _is_signed(self, entry: bytes, index: int) -> bool:
        """Whether this is the directory log's entry `index` in the tree that was held against its checkpoint.

        The stored leaf hash may be changed along with the entry; the tree takes it only with its whole tile.
        """
        try:
            return leaf_hash(entry) == self._trees[Log.DIRECTORY].node(0, index)
        except Unverified:
            return False

    def _forget_staged(self) -> None:
        for tree in self._trees.values():
            tree.rollback()
        if self.directory.size > self._trees[Log.DIRECTORY].size:
            # A change was applied that is not durable. Know nobody; the next batch reads it all again, when
            # there is a database to read from.
            self.directory = Directory()

    def _loader(self, log: Log) -> Callable[[int, int, int], Sequence[bytes]]:
        def load(level: int, index: int, width: int) -> Sequence[bytes]:
            return with_reader(
                self._readers, lambda connection: log_rows.hashes(connection, log, level, index * 256, width)
            )

        return load


def _attempt(job: Job, batch: Batch) -> Answer | LiaisonError:
    before = batch.staged_count
    try:
        return job.run(batch)
    except LiaisonError as refusal:
        if batch.staged_count != before:
            raise RuntimeError("a job refused after it had staged something") from refusal
        return refusal


def _finish(attempt: Answer | LiaisonError, committed: Committed) -> Outcome:
    if isinstance(attempt, LiaisonError):
        return Outcome(error=attempt)
    try:
        return Outcome(value=attempt(committed))
    except Exception as problem:  # noqa: BLE001 - the work is durable; only this answer could not be made
        return Outcome(error=problem)


def _entries(batch: Batch) -> dict[tuple[Log, int], bytes]:
    return {
        (log, batch.sizes[log] + offset): encoded
        for log, staged in batch.staged.items()
        for offset, (encoded, _office, _concerns) in enumerate(staged)
    }
