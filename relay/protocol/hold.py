"""Legal hold: two security officers of one office keep a message, and what the log says of it, from being destroyed.

    Hold = Sign1(officer's device; [1, action, message_id, device_id, address, at, reason])      action: "place", "lift"
    body = Hold, or, with approvals, [<< Hold >>, [<< Approval >>...]]

The rules:
  - a hold is an office's own: two different officers of it with the role `security` place it, two lift it, and no
    other office can;
  - one officer's word alone does nothing; where the office has named approvers for holds, it takes that one and
    their approvals instead of a second word;
  - whoever's word waits for a second must still be entitled when that comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from .canonical import decode, encode, expect, expect_bytes, expect_time, expect_version, read_array
from .cose import Sign1
from .directory import Device
from .entry import read_approval_list
from .errors import Malformed
from .header import Core
from .identity import SECURITY_ROLE, Kind, parse_address

HOLD = "hold"
WORDS_NEEDED = 2
MAX_REASON = 200


class Action(StrEnum):
    PLACE = "place"
    LIFT = "lift"


@dataclass(frozen=True, slots=True)
class Hold:
    action: Action
    message_id: bytes
    device_id: bytes
    address: str
    at: int
    reason: str

    def payload(self) -> bytes:
        return encode([1, self.action.value, self.message_id, self.device_id, self.address, self.at, self.reason])


def hold_body(encoded: bytes, approvals: Sequence[bytes]) -> bytes:
    """What is posted: the word alone, or with the approvals of others."""
    return encode([encoded, list(approvals)]) if approvals else encoded


def read_hold_body(body: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """The signed word and the approvals beside it. Raises Malformed."""
    fields = decode(body, "hold")
    if type(fields) is list and len(fields) == 2:
        return expect(fields[0], bytes, "hold"), read_approval_list(fields[1])
    return body, ()


def read_hold(signed: Sign1) -> Hold:
    """The statement in a signed object; who signed it is the caller's to verify. Raises Malformed."""
    version, action, message_id, device_id, address, at, reason = read_array(signed.payload, 7, "hold")
    expect_version(version, "hold")
    if expect(action, str, "hold: action") not in set(Action):
        raise Malformed(f"hold: {action!r:.40} is neither place nor lift")
    parse_address(address)
    return Hold(
        action=Action(action),
        message_id=expect_bytes(message_id, 16, "hold: message"),
        device_id=expect_bytes(device_id, 16, "hold: device"),
        address=address,
        at=expect_time(at, "hold: time"),
        reason=check_reason(expect(reason, str, "hold: reason")),
    )


def check_reason(reason: str) -> str:
    """`reason` if it can stand in a log: some text on one line, at most MAX_REASON characters. Raises Malformed."""
    if not reason.strip() or not reason.isprintable() or len(reason) > MAX_REASON:
        raise Malformed(f"hold: the reason is one line of at most {MAX_REASON} characters")
    return reason


def is_holder(device: Device) -> bool:
    """Whether this is a security officer, who states holds of its office and is told of them."""
    roles = device.certificate.roles if device.certificate is not None else ()
    return device.kind is Kind.OFFICER and SECURITY_ROLE in roles


def may_hold(device: Device, core: Core) -> bool:
    """Whether this is a security officer of the originator's or of an addressed office."""
    return is_holder(device) and core.has_party(device.office)
