"""What can be wrong with a signed order, made from one that is right; what is wrong in a payload is signed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from octets import flipped
from relay.protocol.approval import APPROVAL, APPROVERS, MAX_AGE, Matter
from relay.protocol.canonical import LAST_SECOND, decode, encode
from relay.protocol.cose import format_sign1, protected_header, to_be_signed
from relay.protocol.dating import CLOCKS_APART
from relay.protocol.envelope import RECEIPT
from relay.protocol.suite import SUITE_1
from vector_orders import (
    ALARM_OF_ANNA,
    APPROVED,
    HOLD_OF_ANNA,
    LIST,
    ORDERS,
    RECALL_OF_ANNA,
    RELAY_LIST,
    SECOND,
    THIRD,
    WORD,
    Order,
    Question,
    approval,
    asked,
    of_the_word,
)
from vector_world import ANNA, KARI, KEYS, MAREK, NOW

MALFORMED, UNVERIFIED, REFUSED = "malformed", "unverified", "refused"
STRANGER = KEYS["stranger"]
Vector = dict[str, object]
READ, SIGNED, APPROVALS = 1, 2, 3  # the steps


def refused() -> dict[str, Vector]:
    """Every refused vector by its name."""
    orders = (RECALL_OF_ANNA, HOLD_OF_ANNA, ALARM_OF_ANNA, ORDERS[APPROVAL], ORDERS[APPROVERS])
    found = dict[str, Vector]()
    for order in orders:
        for name, comment, octets in [*_forms(order), *_fields(order)]:
            found[f"{order.typ}-{name}"] = _wrong(MALFORMED, READ, comment) | order.given(octets)
        for name, comment, octets in _signatures(order):
            found[f"{order.typ}-{name}"] = _wrong(UNVERIFIED, SIGNED, comment) | order.given(octets)
    for name, comment, payload in _relay_lists():
        given = {"type": "relay-approvers", "payload": payload}
        found[f"relay-approvers-{name}"] = _wrong(MALFORMED, READ, comment) | given
    for name, comment, body in _bodies():
        found[f"hold-body-{name}"] = _wrong(MALFORMED, READ, comment) | {"type": "hold-body", "body": body}
    for name, error, comment, question in _approvals():
        found[f"approvals-{name}"] = _wrong(error, APPROVALS, comment) | asked(question)
    return found


def _wrong(error: str, step: int, comment: str) -> Vector:
    return {"expect": error, "step": step, "comment": comment}


def _under(order: Order, protected: bytes) -> bytes:
    """The order under another protected header."""
    payload = order.stated.payload()
    return format_sign1(protected, payload, order.signer.sign(to_be_signed(protected, payload)))


def _forms(order: Order) -> Iterable[tuple[str, str, bytes]]:
    """Strict CBOR, type, algorithm."""
    right, payload, kid = order.signed(), order.stated.payload(), order.signer.kid
    protected, _, _, signature = decode(right)
    untyped = encode({1: SUITE_1.signature_alg, 4: kid})
    return [
        ("cbor-long", "an array's length in two octets", b"\x98\x04" + right[1:]),
        ("cbor-trailing", "an octet after the end of the payload", order.signed(payload + b"\0")),
        ("cbor-tag", "the CBOR tag of a COSE_Sign1 in front", b"\xd2" + right),
        ("header-unprotected", "a header that is not signed", encode([protected, {1: 0}, payload, signature])),
        ("header-short", "no type in the header", _under(order, untyped)),
        ("alg-unknown", "a signature algorithm of no suite", _under(order, protected_header(-70002, kid, order.typ))),
        ("kid-short", "a kid of 16 octets", _under(order, protected_header(SUITE_1.signature_alg, kid[:16], order.typ))),
        ("typ-other", "a receipt's type", _under(order, protected_header(SUITE_1.signature_alg, kid, RECEIPT))),
        ("payload-text", "a payload that is text", encode([protected, {}, "", signature])),
    ]  # fmt: skip


def _signatures(order: Order) -> Iterable[tuple[str, str, bytes]]:
    """Both halves, by the key that is to have signed."""
    right, payload = order.signed(), order.stated.payload()
    protected, _, _, signature = decode(right)
    stranger = protected_header(SUITE_1.signature_alg, STRANGER.kid, order.typ)
    forged = STRANGER.sign(to_be_signed(protected, payload))
    later = replace(order.stated, at=order.stated.at + 1).payload()
    return [
        ("signature-ed25519", "a bit of the Ed25519 half", flipped(right)),
        ("signature-mldsa", "a bit of the ML-DSA half", flipped(right, -3000)),
        ("signature-half", "the Ed25519 half alone", format_sign1(protected, payload, signature[-64:])),
        ("signature-other", "the right kid, signed with another key", format_sign1(protected, payload, forged)),
        ("kid-other", "another kid, signed with the right key", _under(order, stranger)),
        ("signer-other", "signed by another device than it names", STRANGER.sign_object(order.typ, payload)),
        ("payload-changed", "the time, after signing", format_sign1(protected, later, signature)),
    ]


def _fields(order: Order) -> Iterable[tuple[str, str, bytes]]:
    if order.typ == APPROVERS:
        return _list_fields(order)
    fields, (at, text) = decode(order.stated.payload()), _PLACES[order.typ]
    rows: list[tuple[str, str, Any]] = [
        ("field-missing", "no last field", fields[:-1]),
        ("field-unknown", "one field more", [*fields, 0]),
        ("map", "a map in place of the array", dict(enumerate(fields))),
        ("version-other", "version 2", [2, *fields[1:]]),
        ("version-true", "true in place of version 1", [True, *fields[1:]]),
    ]
    for place, name, comment, value in [*_times(at), *_texts(text, order.typ), *_OWN[order.typ]]:
        rows.append((name, comment, [*fields[:place], value, *fields[place + 1 :]]))
    return [(name, comment, order.signed(encode(payload))) for name, comment, payload in rows]


_PLACES = {"recall": (5, 4), "hold": (5, 6), "alarm": (5, 4), APPROVAL: (5, None)}  # of time and of free text
_MOST = {"recall": 500, "hold": 200, "alarm": 500}  # characters of the text


def _times(at: int) -> list[tuple[int, str, str, object]]:
    return [
        (at, "time-negative", "a time before 1970", -1),
        (at, "time-late", "a time of the year 10000", LAST_SECOND + 1),
        (at, "time-text", "the time as text", str(NOW)),
    ]


def _texts(at: int | None, typ: str) -> list[tuple[int, str, str, object]]:
    """What no auditor is to read in a log."""
    if at is None:
        return []
    return [
        (at, "text-empty", "no text", ""),
        (at, "text-blank", "text of blanks", "   "),
        (at, "text-long", f"{_MOST[typ] + 1} characters", "a" * (_MOST[typ] + 1)),
        (at, "text-lines", "a line feed", "Sent to the\nwrong office."),
        (at, "text-control", "an escape character, which steers a terminal", "Sent \x1b[2Jwrong."),
        (at, "text-direction", "U+202E, which turns the reading direction", "Sent \u202egnorw."),
        (at, "text-space", "U+00A0, a space that is no blank", "Sent\u00a0wrong."),
        (at, "text-separator", "U+2028, which separates lines", "Sent\u2028wrong."),
        (at, "text-private", "U+E000, which nobody can read", "Sent \ue000."),
        (at, "text-octets", "octets in place of text", b"Sent wrong."),
    ]


_OWN: dict[str, list[tuple[int, str, str, object]]] = {
    "recall": [
        (1, "message-short", "a message id of 15 octets", bytes(15)),
        (2, "device-long", "a kid in place of the device", KEYS[ANNA].kid),
        (3, "spill-integer", "1 in place of true", 1),
        (3, "spill-null", "null in place of false", None),
    ],
    "hold": [
        (1, "action-other", "an action that is neither place nor lift", "keep"),
        (1, "action-capital", "Place with a capital", "Place"),
        (2, "message-short", "a message id of 15 octets", bytes(15)),
        (3, "device-long", "a kid in place of the device", KEYS[ANNA].kid),
        (4, "address-office", "an office in place of the address", "lo-warsaw"),
        (4, "address-capital", "an address with a capital", "Anna.nowak@lo-warsaw"),
        (4, "address-octets", "an address as octets", ANNA.encode()),
    ],
    "alarm": [
        (1, "device-long", "a kid in place of the device", KEYS[ANNA].kid),
        (2, "index-negative", "index -1", -1),
        (2, "index-beyond", "index 2^63 - 1, which no log has", (1 << 63) - 1),
        (2, "index-true", "true in place of index 1", True),
        (3, "digest-short", "a digest of 31 octets", bytes(31)),
    ],
    APPROVAL: [
        (1, "matter-other", "a matter that there is not", "recall"),
        (2, "ref-short", "a ref of 31 octets", bytes(31)),
        (3, "device-long", "a kid in place of the device", KEYS[ANNA].kid),
        (4, "address-office", "an office in place of the address", "lo-warsaw"),
        (4, "address-octets", "an address as octets", ANNA.encode()),
    ],
}


def _list_fields(order: Order) -> list[tuple[str, str, bytes]]:
    fields = decode(order.stated.payload())
    people, needed = fields[5], fields[4]
    many = [[ANNA, place.to_bytes(16)] for place in range(65)]
    nine = [[f"p{place}@lo-warsaw", place.to_bytes(16)] for place in range(9)]
    rows: list[tuple[str, str, dict[int, Any]]] = [
        ("field-missing", "no field 6", {key: value for key, value in fields.items() if key != 6}),
        ("field-unknown", "a field 7", fields | {7: 0}),
        ("version-other", "format version 2", fields | {1: 2}),
        ("version-true", "true in place of format version 1", fields | {1: True}),
        ("office-capital", "an office with a capital", fields | {2: "Lo-warsaw"}),
        ("number-text", "the list's version as text", fields | {3: "1"}),
        ("matters-none", "no matter", fields | {4: []}),
        ("matters-unsorted", "matters not ascending", fields | {4: needed[::-1]}),
        ("matters-doubled", "a matter twice", fields | {4: [["hold", 1], ["hold", 2]]}),
        ("matters-single", "a matter without M", fields | {4: [["hold"]]}),
        ("matter-of-relay", "admission, which only the relay's list governs", fields | {4: [["admission", 1]]}),
        ("matter-of-list", "the list itself as a matter of its own", fields | {4: [["approvers", 1]]}),
        ("matter-other", "a matter that there is not", fields | {4: [["recall", 1]]}),
        ("needed-none", "M of 0", fields | {4: [["hold", 0]]}),
        ("needed-true", "true in place of M", fields | {4: [["hold", True]]}),
        ("needed-beyond", "M of 4 with three people on four devices", fields | {4: [["hold", 4]]}),
        ("needed-nine", "M of 9", fields | {4: [["hold", 9]], 5: nine}),
        ("people-none", "nobody", fields | {5: []}),
        ("people-unsorted", "people not ascending", fields | {5: people[::-1]}),
        ("people-doubled", "a device twice", fields | {5: [people[0], *people]}),
        ("people-many", "65 devices", fields | {4: [["hold", 1]], 5: many}),
        ("people-address", "an office in place of an address", fields | {5: [["lo-warsaw", bytes(16)], *people]}),
        ("device-short", "a device of 15 octets", fields | {4: [["hold", 1]], 5: [[ANNA, bytes(15)]]}),
        ("time-late", "a time of the year 10000", fields | {6: LAST_SECOND + 1}),
    ]  # fmt: skip
    unsorted = encode(fields)[:1] + encode(fields)[3:] + b"\x01\x01"
    return [
        ("keys-unsorted", "the first field comes last", order.signed(unsorted)),
        *((name, comment, order.signed(encode(payload))) for name, comment, payload in rows),
    ]


def _relay_lists() -> list[tuple[str, str, bytes]]:
    fields = decode(RELAY_LIST.payload())
    signed = KEYS["authority@lo-warsaw"].sign_object(APPROVERS, RELAY_LIST.payload())
    return [
        ("matter-of-office", "hold, which an office's list governs", encode(fields | {4: [["hold", 1]]})),
        ("signed", "a signed object in place of the payload", signed),
    ]


def _bodies() -> list[tuple[str, str, bytes]]:
    given = of_the_word(LIST[1])
    return [
        ("approvals-none", "an empty array of approvals", encode([WORD, []])),
        ("approvals-many", "nine approvals", encode([WORD, [given] * 9])),
        ("approvals-text", "an approval that is text", encode([WORD, [""]])),
        ("word-inside", "the hold itself, not its octets", encode([decode(WORD), [given]])),
        ("long", "a third item", encode([WORD, [given], 0])),
        ("approval-alone", "an approval in place of the hold", given),
    ]


def _approvals() -> list[tuple[str, str, str, Question]]:
    """Section 20.6. One that does not hold spoils the others, even where these are enough."""
    anna, zofia, marek, second = LIST
    enough = list(APPROVED.approvals)

    def beside(*approvals: bytes) -> Question:
        return Question([*enough, *approvals])

    return [
        ("few", REFUSED, "one of two", Question(enough[:1])),
        ("none", REFUSED, "none of two", Question([])),
        ("one-person", REFUSED, "one person on two devices", Question([approval(marek), approval(second)])),
        ("one-twice", REFUSED, "the same approval twice", Question(enough[:1] * 2)),
        ("list-few", REFUSED, "one of two for another list", Question([approval(anna, matter=Matter.APPROVERS)], Matter.APPROVERS, "")),
        ("matter-other", UNVERIFIED, "one is for a hold", beside(approval(zofia, matter=Matter.HOLD))),
        ("ref-other", UNVERIFIED, "one is of another object", beside(approval(zofia, ref=bytes(32)))),
        ("own", UNVERIFIED, "one is by whom it is about", Question(enough, own=MAREK)),
        ("not-named", UNVERIFIED, "one is by somebody who is not in the list", beside(approval((KARI, KEYS[KARI])))),
        ("device-other", UNVERIFIED, "one is on a device that is not in the list", beside(approval((MAREK, THIRD)))),
        ("address-other", UNVERIFIED, "one names another's device", beside(approval((ANNA, SECOND)))),
        ("device-ended", UNVERIFIED, "one is on a device that may act no more", Question(enough, ended=KEYS[MAREK].device_id)),
        ("old", UNVERIFIED, "one is a second older than 7 days", beside(approval(zofia, at=NOW - MAX_AGE - 1))),
        ("ahead", UNVERIFIED, "one is 301 seconds ahead", beside(approval(zofia, at=NOW + CLOCKS_APART + 1))),
        ("signer-other", UNVERIFIED, "one is signed with another key", beside(approval(zofia, STRANGER))),
        ("signature", UNVERIFIED, "a bit of one's signature", beside(flipped(approval(zofia)))),
        ("typ-other", MALFORMED, "one is a hold", beside(WORD)),
    ]  # fmt: skip
