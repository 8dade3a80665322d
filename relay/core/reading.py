"""Looking without changing: the inbox, sealed parts, receipts, the directory, tiles. One read transaction each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from sqlalchemy import Connection, select, text

from relay.protocol.access import Judge
from relay.protocol.decision import Action
from relay.protocol.directory import Device
from relay.protocol.envelope import Message, parse_message, parse_slot
from relay.protocol.header import Precedence
from relay.protocol.merkle import consistency_proof, inclusion_proof, root_of
from relay.protocol.tiles import TILE_WIDTH, Tile, entry_bundle
from relay.store import log as log_rows
from relay.store.log import Log
from relay.store.schema import message, message_place, part, recall, receipt, slot

from .limits import INBOX_PAGE, URGENT_AHEAD
from .open import denying, not_available


@dataclass(frozen=True, slots=True)
class InboxPage:
    """Messages after a cursor that this device could open now, and the cursor to go on from."""

    cursor: int
    items: list[tuple[int, bytes]]  # (cursor, message)

    def fields(self) -> list[object]:
        return [self.cursor, [list(item) for item in self.items]]


def inbox(connection: Connection, judge: Judge, device: Device, after: int, now: int) -> InboxPage:
    """What waits for this device, in order, the urgent first. What it could not open now is not listed: there is none.

    Where there is more than a page, the urgent ones of what follows come along; they come again in their turn.
    """
    wanted = _WAITING.where(slot.c.device_id == device.device_id, message.c.expires > now)
    cursor, items = after, list[tuple[int, Message]]()
    while not items:  # a page of nothing but messages that are not listed is not the end of the inbox
        rows = connection.execute(wanted.where(slot.c.id > cursor).order_by(slot.c.id).limit(INBOX_PAGE)).all()
        if not rows:
            break
        cursor = rows[-1].id
        if len(rows) == INBOX_PAGE:
            ahead = wanted.where(slot.c.id > cursor, _URGENT).order_by(slot.c.id).limit(URGENT_AHEAD)
            rows = [*rows, *connection.execute(ahead)]
        found = ((row.id, parse_message(bytes(row.message)), bytes(row.slot)) for row in rows)
        items = [(number, each) for number, each, sealed in found if _may_list(judge, device, each, sealed, now)]
    items.sort(key=lambda item: (-item[1].core.handling.precedence, item[0]))
    return InboxPage(cursor, [(number, each.encoded) for number, each in items])


_WAITING = (
    select(slot.c.id, slot.c.encoded.label("slot"), message.c.encoded.label("message"))
    .join(message, (message.c.message_id == slot.c.message_id) & (message.c.day == slot.c.day))
    .where(slot.c.encoded.is_not(None))
)
_URGENT = slot.c.precedence >= text(str(int(Precedence.IMMEDIATE)))  # as the index has it


def _may_list(judge: Judge, device: Device, found: Message, slot_bytes: bytes, now: int) -> bool:
    granted = parse_slot(slot_bytes, found.core).granted
    return not denying(judge, device, found, granted, Action.LIST, now)


def sealed_part(
    connection: Connection, device: Device, message_id: bytes, index: int
) -> tuple[bytes | None, bytes | None]:
    """The ciphertext of a part, or the upload that has it, for a device whose slot has left."""
    day = connection.scalar(select(message_place.c.day).where(message_place.c.message_id == message_id))
    spilled = select(recall.c.entry).where(recall.c.message_id == message_id, recall.c.spill).limit(1)
    # The parts of a spilled message are there as long as it is held.
    if not _has_opened(connection, device, message_id, day) or connection.scalar(spilled) is not None:
        raise not_available()
    of_message = (part.c.message_id == message_id, part.c.idx == index, part.c.day == day)
    wanted = select(part.c.sealed, part.c.upload_id).where(*of_message)
    row = connection.execute(wanted).one_or_none()
    if row is None:
        raise not_available()
    return row.sealed and bytes(row.sealed), row.upload_id and bytes(row.upload_id)


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
    size, node = log_rows.sizes(connection)[Log.ACCESS], cache(_node_reader(connection, Log.ACCESS))
    proven = []
    for index in sorted(indexes):
        entry = log_rows.entry(connection, Log.ACCESS, index)
        if entry is not None:  # else its retention is over
            proven.append([bytes(entry), index, inclusion_proof(index, size, node)])
    note = log_rows.checkpoint_at(connection, Log.ACCESS, size) or b""
    return [bytes(note), bytes(found.grants) if reader is None else None, proven]


def _reader(connection: Connection, device: Device, message_id: bytes) -> bytes | None:
    """The device, if it is a reader that has opened the message; None if it sent it. To all others there is none."""
    place = select(message_place.c.sender_device, message_place.c.day).where(message_place.c.message_id == message_id)
    row = connection.execute(place).one_or_none()
    if row is not None and bytes(row.sender_device) == device.device_id:
        return None
    if row is None or not _has_opened(connection, device, message_id, row.day):
        raise not_available()
    return device.device_id


def tile(connection: Connection, log: Log, wanted: Tile) -> bytes:
    """A hash tile of a log; partial only as wide as asked. Raises Unknown if the log does not reach that far."""
    level = int(wanted.level)
    _check_extent(connection, log, wanted)
    found = log_rows.hashes(connection, log, level, wanted.index * TILE_WIDTH, wanted.width)
    if len(found) != wanted.width:
        raise not_available()
    return b"".join(bytes(digest) for digest in found)


def _check_extent(connection: Connection, log: Log, wanted: Tile) -> None:
    # A path can name an index that no database column holds.
    if wanted.index * TILE_WIDTH >= log_rows.sizes(connection)[log]:
        raise not_available()


def consistency(connection: Connection, log: Log, old: int, new: int) -> list[bytes]:
    """Proof between two sizes, from stored hashes: anyone may ask, so it is none of the writer's time."""
    if not 0 < old <= new <= log_rows.sizes(connection)[log]:
        raise not_available()
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
        raise not_available()
    return entry_bundle(found)


def directory_entries(connection: Connection, first: int, count: int) -> list[bytes]:
    rows = log_rows.entries(connection, Log.DIRECTORY, first, count)
    return [bytes(row[1]) for row in rows if row[1] is not None]
