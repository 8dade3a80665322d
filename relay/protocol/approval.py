"""Approvals: what takes M of N named people, and how a person agrees to exactly one thing.

    Approvers = {1: 1, 2: office or "", 3: version, 4: [[matter, M]...], 5: [[address, device_id]...], 6: at}
    Approval  = Sign1(approver's device; [1, matter, ref, device_id, address, at])

The rules:
  - an office's list is signed by its authority, the relay's own (office "") is the operator's word; either is changed
    only with the approvals of as many of the *old* list as its hardest matter takes;
  - people are named with their devices, or whoever holds the authority's key would certify himself a quorum;
  - an approval is of one object, by its ref, for one matter; who asks, or is the one it is about, does not approve;
  - two devices of one person are one person.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .canonical import encode, expect, expect_bytes, expect_time, expect_version, read_array, read_map
from .cose import parse_sign1, verify_sign1
from .dating import CLOCKS_APART
from .errors import Malformed, Refused, Unknown, Unverified
from .identity import Kind, check_office, parse_address

if TYPE_CHECKING:
    from .directory import Device, Directory  # which imports this module

APPROVERS, APPROVAL = "approvers", "approval"
MAX_NEEDED, MAX_DEVICES = 8, 64
MAX_AGE = 7 * 86400  # seconds


class Matter(StrEnum):
    ENROLMENT = "enrolment"  # of a device with the role `security`
    HOLD = "hold"
    ADMISSION = "admission"  # of an office
    APPROVERS = "approvers"  # the list itself; what it takes follows from the others


OF_AN_OFFICE, OF_THE_RELAY = frozenset({Matter.ENROLMENT, Matter.HOLD}), frozenset({Matter.ADMISSION})


@dataclass(frozen=True, slots=True)
class Approvers:
    """Who approves, and how many of them each matter takes."""

    office: str  # "" for the relay's own list
    version: int
    needed: tuple[tuple[Matter, int], ...]
    people: tuple[tuple[str, bytes], ...]  # (address, device); a person may have several devices
    at: int

    def threshold(self, matter: Matter) -> int:
        """How many have to approve; 0 where this list does not govern the matter."""
        if matter is Matter.APPROVERS:
            return max(count for _matter, count in self.needed)
        return dict(self.needed).get(matter, 0)

    def payload(self) -> bytes:
        return encode({
            1: 1, 2: self.office, 3: self.version, 4: [[matter.value, count] for matter, count in self.needed],
            5: [[address, device_id] for address, device_id in self.people], 6: self.at,
        })  # fmt: skip


def read_approvers(payload: bytes) -> Approvers:
    """A list from its payload; who signed it is the caller's to verify. Raises Malformed."""
    fields = read_map(payload, frozenset(range(1, 7)), frozenset(), APPROVERS)
    expect_version(fields[1], APPROVERS)
    office = expect(fields[2], str, "approvers: office")
    needed = tuple((_matter(name), expect(count, int, "approvers: M")) for name, count in _pairs(fields[4]))
    people = tuple(
        (expect(address, str, "approvers: address"), expect_bytes(device, 16, "approvers: device"))
        for address, device in _pairs(fields[5])
    )
    for address, _device in people:
        parse_address(address)
    governed, allowed = {matter for matter, _count in needed}, OF_AN_OFFICE if office else OF_THE_RELAY
    if not governed or not governed <= allowed or any(left >= right for (left, _), (right, _) in pairwise(needed)):
        raise Malformed(f"approvers: matters are one or more of {', '.join(sorted(allowed))}, each once, ascending")
    if not people or len(people) > MAX_DEVICES or any(left >= right for left, right in pairwise(people)):
        raise Malformed(f"approvers: 1 to {MAX_DEVICES} devices of people, ascending")
    most = min(MAX_NEEDED, len({address for address, _device in people}))
    if not all(1 <= count <= most for _matter, count in needed):
        raise Malformed(f"approvers: M is from 1 to {most}, which is how many there are or {MAX_NEEDED}")
    version, at = expect(fields[3], int, "approvers: version"), expect_time(fields[6], "approvers: time")
    return Approvers(check_office(office) if office else "", version, needed, people, at)


def _pairs(value: Any) -> Iterable[list[Any]]:
    rows = expect(value, list, APPROVERS)
    if any(type(row) is not list or len(row) != 2 for row in rows):
        raise Malformed("approvers: expected pairs")
    return rows  # type: ignore[no-any-return]  # just checked


def _matter(name: Any) -> Matter:
    if type(name) is not str or name not in set(Matter):
        raise Malformed(f"{name!r:.40} is no matter for approval", hint=", ".join(sorted(OF_AN_OFFICE | OF_THE_RELAY)))
    return Matter(name)


def list_ref(payload: bytes) -> bytes:
    """The name of the relay's own list, which nobody signs."""
    return hashlib.sha256(payload).digest()


def devices_of_people(directory: Directory, addresses: Iterable[str], now: int) -> tuple[tuple[str, bytes], ...]:
    """The devices by which these people can be named now. Raises Unknown for one who has none."""
    named = list[tuple[str, bytes]]()
    for address in addresses:
        own = [each for each in directory.devices_of(address, now) if each.address == address]
        if not own:
            raise Unknown(f"nobody is enrolled as {address}", hint="people are named, not roles")
        named += [(address, each.device_id) for each in own]
    return tuple(sorted(set(named)))


def check_people(approvers: Approvers, device_of: Callable[[bytes], Device | None]) -> None:
    """Every device that the list names may act now, as an officer of the list's office. Raises Refused."""
    for address, device_id in approvers.people:
        device = device_of(device_id)
        if device is None or device.address != address or device.kind is not Kind.OFFICER:
            raise Refused(f"approvers: {address} has no such device, or is no officer", rules=("approvers",))
        if approvers.office not in {"", device.office}:
            raise Refused(f"approvers: {address} is of another office", rules=("approvers",))


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's agreement to one object."""

    matter: Matter
    ref: bytes
    device_id: bytes
    address: str
    at: int

    def payload(self) -> bytes:
        return encode([1, self.matter.value, self.ref, self.device_id, self.address, self.at])


def read_approval(payload: bytes) -> Approval:
    """Read what was signed; raises Malformed for anything else."""
    version, matter, ref, device_id, address, at = read_array(payload, 6, APPROVAL)
    expect_version(version, APPROVAL)
    parse_address(address)
    return Approval(
        matter=_matter(matter),
        ref=expect_bytes(ref, 32, "approval: of what"),
        device_id=expect_bytes(device_id, 16, "approval: device"),
        address=address,
        at=expect_time(at, "approval: time"),
    )


@dataclass(frozen=True, slots=True)
class Question:
    """What is to be approved: an object by its ref, for a matter, by others than whom it comes from or is about."""

    matter: Matter
    ref: bytes
    own: str  # an address, or empty


def verify_approvals(
    approvers: Approvers,
    question: Question,
    approvals: Sequence[bytes],
    device_of: Callable[[bytes], Device | None],
    now: int,
) -> None:
    """Raise Refused unless enough named people agree to exactly this, Unverified for an approval that does not hold."""
    agreed, needed = set[str](), approvers.threshold(question.matter)
    for encoded in approvals:
        signed = parse_sign1(encoded, APPROVAL)
        stated = read_approval(signed.payload)
        if (stated.matter, stated.ref) != (question.matter, question.ref):
            raise Unverified(f"approval: {stated.address} approved something else")
        device = device_of(stated.device_id)
        if (stated.address, stated.device_id) not in approvers.people or device is None:
            raise Unverified(f"approval: {stated.address} is not named for it with this device, or no longer valid")
        if stated.address == question.own:
            raise Unverified(f"approval: {stated.address} would approve what is his own")
        if not now - MAX_AGE <= stated.at <= now + CLOCKS_APART:
            raise Unverified(f"approval: {stated.address} signed it too long ago, or in the future")
        verify_sign1(signed, device.signature_public)
        agreed.add(stated.address)
    if len(agreed) < needed:
        file = "the office's statement is FILE" if question.matter is Matter.ADMISSION else "--ask writes FILE"
        raise Refused(
            f"{question.matter}: this takes the approval of {needed} of the named people, and has {len(agreed)}",
            hint=f"{file}; each of them runs: liaison approve FILE -o APPROVAL; then again, with --approval APPROVAL",
            rules=("approvals",),
        )
