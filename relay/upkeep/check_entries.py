"""What the access log says happened, looked for in the tables: a part of `relay check`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from relay.protocol.actor import verify_actor
from relay.protocol.alarm import ALARM, read_alarm
from relay.protocol.cose import parse_sign1
from relay.protocol.directory import Directory
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.envelope import decode_list
from relay.protocol.errors import LiaisonError
from relay.protocol.hold import read_hold_body
from relay.protocol.recall import read_recall_detail
from relay.protocol.warrant import Holders, counts, spent_by
from relay.store.schema import alarm, hold, message, recall, receipt, slot

from .logwalk import Fault


class Spoken:
    """What entries say happened is there: the message, the release, the receipt, the hold, the recall, the alarm; or a
    later entry says that it is gone. And whoever is said to have done it is the holder of the device.
    """

    def __init__(self, connection: Connection, directory: Directory) -> None:
        self._connection = connection
        self._directory = directory  # whole: its log is walked before
        self._missing: dict[bytes, list[Fault]] = {}
        self._holders = Holders()

    def left(self) -> Iterator[Fault]:
        """Faults of messages that are not there, and that no `expire` entry has accounted for."""
        for faults in self._missing.values():
            yield from faults

    def faults(self, entries: Sequence[tuple[int, AccessEntry]]) -> Iterator[Fault]:
        stored = _stored(self._connection, entries)
        for index, entry in entries:
            try:
                verify_actor(entry, self._directory)
                self._holders.take(entry)
            except LiaisonError as problem:
                yield Fault(f"access log, entry {index}", str(problem))
            held = entry.message_id or b""
            fault = _fault(index, entry, stored)
            if entry.event is Event.EXPIRE:
                self._missing.pop(held, None)
            elif fault is not None and entry.message_id is not None and held not in stored.accepted:
                self._missing.setdefault(held, []).append(fault)
            elif fault is not None:
                yield fault


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the tables have of some entries."""

    accepted: dict[bytes, int]
    released: dict[tuple[bytes, bytes], int]
    receipts: dict[tuple[bytes, bytes, str], int]
    words: dict[tuple[Event, int], Row[Any]]  # of holds, recalls and alarms, by their entry


def _stored(connection: Connection, entries: Sequence[tuple[int, AccessEntry]]) -> _Stored:
    ids = {entry.message_id for _, entry in entries if entry.message_id is not None}
    accepted = connection.execute(select(message.c.message_id, message.c.entry).where(message.c.message_id.in_(ids)))
    columns = select(slot.c.message_id, slot.c.device_id, slot.c.released)
    released = connection.execute(columns.where(slot.c.message_id.in_(ids), slot.c.released.is_not(None)))
    columns = select(receipt.c.message_id, receipt.c.device_id, receipt.c.state, receipt.c.entry)
    receipts = connection.execute(columns.where(receipt.c.message_id.in_(ids)))
    indexes = [index for index, _entry in entries]
    raised = [index for index, entry in entries if entry.event is Event.ALARM]
    words = {
        # By the entry too: one message may have many words, and all of them for each page of its entries are too many.
        Event.HOLD: select(hold).where(hold.c.message_id.in_(ids), hold.c.entry.in_(indexes)),
        Event.RECALL: select(recall).where(recall.c.message_id.in_(ids), recall.c.entry.in_(indexes)),
        Event.ALARM: select(alarm).where(alarm.c.entry.in_(raised)),
    }
    return _Stored(
        {bytes(row.message_id): row.entry for row in accepted},
        {(bytes(row.message_id), bytes(row.device_id)): row.released for row in released},
        {(bytes(row.message_id), bytes(row.device_id), row.state): row.entry for row in receipts},
        {(event, row.entry): row for event, wanted in words.items() for row in connection.execute(wanted)},
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
    if entry.event in _WORDS and not _is_as_given(entry, stored.words.get((entry.event, index))):
        what = f"{_WORDS[entry.event]} of {held.hex()}" if held else _WORDS[entry.event]
        return Fault(place, f"{what} that it logs is not stored under it as it was given")
    return None


_WORDS = {Event.HOLD: "the word about a hold", Event.RECALL: "the recall", Event.ALARM: "the alarm"}


def _is_as_given(entry: AccessEntry, row: Row[Any] | None) -> bool:
    """Whether the row has the octets, and in each column that is asked for, what the entry says."""
    if row is None:
        return False
    try:
        if entry.event is Event.HOLD:
            return _is_held(entry, row)
        if entry.event is Event.RECALL:
            return _is_recalled(entry, row)
        return _is_raised(entry, row)
    except LiaisonError:
        return False


def _is_held(entry: AccessEntry, row: Row[Any]) -> bool:
    word, ref = read_hold_body(bytes(row.encoded))[0], spent_by(entry)
    told = (word, row.completes, row.office, bytes(row.device_id), row.address, bytes(row.ref or ref))
    return told == (entry.warrant[0], counts(entry), entry.office, entry.device_id, entry.address, ref)


def _is_recalled(entry: AccessEntry, row: Row[Any]) -> bool:
    told = (decode_list(bytes(row.encoded), "recalls"), row.spill, bytes(row.digest))
    digest = hashlib.sha256(spent_by(entry)).digest()
    return told == (list(entry.warrant), read_recall_detail(entry.detail).spill, digest)


def _is_raised(entry: AccessEntry, row: Row[Any]) -> bool:
    stated = read_alarm(parse_sign1(bytes(row.encoded), ALARM))
    told = (stated.detail, stated.device_id, stated.index, bytes(row.device_id), row.office)
    return told == (entry.detail, entry.device_id, row.directory_index, entry.device_id, entry.office)
