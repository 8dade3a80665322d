"""One file that holds one state of the relay, whichever engine it came from and whichever it goes to.

    backup  = [head, rows..., chunk..., end], each behind its length in 4 octets
    head    = ["relay-backup/2", revision, relay's name]
    rows    = [table, [column...], [[value...]...]]                    in the order in which foreign keys allow
    chunk   = ["chunk", upload, number, octets]                        of large parts: relay/upkeep/backup_parts.py
    end     = [note]      the log keys' checkpoint of origin {relay}/backup: the octets before it, and their SHA-256

The rules:
  - it is one snapshot, consistent with the log, streamed; the relay serves on;
  - no key is in it: nothing in it can be read or signed with that the database did not already give away;
  - the whole file is verified under the log keys before a row of it is used, and again while it is used;
  - a restore needs an empty target, leaves it whole or not at all, and compares the logs with what others hold.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from sqlalchemy import Connection, column, func, insert, inspect, make_url, select, table

from relay.house import held_keys, held_relay, read_checkpoints, widths
from relay.logkeys import LogKeys
from relay.protocol.canonical import decode, encode, expect
from relay.protocol.errors import Conflict, Malformed, Unverified
from relay.protocol.tlog import Checkpoint
from relay.settings import Settings
from relay.store import log as log_rows
from relay.store.blobs import open_blobs
from relay.store.engine import is_shared, open_snapshot, open_writer, reaching
from relay.store.log import Log
from relay.store.migrate import build, relay_name, revision_of
from relay.store.partitions import change
from relay.store.schema import document, message, metadata, part, upload

from .backup_parts import CHUNK_RECORD, TAKEN_UP, Unpacking, chunk_records, unpacking
from .logwalk import LogWalk, Progress

_FORMAT = "relay-backup/2"
_AT_ONCE = {part.name: 1, document.name: 4, message.name: 32}  # rows with long values
_ROWS = 500
_MAX_RECORD = 1 << 27


@dataclass(slots=True)
class _Tape:
    """Records of a file, their number of octets and their digest so far."""

    file: BinaryIO
    octets: int = 0
    digest: Any = field(default_factory=hashlib.sha256)

    def write(self, record: list[Any]) -> None:
        encoded = encode(record)
        framed = len(encoded).to_bytes(4, "big") + encoded
        self.file.write(framed)
        self._count(framed)

    def read(self) -> Iterator[list[Any]]:
        """The records but the last, which is the note, and is yielded uncounted."""
        while head := self.file.read(4):
            length = int.from_bytes(head, "big")
            encoded = self.file.read(length) if length <= _MAX_RECORD else b""
            if len(head) != 4 or not encoded or len(encoded) != length:
                raise Malformed(f"backup: cut off or damaged at octet {self.octets}")
            record = expect(decode(encoded, "backup"), list, "backup: record")
            if len(record) > 1:
                self._count(head + encoded)
            yield record

    def _count(self, framed: bytes) -> None:
        self.octets += len(framed)
        self.digest.update(framed)


# -- writing ----------------------------------------------------------------------------------------------------------


def write_backup(settings: Settings, path: Path, progress: Progress) -> list[bytes]:
    """Write the database's state as of now to `path`; the newest checkpoints that are in it."""
    keys, engine = held_relay(settings), open_snapshot(settings.database_url)
    blobs = open_blobs(settings.parts_place)
    try:
        name = relay_name(engine)
        with reaching(), _created(path) as file, engine.connect() as connection:
            sizes, revision = log_rows.sizes(connection), revision_of(connection)
            notes = [log_rows.checkpoint_at(connection, log, sizes[log]) or b"" for log in Log]
            for log, note in zip(Log, notes, strict=True):
                keys.read_checkpoint(f"{name}/{log.name.lower()}", note)
            tape = _Tape(file)
            tape.write([_FORMAT, revision, name])
            for record in chain(_records(connection, progress), chunk_records(connection, blobs, progress)):
                tape.write(record)
            closing = keys.sign_checkpoint(f"{name}/backup", tape.octets, tape.digest.digest(), int(time.time()))
            tape.write([closing])
    finally:
        engine.dispose()
    return notes


def _records(connection: Connection, progress: Progress) -> Iterator[list[Any]]:
    for each in metadata.sorted_tables:
        names, done = [column.name for column in each.columns], 0
        held = select(each).where(TAKEN_UP) if each is upload else select(each)
        result = connection.execute(held, execution_options={"yield_per": _AT_ONCE.get(each.name, _ROWS)})
        for page in result.partitions():
            yield [each.name, names, [list(row) for row in page]]
            done += len(page)
            progress(f"backup of {each.name}", done)


@contextmanager
def _created(path: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `path` when it is whole and durable; until then it is nobody else's.

    `-` is stdout. Raises Conflict for what is no regular file: a device or a link would be replaced.
    """
    if path == Path("-"):
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise Conflict(f"{path} is no regular file", hint="name the file itself, or - for standard output")
    temporary = _beside(path)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)
    _settle(path.parent)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")


def _settle(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- restoring --------------------------------------------------------------------------------------------------------


def restore_backup(
    settings: Settings, path: Path, notes: Sequence[tuple[str, bytes]], progress: Progress, *, accept_loss: bool
) -> list[str]:
    """Fill an empty database from `path`; what is lost, if that was accepted. Raises Unverified if it was not."""
    keys = held_keys(settings)
    with path.open("rb") as file:
        name = _verify(file, keys)
        others = read_checkpoints(keys, name, notes)
        if not others and not accept_loss:
            raise Unverified(
                "nothing that others hold was given, so nobody knows whether this backup is the newest",
                hint="give --checkpoint FILE from a client, an auditor or a witness; or --accept-loss",
            )
        with unpacking(open_blobs(settings.parts_place)) as chunks, _target(settings) as connection:
            file.seek(0)
            _load(connection, chunks, file, keys, progress)
            if is_shared(connection.engine):
                # what was restored lay nowhere yet: that is a partition of its own
                change(connection, int(time.time()) // 86400, widths(settings))
            lost = _compare(connection, keys, name, others, progress)
            if lost and not accept_loss:
                raise Unverified(
                    "; ".join(lost),
                    hint="look for a newer backup. With --accept-loss, whoever has seen more raises an alarm (exit 5)",
                )
    return lost if others else ["nothing that others hold was compared"]


def _verify(file: BinaryIO, keys: LogKeys) -> str:
    """The relay's name, if this file is whole and its log keys closed it."""
    tape, name = _Tape(file), ""
    for number, record in enumerate(tape.read()):
        if number == 0:
            if len(record) != 3 or record[0] != _FORMAT:
                raise Malformed("backup: another kind of file, or of a later version")
            name = expect(record[2], str, "backup: name")
        elif len(record) == 1:
            _verify_closing(tape, record[0], keys, name)
            if file.read(1):
                raise Malformed("backup: something follows its end")
            return name
    raise Malformed(f"backup: cut off at octet {tape.octets}", hint="it was not finished, or not copied whole")


def _verify_closing(tape: _Tape, note: Any, keys: LogKeys, name: str) -> None:
    stated = keys.read_checkpoint(f"{name}/backup", expect(note, bytes, "backup: note"))
    if (stated.size, stated.root) != (tape.octets, tape.digest.digest()):
        raise Unverified("backup: damaged or altered: it is not what its log keys signed")


def _load(connection: Connection, chunks: Unpacking, file: BinaryIO, keys: LogKeys, progress: Progress) -> None:
    tape, name = _Tape(file), ""
    for record in tape.read():
        if len(record) == 1:
            _verify_closing(tape, record[0], keys, name)  # the file could have changed since it was verified
            break
        if record[0] == _FORMAT:
            name = record[2]
            build(connection, record[1])
            continue
        if record[0] == CHUNK_RECORD:
            chunks.put(record)
            progress("octets restored", tape.octets)
            continue
        where, names, rows = record
        into = insert(table(where, *(column(each) for each in names)))
        connection.execute(into, [dict(zip(names, row, strict=True)) for row in rows])
        progress("octets restored", tape.octets)
    build(connection, "head")
    if connection.dialect.name == "postgresql":
        _count_on(connection)


def _count_on(connection: Connection) -> None:
    """Rows came with their numbers: let none of them be given again."""
    for each in metadata.sorted_tables:
        for numbered in each.columns:
            if numbered.autoincrement is True:
                sequence, last = func.pg_get_serial_sequence(each.name, numbered.name), func.max(numbered)
                connection.execute(select(func.setval(sequence, last)).having(last > 0))


def _compare(
    connection: Connection, keys: LogKeys, name: str, others: Sequence[Checkpoint], progress: Progress
) -> list[str]:
    """What others hold that is not here. Raises Unverified for everything else that does not hold."""
    lost = []
    for log in Log:
        walk = LogWalk(connection, keys, f"{name}/{log.name.lower()}", log)
        size = log_rows.sizes(connection)[log]
        walk.hold_against([each for each in others if each.size <= size])
        for fault in walk.faults(progress):
            raise Unverified(str(fault), hint="run relay check on the database that was backed up")
        seen = max((each.size for each in others if each.origin == walk.origin), default=0)
        if seen > size:
            lost.append(f"the {walk.name} ends at {size} entries here, and others hold a checkpoint of {seen}")
    return lost


@contextmanager
def _target(settings: Settings) -> Iterator[Connection]:
    """A transaction on an empty database; afterwards it is whole, or as it was."""
    url, temporary = make_url(settings.database_url), None
    if url.get_backend_name() == "sqlite":
        final = Path(url.database or "")
        for each in _files(final):  # what is left of another database's log would be played into this one
            if each.exists():
                raise Conflict(f"{each} exists", hint="a restore needs an empty place: move all files of the old one")
        temporary = _beside(final)
        url = url.set(database=str(temporary))
    engine = open_writer(url.render_as_string(hide_password=False))
    try:
        with reaching(), engine.begin() as connection:
            if inspect(connection).get_table_names():
                raise Conflict("the database is not empty", hint="a restore needs an empty one")
            yield connection
        engine.dispose()  # SQLite moves its log into the file when the last connection goes
        if temporary is not None:
            temporary.rename(final)
            _settle(final.parent)
    finally:
        engine.dispose()
        if temporary is not None:
            for each in _files(temporary):
                each.unlink(missing_ok=True)


def _files(database: Path) -> list[Path]:
    """All that SQLite keeps a database in."""
    return [Path(f"{database}{suffix}") for suffix in ("", "-wal", "-shm", "-journal")]
