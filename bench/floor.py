"""The floor: the same bytes, signatures and durable commits through the bare driver. No HTTP, no rules, no log of ours.

One accept: one Ed25519 request signature and one composite signature (ML-DSA-65 with Ed25519) verified, message, part,
slot and log entry inserted; per commit one checkpoint, signed with Ed25519 and ML-DSA-44. One client: a commit per
message; several in flight: a commit per so many.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA65PrivateKey

from relay.protocol.envelope import parse_submission

from .figures import Measured
from .postgres import Cluster
from .world import Letter

TABLES = (
    "CREATE TABLE message (id {b} PRIMARY KEY, encoded {b} NOT NULL)",
    "CREATE TABLE part (id {b} PRIMARY KEY, sealed {b} NOT NULL)",
    "CREATE TABLE slot (id {b} PRIMARY KEY, encoded {b} NOT NULL, released BIGINT)",
    "CREATE TABLE receipt (id {b} PRIMARY KEY, encoded {b} NOT NULL)",
    "CREATE TABLE entry (idx BIGINT PRIMARY KEY, leaf {b} NOT NULL, entry {b} NOT NULL)",
    "CREATE TABLE checkpoint (size BIGINT PRIMARY KEY, note {b} NOT NULL)",
)
SQLITE = ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL")
ENTRY = bytes(400)  # as long as an access-log entry


class Floor:
    """A bare database and the keys."""

    def __init__(self, folder: Path, cluster: Cluster | None) -> None:
        self.cluster, self._mark, self._size = cluster, "?", 0
        self._ed, self._lattice = Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate()
        self._log_ed, self._log_lattice = Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()
        self._ed_public, self._public = self._ed.public_key(), self._lattice.public_key()
        self._signed = os.urandom(500)
        self._ed_signature, self._signature = self._ed.sign(self._signed), self._lattice.sign(self._signed)
        if cluster is None:
            folder.mkdir(parents=True, exist_ok=True)
            lite = sqlite3.connect(folder / f"floor-{os.urandom(4).hex()}.sqlite", isolation_level=None)
            for pragma in SQLITE:
                lite.execute(pragma)
            self._connection: Any = lite
        else:
            self._connection = psycopg.connect(cluster.create(f"floor_{os.urandom(4).hex()}"), autocommit=True)
            self._mark = "%s"
        for table in TABLES:
            self._connection.execute(table.format(b="BLOB" if cluster is None else "BYTEA"))

    def close(self) -> None:
        self._connection.close()

    def measure(self, works: str, letters: Sequence[Letter], clients: int) -> Measured:
        """One round of `works` (accept, accept+open, accept+open+acknowledge), `clients` messages per commit."""
        steps = [getattr(self, f"_{step}") for step in works.split("+")]
        latencies = []
        database = self.cluster.processor_seconds() if self.cluster is not None else 0.0
        own, began = time.process_time(), time.perf_counter()
        for start in range(0, len(letters), clients):
            batch, at = letters[start : start + clients], time.perf_counter()
            for step in steps:
                step(batch)
            latencies += [time.perf_counter() - at] * len(batch)
        seconds, own = time.perf_counter() - began, time.process_time() - own
        if self.cluster is not None:
            database = self.cluster.processor_seconds() - database
        return Measured(len(letters), seconds, tuple(sorted(latencies)), 0.0, own, database)

    def _accept(self, batch: Sequence[Letter]) -> None:
        for _ in batch:
            self._verify(composite=True)
        for letter in batch:
            hashlib.sha256(letter.body).digest()
        sent = [(letter.message_id, parse_submission(letter.body)) for letter in batch]
        with self._transaction() as cursor:
            self._insert(cursor, "message", [(key, each.message) for key, each in sent])
            self._insert(cursor, "part", [(key, each.parts[0]) for key, each in sent])
            self._insert(cursor, "slot", [(key, each.slots[0], None) for key, each in sent])
            self._log(cursor, len(batch))

    def _open(self, batch: Sequence[Letter]) -> None:
        with self._transaction() as cursor:
            for letter in batch:
                self._verify(composite=False)
                wanted = (
                    f"SELECT m.encoded, s.encoded FROM message m JOIN slot s ON s.id = m.id WHERE m.id = {self._mark}"
                )
                cursor.execute(wanted, (letter.message_id,)).fetchone()
            marks = [(letter.message_id,) for letter in batch]
            cursor.executemany(f"UPDATE slot SET released = 1 WHERE id = {self._mark}", marks)
            self._log(cursor, len(batch))

    def _acknowledge(self, batch: Sequence[Letter]) -> None:
        for _ in batch:
            self._verify(composite=True)
        with self._transaction() as cursor:
            self._insert(cursor, "receipt", [(letter.message_id, letter.receipt) for letter in batch])
            self._log(cursor, len(batch))

    def _verify(self, *, composite: bool) -> None:
        self._ed_public.verify(self._ed_signature, self._signed)
        if composite:
            self._ed_public.verify(self._ed_signature, self._signed)
            self._public.verify(self._signature, self._signed)

    def _log(self, cursor: Any, number: int) -> None:
        first, self._size = self._size, self._size + number
        leaf = hashlib.sha256(ENTRY).digest()
        mark = self._mark
        rows = [(index, leaf, ENTRY) for index in range(first, self._size)]
        cursor.executemany(f"INSERT INTO entry VALUES ({mark}, {mark}, {mark})", rows)
        note = self._log_ed.sign(leaf) + self._log_lattice.sign(leaf)
        cursor.execute(f"INSERT INTO checkpoint VALUES ({mark}, {mark})", (self._size, note))

    def _insert(self, cursor: Any, table: str, rows: Sequence[tuple[Any, ...]]) -> None:
        cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join([self._mark] * len(rows[0]))})", rows)

    def _transaction(self) -> Any:
        if self.cluster is not None:
            return _Postgres(self._connection)
        return _Lite(self._connection)


class _Lite:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> sqlite3.Connection:
        self._connection.execute("BEGIN IMMEDIATE")
        return self._connection

    def __exit__(self, *_: object) -> None:
        self._connection.execute("COMMIT")


class _Postgres:
    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._transaction = connection.transaction()

    def __enter__(self) -> psycopg.Cursor[Any]:
        self._transaction.__enter__()
        return self._connection.cursor()

    def __exit__(self, *problem: object) -> None:
        self._transaction.__exit__(*problem)  # type: ignore[arg-type]
