"""Destroying what is due: messages with their slots, parts and receipts; contents of log entries, never their hashes.

The rules:
  - what is due is found on a reading connection and decided again in the transaction that destroys it: a hold that
    was committed before it is seen by it, and one that comes after finds no message;
  - each transaction is small, and names what it destroyed in a `destroy` entry of its own;
  - an entry of a message that is still there stays, so what holds a message holds its entries;
  - that it went is logged once for each other office that has entries about it, under both: so one that says where the
    message is stands at least as long as any that says what was done with it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, select, tuple_, update

from relay.batch import Answer, Batch
from relay.protocol.access import Judge, deciding_policy
from relay.protocol.entry import NO_DEVICE, RELAY, AccessEntry, Event, parse_access_entry
from relay.protocol.envelope import Message, parse_message
from relay.protocol.label import PolicyRef, readable_label
from relay.protocol.retention import EVERYONE, MAX_DESTROYED, Destruction, entry_end, message_end
from relay.store.holds import held
from relay.store.log import Log
from relay.store.schema import hold, log_entry, message, message_place, slot

Rows = Iterable[Any]  # of the two selections below
_MESSAGES, _OCTETS = 64, 4 << 20  # at most so much in one transaction: others wait for it


class Swept(NamedTuple):
    """What a sweep destroyed."""

    messages: int
    entries: int


_MESSAGE_ROWS = select(message.c.message_id, message.c.expires, message.c.encoded)
_ENTRY_ROWS = select(log_entry.c.idx, log_entry.c.entry, log_entry.c.office, log_entry.c.concerns).where(
    log_entry.c.log == Log.ACCESS, log_entry.c.entry.is_not(None)
)


@dataclass(slots=True)
class Sweep:
    """One walk over everything that may be due, a few rows at a time: messages first, then entries."""

    after: tuple[int, bytes] = (0, b"")  # end and id of the last message looked at
    first: int = 0  # the next entry to look at
    periods: dict[tuple[bytes, ...], int | None] = field(default_factory=dict)  # the shortest, by a policy's digests

    def next_job(self, connection: Connection, judge: Judge, now: int) -> Callable[[Batch, Judge], Answer] | None:
        """A job that destroys the next few that are due; None once there are no more. The job answers Swept."""
        if message_ids := self._next_messages(connection, judge, now):
            return partial(_destroy_messages, message_ids)
        if indexes := self._next_entries(connection, judge, now):
            return partial(_destroy_entries, indexes)
        return None

    def _next_messages(self, connection: Connection, judge: Judge, now: int) -> list[bytes]:
        place = tuple_(message.c.expires, message.c.message_id)
        wanted = _MESSAGE_ROWS.where(message.c.expires <= now).order_by(message.c.expires, message.c.message_id)
        while rows := connection.execute(wanted.where(place > self.after).limit(_MESSAGES)).all():
            due, octets = list[bytes](), 0
            for found in _due_messages(connection, judge, rows, now):
                due.append(found.core.message_id)
                octets += sum(portion.length for portion in found.core.portions)
                if octets >= _OCTETS:
                    break
            last = next((row for row in rows if octets >= _OCTETS and bytes(row.message_id) == due[-1]), rows[-1])
            self.after = (last.expires, bytes(last.message_id))
            if due:
                return due
        return []

    def _next_entries(self, connection: Connection, judge: Judge, now: int) -> list[int]:
        shortest = _shortest_period(judge, self.periods)
        if shortest is None:
            return []
        wanted = _ENTRY_ROWS.order_by(log_entry.c.idx).limit(MAX_DESTROYED)
        while rows := connection.execute(wanted.where(log_entry.c.idx >= self.first)).all():
            self.first = rows[-1].idx + 1
            if due := [index for index, _policies in _due_entries(connection, judge, rows, now)]:
                return due
            if parse_access_entry(bytes(rows[-1].entry)).time // 1000 + shortest > now:
                break  # what comes after is younger still
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
    due = _due_entries(batch.connection, judge, rows, batch.now)
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
    parsed = [parse_message(bytes(row.encoded)) for row in rows]
    kept = held(connection, [each.core.message_id for each in parsed])
    return [each for each in parsed if each.core.message_id not in kept and _is_over(judge, each, now)]


def _is_over(judge: Judge, found: Message, now: int) -> bool:
    core = found.core
    label = readable_label(core.label)
    policy = judge.policy_of(core.office, label.policy) if label is not None else None
    end = message_end(policy, label, core.expires)
    return end is not None and end <= now


def _due_entries(connection: Connection, judge: Judge, rows: Rows, now: int) -> list[tuple[int, list[bytes]]]:
    """Index of each entry that is due, and the policies that let it go."""
    parsed = [(row.idx, parse_access_entry(bytes(row.entry))) for row in rows]
    labelled = [(index, entry) for index, entry in parsed if entry.label is not None and entry.message_id is not None]
    ids = {entry.message_id for _, entry in labelled}
    there = select(message_place.c.message_id).where(message_place.c.message_id.in_(ids))
    kept, due = {bytes(each) for each in connection.scalars(there)}, []
    for index, entry in labelled:
        offices = [office for office in dict.fromkeys((entry.office, entry.concerns)) if office]
        label = readable_label(entry.label or b"")
        policies = [judge.policy_of(office, label.policy) if label is not None else None for office in offices]
        end = entry_end(policies, label, entry.time // 1000)
        if end is not None and end <= now and entry.message_id not in kept:
            digests = (deciding_policy(judge.directory, office, entry.label or b"") for office in offices)
            due.append((index, [digest for digest in digests if digest is not None]))
    return due


def _shortest_period(judge: Judge, known: dict[tuple[bytes, ...], int | None]) -> int | None:
    """The shortest period after which any policy lets an entry go; None where all keep them for ever.

    What a policy says is remembered in `known`: to ask each anew would have all of them compiled at each step.
    """
    current = list(judge.directory.policies.values())
    for published in current:
        if published.digests not in known:
            ref = PolicyRef(published.name, published.oid, published.version, published.spif_digest)
            policy = judge.policy_of(published.office, ref)
            periods = policy.extensions.entry_retention if policy is not None else ()
            known[published.digests] = min((seconds for _name, seconds in periods), default=None)
    found = (known[published.digests] for published in current)
    return min((period for period in found if period is not None), default=None)
