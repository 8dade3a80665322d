"""What the access log says happened, looked for in the tables: a part of `relay check`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from relay.logwalk import Fault
from relay.protocol.actor import verify_actor
from relay.protocol.directory import Directory
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.envelope import decode_list
from relay.protocol.errors import LiaisonError, Unverified
from relay.protocol.hold import read_hold_body
from relay.protocol.warrant import counts
from relay.store.schema import hold, message, recall, receipt, slot


class Spoken:
    """What entries say happened is there: the message, the release, the receipt, the hold, the recall; or a later entry
    says that it is gone. And whoever is said to have done it is the holder of the device.
    """

    def __init__(self, connection: Connection, directory: Directory) -> None:
        self._connection = connection
        self._directory = directory  # whole: its log is walked before
        self._missing: dict[bytes, list[Fault]] = {}

    def left(self) -> Iterator[Fault]:
        """Faults of messages that are not there, and that no `expire` entry has accounted for."""
        for faults in self._missing.values():
            yield from faults

    def faults(self, entries: Sequence[tuple[int, AccessEntry]]) -> Iterator[Fault]:
        stored = _stored(self._connection, {entry.message_id for _, entry in entries if entry.message_id is not None})
        for index, entry in entries:
            try:
                verify_actor(entry, self._directory)
            except Unverified as problem:
                yield Fault(f"access log, entry {index}", str(problem))
            held = entry.message_id or b""
            fault = _fault(index, entry, stored)
            if entry.event is Event.EXPIRE:
                self._missing.pop(held, None)
            elif fault is not None and held not in stored.accepted:
                self._missing.setdefault(held, []).append(fault)
            elif fault is not None:
                yield fault


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the tables have of some messages."""

    accepted: dict[bytes, int]
    released: dict[tuple[bytes, bytes], int]
    receipts: dict[tuple[bytes, bytes, str], int]
    holds: dict[int, tuple[bytes, bool]]  # by their entry: what was posted, and whether it counts
    recalls: dict[int, bytes]


def _stored(connection: Connection, ids: set[bytes]) -> _Stored:
    accepted = connection.execute(select(message.c.message_id, message.c.entry).where(message.c.message_id.in_(ids)))
    columns = select(slot.c.message_id, slot.c.device_id, slot.c.released)
    released = connection.execute(columns.where(slot.c.message_id.in_(ids), slot.c.released.is_not(None)))
    columns = select(receipt.c.message_id, receipt.c.device_id, receipt.c.state, receipt.c.entry)
    receipts = connection.execute(columns.where(receipt.c.message_id.in_(ids)))
    columns = select(hold.c.entry, hold.c.encoded, hold.c.completes)
    holds = connection.execute(columns.where(hold.c.message_id.in_(ids)))
    recalls = connection.execute(select(recall.c.entry, recall.c.encoded).where(recall.c.message_id.in_(ids)))
    return _Stored(
        {bytes(row.message_id): row.entry for row in accepted},
        {(bytes(row.message_id), bytes(row.device_id)): row.released for row in released},
        {(bytes(row.message_id), bytes(row.device_id), row.state): row.entry for row in receipts},
        {row.entry: (bytes(row.encoded), row.completes) for row in holds},
        {row.entry: bytes(row.encoded) for row in recalls},
    )


def _fault(index: int, entry: AccessEntry, stored: _Stored) -> Fault | None:
    place, held = f"access log, entry {index}", entry.message_id or b""
    if entry.event is Event.ACCEPT and stored.accepted.get(held) != index:
        return Fault(place, f"the message {held.hex()} that it accepts is not stored under it")
    if entry.event is Event.OPEN:
        first = stored.released.get((held, entry.device_id))
        if first is None or first > index:
            return Fault(place, f"the slot of {entry.device_id.hex()} in {held.hex()} is not marked as released by it")
    if entry.event is Event.ACKNOWLEDGE and stored.receipts.get((held, entry.device_id, entry.detail)) != index:
        return Fault(place, f"the receipt that it logs for {held.hex()} is not stored under it")
    if entry.event is Event.HOLD and not _is_held(entry, stored.holds.get(index)):
        return Fault(
            place, f"the word about a hold of {held.hex()} that it logs is not stored under it as it was given"
        )
    if entry.event is Event.RECALL and not _is_recalled(entry, stored.recalls.get(index)):
        return Fault(place, f"the recall of {held.hex()} is not stored under it as it was given")
    return None


def _is_held(entry: AccessEntry, row: tuple[bytes, bool] | None) -> bool:
    try:
        return row is not None and (read_hold_body(row[0])[0], row[1]) == (entry.warrant[0], counts(entry))
    except LiaisonError:
        return False


def _is_recalled(entry: AccessEntry, body: bytes | None) -> bool:
    try:
        return body is not None and decode_list(body, "recalls") == list(entry.warrant)
    except LiaisonError:
        return False
