"""Whether a database holds together: `relay check`.

The rules:
  - the bytes are hashed anew and every signature of the logs is verified; columns are compared with what they index;
  - the logs come first, and what each entry says happened; then everything that refers to them, the other way round;
  - every fault is named with its exact place; one does not hide the next;
  - a page at a time, in one snapshot: memory does not grow with the database, and a relay may be serving meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Table, or_, select, tuple_

from relay.logkeys import LogKeys
from relay.logwalk import PAGE, Fault, LogWalk, Progress
from relay.protocol.cose import parse_sign1
from relay.protocol.directory import Directory
from relay.protocol.entry import AccessEntry, Event, parse_access_entry
from relay.protocol.envelope import Message, parse_message, parse_slot
from relay.protocol.errors import LiaisonError, Unverified
from relay.protocol.header import Portion
from relay.protocol.merkle import leaf_hash, verify_inclusion
from relay.protocol.parts import chunk_count, chunk_length, joined_digest, part_digest
from relay.protocol.prekey import KEY_BATCH, batch_digest, parse_key_package
from relay.protocol.tlog import Checkpoint
from relay.store import log as log_rows
from relay.store.blobs import Blobs
from relay.store.log import Log
from relay.store.schema import document, key_batch, key_package, message, metadata, part, recall, receipt, slot
from relay.store.schema import message_place as place


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
    spoken = _Spoken(connection)
    walks[Log.ACCESS].speaks_of = spoken.faults
    for walk in walks.values():
        walk.hold_against(outside)
        yield from walk.faults(progress)
    yield from spoken.left()
    directory = walks[Log.DIRECTORY].directory
    yield from _check_documents(connection, directory)
    yield from _check_batches(connection, directory)
    yield from _check_packages(connection, progress)
    yield from _check_places(connection)
    yield from _check_messages(connection, progress, blobs)
    yield from _check_receipts(connection)
    for table in metadata.sorted_tables:
        yield from _check_parents(connection, table)


class _Spoken:
    """What entries say happened is there: the message, the release, the receipt; or a later entry says it is gone."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._missing: dict[bytes, list[Fault]] = {}

    def left(self) -> Iterator[Fault]:
        """Faults of messages that are not there, and that no `expire` entry has accounted for."""
        for faults in self._missing.values():
            yield from faults

    def faults(self, entries: Sequence[tuple[int, AccessEntry]]) -> Iterator[Fault]:
        connection, ids = self._connection, {entry.message_id for _, entry in entries if entry.message_id is not None}
        found = connection.execute(select(message.c.message_id, message.c.entry).where(message.c.message_id.in_(ids)))
        accepted = {bytes(row.message_id): row.entry for row in found}
        columns = select(slot.c.message_id, slot.c.device_id, slot.c.released)
        found = connection.execute(columns.where(slot.c.message_id.in_(ids), slot.c.released.is_not(None)))
        released = {(bytes(row.message_id), bytes(row.device_id)): row.released for row in found}
        columns = select(receipt.c.message_id, receipt.c.device_id, receipt.c.state, receipt.c.entry)
        found = connection.execute(columns.where(receipt.c.message_id.in_(ids)))
        receipts = {(bytes(row.message_id), bytes(row.device_id), row.state): row.entry for row in found}
        for index, entry in entries:
            held = entry.message_id or b""
            fault = _fault(index, entry, accepted, released, receipts)
            if entry.event is Event.EXPIRE:
                self._missing.pop(held, None)
            elif fault is not None and held not in accepted:
                self._missing.setdefault(held, []).append(fault)
            elif fault is not None:
                yield fault


def _fault(
    index: int,
    entry: AccessEntry,
    accepted: dict[bytes, int],
    released: dict[tuple[bytes, bytes], int],
    receipts: dict[tuple[bytes, bytes, str], int],
) -> Fault | None:
    place, held = f"access log, entry {index}", entry.message_id or b""
    if entry.event is Event.ACCEPT and accepted.get(held) != index:
        return Fault(place, f"the message {held.hex()} that it accepts is not stored under it")
    if entry.event is Event.OPEN:
        first = released.get((held, entry.device_id))
        if first is None or first > index:
            return Fault(place, f"the slot of {entry.device_id.hex()} in {held.hex()} is not marked as released by it")
    if entry.event is Event.ACKNOWLEDGE and receipts.get((held, entry.device_id, entry.detail)) != index:
        return Fault(place, f"the receipt that it logs for {held.hex()} is not stored under it")
    return None


def _check_documents(connection: Connection, directory: Directory) -> Iterator[Fault]:
    for row in _rows(connection, document, 4):
        if hashlib.sha256(row.content).digest() != bytes(row.digest):
            yield Fault(f"document {bytes(row.digest).hex()}", "is not of its digest")
    for published in directory.policies.values():
        for digest in (published.spif_digest, published.extensions_digest):
            held = select(document.c.digest).where(document.c.digest == digest)
            if digest is not None and connection.scalar(held) is None:
                yield Fault(f"document {digest.hex()}", f"is missing; a policy {published.name} names it")


def _check_batches(connection: Connection, directory: Directory) -> Iterator[Fault]:
    for row in _rows(connection, key_batch, PAGE):
        place = f"key batch {bytes(row.digest).hex()}"
        try:
            if batch_digest(parse_sign1(bytes(row.encoded), KEY_BATCH)) != bytes(row.digest):
                yield Fault(place, "is not of its digest")
        except LiaisonError as problem:
            yield Fault(place, str(problem))
        if directory.key_batches.get(bytes(row.digest)) != bytes(row.device_id):
            yield Fault(place, "is not in the directory log")


def _check_packages(connection: Connection, progress: Progress) -> Iterator[Fault]:
    for count, row in enumerate(_rows(connection, key_package, PAGE), 1):
        try:
            package = parse_key_package(bytes(row.encoded))
            told = (bytes(row.ref), bytes(row.device_id), row.one_time, row.not_after)
            if told != (package.ref, package.device_id, package.one_time, package.not_after):
                raise Unverified("its columns are not those of its bytes")
        except LiaisonError as problem:
            yield Fault(f"key package {bytes(row.ref).hex()}", str(problem))
        if count % PAGE == 0:
            progress("key packages", count)


def _check_places(connection: Connection) -> Iterator[Fault]:
    """What is looked up before a message is, is what the message says."""
    same = (place.c.message_id == message.c.message_id) & (place.c.day == message.c.day)
    told = [place.c[name] != message.c[name] for name in ("sender_device", "seq", "digest", "entry")]
    astray = select(place.c.message_id).outerjoin(message, same).where(or_(message.c.message_id.is_(None), *told))
    for message_id in connection.scalars(astray.limit(100)):
        yield Fault(f"message {bytes(message_id).hex()}", "is not what its row in message_place says")


def _check_messages(connection: Connection, progress: Progress, blobs: Blobs) -> Iterator[Fault]:
    for count, row in enumerate(_rows(connection, message, 64), 1):
        place = f"message {bytes(row.message_id).hex()}"
        try:
            found = parse_message(bytes(row.encoded))
            _verify_columns(row, found)
            _verify_entry(connection, row.entry, Event.ACCEPT, found)
        except LiaisonError as problem:
            yield Fault(place, str(problem))
            continue
        yield from _check_slots(connection, place, found)
        yield from _check_parts(connection, place, found, blobs)
        if count % PAGE == 0:
            progress("messages", count)


def _check_receipts(connection: Connection) -> Iterator[Fault]:
    for row in _rows(connection, receipt, PAGE):
        device_id, message_id = bytes(row.device_id), bytes(row.message_id)
        try:
            entry = _verify_logged(connection, row.entry, Event.ACKNOWLEDGE, message_id, device_id)
            if entry is not None and entry.detail != row.state:
                raise Unverified(f"access-log entry {row.entry} is for another state than {row.state}")
        except LiaisonError as problem:
            yield Fault(f"receipt of {device_id.hex()} for {message_id.hex()}", str(problem))


def _verify_columns(row: Row[Any], found: Message) -> None:
    core = found.core
    if found.ref != bytes(row.ref):
        raise Unverified("its bytes do not hash to its ref")
    told = (bytes(row.message_id), bytes(row.sender_device), row.seq, row.precedence, row.expires)
    if told != (core.message_id, core.sender_device, core.seq, int(core.handling.precedence), core.expires):
        raise Unverified("its columns are not those of its bytes")


def _verify_entry(connection: Connection, index: int, event: Event, found: Message) -> None:
    entry = _verify_logged(connection, index, event, found.core.message_id, None)
    if entry is not None and entry.message_ref != found.ref:
        raise Unverified(f"the {event.value} entry {index} is for other bytes")


def _verify_logged(
    connection: Connection, index: int, event: Event, message_id: bytes, device_id: bytes | None
) -> AccessEntry | None:
    """The access entry of that index, if it says that this happened; None if it was erased."""
    rows = list(log_rows.entries(connection, Log.ACCESS, index, 1))
    if not rows:
        raise Unverified(f"there is no {event.value} entry {index}")
    encoded = rows[0][1]
    if encoded is None:
        return None
    entry = parse_access_entry(bytes(encoded))
    if (entry.event, entry.message_id) != (event, message_id) or device_id not in {None, entry.device_id}:
        raise Unverified(f"access-log entry {index} is not its {event.value} entry")
    return entry


def _check_slots(connection: Connection, place: str, found: Message) -> Iterator[Fault]:
    rows = connection.execute(select(slot).where(slot.c.message_id == found.core.message_id).order_by(slot.c.position))
    positions = []
    for row in rows.all():
        positions.append(row.position)
        where = f"{place}, slot {row.position}"
        try:
            if (stored := row.encoded or row.kept) is not None:
                leaf, proof = bytes(stored), bytes(row.proof)
                hashes = [proof[start : start + 32] for start in range(0, len(proof), 32)]
                verify_inclusion(leaf_hash(leaf), row.position, found.slot_count, hashes, found.slot_root)
                if parse_slot(leaf, found.core).device_id != bytes(row.device_id):
                    yield Fault(where, "is another device's than its column says")
            if row.released is not None:
                _verify_logged(connection, row.released, Event.OPEN, found.core.message_id, bytes(row.device_id))
        except LiaisonError as problem:
            yield Fault(where, str(problem))
    if positions != list(range(found.slot_count)):
        yield Fault(place, f"has slots {positions}, and {found.slot_count} were signed")


def _check_parts(connection: Connection, place: str, found: Message, blobs: Blobs) -> Iterator[Fault]:
    of_message = part.c.message_id == found.core.message_id
    rows = {row.idx: row for row in connection.execute(select(part.c.idx, part.c.upload_id).where(of_message))}
    spilt = select(recall.c.entry).where(recall.c.message_id == found.core.message_id, recall.c.spill.is_(True))
    if not rows and connection.scalar(spilt.limit(1)) is not None:
        return  # destroyed on purpose, with the entry that says so
    if len(rows) != len(found.core.portions):
        yield Fault(place, f"has {len(rows)} parts, and {len(found.core.portions)} were signed")
    for index, portion in enumerate(found.core.portions):
        where, row = f"{place}, part {index}", rows.get(index)
        if row is None:
            continue
        if row.upload_id is not None:
            yield from _check_upload(bytes(row.upload_id), portion, where, blobs)
            continue
        sealed = connection.scalar(select(part.c.sealed).where(of_message, part.c.idx == index))
        if sealed is None or part_digest(sealed) != portion.digest:
            yield Fault(where, "is not of the digest that was signed")


def _check_upload(upload_id: bytes, portion: Portion, where: str, blobs: Blobs) -> Iterator[Fault]:
    digests = []
    for chunk in range(chunk_count(portion.length)):
        sealed = blobs.get(upload_id, chunk)
        if sealed is None or len(sealed) != chunk_length(portion.length, chunk):
            yield Fault(where, f"chunk {chunk} of {upload_id.hex()} is missing, or not of its length")
            return
        digests.append(hashlib.sha256(sealed).digest())
    if joined_digest(digests) != portion.digest:
        yield Fault(where, f"the chunks of {upload_id.hex()} are not of the digest that was signed")


def _rows(connection: Connection, table: Table, count: int) -> Iterator[Row[Any]]:
    """Every row in the order of its primary key, `count` at a time."""
    keys = list(table.primary_key.columns)
    wanted = page = select(table).order_by(*keys).limit(count)
    while rows := connection.execute(page).all():
        yield from rows
        page = wanted.where(tuple_(*keys) > tuple_(*(getattr(rows[-1], key.name) for key in keys)))


def _check_parents(connection: Connection, table: Table) -> Iterator[Fault]:
    """Foreign keys, asked of the rows: a database can be told not to enforce them."""
    for key in table.foreign_keys:
        parent = key.column.table
        orphans = select(key.parent).outerjoin(parent, key.parent == key.column)
        for (held,) in connection.execute(orphans.where(key.parent.is_not(None), key.column.is_(None)).limit(100)):
            yield Fault(f"{table.name} of {bytes(held).hex()}", f"has no row of {parent.name}")
