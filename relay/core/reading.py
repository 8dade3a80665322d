"""Looking without changing: the inbox, sealed parts, receipts, the directory, tiles. One read transaction each."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from sqlalchemy import Connection, Integer, bindparam, exists, select, text

from relay.protocol.access import Judge
from relay.protocol.decision import Action
from relay.protocol.directory import Device
from relay.protocol.envelope import Message, parse_message, parse_slot
from relay.protocol.errors import Unknown
from relay.protocol.header import Precedence
from relay.protocol.merkle import consistency_proof, inclusion_proof, root_of
from relay.protocol.tiles import TILE_WIDTH, Tile, entry_bundle
from relay.store import log as log_rows
from relay.store.log import Log
from relay.store.prepared import Prepared
from relay.store.schema import message, message_place, part, recall, receipt, slot

from .limits import INBOX_PAGE, URGENT_AHEAD
from .open import denials, not_available


class Listed(NamedTuple):
    """A message that waits for a device, and how urgent it is for its reader."""

    cursor: int
    message: bytes
    precedence: Precedence


@dataclass(frozen=True, slots=True)
class InboxPage:
    """Messages after a cursor that this device could open now, and the cursor to go on from."""

    cursor: int
    items: list[Listed]

    def fields(self) -> list[object]:
        return [self.cursor, [[item.cursor, item.message] for item in self.items]]


def inbox(connection: Connection, judge: Judge, device: Device, after: int, now: int) -> InboxPage:
    """What waits for this device, in order, the urgent first. What it could not open now is not listed: there is none.

    Where there is more than a page, the urgent ones of what follows come along; they come again in their turn. A page
    of nothing but messages that are not listed is empty, and not the end while its cursor moves.
    """
    asked = {"device_id": device.device_id, "now": now}
    rows = _WAITING.rows(connection, cursor=after, most=INBOX_PAGE, **asked)
    cursor = rows[-1][0] if rows else after
    if len(rows) == INBOX_PAGE:
        rows += _URGENT_WAITING.rows(connection, cursor=cursor, most=URGENT_AHEAD, **asked)
    items = [
        Listed(number, encoded, Precedence(precedence))
        for number, precedence, sealed, encoded in rows
        if _may_list(judge, device, parse_message(encoded), sealed, now)
    ]
    items.sort(key=lambda item: (-item.precedence, item.cursor))
    return InboxPage(cursor, items)


_MAIL = (
    select(slot.c.id, slot.c.precedence, slot.c.encoded, message.c.encoded)
    .join(message, (message.c.message_id == slot.c.message_id) & (message.c.day == slot.c.day))
    .where(
        slot.c.device_id == bindparam("device_id"),
        slot.c.id > bindparam("cursor"),
        slot.c.encoded.is_not(None),
        message.c.expires > bindparam("now"),
    )
    .order_by(slot.c.id)
    .limit(bindparam("most", type_=Integer))
)
_IS_URGENT = slot.c.precedence >= text(str(int(Precedence.IMMEDIATE)))  # as the index has it
_WAITING, _URGENT_WAITING = Prepared(_MAIL), Prepared(_MAIL.where(_IS_URGENT))


def _may_list(judge: Judge, device: Device, found: Message, slot_bytes: bytes, now: int) -> bool:
    granted = parse_slot(slot_bytes, found.core).granted
    return next(denials(judge, device, found, granted, Action.LIST, now), None) is None


def sealed_part(
    connection: Connection, device: Device, message_id: bytes, index: int
) -> tuple[bytes | None, bytes | None]:
    """The ciphertext of a part, or the upload that has it, for a device whose slot has left."""
    found = _SEALED_PART.rows(connection, message_id=message_id, device_id=device.device_id, idx=index)
    if not found:
        raise not_available()
    ((sealed, upload_id),) = found
    return sealed, upload_id


# One statement: whoever reads a message asks for its parts next.
_SEALED_PART = Prepared(
    select(part.c.sealed, part.c.upload_id)
    .join(message_place, (message_place.c.message_id == part.c.message_id) & (message_place.c.day == part.c.day))
    .join(slot, (slot.c.message_id == part.c.message_id) & (slot.c.day == part.c.day))
    .where(
        part.c.message_id == bindparam("message_id"),
        part.c.idx == bindparam("idx"),
        slot.c.device_id == bindparam("device_id"),
        slot.c.released.is_not(None),
        # The parts of a spilled message are there as long as it is held.
        ~exists().where(recall.c.message_id == part.c.message_id, recall.c.spill),
    )
)


def _has_opened(connection: Connection, device: Device, message_id: bytes, day: int | None) -> bool:
    own = (slot.c.message_id == message_id, slot.c.device_id == device.device_id, slot.c.day == day)
    return connection.scalar(select(slot.c.released).where(*own)) is not None


def receipts(connection: Connection, device: Device, message_id: bytes) -> list[list[object]]:
    """[device_id, state, signed receipt, index of its entry]: for the sending device of all readers, else one's own."""
    return receipts_of(connection, message_id, _reader(connection, device, message_id))


def receipts_of(connection: Connection, message_id: bytes, reader: bytes | None = None) -> list[list[object]]:
    wanted = select(receipt).where(receipt.c.message_id == message_id).order_by(receipt.c.entry)
    if reader is not None:
        wanted = wanted.where(receipt.c.device_id == reader)
    return [[bytes(row.device_id), row.state, bytes(row.encoded), row.entry] for row in connection.execute(wanted)]


def evidence(connection: Connection, device: Device, message_id: bytes) -> list[object]:
    """What happened to a message, as `evidence_of` says: all of it for the sending device, else one's own reading."""
    return evidence_of(connection, message_id, _reader(connection, device, message_id))


def evidence_of(connection: Connection, message_id: bytes, reader: bytes | None = None) -> list[object]:
    """[checkpoint, grants, [[entry, index, proof]...]]: acceptance, each device's first opening, receipts, recalls.

    Of one `reader` only its own, no grants and no recall: its entry has a digest of who has opened, by which entries,
    and that can be guessed. All are under one checkpoint. Raises Unknown where there is no such message.
    """
    found = connection.execute(
        select(message.c.entry, message.c.grants).where(message.c.message_id == message_id)
    ).one_or_none()
    if found is None:
        raise not_available()
    indexes = {found.entry}
    for column, owner in ((slot.c.released, slot), (receipt.c.entry, receipt), (recall.c.entry, recall)):
        wanted = select(column).where(owner.c.message_id == message_id, column.is_not(None))
        if reader is None:
            indexes |= set(connection.scalars(wanted))
        elif owner is not recall:
            indexes |= set(connection.scalars(wanted.where(owner.c.device_id == reader)))
    note, entries = proven(connection, indexes)
    return [note, bytes(found.grants) if reader is None else None, entries]


def proven(connection: Connection, indexes: Iterable[int]) -> tuple[bytes, list[list[object]]]:
    """The newest checkpoint of the access log, and under it [entry, index, proof] of each that is not erased."""
    size, node = log_rows.sizes(connection)[Log.ACCESS], cache(_node_reader(connection, Log.ACCESS))
    found = list[list[object]]()
    for index in sorted(indexes):
        entry = log_rows.entry(connection, Log.ACCESS, index)
        if entry is not None:  # else its retention is over
            found.append([bytes(entry), index, inclusion_proof(index, size, node)])
    return bytes(log_rows.checkpoint_at(connection, Log.ACCESS, size) or b""), found


def _reader(connection: Connection, device: Device, message_id: bytes) -> bytes | None:
    """The device, if it is a reader that has opened the message; None if it sent it. To all others there is none."""
    place = select(message_place.c.sender_device, message_place.c.day).where(message_place.c.message_id == message_id)
    row = connection.execute(place).one_or_none()
    if row is not None and bytes(row.sender_device) == device.device_id:
        return None
    if row is None or not _has_opened(connection, device, message_id, row.day):
        raise not_available()
    return device.device_id


def _beyond() -> Unknown:
    return Unknown("the log does not reach that far")


def tile(connection: Connection, log: Log, wanted: Tile) -> bytes:
    """A hash tile of a log; partial only as wide as asked. Raises Unknown if the log does not reach that far."""
    level = int(wanted.level)
    _check_extent(connection, log, wanted)
    found = log_rows.hashes(connection, log, level, wanted.index * TILE_WIDTH, wanted.width)
    if len(found) != wanted.width:
        raise _beyond()
    return b"".join(bytes(digest) for digest in found)


def _check_extent(connection: Connection, log: Log, wanted: Tile) -> None:
    # A path can name an index that no database column holds.
    if wanted.index * TILE_WIDTH >= log_rows.sizes(connection)[log]:
        raise _beyond()


def consistency(connection: Connection, log: Log, old: int, new: int) -> list[bytes]:
    """Proof between two sizes, from stored hashes: anyone may ask, so it is none of the writer's time."""
    if not 0 < old <= new <= log_rows.sizes(connection)[log]:
        raise _beyond()
    return consistency_proof(old, new, _node_reader(connection, log))


def _node_reader(connection: Connection, log: Log) -> Callable[[int, int], bytes]:
    def node(level: int, index: int) -> bytes:
        tile_level, height = divmod(level, 8)
        return root_of(log_rows.hashes(connection, log, tile_level, index << height, 1 << height))

    return node


def directory_bundle(connection: Connection, wanted: Tile) -> bytes:
    """An entry bundle of the directory log, for enrolled devices."""
    _check_extent(connection, Log.DIRECTORY, wanted)
    rows = log_rows.entries(connection, Log.DIRECTORY, wanted.index * TILE_WIDTH, wanted.width)
    found = [bytes(row[1]) for row in rows if row[1] is not None]
    if len(found) != wanted.width:
        raise _beyond()
    return entry_bundle(found)


def directory_entries(connection: Connection, first: int, count: int) -> list[bytes]:
    rows = log_rows.entries(connection, Log.DIRECTORY, first, count)
    return [bytes(row[1]) for row in rows if row[1] is not None]
