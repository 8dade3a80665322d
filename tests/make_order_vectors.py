"""Writes tests/vectors/order/: recalls, holds, alarms, approvals and lists of approvers, and what a reader must refuse.

    PYTHONPATH=.:clients:tests python tests/make_order_vectors.py

SPEC.md, "Vectors", describes the files.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from make_vectors import plain
from relay.protocol.approval import APPROVAL, APPROVERS, list_ref
from relay.protocol.canonical import decode
from relay.protocol.cose import parse_sign1
from relay.protocol.hold import HOLD, hold_body
from vector_order_faults import refused
from vector_orders import (
    ALARM_OF_ANNA,
    APPROVED,
    HOLD_OF_ANNA,
    LIST,
    LISTED,
    ORDERS,
    RECALL_OF_ANNA,
    RELAY_LIST,
    WORD,
    Order,
    asked,
    of_the_word,
)

FOLDER = Path(__file__).parent / "vectors" / "order"
Vector = dict[str, object]


def right(order: Order, comment: str) -> Vector:
    """An order that reads, and every value on the way."""
    signed = parse_sign1(order.signed(), order.typ)
    values = {
        "seeds": order.signer.seeds, "kid": order.signer.kid, "protected": decode(signed.to_be_signed)[1],
        "payload": signed.payload, "to_be_signed": signed.to_be_signed, "ref": signed.ref,
    }  # fmt: skip
    return {
        "expect": "verified", "comment": comment, **order.given(order.signed()), "stated": plain(asdict(order.stated), "hex"),
        "detail": plain(values, "hex"),
    }  # fmt: skip


def bodies() -> dict[str, Vector]:
    """What takes more than one signed object."""
    counted = {"expect": "verified", "comment": "the approvals that it takes, as old and as far ahead as they may be"}
    listed = {"expect": "verified", "comment": "another list in place of it takes as many as its hardest matter"}
    octets, approvals = RELAY_LIST.payload(), [of_the_word(each) for each in LIST[1:3]]
    return {
        "approvals": counted | asked(APPROVED),
        "approvals-of-list": listed | asked(LISTED),
        "relay-approvers": {
            "expect": "verified", "comment": "the relay's own list: the payload alone, which nobody signs",
            "type": "relay-approvers", "payload": octets,
            "stated": plain(asdict(RELAY_LIST), "hex"), "detail": {"ref": list_ref(octets).hex()},
        },
        "hold-body": {
            "expect": "verified", "comment": "a hold with the approvals that stand in for a second word",
            "type": "hold-body", "body": hold_body(WORD, approvals),
            "detail": {"hold": _ref(WORD, HOLD), "approvals": [_ref(each, APPROVAL) for each in approvals]},
        },
    }  # fmt: skip


def _ref(signed: bytes, typ: str) -> str:
    return parse_sign1(signed, typ).ref.hex()


def files() -> dict[str, str]:
    """The text of each file by its name."""
    orders = {
        "recall": right(RECALL_OF_ANNA, "a recall"),
        "recall-spill": right(ORDERS["spill"], "a spill, with the longest reason: 500 characters, 1000 octets"),
        "hold": right(HOLD_OF_ANNA, "an officer's word to place a hold"),
        "hold-lift": right(ORDERS["lift"], "a word to lift one, with the longest reason: 200 characters, 400 octets"),
        "alarm": right(ALARM_OF_ANNA, "an alarm about an entry of the directory log"),
        "alarm-first": right(
            ORDERS["first"], "an alarm about entry 0, signed by an authority, with the longest finding"
        ),
        APPROVAL: right(ORDERS[APPROVAL], "an approval of an object, for a matter"),
        APPROVERS: right(ORDERS[APPROVERS], "an office's list, signed by its authority; Marek has two devices in it"),
    }
    found = orders | bodies() | {f"refused-{name}": vector for name, vector in refused().items()}
    head = {"format": "order vector, version 1"}
    return {
        f"{name}.json": json.dumps(head | plain(vector, "base64"), indent=1) + "\n" for name, vector in found.items()
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.json"):
        old.unlink()
    for name, text in files().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
