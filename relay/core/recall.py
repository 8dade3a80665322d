"""Recall: the slots that nobody has opened are destroyed with the log entry that says so, or not at all. Of a message
under legal hold the same entry says that they are kept, and open for nobody.

The steps are those of SPEC.md, "Recall". Whoever may not recall a message is told what everybody is told who may not
open it, and is logged in the same way. A recall may be repeated; each one is an entry, and states who had opened.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import Connection, select

from relay.pipeline.batch import Answer, Batch, Committed
from relay.protocol.canonical import expect
from relay.protocol.claim import Checking
from relay.protocol.cose import check_sign1, parse_sign1
from relay.protocol.dating import CLOCKS_APART
from relay.protocol.directory import Device, Directory
from relay.protocol.entry import AccessEntry, Event, LoggedEntry
from relay.protocol.envelope import Message, decode_list, parse_message
from relay.protocol.errors import Conflict, Malformed, Unauthenticated
from relay.protocol.grants import parse_grants
from relay.protocol.header import Precedence
from relay.protocol.recall import (
    MAX_AGE,
    MAX_SIGNERS,
    RECALL,
    Recall,
    Recalled,
    RecallState,
    may_recall,
    read_recall,
    recall_detail,
)
from relay.store import log as log_rows
from relay.store.holds import held
from relay.store.log import Log
from relay.store.log_schema import log_entry
from relay.store.schema import message, slot
from relay.store.schema import recall as recall_table

from .caller import Caller
from .kept import take_back
from .open import deny
from .quota import Metered, Quota


@dataclass(frozen=True, slots=True)
class SignedRecall:
    """What was asked for, and whose signatures hold."""

    asked: Recall
    signers: tuple[Device, ...]
    words: tuple[bytes, ...]  # as posted
    digest: bytes  # of what they say, however often they were signed


def check_recalls(
    directory: Directory, caller: Caller, message_id: bytes, body: bytes, now: int
) -> Checking[SignedRecall]:
    """Steps 1 and 2: one to eight recalls of this message that say the same, each signed, one of them by the caller."""
    encoded = decode_list(body, "recalls")
    if not 0 < len(encoded) <= MAX_SIGNERS:
        raise Malformed(f"recalls: expected 1 to {MAX_SIGNERS} signatures")
    signers, asked, refs = dict[bytes, Device](), dict[bytes, Recall](), list[bytes]()
    for each in encoded:
        signed = parse_sign1(expect(each, bytes, "recall"), RECALL)
        stated, device = read_recall(signed), directory.device(signed.kid[:16], now)
        if device is None or device.device_id != stated.device_id:
            raise Unauthenticated("a recall by a device that is not enrolled, no longer valid, or revoked")
        if stated.message_id != message_id or not now - MAX_AGE <= stated.at <= now + CLOCKS_APART:
            raise Malformed("recall: of another message, or signed too long ago")
        yield from check_sign1(signed, device.signature_public)
        signers[device.device_id], asked[device.device_id] = device, stated
        refs.append(signed.ref)
    own = asked.get(caller.device.device_id)
    if own is None:
        raise Unauthenticated("a recall is posted by one of those who signed it")
    if len(signers) != len(encoded) or any(each.spill is not own.spill for each in asked.values()):
        raise Malformed("recalls: not one of each signer, or not all for the same")
    said = hashlib.sha256(b"".join(sorted(refs))).digest()
    return SignedRecall(own, tuple(signers.values()), tuple(encoded), said)


def recall(batch: Batch, caller: Caller, signed: SignedRecall, body: bytes, seen: int, quota: Quota) -> Answer:
    """Take the message back, or log that this was denied. The answer is a Recalled."""
    # 3. the certificates, as of this transaction
    if any(batch.directory.device(each.device_id, batch.now) is None for each in signed.signers):
        raise Unauthenticated("a device that signed is no longer valid, or revoked")
    quota.charge(batch, caller.device, Metered.OPEN, Precedence.FLASH)  # as urgent as it is committed
    batch.flush()
    asked = signed.asked
    row = batch.connection.execute(select(message).where(message.c.message_id == asked.message_id)).first()
    found = parse_message(bytes(row.encoded)) if row is not None else None
    # 4. these persons may take this message back
    if row is None or found is None or not may_recall(signed.signers, found.core.sender, spill=asked.spill):
        return deny(batch, caller, asked.message_id, found, ("recall",))
    states = _states(batch.connection, asked.message_id, bytes(row.grants))
    # 5. the same words again have the answer of the first
    index = _earlier(batch.connection, asked.message_id, signed.digest)
    if index is None:
        # 6. one transaction: slots, a spill's parts, and the entry
        is_held = bool(held(batch.connection, [asked.message_id]))
        detail = recall_detail(states, asked.reason, asked.spill, is_held)
        index = batch.log(_entry(batch, caller, found, signed, detail))
        take_back(batch, asked.message_id, spill=asked.spill, is_held=is_held)
        batch.add(recall_table, {
            "message_id": asked.message_id, "digest": signed.digest, "spill": asked.spill, "encoded": body,
            "entry": index,
        })  # fmt: skip
    return _answer(batch, _Indexes(index, row.entry), states, seen)


class _Indexes(NamedTuple):
    recall: int
    accept: int


def _states(connection: Connection, message_id: bytes, grants: bytes) -> tuple[RecallState, ...]:
    wanted = select(slot.c.device_id, slot.c.released).where(slot.c.message_id == message_id)
    released = {bytes(row.device_id): row.released for row in connection.execute(wanted)}
    return tuple(RecallState(device_id, granted, released[device_id]) for device_id, granted in parse_grants(grants))


def _earlier(connection: Connection, message_id: bytes, digest: bytes) -> int | None:
    same = (recall_table.c.message_id == message_id, recall_table.c.digest == digest)
    return connection.scalar(select(recall_table.c.entry).where(*same))


def _entry(batch: Batch, caller: Caller, found: Message, signed: SignedRecall, detail: str) -> AccessEntry:
    return AccessEntry(
        event=Event.RECALL,
        time=batch.now_ms,
        salt=os.urandom(16),
        device_id=caller.device.device_id,
        address=caller.device.address,
        office=caller.device.office,
        message_id=found.core.message_id,
        message_ref=found.ref,
        label=found.core.label,
        request=caller.nonce,
        detail=detail,
        warrant=signed.words,
    )


def _answer(batch: Batch, indexes: _Indexes, states: Sequence[RecallState], seen: int) -> Answer:
    """The entry with its proof, and those of acceptance and of every opening under the same checkpoint."""
    connection, opened = batch.connection, [state.opened for state in states if state.opened is not None]
    wanted = select(log_entry.c.idx, log_entry.c.entry).where(log_entry.c.log == Log.ACCESS)
    stored = connection.execute(wanted.where(log_entry.c.idx.in_({*indexes, *opened}))).all()
    rows = {row.idx: row.entry for row in stored}
    if None in rows.values():
        raise Conflict("an entry of this message is no longer held: its retention is over")
    note = None
    if indexes.recall < batch.sizes[Log.ACCESS]:
        note = log_rows.first_checkpoint_after(connection, Log.ACCESS, indexes.recall)

    def answer(committed: Committed) -> bytes:
        under = note if note is not None else committed.notes[Log.ACCESS]

        def prove(index: int, seen: int = 0) -> LoggedEntry:
            entry = rows[index] if index in rows else committed.entries[Log.ACCESS, index]
            return committed.prove_stored(bytes(entry), index, under, seen)

        return Recalled(
            recall=prove(indexes.recall, seen),
            accept=prove(indexes.accept),
            grants=tuple((state.device_id, state.granted) for state in states),
            openings=tuple(prove(state.opened) if state.opened is not None else None for state in states),
        ).encoded()

    return answer
