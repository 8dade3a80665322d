"""A SQLite file whose tables are shelves: octets under a key of octets, neither of which shows in the file.

    place = HMAC-SHA-256(place key, CBOR key)                        what SQLite finds a row by
    box   = nonce12 || AES-256-GCM(box key, CBOR [key, value], aad = CBOR [shelf, place])
    place key, box key = HKDF(state key, shelf name), another pair for every shelf

What does show: how many rows a shelf has, in which order they came, and how long each is. The binding of a
box to its place keeps rows from being swapped; that a row or the whole file is set back to an older state
is not caught here.
"""

from __future__ import annotations

import hmac
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from relay.protocol import canonical
from relay.protocol.errors import Conflict, Malformed, TooLarge, Unavailable, Unverified

Key = list[Any]  # of octets, text and integers, as its shelf has it

# EXTRA is FULL with the folder synced after the journal is gone: a power cut cannot bring back a deleted row.
PRAGMAS = (
    "journal_mode=DELETE",
    "secure_delete=ON",
    "synchronous=EXTRA",
    "temp_store=MEMORY",
    "trusted_schema=OFF",
)
LOCK_SECONDS = 30
CREATE = """CREATE TABLE {} (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order of arrival, never used twice
    place BLOB NOT NULL UNIQUE,
    box BLOB NOT NULL
)"""


class Kind(NamedTuple):
    """What a database file says it is, in the two header fields that SQLite leaves to its users."""

    name: str
    application_id: int
    version: int


class Database:
    """One connection and its transactions. For one thread of one process."""

    __slots__ = ("_failed", "_inside", "connection")

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._inside = False
        self._failed = False

    def close(self) -> None:
        self.connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; inside another one it joins it, and if it fails, the whole fails."""
        if self._inside:
            try:
                yield
            except BaseException:
                self._failed = True
                raise
            return
        with database_errors():
            self.connection.execute("BEGIN IMMEDIATE")  # a deferred one would read before it owns the write
            self._inside, self._failed = True, False
            try:
                yield
                if self._failed:
                    raise Conflict("a step of this transaction failed, so nothing of it was kept")
                self.connection.execute("COMMIT")
            finally:
                self._inside = False
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")


def draft(kind: Kind, shelves: Sequence[str], fill: Callable[[Database], None]) -> bytes:
    """The octets of a new database file, built in memory so that no half-made one is ever on disk."""
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.execute(f"PRAGMA application_id={kind.application_id}")
        connection.execute(f"PRAGMA user_version={kind.version}")
        for name in shelves:
            connection.execute(CREATE.format(name))
        fill(Database(connection))
        return connection.serialize()
    finally:
        connection.close()


def open_database(path: Path, kind: Kind) -> Database:
    """An existing file of this kind. Raises Malformed for anything else, Unavailable if it does not open."""
    with database_errors():
        address = f"{path.absolute().as_uri()}?mode=rw"
        connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=LOCK_SECONDS)
        try:
            _check_kind(connection, path, kind)
            for pragma in PRAGMAS:
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
    return Database(connection)


def _check_kind(connection: sqlite3.Connection, path: Path, kind: Kind) -> None:
    found = [connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")]
    if found != [kind.application_id, kind.version]:
        raise Malformed(f"{kind.name}: {path} is none that this program knows")


@contextmanager
def database_errors() -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.OperationalError as problem:
        hint = "another `liaison` may be at work, or the disk be full; nothing was changed"
        raise Unavailable(f"the local database does not answer: {problem}", hint=hint) from problem
    except sqlite3.DataError as problem:  # a value longer than SQLite takes: nothing is damaged
        raise TooLarge(f"too long for the local database: {problem}", hint="nothing was changed") from problem
    except sqlite3.ProgrammingError:  # a fault of this program, such as a use after close: nothing is damaged
        raise
    except sqlite3.DatabaseError as problem:
        raise Malformed(
            f"the local database is damaged: {problem}", hint="restore the profile from a backup"
        ) from problem


class Shelf:
    """One table. A method is a transaction or joins the one around it; an altered row is Unverified."""

    __slots__ = ("_box_key", "_database", "_place_key", "name")

    def __init__(self, database: Database, name: str, state_key: bytes, *, box_key: bytes | None = None) -> None:
        """`box_key` replaces the derived one where the state key alone must not open the rows."""
        self.name = name
        self._database = database
        self._place_key = _derive(state_key, f"{name} places")
        self._box_key = _derive(state_key, f"{name} boxes") if box_key is None else box_key

    def get(self, key: Key) -> bytes | None:
        place = self._place(key)
        found = self._run("SELECT place, box FROM {} WHERE place = ?", place)
        return self._open(*found[0])[1] if found else None

    def put(self, key: Key, value: bytes) -> None:
        """Add, or replace the value and keep the row's turn."""
        place = self._place(key)
        nonce = os.urandom(12)
        box = nonce + AESGCM(self._box_key).encrypt(nonce, canonical.encode([key, value]), self._aad(place))
        self._run(
            "INSERT INTO {} (place, box) VALUES (?, ?) ON CONFLICT (place) DO UPDATE SET box = excluded.box",
            place,
            box,
        )

    def put_once(self, key: Key, value: bytes) -> None:
        """Add, or find the same value there. Raises Conflict if another one is."""
        with self._database.transaction():
            before = self.get(key)
            if before is None:
                self.put(key, value)
            elif before != value:
                raise Conflict(f"cabinet: something else is kept under this name in {self.name}")

    def drop(self, key: Key) -> bool:
        """Whether there was such a row."""
        return bool(self._run("DELETE FROM {} WHERE place = ? RETURNING number", self._place(key)))

    def clear(self) -> None:
        self._run("DELETE FROM {}")

    def rows(self) -> list[tuple[Key, bytes]]:
        """Every (key, value), in the order of arrival."""
        return [self._open(place, box) for place, box in self._run("SELECT place, box FROM {} ORDER BY number")]

    def _run(self, statement: str, *values: bytes) -> list[tuple[Any, ...]]:
        with self._database.transaction():
            # a table's name cannot be a parameter; ours are constants of the program
            return self._database.connection.execute(statement.format(self.name), values).fetchall()

    def _open(self, place: bytes, box: bytes) -> tuple[Key, bytes]:
        try:
            plain = AESGCM(self._box_key).decrypt(box[:12], box[12:], self._aad(place))
        except (InvalidTag, ValueError):
            hint = "the file was altered, or belongs to another profile; restore the profile from a backup"
            raise Unverified(f"cabinet: a row of {self.name} does not open", hint=hint) from None
        key, value = canonical.read_array(plain, 2, f"cabinet {self.name}")
        return key, value

    def _place(self, key: Key) -> bytes:
        return hmac.digest(self._place_key, canonical.encode(key), "sha256")

    def _aad(self, place: bytes) -> bytes:
        return canonical.encode([self.name, place])


def _derive(state_key: bytes, purpose: str) -> bytes:
    return HKDF(SHA256(), 32, salt=None, info=f"liaison-cabinet/1 {purpose}".encode()).derive(state_key)
