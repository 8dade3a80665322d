"""Recall: the originator takes a message back from everyone who has not opened it, and learns who has.

    Recall = Sign1(device; [1, message_id, device_id, spill, reason, at])
    Recalled = [LoggedEntry (recall), Proven (accept), [[device_id, [portion...], Proven (open) or null]...]]
    Proven = [entry, index, [proof...]]     under the checkpoint of the recall's LoggedEntry

A recall ends all handing-out of slots. A spill ends part downloads too, and destroys the parts. The recall entry's
detail is `recall` or `spill`, with `-held` where a legal hold keeps what would have been destroyed, the SHA-256 of the
states and the reason; the accept entry holds the SHA-256 of the
grants: so neither a state nor a device can be left out or invented. The states are
`[[device_id, [portion...], index of the open entry or null]...]`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .canonical import decode, encode, expect, expect_bytes, expect_time, expect_version, read_array
from .cose import Sign1
from .directory import Device
from .entry import AccessEntry, Event, LoggedEntry, parse_access_entry, read_logged_entry
from .envelope import MAX_SLOTS
from .errors import Malformed, Unverified
from .grants import Grants, grants_digest, read_accept_detail
from .identity import MAY_SEND, SECURITY_ROLE, Kind, office_of

RECALL = "recall"
MAX_REASON, MAX_SIGNERS = 500, 8
MAX_AGE = 86400  # seconds from its signature to its posting: the second officer may be asleep


@dataclass(frozen=True, slots=True)
class Recall:
    message_id: bytes
    device_id: bytes
    spill: bool
    reason: str
    at: int

    def payload(self) -> bytes:
        return encode([1, self.message_id, self.device_id, self.spill, self.reason, self.at])


def read_recall(signed: Sign1) -> Recall:
    """The content of a recall whose signature the caller verifies with the device's key."""
    version, message_id, device_id, spill, reason, at = read_array(signed.payload, 6, "recall")
    expect_version(version, "recall")
    return Recall(
        message_id=expect_bytes(message_id, 16, "recall: message id"),
        device_id=expect_bytes(device_id, 16, "recall: device"),
        spill=expect(spill, bool, "recall: spill"),
        reason=check_reason(expect(reason, str, "recall: reason")),
        at=expect_time(at, "recall: time"),
    )


def check_reason(reason: str) -> str:
    """A reason is one line that says something: auditors read it in the log."""
    if not reason.strip() or len(reason) > MAX_REASON or not reason.isprintable():
        raise Malformed(f"recall: the reason is one line of 1 to {MAX_REASON} characters")
    return reason


def may_recall(signers: Sequence[Device], sender: str, *, spill: bool) -> bool:
    """Whether these persons together may take this sender's message back.

    A recall: the originator, or a security officer of the originator's office. A spill: a security officer, or two
    officers of that office. All who sign are of that office.
    """
    if any(device.office != office_of(sender) for device in signers):
        return False  # nobody else has a say in it, also not beside one who has
    if any(_is_security_officer(device) for device in signers):
        return True
    if spill:
        return len({device.address for device in signers if device.kind is Kind.OFFICER}) > 1
    return any(device.address == sender and device.kind in MAY_SEND for device in signers)


def _is_security_officer(device: Device) -> bool:
    certificate = device.certificate
    return device.kind is Kind.OFFICER and certificate is not None and SECURITY_ROLE in certificate.roles


# -- states ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecallState:
    """One recipient device: whether the keys had left, and with which entry. `opened` None: nobody had them."""

    device_id: bytes
    granted: tuple[int, ...]
    opened: int | None


class RecallDetail(NamedTuple):
    """What a recall entry's detail says."""

    spill: bool
    held: bool  # nothing was destroyed: a legal hold stands
    digest: str
    reason: str


def recall_detail(states: Sequence[RecallState], reason: str, spill: bool, held: bool) -> str:  # noqa: FBT001 - as in RecallDetail
    """What the recall entry says."""
    listed = encode([[each.device_id, list(each.granted), each.opened] for each in states])
    kind = f"{'spill' if spill else 'recall'}{'-held' if held else ''}"
    return f"{kind} {hashlib.sha256(listed).hexdigest()} {reason}"


def read_recall_detail(detail: str) -> RecallDetail:
    """Raises Malformed for what is none."""
    kind, _, rest = detail.partition(" ")
    digest, _, reason = rest.partition(" ")
    if kind not in {"recall", "spill", "recall-held", "spill-held"} or len(digest) != 64 or not reason:
        raise Malformed("recall entry: its detail is not that of a recall")
    return RecallDetail(kind.startswith("spill"), kind.endswith("-held"), digest, reason)


@dataclass(frozen=True, slots=True)
class Recalled:
    """The relay's answer; `openings` are in the order of `grants`."""

    recall: LoggedEntry
    accept: LoggedEntry
    grants: Grants
    openings: tuple[LoggedEntry | None, ...]

    def encoded(self) -> bytes:
        rows = [
            [device_id, list(granted), opening.fields()[:3] if opening is not None else None]
            for (device_id, granted), opening in zip(self.grants, self.openings, strict=True)
        ]
        return encode([self.recall.fields(), self.accept.fields()[:3], rows])

    @property
    def states(self) -> tuple[RecallState, ...]:
        return tuple(
            RecallState(device_id, granted, opening.index if opening is not None else None)
            for (device_id, granted), opening in zip(self.grants, self.openings, strict=True)
        )

    def entries(self) -> list[LoggedEntry]:
        return [self.recall, self.accept, *(each for each in self.openings if each is not None)]


def parse_recalled(encoded: bytes) -> Recalled:
    """Read the answer to a recall; raises Malformed. `verify_recalled` checks it."""
    fields = expect(decode(encoded, "recalled"), list, "recalled")
    if len(fields) != 3:
        raise Malformed("recalled: expected an array of 3")
    rows = expect(fields[2], list, "recalled: states")
    if not 0 < len(rows) <= MAX_SLOTS or any(type(row) is not list or len(row) != 3 for row in rows):
        raise Malformed("recalled: a state is a device, its portions and its opening")
    recall = read_logged_entry(fields[0])
    return Recalled(
        recall=recall,
        accept=_proven(fields[1], recall.checkpoint),
        grants=tuple(map(_grant, rows)),
        openings=tuple(_proven(row[2], recall.checkpoint) if row[2] is not None else None for row in rows),
    )


def _grant(row: list[Any]) -> tuple[bytes, tuple[int, ...]]:
    portions = expect(row[1], list, "recalled: portions")
    return expect_bytes(row[0], 16, "recalled: device"), tuple(
        expect(each, int, "recalled: portion") for each in portions
    )


def _proven(value: object, checkpoint: bytes) -> LoggedEntry:
    fields = expect(value, list, "recalled: entry")
    return read_logged_entry([*fields, checkpoint, []])


def verify_recalled(answer: Recalled, asked: Recall) -> AccessEntry:
    """The recall entry, if the answer is whole: every device that was sealed to, each with what the log says of it.

    That the entries are in the log is for the caller to verify. Raises Malformed, Unverified.
    """
    recall, accept = parse_access_entry(answer.recall.entry), parse_access_entry(answer.accept.entry)
    if (recall.event, recall.message_id) != (Event.RECALL, asked.message_id):
        raise Unverified("the relay logged another recall than was asked for")
    stated = read_recall_detail(recall.detail)
    if recall.detail != recall_detail(answer.states, asked.reason, asked.spill, stated.held):
        raise Unverified("the recall was logged with other states, or another reason, than the relay answers")
    if (accept.event, accept.message_id, accept.message_ref) != (Event.ACCEPT, asked.message_id, recall.message_ref):
        raise Unverified("the recall came without the entry of the message's acceptance")
    if read_accept_detail(accept.detail)[0] != grants_digest(answer.grants):
        raise Unverified("the recall leaves out, or invents, a device to which the message was sealed")
    for state, logged in zip(answer.states, answer.openings, strict=True):
        if logged is None:
            continue
        opened = parse_access_entry(logged.entry)
        own = (Event.OPEN, state.device_id, asked.message_id, recall.message_ref, True)
        if (opened.event, opened.device_id, opened.message_id, opened.message_ref, opened.permitted) != own:
            raise Unverified("a state names an entry that is not that device's opening of this message")
        if logged.index > answer.recall.index:
            raise Unverified("the message was opened after its recall")
    return recall
