"""Entries of the two logs, as the bytes whose hash is the leaf.

Each carries a 16-octet salt, so that leaf hashes and tiles may go to anyone while contents stay with those
entitled to them, and so that an entry withheld after its retention leaves a tree that still verifies.

    AccessEntry    = {1: 1, 2: kind, 3: time, 4: salt, 5: device_id, 6: address, 7: office, 8: concerns,
                      9: message_id, 10: message_ref, 11: label, 12: permitted, 13: [rule...], 14: policy,
                      15: request, 16: detail, 17: warrant}
    warrant        = [signed object...]: the signed words of the persons who may order it; of a hold and a recall only
    DirectoryEntry = [1, kind, time, salt, payload] or, with approvals, [1, kind, time, salt, payload, [approval...]]

Times are milliseconds since 1970 as the relay saw them, to the end of the year 9999.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from .canonical import decode, encode, expect, expect_bytes, expect_time, expect_version, read_map
from .errors import Malformed

MAX_APPROVALS = 8
MAX_WARRANT = 1 + MAX_APPROVALS
MAX_ENTRY = 65535  # tlog-tiles: a bundle gives each entry a 16-bit length
NO_DEVICE, RELAY, OPERATOR = bytes(16), "relay", "operator"  # what stands for whoever has no certificate


class Event(StrEnum):
    ACCEPT = "accept"
    REFUSE = "refuse"
    OPEN = "open"
    DENY = "deny"
    ACKNOWLEDGE = "acknowledge"
    RECALL = "recall"
    EXPIRE = "expire"
    HOLD = "hold"
    DESTROY = "destroy"
    CLAIM = "claim"
    DIRECTORY = "directory"
    AUDIT = "audit"
    ALARM = "alarm"
    OPERATOR = "operator"


_FIELDS, _WARRANT = frozenset(range(1, 17)), frozenset({17})
WARRANTED = frozenset(
    {Event.HOLD, Event.RECALL}
)  # what is done on somebody's signed word, which then stands in the entry
_EVENTS = frozenset(map(str, Event))


@dataclass(frozen=True, slots=True)
class AccessEntry:
    """Who did, or was denied, what."""

    event: Event
    time: int
    salt: bytes
    device_id: bytes
    address: str
    office: str
    concerns: str = ""  # the other office in the event, such as the originator's when a message is opened
    message_id: bytes | None = None
    message_ref: bytes | None = None
    label: bytes | None = None
    permitted: bool = True
    rules: tuple[str, ...] = ()  # the failing rules of a denial
    policy: bytes | None = None  # digest of the policy that decided
    request: bytes | None = None  # nonce of the signed request that caused it
    detail: str = ""
    warrant: tuple[bytes, ...] = ()

    def encoded(self) -> bytes:
        fields = {
            1: 1, 2: self.event.value, 3: self.time, 4: self.salt, 5: self.device_id, 6: self.address, 7: self.office,
            8: self.concerns, 9: self.message_id, 10: self.message_ref, 11: self.label, 12: self.permitted,
            13: list(self.rules), 14: self.policy, 15: self.request, 16: self.detail,
        }  # fmt: skip
        return encode(fields | {17: list(self.warrant)} if self.warrant else fields)


def parse_access_entry(encoded: bytes) -> AccessEntry:
    """Read an access-log entry. Raises Malformed."""
    fields = read_map(encoded, _FIELDS, _WARRANT, "access-log entry")
    expect_version(fields[1], "access-log entry")
    for key, kind in ((2, str), (6, str), (7, str), (8, str), (12, bool), (13, list), (16, str)):
        expect(fields[key], kind, f"access-log entry: field {key}")
    for key, length in ((9, 16), (10, 32), (14, 32), (15, 16)):
        if fields[key] is not None:
            expect_bytes(fields[key], length, f"access-log entry: field {key}")
    if fields[11] is not None:
        expect(fields[11], bytes, "access-log entry: label")
    if fields[2] not in _EVENTS:
        raise Malformed(f"access-log entry: event {fields[2]!r:.40} is unknown")
    if (17 in fields) is not (fields[2] in WARRANTED):
        raise Malformed("access-log entry: a hold or a recall has a warrant, and nothing else has one")
    return AccessEntry(
        event=Event(fields[2]),
        time=_time(fields[3], "access-log entry: time"),
        salt=expect_bytes(fields[4], 16, "access-log entry: salt"),
        device_id=expect_bytes(fields[5], 16, "access-log entry: device"),
        address=fields[6],
        office=fields[7],
        concerns=fields[8],
        message_id=fields[9],
        message_ref=fields[10],
        label=fields[11],
        permitted=fields[12],
        rules=tuple(expect(rule, str, "access-log entry: rule") for rule in fields[13]),
        policy=fields[14],
        request=fields[15],
        detail=fields[16],
        warrant=_warrant(fields[17]) if 17 in fields else (),
    )


def _time(value: object, what: str) -> int:
    expect_time(expect(value, int, what) // 1000, what)
    return value  # type: ignore[return-value]  # an int, as it has just been seen


def _warrant(value: object) -> tuple[bytes, ...]:
    words = tuple(expect(item, bytes, "warrant") for item in expect(value, list, "warrant"))
    if not 0 < len(words) <= MAX_WARRANT:
        raise Malformed(f"access-log entry: a warrant of 1 to {MAX_WARRANT} signed words")
    return words


class Change(StrEnum):
    """What an entry of the directory log changes."""

    OFFICE = "office"
    OFFICE_REMOVED = "office-removed"
    CERTIFICATE = "certificate"
    REVOCATION = "revocation"
    POLICY = "policy"
    AGREEMENT = "agreement"
    WITHDRAWAL = "withdrawal"
    KEY_BATCH = "key-batch"
    COMMUNITY = "community"
    ROSTER = "roster"
    APPROVERS = "approvers"
    RELAY_APPROVERS = "relay-approvers"
    AUDIT_GRANT = "audit-grant"


_CHANGES = frozenset(map(str, Change))


@dataclass(frozen=True, slots=True)
class DirectoryEntry:
    change: Change
    time: int
    salt: bytes
    payload: bytes  # the signed object; unsigned are OFFICE_REMOVED, KEY_BATCH and RELAY_APPROVERS
    approvals: tuple[bytes, ...] = ()  # signed by named people, where the change takes that

    def encoded(self) -> bytes:
        fields = [1, self.change.value, self.time, self.salt, self.payload]
        return encode([*fields, list(self.approvals)] if self.approvals else fields)


def parse_directory_entry(encoded: bytes) -> DirectoryEntry:
    """Read an entry of the directory log; raises Malformed, also for a change that this version does not know."""
    fields = expect(decode(encoded, "directory entry"), list, "directory entry")
    if len(fields) not in {5, 6}:
        raise Malformed("directory entry: expected an array of 5, or of 6 with approvals")
    version, change, time, salt, payload = fields[:5]
    expect_version(version, "directory entry")
    if expect(change, str, "directory entry: change") not in _CHANGES:
        raise Malformed(f"directory entry: {change!r:.40} is unknown", hint="a newer relay needs a newer program")
    return DirectoryEntry(
        change=Change(change),
        time=_time(time, "directory entry: time"),
        salt=expect_bytes(salt, 16, "directory entry: salt"),
        payload=expect(payload, bytes, "directory entry: payload"),
        approvals=read_approval_list(fields[5]) if len(fields) == 6 else (),
    )


def read_approval_list(value: object) -> tuple[bytes, ...]:
    """The signed approvals that come along: at least one, or the list would not be there."""
    approvals = tuple(expect(item, bytes, "approvals") for item in expect(value, list, "approvals"))
    if not 0 < len(approvals) <= MAX_APPROVALS:
        raise Malformed(f"approvals: expected 1 to {MAX_APPROVALS}")
    return approvals


@dataclass(frozen=True, slots=True)
class LoggedEntry:
    """An entry with its proof: what a caller gets as a receipt, and what a slot must come with."""

    entry: bytes
    index: int
    proof: tuple[bytes, ...]
    checkpoint: bytes  # the signed note under which the proof holds
    consistency: tuple[bytes, ...] = ()  # from the size the caller said it had seen to this checkpoint

    def fields(self) -> list[object]:
        return [self.entry, self.index, list(self.proof), self.checkpoint, list(self.consistency)]

    def encoded(self) -> bytes:
        return encode(self.fields())


def parse_logged_entry(encoded: bytes) -> LoggedEntry:
    return read_logged_entry(decode(encoded, "logged entry"))


def read_logged_entry(value: object) -> LoggedEntry:
    """Read what `LoggedEntry` writes, decoded; raises Malformed. Nothing of it is verified."""
    fields = expect(value, list, "logged entry")
    if len(fields) != 5:
        raise Malformed("logged entry: expected an array of 5")
    return LoggedEntry(
        entry=expect(fields[0], bytes, "logged entry: entry"),
        index=expect(fields[1], int, "logged entry: index"),
        proof=_hashes(fields[2], "logged entry: proof"),
        checkpoint=expect(fields[3], bytes, "logged entry: checkpoint"),
        consistency=_hashes(fields[4], "logged entry: consistency"),
    )


def _hashes(value: object, what: str) -> tuple[bytes, ...]:
    return tuple(expect_bytes(step, 32, what) for step in expect(value, list, what))
