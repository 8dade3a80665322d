"""Legal hold: a security officer's word, and a second one that makes it count."""

from __future__ import annotations

import os
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from relay.batch import Answer, Batch
from relay.protocol.claim import Checking
from relay.protocol.cose import check_sign1, parse_sign1
from relay.protocol.endorsement import CLOCKS_APART
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.envelope import Message, parse_message
from relay.protocol.errors import Conflict, Malformed, Unauthenticated
from relay.protocol.hold import HOLD, WORDS_NEEDED, Action, Hold, may_hold, read_hold
from relay.store.schema import hold, message

from .caller import Caller
from .open import not_available


def check_hold(caller: Caller, message_id: bytes, body: bytes, now: int) -> Checking[Hold]:
    """A statement by the caller, about this message, whose signature holds. Runs on any thread."""
    signed = parse_sign1(body, HOLD)
    stated = read_hold(signed)
    if (stated.device_id, stated.address) != (caller.device.device_id, caller.device.address):
        raise Unauthenticated("the hold is not signed by the device that posts it")
    if stated.message_id != message_id:
        raise Malformed("the hold is for another message")
    if abs(stated.at - now) > CLOCKS_APART:
        raise Malformed("hold: signed at another time than now", hint="check the clock")
    yield from check_sign1(signed, caller.device.signature_public)
    return stated


class _State(NamedTuple):
    """One office's hold on one message, and whose word waits for a second."""

    is_held: bool
    waiting: dict[str, bytes]  # address → device


def state_hold(batch: Batch, caller: Caller, stated: Hold, encoded: bytes, seen: int) -> Answer:
    """Take the word and log it; with a second officer's it counts, from this transaction on."""
    device = batch.directory.device(caller.device.device_id, batch.now)
    if device is None:
        raise Unauthenticated("this device is no longer valid, or revoked")
    batch.flush()
    stored = batch.connection.scalar(select(message.c.encoded).where(message.c.message_id == stated.message_id))
    found = parse_message(bytes(stored)) if stored is not None else None
    # To whoever may not hold it there is no such message.
    if found is None or not may_hold(device, found.core):
        raise not_available()
    state = _state(batch, stated.message_id, device.office)
    if state.is_held is (stated.action is Action.PLACE):
        raise Conflict(f"{device.office} holds this message already" if state.is_held else "there is no hold to lift")
    if device.address in state.waiting:
        raise Conflict("your word is there already", hint="it takes another security officer of your office")
    words = len(state.waiting) + 1
    index = batch.log(_entry(batch, caller, stated, found, f"{words} of {WORDS_NEEDED}"))
    batch.add(hold, {
        "message_id": stated.message_id, "office": device.office, "device_id": device.device_id,
        "address": device.address, "completes": words >= WORDS_NEEDED, "encoded": encoded, "entry": index,
    })  # fmt: skip
    return lambda committed: committed.prove(index, seen).encoded()


def held(connection: Connection, message_ids: list[bytes]) -> set[bytes]:
    """Those of the messages on which any office has a hold."""
    wanted = select(hold.c.message_id).where(hold.c.message_id.in_(message_ids), hold.c.completes)
    odd = wanted.group_by(hold.c.message_id, hold.c.office).having(func.count() % 2 == 1)
    return {bytes(message_id) for message_id in connection.scalars(odd)}


def _state(batch: Batch, message_id: bytes, office: str) -> _State:
    wanted = select(hold).where(hold.c.message_id == message_id, hold.c.office == office).order_by(hold.c.id)
    is_held, waiting = False, dict[str, bytes]()
    for row in batch.connection.execute(wanted):
        if row.completes:
            is_held, waiting = not is_held, {}
        else:
            waiting[row.address] = bytes(row.device_id)
    still = {address: each for address, each in waiting.items() if batch.directory.device(each, batch.now) is not None}
    return _State(is_held, still)


def _entry(batch: Batch, caller: Caller, stated: Hold, found: Message, words: str) -> AccessEntry:
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
    )
