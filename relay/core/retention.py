"""Destroying what is due: messages with their slots, parts and receipts; contents of log entries, never their hashes.

The rules:
  - what is due is found on a reading connection and decided again in the transaction that destroys it: a hold that
    was committed before it is seen by it, and one that comes after finds no message;
  - each transaction is small, and names what it destroyed in a `destroy` entry of its own;
  - an entry of a message that is still there stays, so what holds a message holds its entries;
  - what cannot be read is kept, and stands in the way of nothing else: the operator is told, `relay check` names it;
  - that it went is logged once for each other office that has entries about it, under both: so one that says where the
    message is stands at least as long as any that says what was done with it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, delete, select, tuple_, update

from relay.observe import tell
from relay.pipeline.batch import Answer, Batch
from relay.protocol.access import Judge, deciding_policy
from relay.protocol.entry import NO_DEVICE, RELAY, AccessEntry, Event, parse_access_entry
from relay.protocol.envelope import Message, parse_message
from relay.protocol.errors import LiaisonError
from relay.protocol.identity import office_of
from relay.protocol.label import PolicyRef, readable_label
from relay.protocol.retention import DEFAULT_RETENTION, EVERYONE, Destruction, entry_end, message_end
from relay.store import log as log_rows
from relay.store.holds import held
from relay.store.log import Log
from relay.store.log_schema import log_entry
from relay.store.schema import hold, message, message_place, slot

from .outlook import NEVER, PAGE, Outlook

T = TypeVar("T")
Rows = Iterable[Any]  # of the two selections below
_MESSAGES, _OCTETS = 64, 4 << 20  # at most so much in one transaction: others wait for it
_SLOT = 4096  # octets that a slot may have in the database


class Swept(NamedTuple):
    """What a sweep destroyed."""

    messages: int
    entries: int


_MESSAGE_ROWS = select(message.c.message_id, message.c.expires, message.c.encoded)
_ENTRY_ROWS = select(log_entry.c.idx, log_entry.c.entry, log_entry.c.office, log_entry.c.concerns).where(
    log_entry.c.log == Log.ACCESS, log_entry.c.entry.is_not(None)
)


class _Periods(NamedTuple):
    """The shortest in seconds after which any policy lets go a message, and an entry; None where all keep those."""

    message: int = DEFAULT_RETENTION
    entry: int | None = None


@dataclass(slots=True)
class Sweep:
    """One walk over everything that may be due, a few rows at a time: messages first, then entries."""

    outlook: Outlook = field(default_factory=Outlook)
    after: tuple[int, bytes] = (0, b"")  # end and id of the last message looked at
    first: int = 0  # of the next page of entries to look at
    periods: dict[tuple[bytes, ...], _Periods] = field(default_factory=dict)  # the shortest, by a policy's digests

    def next_job(self, connection: Connection, judge: Judge, now: int) -> Callable[[Batch, Judge], Answer] | None:
        """A job that destroys the next few that are due; None once there are no more. The job answers Swept."""
        shortest = _shortest_periods(judge, self.periods)
        if message_ids := self._next_messages(connection, judge, now, shortest):
            return partial(_destroy_messages, message_ids)
        if indexes := self._next_entries(connection, judge, now, shortest):
            return partial(_destroy_entries, indexes)
        return None

    def _next_messages(self, connection: Connection, judge: Judge, now: int, shortest: _Periods) -> list[bytes]:
        place = tuple_(message.c.expires, message.c.message_id)
        wanted = _MESSAGE_ROWS.where(message.c.expires <= now - shortest.message)
        wanted = wanted.order_by(message.c.expires, message.c.message_id).limit(_MESSAGES)
        while rows := connection.execute(wanted.where(place > self.after)).all():
            due, octets = list[bytes](), 0
            for found in _due_messages(connection, judge, rows, now):
                due.append(found.core.message_id)
                octets += sum(portion.length for portion in found.core.portions) + found.slot_count * _SLOT
                if octets >= _OCTETS:
                    break
            last = next((row for row in rows if octets >= _OCTETS and bytes(row.message_id) == due[-1]), rows[-1])
            self.after = (last.expires, bytes(last.message_id))
            if due:
                return due
        return []

    def _next_entries(self, connection: Connection, judge: Judge, now: int, shortest: _Periods) -> list[int]:
        if shortest.entry is None:
            return []
        self.outlook.under(list(judge.directory.policies.values()))
        size = log_rows.sizes(connection)[Log.ACCESS]
        while self.first < size:
            page = range(self.first, min(self.first + PAGE, size))
            self.first = page.stop
            if not self.outlook.may_be_due(page, now):
                continue
            again = _oldest_end(connection, page, now) + shortest.entry
            due = list[int]()
            if again <= now:
                rows = connection.execute(_ENTRY_ROWS.where(log_entry.c.idx.between(page.start, page.stop - 1))).all()
                found, again = _due_entries(connection, judge, rows, now, shortest.message)
                due = [index for index, _policies in found]
            self.outlook.note(page, now if due else again)
            if due:
                return due
        return []


def _destroy_messages(message_ids: Sequence[bytes], batch: Batch, judge: Judge) -> Answer:
    batch.flush()
    rows = batch.connection.execute(_MESSAGE_ROWS.where(message.c.message_id.in_(message_ids))).all()
    due, policies = _due_messages(batch.connection, judge, rows, batch.now), set[bytes]()
    for found in due:
        policy = deciding_policy(batch.directory, found.core.office, found.core.label)
        policies |= {policy} if policy is not None else set()
        for other in sorted(_other_offices(batch, found)) or [""]:
            batch.log(_expired(batch, found, other, policy))
    gone = [each.core.message_id for each in due]
    batch.connection.execute(delete(message_place).where(message_place.c.message_id.in_(gone)))
    batch.found.clear()  # what was read before is read again by whoever comes after in this batch
    return _record(batch, Destruction(len(due), (), tuple(sorted(policies))))


def _destroy_entries(indexes: Sequence[int], batch: Batch, judge: Judge) -> Answer:
    rows = batch.connection.execute(_ENTRY_ROWS.where(log_entry.c.idx.in_(indexes))).all()
    due, _again = _due_entries(batch.connection, judge, rows, batch.now)
    erased = [index for index, _policies in due]
    # The index columns repeat what the entry said.
    batch.connection.execute(
        update(log_entry)
        .where(log_entry.c.log == Log.ACCESS, log_entry.c.idx.in_(erased))
        .values(entry=None, office="", concerns="")
    )
    policies = {policy for _index, found in due for policy in found}
    return _record(batch, Destruction(0, tuple(erased), tuple(sorted(policies))))


def _record(batch: Batch, destroyed: Destruction) -> Answer:
    if destroyed.messages or destroyed.entries:
        batch.log(
            AccessEntry(
                event=Event.DESTROY,
                time=batch.now_ms,
                salt=os.urandom(16),
                device_id=NO_DEVICE,
                address=RELAY,
                office=EVERYONE,
                detail=destroyed.detail(),
            )
        )
    return lambda _committed: Swept(destroyed.messages, len(destroyed.entries))


def _other_offices(batch: Batch, found: Message) -> set[str]:
    """Those whose devices opened the message or that had to do with a hold of it."""
    opened = slot.c.message_id == found.core.message_id, slot.c.released.is_not(None)
    devices = batch.connection.scalars(select(slot.c.device_id).where(*opened))
    offices = {batch.directory.devices[bytes(device_id)].office for device_id in devices}
    offices.update(batch.connection.scalars(select(hold.c.office).where(hold.c.message_id == found.core.message_id)))
    return offices - {found.core.office}


def _expired(batch: Batch, found: Message, concerns: str, policy: bytes | None) -> AccessEntry:
    return AccessEntry(
        event=Event.EXPIRE,
        time=batch.now_ms,
        salt=os.urandom(16),
        device_id=NO_DEVICE,
        address=RELAY,
        office=found.core.office,
        concerns=concerns,
        message_id=found.core.message_id,
        message_ref=found.ref,
        label=found.core.label,
        policy=policy,
    )


def _due_messages(connection: Connection, judge: Judge, rows: Rows, now: int) -> list[Message]:
    parsed = [found for row in rows if (found := _readable(parse_message, row.encoded)) is not None]
    kept = held(connection, [each.core.message_id for each in parsed])
    return [each for each in parsed if each.core.message_id not in kept and _is_over(judge, each, now)]


def _readable(parse: Callable[[bytes], T], encoded: bytes) -> T | None:
    try:
        return parse(bytes(encoded))
    except LiaisonError:
        tell(logging.ERROR, "not swept", reason="it cannot be read; relay check names it")
        return None


def _is_over(judge: Judge, found: Message, now: int) -> bool:
    core = found.core
    label = readable_label(core.label)
    policy = judge.policy_of(core.office, label.policy) if label is not None else None
    end = message_end(policy, label, core.expires)
    return end is not None and end <= now


def _oldest_end(connection: Connection, page: range, now: int) -> int:
    """The time of the older of its two ends: none between is older but by what clocks differ. 0 where one is gone."""
    ends = _ENTRY_ROWS.where(log_entry.c.idx.in_((page.start, page.stop - 1)))
    found = [_readable(parse_access_entry, row.entry) for row in connection.execute(ends)]
    times = [entry.time // 1000 for entry in found if entry is not None]
    # One that is dated ahead, by a clock that was, says nothing of its neighbours.
    return min(times) if len(times) == len({page.start, page.stop - 1}) and max(times) <= now else 0


def _due_entries(
    connection: Connection, judge: Judge, rows: Rows, now: int, least: int = 0
) -> tuple[list[tuple[int, list[bytes]]], int]:
    """Index of each entry that is due, and the policies that let it go; and before when no other one is.

    `least` is how long any message is kept after it expired.
    """
    parsed = [(row.idx, entry) for row in rows if (entry := _readable(parse_access_entry, row.entry)) is not None]
    labelled = [(index, entry) for index, entry in parsed if entry.label is not None and entry.message_id is not None]
    kept = _expiries(connection, {entry.message_id for _, entry in labelled})
    due, again = [], NEVER
    for index, entry in labelled:
        readers = [office for office in dict.fromkeys((entry.office, entry.concerns)) if office]
        offices = readers or [office_of(entry.address)]  # the second of a denial inside one office goes with the first
        label = readable_label(entry.label or b"")
        policies = [judge.policy_of(office, label.policy) if label is not None else None for office in offices]
        end, expires = entry_end(policies, label, entry.time // 1000), kept.get(entry.message_id)
        if end is not None and end <= now and expires is None:
            digests = (deciding_policy(judge.directory, office, entry.label or b"") for office in offices)
            due.append((index, [digest for digest in digests if digest is not None]))
        elif end is not None:
            again = min(again, end if expires is None else max(end, expires + least))
    return due, again


def _expiries(connection: Connection, message_ids: Iterable[bytes | None]) -> dict[bytes | None, int]:
    """When those of the messages expire that are still there."""
    same = (message.c.message_id == message_place.c.message_id) & (message.c.day == message_place.c.day)
    wanted = select(message_place.c.message_id, message.c.expires).outerjoin(message, same)
    rows = connection.execute(wanted.where(message_place.c.message_id.in_(message_ids)))
    return {bytes(row.message_id): row.expires or 0 for row in rows}


def _shortest_periods(judge: Judge, known: dict[tuple[bytes, ...], _Periods]) -> _Periods:
    """What a policy says is remembered in `known`: to ask each anew would have all of them compiled at each step."""
    current = list(judge.directory.policies.values())
    for published in current:
        if published.digests not in known:
            ref = PolicyRef(published.name, published.oid, published.version, published.spif_digest)
            policy = judge.policy_of(published.office, ref)
            if policy is None:  # it lets nothing go
                known[published.digests] = _Periods()
                continue
            messages = [DEFAULT_RETENTION, *(seconds for _name, seconds in policy.extensions.retention)]
            entries = (seconds for _name, seconds in policy.extensions.entry_retention)
            known[published.digests] = _Periods(min(messages), min(entries, default=None))
    found = [known[published.digests] for published in current]
    return _Periods(
        min((each.message for each in found), default=DEFAULT_RETENTION),
        min((each.entry for each in found if each.entry is not None), default=None),
    )
