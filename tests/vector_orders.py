"""Signed orders of the fixed world: who recalls, holds, approves and raises an alarm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple

from liaison.keys import SigningKey
from relay.protocol.alarm import ALARM, Alarm
from relay.protocol.approval import APPROVAL, APPROVERS, MAX_AGE, Approval, Approvers, Matter
from relay.protocol.cose import parse_sign1
from relay.protocol.dating import CLOCKS_APART
from relay.protocol.hold import HOLD, Action, Hold
from relay.protocol.recall import RECALL, Recall
from vector_world import ANNA, KARI, KEYS, MAREK, NOW, seed, signing

MESSAGE_ID = seed("message")[:16]
ZOFIA = "zofia.lis@lo-warsaw"
AUTHORITY = KEYS["authority@lo-warsaw"]
SECOND, THIRD = signing(f"{MAREK}, second device"), signing(f"{MAREK}, third device")
ABLE = (KEYS[ANNA], KEYS[MAREK], SECOND, THIRD, signing(ZOFIA), KEYS[KARI])  # to act now
LIST = ((ANNA, KEYS[ANNA]), (ZOFIA, signing(ZOFIA)), (MAREK, KEYS[MAREK]), (MAREK, SECOND))
ENTRY, ABOUT = sha256(b"a directory entry").digest(), sha256(b"a certificate").digest()


@dataclass(frozen=True)
class Order:
    """One signed statement and who signs it."""

    typ: str
    stated: Any  # Recall, Hold, Alarm, Approval or Approvers
    signer: SigningKey = KEYS[ANNA]

    def signed(self, payload: bytes | None = None) -> bytes:
        return self.signer.sign_object(self.typ, self.stated.payload() if payload is None else payload)

    def given(self, signed: bytes) -> dict[str, object]:
        """What a reader has: the octets, and the key of the device, or the authority, that is to have signed them."""
        return {"type": self.typ, "signed": signed, "public": self.signer.public}


OWN = KEYS[ANNA].device_id
_LIST = Approvers(
    "lo-warsaw", 1, ((Matter.ENROLMENT, 2), (Matter.HOLD, 1)),
    tuple(sorted((address, key.device_id) for address, key in LIST)), NOW - 3600,
)  # fmt: skip
RELAY_LIST = replace(
    _LIST, office="", needed=((Matter.ADMISSION, 2),), people=tuple(sorted(((ANNA, OWN), (KARI, KEYS[KARI].device_id))))
)
RECALL_OF_ANNA = Order(RECALL, Recall(MESSAGE_ID, OWN, False, "Sent to the wrong office.", NOW))
HOLD_OF_ANNA = Order(HOLD, Hold(Action.PLACE, MESSAGE_ID, OWN, ANNA, NOW, "Inquiry 7 of the court."))
ALARM_OF_ANNA = Order(ALARM, Alarm(OWN, 12, ENTRY, "A certificate that I did not ask for.", NOW))
ORDERS = {
    "spill": replace(
        RECALL_OF_ANNA,
        stated=replace(RECALL_OF_ANNA.stated, spill=True, reason="ż" * 500),
    ),
    "lift": replace(
        HOLD_OF_ANNA,
        stated=replace(HOLD_OF_ANNA.stated, action=Action.LIFT, reason="ż" * 200),
    ),
    "first": Order(ALARM, Alarm(AUTHORITY.device_id, 0, ENTRY, "ż" * 500, NOW), AUTHORITY),
    APPROVAL: Order(APPROVAL, Approval(Matter.ENROLMENT, ABOUT, OWN, ANNA, NOW)),
    APPROVERS: Order(APPROVERS, _LIST, AUTHORITY),
}


def approval(person: tuple[str, SigningKey], by: SigningKey | None = None, **changes: object) -> bytes:
    """One person's, of ABOUT as an enrolment; signed by another key than it names where `by` is given."""
    address, key = person
    stated = replace(Approval(Matter.ENROLMENT, ABOUT, key.device_id, address, NOW), **changes)  # type: ignore[arg-type]
    return (by or key).sign_object(APPROVAL, stated.payload())


class Question(NamedTuple):
    """An object, the matter for which it is to be approved, whose own it is, and what was said."""

    approvals: Sequence[bytes]
    matter: Matter = Matter.ENROLMENT
    own: str = KARI
    ended: bytes = b""  # a device that may act no more


def asked(question: Question) -> dict[str, object]:
    """What whoever counts approvals has: list, question, approvals, the devices that may act now, and the time."""
    devices = {each.device_id.hex(): each.public for each in ABLE if each.device_id != question.ended}
    return {
        "type": "approvals", "approvers": _LIST.payload(), "matter": question.matter, "ref": ABOUT.hex(), "own": question.own,
        "approvals": question.approvals, "devices": devices, "now": NOW,
    }  # fmt: skip


APPROVED = Question([approval(LIST[0], at=NOW - MAX_AGE), approval(LIST[2], at=NOW + CLOCKS_APART)])
LISTED = Question([approval(each, matter=Matter.APPROVERS) for each in LIST[:2]], Matter.APPROVERS, "")


WORD = HOLD_OF_ANNA.signed()


def of_the_word(person: tuple[str, SigningKey]) -> bytes:
    """One person's approval of WORD."""
    return approval(person, matter=Matter.HOLD, ref=parse_sign1(WORD, HOLD).ref)
