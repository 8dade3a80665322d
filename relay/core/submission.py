"""A submission as it comes: whether it is well-formed, signed, and of the device that posts it.

Steps 1 to 4 of SPEC.md, "The relay accepts": all that needs no database, on any thread. `accept` decides the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from relay.protocol.claim import Checking
from relay.protocol.cose import check_sign1
from relay.protocol.dating import CLOCKS_APART
from relay.protocol.directory import Device, Directory
from relay.protocol.envelope import (
    MAX_GRANTED,
    MAX_JUDGED,
    Message,
    Slot,
    Submission,
    parse_message,
    parse_slot,
    parse_submission,
)
from relay.protocol.errors import Malformed, TooLarge, Unauthenticated
from relay.protocol.grants import Grants, grants_of
from relay.protocol.header import Core, Precedence
from relay.protocol.label import label_of
from relay.protocol.merkle import inclusion_proofs, leaf_hash
from relay.protocol.parts import part_digest

from .caller import Caller, refuse_overstated
from .limits import MAX_DELAY, MAX_MESSAGE, MAX_SUBMISSION


@dataclass(frozen=True, slots=True)
class Submitted:
    """A submission that is well-formed and signed; whether it is permitted is decided in the transaction."""

    digest: bytes
    message: Message
    slots: tuple[Slot, ...]
    proofs: tuple[bytes, ...]
    parts: tuple[bytes | None, ...]  # None: uploaded before
    endorsements: tuple[bytes, ...]

    @property
    def grants(self) -> Grants:
        return grants_of(self.slots)


def check_submission(
    directory: Directory, caller: Caller, body: bytes, now: int, claimed: Precedence
) -> Checking[Submitted]:
    """Steps 1 to 4, at `now` in seconds; `claimed` is the precedence that the request was queued under.

    Raises TooLarge, Malformed (also a precedence overstated), Unauthenticated, Unverified.
    """
    # 1. size limits, before anything is parsed
    if len(body) > MAX_SUBMISSION:
        raise TooLarge(f"submission of {len(body)} octets; the limit is {MAX_SUBMISSION}")
    # 2. strict CBOR, all the way down
    submission = parse_submission(body)
    if len(submission.message) > MAX_MESSAGE:
        raise TooLarge(f"message of {len(submission.message)} octets; the limit is {MAX_MESSAGE}")
    parsed = parse_message(submission.message)
    refuse_overstated(claimed, parsed.core.handling.precedence)
    slots = tuple(parse_slot(encoded, parsed.core) for encoded in submission.slots)
    for label in _labels(parsed.core):
        label_of(label)
    # 3. the sender is the caller or an officer of the caller's office, and the message is of the time to be posted
    sender = _check_sender(directory, caller, parsed, now)
    # 4. the composite signature, and that what was uploaded is what was signed
    yield from check_sign1(parsed.signed, sender.signature_public)
    proofs = _check_slots(parsed, slots)
    _check_parts(parsed, submission)
    return Submitted(caller.digest, parsed, slots, proofs, submission.parts, submission.endorsements)


def _labels(core: Core) -> Iterator[bytes]:
    yield core.label
    yield from (portion.label for portion in core.portions)
    for pair in core.alternatives:
        yield from pair


def _check_sender(directory: Directory, caller: Caller, parsed: Message, now: int) -> Device:
    core = parsed.core
    sender = directory.device(core.sender_device, now)
    if sender is None or (core.sender, core.sender_kid) != (sender.address, sender.kid):
        raise Unauthenticated("the message's sender is unknown, no longer valid, or another than its header says")
    if caller.device.device_id != sender.device_id and caller.device.office != sender.office:
        raise Unauthenticated("the message's sender is not the device that posts it")
    if not now - MAX_DELAY <= core.created <= now + CLOCKS_APART:
        raise Malformed("message core: created outside the time in which it can be posted", hint="check the clock")
    return sender


def _check_slots(parsed: Message, slots: tuple[Slot, ...]) -> tuple[bytes, ...]:
    ids = [each.device_id for each in slots]
    if ids != sorted(set(ids)):
        raise Malformed("submission: slots not in ascending order of device, or two for one device")
    if sum(len(each.granted) for each in slots) > MAX_GRANTED:
        raise TooLarge(f"submission: the slots grant more than {MAX_GRANTED} portions together")
    labels = [portion.label for portion in parsed.core.portions]
    if sum(len({labels[index] for index in each.granted}) for each in slots) > MAX_JUDGED:
        raise TooLarge(
            f"submission: more than {MAX_JUDGED} labels to decide about, of all slots together",
            hint="send to fewer readers, or under fewer different labels",
        )
    root, proofs = inclusion_proofs(leaf_hash(each.encoded) for each in slots)
    if len(slots) != parsed.slot_count or root != parsed.slot_root:
        raise Malformed("submission: not the slots that were signed")
    return tuple(proofs)


def _check_parts(parsed: Message, submission: Submission) -> None:
    portions = parsed.core.portions
    if len(submission.parts) != len(portions):
        raise Malformed("submission: not as many parts as portions")
    for index, (sealed, portion) in enumerate(zip(submission.parts, portions, strict=True)):
        if sealed is None:  # asked in the transaction: uploads.uploaded
            continue
        if len(sealed) != portion.length:
            raise Malformed(f"submission: part {index} has {len(sealed)} octets, not the {portion.length} signed")
        if part_digest(sealed) != portion.digest:
            raise Malformed(f"submission: part {index} has another digest than was signed")
