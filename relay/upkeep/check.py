"""Whether a database holds together: `relay check`.

The rules:
  - the bytes are hashed anew and every signature of the logs is verified; columns are compared with what they index;
  - the logs come first, and what each entry says happened (check_entries.py); then everything that refers to them, the
    other way round (check_mail.py);
  - every fault is named with its exact place; one does not hide the next;
  - a page at a time, in one snapshot: memory does not grow with the database, and a relay may be serving meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence

from sqlalchemy import Connection, Table, select

from relay.logkeys import LogKeys
from relay.protocol.cose import parse_sign1
from relay.protocol.directory import Directory
from relay.protocol.errors import LiaisonError, Unverified
from relay.protocol.prekey import KEY_BATCH, batch_digest, parse_key_package
from relay.protocol.tlog import Checkpoint
from relay.store.blobs import Blobs
from relay.store.log import Log
from relay.store.log_schema import checkpoint, log_entry, log_head, log_node
from relay.store.schema import document, key_batch, key_package, metadata

from .check_entries import Spoken
from .check_mail import check_mail, rows_of
from .logwalk import PAGE, Fault, LogWalk, Progress


def check_database(
    connection: Connection,
    keys: LogKeys,
    name: str,
    outside: Sequence[Checkpoint],
    progress: Progress,
    blobs: Blobs,
) -> Iterator[Fault]:
    """Everything, in the order of the module's rules. `outside` are checkpoints that others hold."""
    walks = {log: LogWalk(connection, keys, f"{name}/{log.name.lower()}", log) for log in Log}
    directory = walks[Log.DIRECTORY].directory
    spoken = Spoken(connection, directory)
    walks[Log.ACCESS].speaks_of = spoken.faults
    for walk in walks.values():
        walk.hold_against(outside)
        yield from walk.faults(progress)
    yield from spoken.left()
    yield from _check_logs(connection)
    yield from _check_documents(connection, directory)
    yield from _check_batches(connection, directory)
    yield from _check_packages(connection, progress)
    yield from check_mail(connection, progress, blobs)
    for table in metadata.sorted_tables:
        yield from _check_parents(connection, table)


def _check_logs(connection: Connection) -> Iterator[Fault]:
    for table in (log_head, log_entry, log_node, checkpoint):
        others = select(table.c.log).where(table.c.log.not_in(Log)).distinct().limit(100)
        for log in connection.scalars(others):
            yield Fault(f"{table.name} of log {log}", "is of no log that there is")


def _check_documents(connection: Connection, directory: Directory) -> Iterator[Fault]:
    for row in rows_of(connection, document, 4):
        if hashlib.sha256(row.content).digest() != bytes(row.digest):
            yield Fault(f"document {bytes(row.digest).hex()}", "is not of its digest")
    for published in [each.policy for every in directory.publications.values() for each in every]:
        for digest in (published.spif_digest, published.extensions_digest):
            held = select(document.c.digest).where(document.c.digest == digest)
            if digest is not None and connection.scalar(held) is None:
                yield Fault(f"document {digest.hex()}", f"is missing; a policy {published.name} names it")


def _check_batches(connection: Connection, directory: Directory) -> Iterator[Fault]:
    for row in rows_of(connection, key_batch, PAGE):
        place = f"key batch {bytes(row.digest).hex()}"
        try:
            if batch_digest(parse_sign1(bytes(row.encoded), KEY_BATCH)) != bytes(row.digest):
                yield Fault(place, "is not of its digest")
        except LiaisonError as problem:
            yield Fault(place, str(problem))
        if directory.key_batches.get(bytes(row.digest)) != bytes(row.device_id):
            yield Fault(place, "is not in the directory log")


def _check_packages(connection: Connection, progress: Progress) -> Iterator[Fault]:
    for count, row in enumerate(rows_of(connection, key_package, PAGE), 1):
        try:
            package = parse_key_package(bytes(row.encoded))
            told = (bytes(row.ref), bytes(row.device_id), row.one_time, row.not_after)
            if told != (package.ref, package.device_id, package.one_time, package.not_after):
                raise Unverified("its columns are not those of its bytes")
        except LiaisonError as problem:
            yield Fault(f"key package {bytes(row.ref).hex()}", str(problem))
        if count % PAGE == 0:
            progress("key packages", count)


def _check_parents(connection: Connection, table: Table) -> Iterator[Fault]:
    """Foreign keys, asked of the rows: a database can be told not to enforce them."""
    for key in table.foreign_keys:
        parent = key.column.table
        orphans = select(key.parent).outerjoin(parent, key.parent == key.column)
        for (held,) in connection.execute(orphans.where(key.parent.is_not(None), key.column.is_(None)).limit(100)):
            yield Fault(f"{table.name} of {bytes(held).hex()}", f"has no row of {parent.name}")
