"""Legal hold: a security officer's word, and a second one that makes it count; or, where the office has named
approvers for it, one word with their approvals, which counts at once.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, select

from relay.pipeline.batch import Answer, Batch
from relay.protocol.approval import MAX_AGE, Matter, Question, verify_approvals
from relay.protocol.canonical import encode
from relay.protocol.claim import Checking
from relay.protocol.cose import check_sign1, parse_sign1
from relay.protocol.dating import CLOCKS_APART
from relay.protocol.directory import Device
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.envelope import Message, parse_message
from relay.protocol.errors import Conflict, Malformed, Refused, Unauthenticated
from relay.protocol.hold import HOLD, WORDS_NEEDED, Action, Hold, is_holder, may_hold, read_hold, read_hold_body
from relay.store.holds import Standing, holders, is_known, pass_over, standing_entries, standing_words
from relay.store.schema import hold, message

from .caller import Caller, current
from .kept import destroy_kept
from .open import not_available
from .quota import Metered, Quota
from .reading import proven

PAGE = 100


@dataclass(frozen=True, slots=True)
class SignedHold:
    """A word whose signature holds, and the approvals that came with it, which nobody has looked at yet."""

    stated: Hold
    ref: bytes
    approvals: tuple[bytes, ...]
    word: bytes
    encoded: bytes  # as posted: the word, and the approvals with it


def check_hold(caller: Caller, message_id: bytes, body: bytes, now: int) -> Checking[SignedHold]:
    """A statement by the caller, about this message, whose signature holds. Runs on any thread."""
    encoded, approvals = read_hold_body(body)
    signed = parse_sign1(encoded, HOLD)
    stated = read_hold(signed)
    if (stated.device_id, stated.address) != (caller.device.device_id, caller.device.address):
        raise Unauthenticated("the hold is not signed by the device that posts it")
    if stated.message_id != message_id:
        raise Malformed("the hold is for another message")
    # Approvals take their time; without them the word is of now.
    if not now - (MAX_AGE if approvals else CLOCKS_APART) <= stated.at <= now + CLOCKS_APART:
        raise Malformed("hold: signed at another time than now", hint="check the clock")
    yield from check_sign1(signed, caller.device.signature_public)
    return SignedHold(stated, signed.ref, approvals, encoded, body)


class _State(NamedTuple):
    """One office's hold on one message, and whose word waits for a second."""

    is_held: bool
    waiting: dict[str, Row[Any]]  # address → the word


def state_hold(batch: Batch, caller: Caller, signed: SignedHold, seen: int, quota: Quota) -> Answer:
    """Take the word and log it; once there are as many as it takes it counts, from this transaction on."""
    stated, device = signed.stated, current(batch.directory, caller.device.device_id, batch.now)
    if not is_holder(device):  # before it is charged, and anything read
        raise not_available()
    quota.charge(batch, device, Metered.HOLD, None)
    batch.flush()
    stored = batch.connection.scalar(select(message.c.encoded).where(message.c.message_id == stated.message_id))
    found = parse_message(bytes(stored)) if stored is not None else None
    # To whoever may not hold it there is no such message.
    if found is None or not may_hold(device, found.core):
        raise not_available()
    rows = standing_words(batch.connection, stated.message_id, device.office)
    state = _state(batch, rows)
    if state.is_held is (stated.action is Action.PLACE):
        raise Conflict(f"{device.office} holds this message already" if state.is_held else "there is no hold to lift")
    warrant, needed = _warrant(batch, device, signed, state)
    words = min(len(warrant), needed)
    # Else one officer could say again what others have seconded or approved once, and undone since.
    if is_known(batch.connection, signed.ref):
        raise Conflict("this very word was stated before", hint="sign a new one")
    counts = words >= needed
    ends = stated.action is Action.LIFT and counts and holders(batch.connection, stated.message_id) == {device.office}
    destroyed = " destroyed" if ends and destroy_kept(batch, stated.message_id) else ""
    index = batch.log(_entry(batch, caller, stated, found, warrant, f"{words} of {needed}{destroyed}"))
    # What waits beside a word that waits has lapsed.
    pass_over(batch.connection, [row for row in rows if counts or row.standing == Standing.WAITS])
    batch.add(hold, _row(device, signed, index, counts=counts))
    return lambda committed: committed.prove(index, seen).encoded()


def holds_of(connection: Connection, caller: Caller, after: int) -> bytes:
    """[checkpoint, [[entry, index, proof]...]]: words of the caller's office that stand, from entry `after` on."""
    if not is_holder(caller.device):
        raise Refused("an office's holds are for its security officers", rules=("security",))
    note, found = proven(connection, standing_entries(connection, caller.device.office, after, PAGE))
    return encode([note, found])


def _row(device: Device, signed: SignedHold, index: int, *, counts: bool) -> dict[str, Any]:
    counted = Standing.HOLDS if signed.stated.action is Action.PLACE else Standing.PAST
    return {
        "message_id": signed.stated.message_id, "office": device.office, "device_id": device.device_id,
        "address": device.address, "completes": counts, "encoded": signed.encoded, "entry": index,
        "standing": int(counted if counts else Standing.WAITS), "ref": signed.ref,
    }  # fmt: skip


def _warrant(batch: Batch, device: Device, signed: SignedHold, state: _State) -> tuple[tuple[bytes, ...], int]:
    """The words of all who have said so, and how many it takes. Raises Refused where approvals are missing."""
    approvers = batch.directory.approvers_of(device.office)
    needed = approvers.threshold(Matter.HOLD) if approvers is not None else 0
    if approvers is not None and needed:
        question = Question(Matter.HOLD, signed.ref, device.address)
        verify_approvals(
            approvers, question, signed.approvals, lambda each: batch.directory.device(each, batch.now), batch.now
        )
        return (signed.word, *signed.approvals), needed + 1
    if signed.approvals:
        raise Malformed(f"hold: {device.office} has named nobody to approve it", hint="state it without approvals")
    if device.address in state.waiting:
        raise Conflict("your word is there already", hint="it takes another security officer of your office")
    return (signed.word, *(bytes(row.encoded) for row in state.waiting.values())), WORDS_NEEDED


def _state(batch: Batch, rows: Sequence[Row[Any]]) -> _State:
    valid, waiting = batch.directory.device, [row for row in rows if row.standing == Standing.WAITS]
    still = {row.address: row for row in waiting if valid(bytes(row.device_id), batch.now) is not None}
    return _State(len(waiting) < len(rows), still)


def _entry(
    batch: Batch, caller: Caller, stated: Hold, found: Message, warrant: tuple[bytes, ...], words: str
) -> AccessEntry:
    device, core = caller.device, found.core
    return AccessEntry(
        event=Event.HOLD,
        time=batch.now_ms,
        salt=os.urandom(16),
        device_id=device.device_id,
        address=device.address,
        office=device.office,
        concerns=core.office if core.office != device.office else "",
        message_id=stated.message_id,
        message_ref=found.ref,
        label=core.label,
        request=caller.nonce,
        detail=f"{stated.action} {words}: {stated.reason}",
        warrant=warrant,
    )
