"""Accepting a message. The steps are those of SPEC.md, "The relay accepts", and stand in that order."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, or_, select, update

from relay.committer import Answer, Batch, Committed
from relay.protocol.access import Circle, Judge, is_covered, label_of
from relay.protocol.aggregate import Nobody, dominates, join
from relay.protocol.cose import verify_sign1
from relay.protocol.decision import Action
from relay.protocol.directory import Device
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.envelope import (
    AddresseeKind,
    Message,
    Slot,
    Submission,
    parse_message,
    parse_slot,
    parse_submission,
)
from relay.protocol.errors import Conflict, Malformed, Refused, TooLarge, Unauthenticated
from relay.protocol.identity import Kind
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.store import log as log_rows
from relay.store.log import Log
from relay.store.schema import key_package, message, part, slot

from .caller import Caller
from .limits import MAX_CLOCK_AHEAD, MAX_DELAY, MAX_MESSAGE, MAX_SUBMISSION

MAY_SEND = frozenset({Kind.OFFICER, Kind.SYSTEM})


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submission that is well-formed and signed; whether it is permitted is decided in the transaction."""

    digest: bytes
    message: Message
    slots: tuple[Slot, ...]
    proofs: tuple[bytes, ...]
    parts: tuple[bytes, ...]


def check_submission(caller: Caller, body: bytes, now: int) -> Submitted:
    """Steps 1 to 4: everything that needs no database. Runs on any thread."""
    # 1. size limits, before anything is parsed
    if len(body) > MAX_SUBMISSION:
        raise TooLarge(f"submission of {len(body)} octets; the limit is {MAX_SUBMISSION}")
    # 2. strict CBOR, all the way down
    submission = parse_submission(body)
    if len(submission.message) > MAX_MESSAGE:
        raise TooLarge(f"message of {len(submission.message)} octets; the limit is {MAX_MESSAGE}")
    parsed = parse_message(submission.message)
    slots = tuple(parse_slot(encoded, parsed.core) for encoded in submission.slots)
    # 3. the sender is the caller, under a certificate that allows sending, now
    _check_sender(caller.device, parsed, now)
    # 4. the composite signature, and that what was uploaded is what was signed
    verify_sign1(parsed.signed, caller.device.signature_public)
    proofs = _check_slots(parsed, slots)
    _check_parts(parsed, submission)
    return Submitted(hashlib.sha256(body).digest(), parsed, slots, proofs, submission.parts)


def _check_sender(device: Device, parsed: Message, now: int) -> None:
    core = parsed.core
    if (core.sender_device, core.sender, core.sender_kid) != (device.device_id, device.address, device.kid):
        raise Unauthenticated("the message's sender is not the device that posts it")
    if device.kind not in MAY_SEND:
        raise Refused(f"a device of kind {device.kind} does not send messages", rules=("sender",))
    if not now - MAX_DELAY <= core.created <= now + MAX_CLOCK_AHEAD:
        raise Malformed(
            "message core: created outside the time in which it can be posted", hint="check the clock"
        )
    if core.expires <= now:
        raise Refused("the message has expired", rules=("handling",))


def _check_slots(parsed: Message, slots: tuple[Slot, ...]) -> tuple[bytes, ...]:
    ids = [each.device_id for each in slots]
    if ids != sorted(set(ids)):
        raise Malformed("submission: slots not in ascending order of device, or two for one device")
    tree = MerkleTree(leaf_hash(each.encoded) for each in slots)
    if len(slots) != parsed.slot_count or tree.root() != parsed.slot_root:
        raise Malformed("submission: not the slots that were signed")
    return tuple(b"".join(tree.inclusion_proof(index, len(slots))) for index in range(len(slots)))


def _check_parts(parsed: Message, submission: Submission) -> None:
    portions = parsed.core.portions
    if len(submission.parts) != len(portions):
        raise Malformed("submission: not as many parts as portions")
    for index, (sealed, portion) in enumerate(zip(submission.parts, portions, strict=True)):
        if len(sealed) != portion.length or hashlib.sha256(sealed).digest() != portion.digest:
            raise Malformed(f"submission: part {index} is not the one that was signed")


def accept(batch: Batch, judge: Judge, caller: Caller, submitted: Submitted, seen: int) -> Answer:
    """Steps 5 to 10, inside the transaction. The answer is the receipt, or the refusal that was logged."""
    core = submitted.message.core
    # 3 again: a revocation may have come in since
    if batch.directory.device(caller.device.device_id, batch.now) is None:
        raise Unauthenticated("this device is no longer valid, or revoked")
    # 5. the id is new, or stands for the same bytes
    if (earlier := _earlier(batch, submitted)) is not None:
        return earlier_receipt(batch, earlier, seen)
    _check_packages(batch, submitted)
    # 6. to 8. the rules
    rules = _failing(batch, judge, caller, submitted)
    if rules:
        return _refuse(batch, caller, submitted, rules)
    # 9. quota: sizes are limited above
    # 10. one transaction: message, slots, parts, entry
    index = batch.log(_entry(batch, caller, submitted, Event.ACCEPT, ()))
    _stage(batch, submitted, index)
    batch.memo["message", core.message_id] = batch.memo["seq", core.sender_device, core.seq] = (
        submitted.digest,
        index,
    )
    return lambda committed: committed.prove(index, seen).encoded()


def _earlier(batch: Batch, submitted: Submitted) -> int | None:
    """Index of the accept entry if these very bytes were accepted before; Conflict if others were."""
    core = submitted.message.core
    by_id = batch.memo.get(("message", core.message_id))
    by_seq = batch.memo.get(("seq", core.sender_device, core.seq))
    if by_id is None and by_seq is None:
        for row in batch.connection.execute(
            _EARLIER, {"id": core.message_id, "device": core.sender_device, "seq": core.seq}
        ):
            found = (bytes(row.digest), row.entry)
            if bytes(row.message_id) == core.message_id:
                by_id = found
            else:
                by_seq = found
    if by_id is not None:
        if by_id[0] != submitted.digest:
            raise Conflict(
                f"message {core.message_id.hex()} was accepted with other bytes",
                hint="a new message has a new id",
            )
        return int(by_id[1])
    if by_seq is not None:
        raise Conflict(f"the device has sent another message with sequence number {core.seq}")
    return None


_EARLIER = select(message.c.message_id, message.c.digest, message.c.entry).where(
    or_(
        message.c.message_id == bindparam("id"),
        (message.c.sender_device == bindparam("device")) & (message.c.seq == bindparam("seq")),
    )
)


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


def _check_packages(batch: Batch, submitted: Submitted) -> None:
    """Every slot is sealed to a key package of its device that this sender claimed, or to its last-resort one."""
    core, wanted = submitted.message.core, {each.kp_ref: each for each in submitted.slots}
    found = _packages(batch.connection, list(wanted))
    for ref, each in wanted.items():
        row = found.get(ref)
        if row is None or bytes(row.device_id) != each.device_id or row.not_after <= batch.now:
            raise Conflict(
                f"slot for {each.device_id.hex()}: its key package is unknown or expired",
                hint="claim a new one",
            )
        if not row.one_time:
            continue
        used = row.used_by is not None or ("package", ref) in batch.memo
        if row.claimed_by is None or bytes(row.claimed_by) != core.sender_device or used:
            raise Conflict(
                f"slot for {each.device_id.hex()}: its one-time key is not this sender's to use",
                hint="claim a new one",
            )


def _packages(connection: Connection, refs: list[bytes]) -> dict[bytes, object]:
    columns = (key_package.c.ref, key_package.c.device_id, key_package.c.one_time, key_package.c.not_after)
    wanted = select(*columns, key_package.c.claimed_by, key_package.c.used_by)
    found = {}
    for start in range(0, len(refs), 500):  # a statement has a limited number of parameters
        for row in connection.execute(wanted.where(key_package.c.ref.in_(refs[start : start + 500]))):
            found[bytes(row.ref)] = row
    return found


def _failing(batch: Batch, judge: Judge, caller: Caller, submitted: Submitted) -> tuple[str, ...]:
    core, now = submitted.message.core, batch.now
    banner, circle = label_of(core.label), Circle.of(core)
    labels = [label_of(portion.label) for portion in core.portions]
    # 6. the sender is cleared for what he sends, banner and every portion
    for label in {
        core.label: banner,
        **dict(zip((p.label for p in core.portions), labels, strict=True)),
    }.values():
        decision = judge.judge_sender(label, caller.device, now)
        if not decision.permitted:
            return tuple(f"sender:{rule}" for rule in decision.failing)
    # 7. the banner is at least the safe join of the portions
    policy = judge.policy_of(core.office, banner.policy)
    joined = join(policy, labels) if policy is not None else Nobody.NOBODY
    if policy is None or isinstance(joined, Nobody) or not dominates(policy, banner, joined):
        return ("banner",)
    # 8. every slot's device may have every portion it is granted, and every addressee is covered
    devices = []
    for each in submitted.slots:
        device = batch.directory.device(each.device_id, now)
        if device is None:
            return ("reader:unknown-device",)
        devices.append(device)
        for index in each.granted:
            decision = judge.judge(Action.ACCEPT, circle, labels[index], device, now)
            if not decision.permitted:
                return tuple(f"{device.address}:{rule}" for rule in decision.failing)
    for addressee in core.addressees:
        if addressee.kind is not AddresseeKind.EXEMPTED and not any(
            is_covered(addressee, device) for device in devices
        ):
            return (f"{addressee.address}:not-covered",)
    return ()


def _refuse(batch: Batch, caller: Caller, submitted: Submitted, rules: tuple[str, ...]) -> Answer:
    batch.log(_entry(batch, caller, submitted, Event.REFUSE, rules))

    def answer(_committed: Committed) -> bytes:
        raise Refused("the rules do not permit this message", rules=rules)

    return answer


def _entry(
    batch: Batch, caller: Caller, submitted: Submitted, event: Event, rules: tuple[str, ...]
) -> AccessEntry:
    core = submitted.message.core
    published = batch.directory.policy_of(
        core.office, label_of(core.label).policy.name, label_of(core.label).policy.oid
    )
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
        policy=published.spif_digest if published is not None else None,
        request=caller.nonce,
    )


def _stage(batch: Batch, submitted: Submitted, index: int) -> None:
    core, message_id = submitted.message.core, submitted.message.core.message_id
    batch.add(message, {
        "message_id": message_id, "ref": submitted.message.ref, "digest": submitted.digest,
        "sender_device": core.sender_device, "seq": core.seq, "precedence": int(core.handling.precedence),
        "expires": core.expires, "encoded": submitted.message.encoded, "entry": index,
    })  # fmt: skip
    for position, sealed in enumerate(submitted.parts):
        batch.add(part, {"message_id": message_id, "idx": position, "sealed": sealed})
    for position, (each, proof) in enumerate(zip(submitted.slots, submitted.proofs, strict=True)):
        batch.add(slot, {
            "message_id": message_id, "device_id": each.device_id, "position": position,
            "encoded": each.encoded, "proof": proof, "released": None,
        })  # fmt: skip
        batch.memo["package", each.kp_ref] = message_id
    used = [{"package": each.kp_ref, "message": message_id} for each in submitted.slots]
    batch.connection.execute(_USE, used)


_USE = (
    update(key_package)
    .where(key_package.c.ref == bindparam("package"), key_package.c.one_time.is_(True))
    .values(used_by=bindparam("message"))
)
