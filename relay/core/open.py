"""Opening a message: the slot leaves together with the log entry that says so, or not at all.

The steps are those of SPEC.md, "The relay opens". Whatever the reason, a refusal looks the same from outside,
is logged in the same way and takes the same commit: it tells the asker neither a label nor that there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from sqlalchemy import BigInteger, Integer, LargeBinary, bindparam, select, update

from relay.pipeline.batch import Answer, Batch, Committed, Lookup
from relay.protocol.access import Circle, Judge, deciding_policy
from relay.protocol.decision import Action
from relay.protocol.directory import Device
from relay.protocol.endorsement import verify_passed_on
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.envelope import Delivery, Message, Slot, decode_list, parse_message, parse_slot
from relay.protocol.errors import Malformed, Unknown, Unverified
from relay.protocol.grants import format_portions
from relay.protocol.header import Precedence
from relay.store.prepared import Prepared, given
from relay.store.schema import message, recall, slot
from relay.store.schema import message_place as place

from .caller import Caller, current, refuse_overstated
from .quota import Metered, Quota


class Row(NamedTuple):
    """A message and one device's slot of it, as stored."""

    day: int
    ref: bytes
    message: bytes
    endorsements: bytes
    slot_id: int
    position: int
    slot: bytes | None
    proof: bytes
    released: int | None


_ASKED = given(message_id=LargeBinary(), device_id=LargeBinary())
ROWS: Lookup[tuple[bytes, bytes], Row] = Lookup(
    Prepared(
        select(
            slot.c.message_id,
            slot.c.device_id,
            slot.c.day,
            message.c.ref,
            message.c.encoded,
            message.c.endorsements,
            slot.c.id,
            slot.c.position,
            slot.c.encoded,
            slot.c.proof,
            slot.c.released,
        ).select_from(
            # The place first: it names the partitions in which to look for the other two.
            _ASKED.join(place, place.c.message_id == _ASKED.c.message_id)
            .join(
                slot,
                (slot.c.message_id == place.c.message_id)
                & (slot.c.device_id == _ASKED.c.device_id)
                & (slot.c.day == place.c.day),
            )
            .join(message, (message.c.message_id == place.c.message_id) & (message.c.day == place.c.day))
        )
    ),
    key=lambda row: row[:2],
    value=lambda row: Row(*row[2:]),
)
_SPILLED = select(recall.c.spill).where(recall.c.message_id == bindparam("message"))
_MESSAGE = select(message.c.encoded).where(message.c.message_id == bindparam("message"))
_OPENED = given(slot_id=BigInteger(), placed=Integer(), entry=BigInteger())
_RELEASE = Prepared(
    update(slot)
    .where(slot.c.id == _OPENED.c.slot_id, slot.c.day == _OPENED.c.placed, slot.c.released.is_(None))
    .values(released=_OPENED.c.entry)
)


_NO_SLOT = ("no-slot",)


@dataclass(frozen=True, slots=True)
class Held:
    """A caller's own slot, still here."""

    row: Row
    message: Message
    slot: Slot
    proof: tuple[bytes, ...]
    endorsements: tuple[bytes, ...]


def open_slot(
    batch: Batch, judge: Judge, caller: Caller, message_id: bytes, seen: int, quota: Quota, claimed: Precedence
) -> Answer:
    """Release the caller's slot of this message, or log that it was denied. The answer is the delivery."""
    # 1. the certificate, as of this transaction
    current(batch.directory, caller.device.device_id, batch.now)
    # 2. the slot exists
    held = _find(batch, caller, message_id) or _find_anew(batch, caller, message_id)
    if held is None:
        quota.charge(batch, caller.device, Metered.OPEN, None)
        found = stored_message(batch, message_id)
        return deny(batch, caller, message_id, found, _why_no_slot(batch, judge, caller, found))
    # 3. the decision, now and not as of submission, for every portion that the slot grants
    rules = failing(judge, caller, held, batch.now)
    if rules:
        # as if there were none: which bucket has run out must not tell that there is an urgent one
        quota.charge(batch, caller.device, Metered.OPEN, None)
        return deny(batch, caller, message_id, held.message, rules)
    precedence = judge.precedence_for(held.message.core, caller.device)
    quota.charge(batch, caller.device, Metered.OPEN, precedence)
    # said only to who may open it: to everybody else there is no such message
    refuse_overstated(claimed, precedence)
    # 4. one transaction: the entry and the slot's state
    entry = _entry(batch, caller, message_id, held.message, Event.OPEN, ())
    index = batch.log(replace(entry, detail=format_portions(held.slot.granted)))
    if held.row.released is None:
        batch.stage(_RELEASE, {"slot_id": held.row.slot_id, "placed": held.row.day, "entry": index})
        batch.note(ROWS, (message_id, caller.device.device_id), held.row._replace(released=index))

    # 5. slot and proof leave together
    def answer(committed: Committed) -> bytes:
        release = committed.prove(index, seen)
        return Delivery(
            held.message.encoded, held.row.position, held.slot.encoded, held.proof, release, held.endorsements
        ).encoded()

    return answer


def failing(judge: Judge, caller: Caller, held: Held, now: int) -> tuple[str, ...]:
    """Every rule that denies this caller any portion of what the slot grants."""
    return denying(judge, caller.device, held.message, held.slot.granted, Action.OPEN, now)


def denying(
    judge: Judge, device: Device, found: Message, portions: Iterable[int], action: Action, now: int
) -> tuple[str, ...]:
    """Every rule that denies this device any of these portions."""
    return tuple(dict.fromkeys(denials(judge, device, found, portions, action, now)))


def denials(
    judge: Judge, device: Device, found: Message, portions: Iterable[int], action: Action, now: int
) -> Iterator[str]:
    """The same, one after the other as they are found: who asks only whether there is one stops at the first."""
    try:
        circle = Circle.of(found.core, verify_passed_on(judge.directory, found.core))
    except (Malformed, Unverified):
        yield "second-signature"
        return
    for label in dict.fromkeys(found.core.portions[index].label for index in portions):
        yield from judge.judge(action, circle, label, device, now).failing


def stored_message(batch: Batch, message_id: bytes) -> Message | None:
    encoded = batch.connection.scalar(_MESSAGE, {"message": message_id})
    return parse_message(bytes(encoded)) if encoded is not None else None


def _why_no_slot(batch: Batch, judge: Judge, caller: Caller, found: Message | None) -> tuple[str, ...]:
    """What the rules would have said, for the auditor: the caller hears none of it."""
    if found is None:
        return _NO_SLOT
    taken_back = batch.connection.scalars(_SPILLED, {"message": found.core.message_id}).all()
    why = ("spill",) if any(taken_back) else ("recalled",) if taken_back else ()
    every = range(len(found.core.portions))
    return (*_NO_SLOT, *why, *denying(judge, caller.device, found, every, Action.OPEN, batch.now))


def _find(batch: Batch, caller: Caller, message_id: bytes) -> Held | None:
    row = batch.find(ROWS, (message_id, caller.device.device_id))
    if row is None or row.slot is None:
        return None
    parsed = parse_message(bytes(row.message))
    proof = bytes(row.proof)
    return Held(
        row=row,
        message=parsed,
        slot=parse_slot(bytes(row.slot), parsed.core),
        proof=tuple(proof[start : start + 32] for start in range(0, len(proof), 32)),
        endorsements=tuple(decode_list(bytes(row.endorsements), "endorsements")),
    )


def _find_anew(batch: Batch, caller: Caller, message_id: bytes) -> Held | None:
    """What was not there when this commit began: the message, or its recall, may stand in front of this in it."""
    batch.flush()
    batch.forget(ROWS, (message_id, caller.device.device_id).__eq__)
    return _find(batch, caller, message_id)


def deny(batch: Batch, caller: Caller, message_id: bytes, found: Message | None, rules: tuple[str, ...]) -> Answer:
    """Two entries, always: one for the asker's office, one for the originator's.

    The asker's own auditors learn no more than the asker did where their office is no party of the message; the
    originator's learn all of it. That there are two whatever was asked for hides which case it was.
    """
    own, device = _entry(batch, caller, message_id, found, Event.DENY, rules), caller.device
    if found is None or not found.core.has_party(device.office):
        own = replace(own, message_ref=None, label=None, policy=None, rules=_NO_SLOT)
    batch.log(replace(own, office=device.office, concerns=""))
    full = _entry(batch, caller, message_id, found, Event.DENY, rules)
    originator = found.core.office if found is not None and found.core.office != device.office else ""
    batch.log(replace(full, office=originator, concerns=""))

    def answer(_committed: Committed) -> bytes:
        raise not_available()

    return answer


def not_available() -> Unknown:
    """The one answer for "there is none" and "not for you"."""
    return Unknown("no such message is available to this device")


def _entry(
    batch: Batch, caller: Caller, message_id: bytes, found: Message | None, event: Event, rules: tuple[str, ...]
) -> AccessEntry:
    device, core = caller.device, found.core if found is not None else None
    return AccessEntry(
        event=event,
        time=batch.now_ms,
        salt=os.urandom(16),
        device_id=device.device_id,
        address=device.address,
        office=device.office,
        concerns=core.office if core is not None and core.office != device.office else "",
        message_id=message_id,
        message_ref=found.ref if found is not None else None,
        label=core.label if core is not None else None,
        permitted=event is Event.OPEN,
        rules=rules,
        policy=deciding_policy(batch.directory, device.office, core.label) if core is not None else None,
        request=caller.nonce,
    )
