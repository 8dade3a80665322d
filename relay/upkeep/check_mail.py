"""Messages and what hangs on them, held against their bytes and their log entries: a part of `relay check`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, Table, func, or_, select, tuple_

from relay.protocol.canonical import expect
from relay.protocol.cose import parse_sign1
from relay.protocol.endorsement import ENDORSEMENT
from relay.protocol.entry import AccessEntry, Event, parse_access_entry
from relay.protocol.envelope import RECEIPT, Message, decode_list, parse_message, parse_slot, read_receipt
from relay.protocol.errors import LiaisonError, Unverified
from relay.protocol.grants import parse_grants, read_accept_detail
from relay.protocol.header import Portion
from relay.protocol.merkle import leaf_hash, verify_inclusion
from relay.protocol.parts import chunk_count, chunk_length, joined_digest, part_digest
from relay.protocol.recall import read_recall_detail
from relay.protocol.warrant import ends_keeping
from relay.store import log as log_rows
from relay.store.blobs import Blobs
from relay.store.holds import Standing
from relay.store.log import Log
from relay.store.schema import hold, message, part, recall, receipt, slot
from relay.store.schema import message_place as place

from .logwalk import PAGE, Fault, Progress


def check_mail(connection: Connection, progress: Progress, blobs: Blobs) -> Iterator[Fault]:
    """Everything that is stored of messages."""
    yield from _check_places(connection)
    yield from _check_messages(connection, progress, blobs)
    yield from _check_receipts(connection)
    for table, event in ((hold, Event.HOLD), (recall, Event.RECALL)):
        yield from _check_words(connection, table, event)
    yield from _check_standing(connection)


def _check_places(connection: Connection) -> Iterator[Fault]:
    """What is looked up before a message is, is what the message says."""
    same = (place.c.message_id == message.c.message_id) & (place.c.day == message.c.day)
    told = [place.c[name] != message.c[name] for name in ("sender_device", "seq", "digest", "entry")]
    astray = select(place.c.message_id).outerjoin(message, same).where(or_(message.c.message_id.is_(None), *told))
    for message_id in connection.scalars(astray.limit(100)):
        yield Fault(f"message {bytes(message_id).hex()}", "is not what its row in message_place says")


def _check_messages(connection: Connection, progress: Progress, blobs: Blobs) -> Iterator[Fault]:
    for count, row in enumerate(rows_of(connection, message, 64), 1):
        place = f"message {bytes(row.message_id).hex()}"
        try:
            found = parse_message(bytes(row.encoded))
            _verify_columns(row, found)
            _verify_accepted(connection, row, found)
            granted = {device_id for device_id, _portions in parse_grants(bytes(row.grants or b""))}
        except LiaisonError as problem:
            yield Fault(place, str(problem))
            continue
        yield from _check_slots(connection, place, row.day, found, granted)
        yield from _check_parts(connection, place, row.day, found, blobs)
        if count % PAGE == 0:
            progress("messages", count)


def _check_receipts(connection: Connection) -> Iterator[Fault]:
    for row in rows_of(connection, receipt, PAGE):
        device_id, message_id = bytes(row.device_id), bytes(row.message_id)
        try:
            entry = _verify_logged(connection, row.entry, Event.ACKNOWLEDGE, message_id, device_id)
            if entry is not None and entry.detail != row.state:
                raise Unverified(f"access-log entry {row.entry} is for another state than {row.state}")
            stated = read_receipt(parse_sign1(bytes(row.encoded), RECEIPT))
            if (stated.message_id, stated.device_id, stated.state) != (message_id, device_id, row.state):
                raise Unverified("its columns are not those of its bytes")
        except LiaisonError as problem:
            yield Fault(f"receipt of {device_id.hex()} for {message_id.hex()}", str(problem))


def _check_words(connection: Connection, table: Table, event: Event) -> Iterator[Fault]:
    """Holds and recalls: each is logged, and once."""
    for row in rows_of(connection, table, PAGE):
        try:
            _verify_logged(connection, row.entry, event, bytes(row.message_id), None)
        except LiaisonError as problem:
            yield Fault(f"{event} of {bytes(row.message_id).hex()}", str(problem))
    twice = select(table.c.message_id).group_by(table.c.message_id, table.c.entry).having(func.count() > 1)
    for message_id in connection.scalars(twice.limit(100)):
        yield Fault(f"{event} of {bytes(message_id).hex()}", "is stored twice, and was logged once")


def _check_standing(connection: Connection) -> Iterator[Fault]:
    """That an office holds a message, or that a word waits for a second, is what its words about it add up to."""
    counted, holds, waits = hold.c.completes, hold.c.standing == Standing.HOLDS, hold.c.standing == Standing.WAITS
    told = select(
        hold.c.message_id,
        hold.c.office,
        func.max(hold.c.id).label("last"),
        func.max(hold.c.id).filter(counted).label("last_counted"),
        func.count().filter(counted).label("counted"),
        func.max(hold.c.id).filter(holds).label("holds"),
        func.max(hold.c.id).filter(waits).label("waits"),
        func.count().filter(hold.c.standing != Standing.PAST).label("standing"),
    )
    for row in connection.execute(told.group_by(hold.c.message_id, hold.c.office)):
        holds_by = row.last_counted if row.counted % 2 else None
        waiting = row.last if row.last != row.last_counted else None
        standing = (holds_by is not None) + (waiting is not None)
        if (row.holds, row.waits, row.standing) != (holds_by, waiting, standing):
            message_id = bytes(row.message_id).hex()
            yield Fault(f"hold of {message_id}", f"stands otherwise than the words of {row.office} add up to")


def _verify_columns(row: Row[Any], found: Message) -> None:
    core = found.core
    if found.ref != bytes(row.ref):
        raise Unverified("its bytes do not hash to its ref")
    told = (bytes(row.message_id), bytes(row.sender_device), row.seq, row.precedence, row.expires)
    if told != (core.message_id, core.sender_device, core.seq, int(core.handling.precedence), core.expires):
        raise Unverified("its columns are not those of its bytes")


def _verify_accepted(connection: Connection, row: Row[Any], found: Message) -> None:
    for each in decode_list(bytes(row.endorsements), "endorsements"):
        parse_sign1(expect(each, bytes, "endorsement"), ENDORSEMENT)
    entry = _verify_logged(connection, row.entry, Event.ACCEPT, found.core.message_id, None)
    if entry is None:
        return
    if entry.message_ref != found.ref:
        raise Unverified(f"the accept entry {row.entry} is for other bytes")
    if hashlib.sha256(row.grants or b"").hexdigest() != read_accept_detail(entry.detail)[0]:
        raise Unverified(f"its grants are not those of the accept entry {row.entry}")


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


def _is_destroyed(connection: Connection, message_id: bytes, *, spilt: bool) -> bool:
    """Whether a recall, or a spill, has destroyed what it takes, as the entries of its rows say: at once, or, where a
    hold kept that, when the last hold was lifted.
    """
    try:
        lifts = [index for index, entry in _entries_of(connection, hold, message_id) if ends_keeping(entry)]
        recalls = [
            (index, read_recall_detail(entry.detail)) for index, entry in _entries_of(connection, recall, message_id)
        ]
    except LiaisonError:
        return False  # _check_words names the entry
    done = [told for index, told in recalls if not told.held or any(lift > index for lift in lifts)]
    return any(told.spill or not spilt for told in done)


def _entries_of(connection: Connection, table: Table, message_id: bytes) -> Iterator[tuple[int, AccessEntry]]:
    for index in connection.scalars(select(table.c.entry).where(table.c.message_id == message_id)).all():
        entry = _verify_logged(connection, index, Event(table.name), message_id, None)
        if entry is not None:
            yield index, entry


def _check_slots(connection: Connection, place: str, day: int, found: Message, granted: set[bytes]) -> Iterator[Fault]:
    of_message = (slot.c.message_id == found.core.message_id) & (slot.c.day == day)  # as it is looked for
    rows, empty = connection.execute(select(slot).where(of_message).order_by(slot.c.position)).all(), []
    recalled = connection.scalar(select(recall.c.entry).where(recall.c.message_id == found.core.message_id).limit(1))
    for row in rows:
        where = f"{place}, slot {row.position}"
        try:
            if (row.kept if recalled is None else row.encoded) is not None:
                yield Fault(where, "is kept, and no recall says so" if recalled is None else "opens, and was recalled")
            if (stored := row.kept if row.encoded is None else row.encoded) is not None:
                _verify_sealed(row, bytes(stored), found)
            else:
                empty.append(where)
            if row.released is not None:
                _verify_logged(connection, row.released, Event.OPEN, found.core.message_id, bytes(row.device_id))
        except LiaisonError as problem:
            yield Fault(where, str(problem))
    if empty and not _is_destroyed(connection, found.core.message_id, spilt=False):
        yield from (Fault(where, "is empty, and no recall says so") for where in empty)
    positions = [row.position for row in rows]
    if positions != list(range(found.slot_count)):
        yield Fault(place, f"has slots {positions}, and {found.slot_count} were signed")
    if {bytes(row.device_id) for row in rows} != granted:
        yield Fault(place, "has slots of other devices than were granted anything")


def _verify_sealed(row: Row[Any], leaf: bytes, found: Message) -> None:
    proof, handling = bytes(row.proof), found.core.handling
    hashes = [proof[start : start + 32] for start in range(0, len(proof), 32)]
    verify_inclusion(leaf_hash(leaf), row.position, found.slot_count, hashes, found.slot_root)
    if parse_slot(leaf, found.core).device_id != bytes(row.device_id):
        raise Unverified("is another device's than its column says")
    if row.precedence not in {handling.precedence, handling.info_precedence}:
        raise Unverified("waits under a precedence that was not signed")


def _check_parts(connection: Connection, place: str, day: int, found: Message, blobs: Blobs) -> Iterator[Fault]:
    of_message = (part.c.message_id == found.core.message_id) & (part.c.day == day)  # as it is looked for
    rows = {row.idx: row for row in connection.execute(select(part.c.idx, part.c.upload_id).where(of_message))}
    if not rows and _is_destroyed(connection, found.core.message_id, spilt=True):
        return
    if sorted(rows) != list(range(len(found.core.portions))):
        yield Fault(place, f"has parts {sorted(rows)}, and {len(found.core.portions)} were signed")
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


def rows_of(connection: Connection, table: Table, count: int) -> Iterator[Row[Any]]:
    """Every row in the order of its primary key, `count` at a time."""
    keys = list(table.primary_key.columns)
    wanted = page = select(table).order_by(*keys).limit(count)
    while rows := connection.execute(page).all():
        yield from rows
        page = wanted.where(tuple_(*keys) > tuple_(*(getattr(rows[-1], key.name) for key in keys)))
