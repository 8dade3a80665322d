"""Accepting a message. The steps are those of SPEC.md, "The relay accepts", and stand in that order.

1 to 4 are in `submission`; 5 to 10 are here.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from sqlalchemy import BigInteger, BindParameter, LargeBinary, bindparam, select

from relay.pipeline.batch import Answer, Batch, Committed, Lookup, Needs
from relay.protocol.access import Circle, Judge, deciding_policy
from relay.protocol.canonical import encode
from relay.protocol.decision import Action, Decision
from relay.protocol.directory import Device
from relay.protocol.endorsement import verify_endorsements, verify_passed_on
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.errors import Conflict, Malformed, Refused, Unverified
from relay.protocol.grants import accept_detail, format_grants
from relay.protocol.header import AddresseeKind, Core
from relay.protocol.identity import MAY_SEND
from relay.protocol.obligations import Circumstances
from relay.store import log as log_rows
from relay.store.log import Log
from relay.store.prepared import Prepared, given
from relay.store.schema import message, part, slot
from relay.store.schema import message_place as place

from . import keyroom, uploads
from .caller import Caller, current
from .quota import Metered, Quota
from .submission import Submitted


def accept(batch: Batch, judge: Judge, caller: Caller, submitted: Submitted, seen: int, quota: Quota) -> Answer:
    """Steps 5 to 10, inside the transaction. The answer is the receipt, or the refusal that was logged."""
    core = submitted.message.core
    # 3 again: a revocation may have come in since
    for device_id in (caller.device.device_id, core.sender_device):
        current(batch.directory, device_id, batch.now)
    # 5. the id is new, or stands for the same bytes
    if (earlier := _earlier(batch, submitted)) is not None:
        return earlier_receipt(batch, earlier, seen)
    one_time = keyroom.check_sealed_to(batch, core, submitted.slots)
    uploaded = uploads.uploaded(batch, core, submitted.parts)
    # 6. quota, before the rules: a refusal is an entry too
    quota.charge(batch, caller.device, Metered.MESSAGE, core.handling.precedence)
    # 7. to 9. the rules
    rules = _failing(batch, judge, caller, submitted, one_time=one_time)
    if rules:
        return _refuse(batch, judge, caller, submitted, rules)
    # 10. one transaction: message, slots, parts, entry
    index = batch.log(_entry(batch, caller, submitted, Event.ACCEPT, ()))
    _stage(batch, judge, submitted, index, uploaded)
    return lambda committed: committed.prove(index, seen).encoded()


_LONG = 1000  # characters of a hint: a label can name more than an answer should repeat
_KEYS: BindParameter[Any] = bindparam("keys", expanding=True)
_BY_ID: Lookup[bytes, tuple[bytes, int]] = Lookup(
    Prepared(select(place.c.message_id, place.c.digest, place.c.entry).where(place.c.message_id.in_(_KEYS))),
    key=lambda row: row[0],
    value=lambda row: row[1:],
)
_SENT = given(device_id=LargeBinary(), seq=BigInteger())
_BY_SEQ: Lookup[tuple[bytes, int], int] = Lookup(
    Prepared(
        select(place.c.sender_device, place.c.seq, place.c.entry).select_from(
            _SENT.join(place, (place.c.sender_device == _SENT.c.device_id) & (place.c.seq == _SENT.c.seq))
        )
    ),
    key=lambda row: row[:2],
    value=lambda row: row[2],
)


def needs(submitted: Submitted) -> Needs:
    """What `accept` will look up."""
    core = submitted.message.core
    return (
        (_BY_ID, (core.message_id,)),
        (_BY_SEQ, ((core.sender_device, core.seq),)),
        (keyroom.PACKAGES, tuple(each.kp_ref for each in submitted.slots)),
    )


def _earlier(batch: Batch, submitted: Submitted) -> int | None:
    """Index of the accept entry if these very bytes were accepted before; Conflict if others were."""
    core = submitted.message.core
    if (accepted := batch.find(_BY_ID, core.message_id)) is not None:
        digest, index = accepted
        if digest != submitted.digest:
            raise Conflict(
                f"message {core.message_id.hex()} was accepted with other bytes",
                hint="a new message has a new id",
            )
        return index
    if batch.find(_BY_SEQ, (core.sender_device, core.seq)) is not None:
        raise Conflict(f"the device has sent another message with sequence number {core.seq}")
    return None


def earlier_receipt(batch: Batch, index: int, seen: int) -> Answer:
    """The receipt that was given for entry `index`: same entry, same checkpoint, same bytes but for `seen`."""
    connection = batch.connection
    if index >= batch.sizes[Log.ACCESS]:
        return lambda committed: committed.prove(index, seen).encoded()
    note = log_rows.first_checkpoint_after(connection, Log.ACCESS, index)
    entry = log_rows.entry(connection, Log.ACCESS, index)
    if note is None or entry is None:
        raise Conflict("the receipt's entry is no longer held")

    def answer(committed: Committed) -> bytes:
        return committed.prove_stored(entry, index, note, seen).encoded()

    return answer


def _failing(batch: Batch, judge: Judge, caller: Caller, submitted: Submitted, *, one_time: bool) -> tuple[str, ...]:
    """The rules against this message: of the first of the three steps that has any."""
    sender = batch.directory.devices[submitted.message.core.sender_device]
    if rules := _against_sender(judge, sender, submitted.message.core, batch.now):
        return rules
    try:
        officers = verify_endorsements(batch.directory, submitted.message, submitted.endorsements)
        originals = verify_passed_on(batch.directory, submitted.message.core)
    except (Malformed, Unverified):
        return ("second-signature",)
    if caller.device not in (sender, *officers):
        return ("second-signature",)
    # a revoked officer can write any time into his signature
    if any(batch.directory.device(officer.device_id, batch.now) is None for officer in officers):
        return ("second-signature",)
    # 8. what the originating office's policy demands of the message as a whole
    found = Circumstances(officers, originals, one_time, partial(_is_given_all, batch, submitted))
    if rules := judge.obligations_of(submitted.message.core, found, batch.now):
        return rules
    return _against_readers(judge, submitted, Circle.of(submitted.message.core, originals), batch.now)


def _is_given_all(batch: Batch, submitted: Submitted, address: str) -> bool:
    every = len(submitted.message.core.portions)
    whole = {each.device_id for each in submitted.slots if len(each.granted) == every}
    return any(device.device_id in whole for device in batch.directory.devices_of(address, batch.now))


def _against_sender(judge: Judge, sender: Device, core: Core, now: int) -> tuple[str, ...]:
    # 7. the sender is of a kind that sends, in time, and cleared for what he sends, banner and every portion: now, and
    # as every reader will ask, when he created it
    if sender.kind not in MAY_SEND:
        return ("sender:kind",)
    if core.expires <= now:
        return ("handling",)
    denial = _denial_of_sender(judge, sender, core, now)
    return tuple(f"sender:{rule}" for rule in denial.failing) if denial is not None else ()


def _denial_of_sender(judge: Judge, sender: Device, core: Core, now: int) -> Decision | None:
    for label in dict.fromkeys((core.label, *(portion.label for portion in core.portions))):
        for decision in (judge.judge_sender(label, sender, now), judge.judge_sender_then(core, label, sender)):
            if not decision.permitted:
                return decision
    return None


def _against_readers(judge: Judge, submitted: Submitted, circle: Circle, now: int) -> tuple[str, ...]:
    # 9. every slot's device may have every portion it is granted, and every addressee is covered
    core, reached = submitted.message.core, set[str]()
    named = {addressee.address for addressee in core.addressees}
    for each in submitted.slots:
        device = judge.directory.device(each.device_id, now)
        if device is None:
            return ("reader:unknown-device",)
        reached |= judge.bases(device, named).keys()
        for label in dict.fromkeys(core.portions[index].label for index in each.granted):
            decision = judge.judge(Action.ACCEPT, circle, label, device, now)
            if not decision.permitted:
                return tuple(f"{device.address}:{rule}" for rule in decision.failing)
    for addressee in core.addressees:
        if addressee.kind is not AddresseeKind.EXEMPTED and addressee.address not in reached:
            return (f"{addressee.address}:not-covered",)
    return ()


def _refuse(batch: Batch, judge: Judge, caller: Caller, submitted: Submitted, rules: tuple[str, ...]) -> Answer:
    """In words a sender is told of his own labels and clearance; what stands against others is a rule's name."""
    batch.log(_entry(batch, caller, submitted, Event.REFUSE, rules))
    core = submitted.message.core
    denial = _denial_of_sender(judge, batch.directory.devices[core.sender_device], core, batch.now)
    why = "; ".join(rule.why for rule in denial.rules if not rule.ok) if denial is not None else ""

    def answer(_committed: Committed) -> bytes:
        raise Refused("the rules do not permit this message", hint=why[:_LONG], rules=rules)

    return answer


def _entry(batch: Batch, caller: Caller, submitted: Submitted, event: Event, rules: tuple[str, ...]) -> AccessEntry:
    core = submitted.message.core
    return AccessEntry(
        event=event,
        time=batch.now_ms,
        salt=os.urandom(16),
        device_id=caller.device.device_id,
        address=caller.device.address,
        office=caller.device.office,
        message_id=core.message_id,
        message_ref=submitted.message.ref,
        label=core.label,
        permitted=event is Event.ACCEPT,
        rules=rules,
        policy=deciding_policy(batch.directory, core.office, core.label),
        request=caller.nonce,
        detail=accept_detail(submitted.grants, core.handling.precedence) if event is Event.ACCEPT else "",
    )


def _stage(batch: Batch, judge: Judge, submitted: Submitted, index: int, uploaded: dict[int, bytes]) -> None:
    core, message_id, day = submitted.message.core, submitted.message.core.message_id, batch.now // 86400
    batch.add(place, {
        "message_id": message_id, "sender_device": core.sender_device, "seq": core.seq,
        "digest": submitted.digest, "entry": index, "day": day,
    })  # fmt: skip
    batch.add(message, {
        "message_id": message_id, "day": day, "ref": submitted.message.ref, "digest": submitted.digest,
        "sender_device": core.sender_device, "seq": core.seq, "precedence": int(core.handling.precedence),
        "expires": core.expires, "encoded": submitted.message.encoded, "entry": index,
        "endorsements": encode(list(submitted.endorsements)), "grants": format_grants(submitted.grants),
    })  # fmt: skip
    for position, sealed in enumerate(submitted.parts):
        held = {"sealed": sealed, "upload_id": uploaded.get(position)}
        batch.add(part, {"message_id": message_id, "day": day, "idx": position, **held})
    precedences = judge.precedences(core, (batch.directory.devices[each.device_id] for each in submitted.slots))
    slots = zip(submitted.slots, submitted.proofs, precedences, strict=True)
    for position, (each, proof, precedence) in enumerate(slots):
        batch.add(slot, {
            "message_id": message_id, "day": day, "device_id": each.device_id, "position": position,
            "precedence": int(precedence), "encoded": each.encoded, "proof": proof, "released": None,
        })  # fmt: skip
    uploads.bind(batch, uploaded)
    keyroom.use(batch, message_id, submitted.slots)
    batch.woken.update(each.device_id for each in submitted.slots)
    batch.note(_BY_ID, message_id, (submitted.digest, index))
    batch.note(_BY_SEQ, (core.sender_device, core.seq), index)
