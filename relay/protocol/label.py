"""Confidentiality labels and clearances, as ADatP-4774 structures them, and their one byte form.

The rules:
  - names are text without control characters, leading, trailing or double blanks; an empty name is malformed;
  - a category has at least one value (the 4774 schema allows none; no reader agrees on what that means);
  - one label or clearance has a tag set of one type at most once: a second one would widen release;
  - categories and values are kept sorted and without duplicates, so equal labels are equal bytes;
  - a label pins its policy: name, oid, version and the SHA-256 of the policy file it was written under;
  - there are at most 64 categories with 512 values together;
  - times are seconds since 1970 UTC, to the end of 9999.

Whether a label is *valid* is a question to its policy (`policy.validate`), not to this module.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from itertools import pairwise
from typing import Any

from . import canonical
from .canonical import expect, expect_bytes, expect_texts, expect_time, read_map
from .errors import LiaisonError, Malformed
from .memo import remember

MAX_NAME = 256  # the limit of the SPIF schema for names and phrases
MAX_CATEGORIES, MAX_VALUES = 64, 512  # values: of all categories together; whoever meets a label goes through them
MAX_SUCCESSION = 4  # successors of one label, each with the next inside it
_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*))+")


class TagType(IntEnum):
    RESTRICTIVE = 1
    PERMISSIVE = 2
    INFORMATIVE = 3


def normalise(text: str) -> str:
    """`text` with every run of white space as one blank and none at the ends."""
    return " ".join(text.split())


def fold(text: str) -> str:
    """The form in which names are compared: white space normalised, case folded (4774 section 5.1)."""
    return " ".join(text.split()).casefold()


def check_name(text: Any, what: str) -> str:
    """`text` if it is a clean, non-empty name; else Malformed."""
    expect(text, str, what)
    if not text or len(text) > MAX_NAME or text != normalise(text) or not text.isprintable():
        raise Malformed(f"{what}: empty, too long, or not clean text")
    return str(text)


def check_oid(text: Any, what: str) -> str:
    """`text` if it is a dotted object identifier; else Malformed."""
    if not _OID.fullmatch(check_name(text, what)):
        raise Malformed(f"{what}: {text!r} is not an object identifier")
    return str(text)


@dataclass(frozen=True, slots=True)
class PolicyRef:
    name: str
    oid: str
    version: int
    digest: bytes

    def __post_init__(self) -> None:
        check_name(self.name, "policy name")
        check_oid(self.oid, "policy oid")
        if expect(self.version, int, "policy version") < 0:
            raise Malformed("policy version: negative")
        expect_bytes(self.digest, 32, "policy digest")


@dataclass(frozen=True, slots=True)
class Category:
    """The selected values of one tag set; `folded` are the same names, one for one, as they are compared."""

    tag_name: str
    tag_set_oid: str
    type: TagType
    values: tuple[str, ...]
    folded: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name(self.tag_name, "tag name")
        check_oid(self.tag_set_oid, "tag set oid")
        expect(self.type, TagType, f"type of tag {self.tag_name}")
        for value in self.values:
            check_name(value, f"value of tag {self.tag_name}")
        if not self.values:
            raise Malformed(f"tag {self.tag_name}: no value")
        object.__setattr__(self, "values", tuple(sorted(set(self.values))))
        object.__setattr__(self, "folded", tuple(map(fold, self.values)))


def _canonical(categories: Sequence[Category]) -> tuple[Category, ...]:
    if len(categories) > MAX_CATEGORIES or sum(len(each.values) for each in categories) > MAX_VALUES:
        raise Malformed(f"categories: more than {MAX_CATEGORIES}, or more than {MAX_VALUES} values")
    ordered = tuple(sorted(categories, key=lambda category: (category.tag_set_oid, category.type)))
    for left, right in pairwise(ordered):
        if (left.tag_set_oid, left.type) == (right.tag_set_oid, right.type):
            raise Malformed(f"tag {left.tag_name}: given twice")
    return ordered


@dataclass(frozen=True, slots=True)
class Succession:
    """From `at` on, `label` counts instead of the one that carries this."""

    at: int
    label: Label

    def __post_init__(self) -> None:
        expect_time(self.at, "succession time")


@dataclass(frozen=True, slots=True)
class Label:
    """A confidentiality label. `originator`, `created` and `review` do not take part in decisions."""

    policy: PolicyRef
    classification: str
    categories: tuple[Category, ...] = ()
    privacy_mark: str | None = None
    originator: str | None = None
    created: int | None = None
    review: int | None = None
    succession: Succession | None = None

    def __post_init__(self) -> None:
        check_name(self.classification, "classification")
        object.__setattr__(self, "categories", _canonical(self.categories))
        for text, what in ((self.privacy_mark, "privacy mark"), (self.originator, "originator")):
            if text is not None:
                check_name(text, what)
        for moment, what in ((self.created, "creation time"), (self.review, "review time")):
            if moment is not None:
                expect_time(moment, what)
        depth, step = 0, self.succession
        while step is not None:
            depth, step = depth + 1, step.label.succession
        if depth > MAX_SUCCESSION:
            raise Malformed(f"label: more than {MAX_SUCCESSION} successors")


@dataclass(frozen=True, slots=True)
class Clearance:
    """What its holder may access under one policy. The classifications are a list, not a level."""

    policy_name: str
    policy_oid: str
    classifications: tuple[str, ...]
    categories: tuple[Category, ...]
    not_before: int
    not_after: int

    def __post_init__(self) -> None:
        check_name(self.policy_name, "clearance policy name")
        check_oid(self.policy_oid, "clearance policy oid")
        for name in self.classifications:
            check_name(name, "clearance classification")
        if not self.classifications:
            raise Malformed("clearance: no classification")
        object.__setattr__(self, "classifications", tuple(sorted(set(self.classifications))))
        object.__setattr__(self, "categories", _canonical(self.categories))
        if expect_time(self.not_before, "clearance start") > expect_time(self.not_after, "clearance end"):
            raise Malformed("clearance: ends before it starts")


def label_bytes(label: Label) -> bytes:
    """The one encoding of a label: a map; a successor is nested as its own bytes."""
    policy = label.policy
    fields: dict[int, Any] = {
        1: [policy.name, policy.oid, policy.version, policy.digest],
        2: label.classification,
        3: category_rows(label.categories),
        4: label.privacy_mark,
        5: label.originator,
        6: label.created,
        7: label.review,
    }
    if label.succession is not None:
        fields[8] = [label.succession.at, label_bytes(label.succession.label)]
    return canonical.encode({key: value for key, value in fields.items() if value is not None})


def parse_label(encoded: bytes) -> Label:
    """Read a label; raises Malformed for anything but its one encoding."""
    return _parse_label(encoded, MAX_SUCCESSION)


def _parse_label(encoded: bytes, successors: int) -> Label:
    fields = read_map(encoded, frozenset({1, 2, 3}), frozenset(range(4, 9)), "label")
    for key in fields.keys() & {4, 5}:
        check_name(fields[key], f"label field {key}")
    for key in fields.keys() & {6, 7}:
        expect_time(fields[key], f"label field {key}")
    succession = None
    if 8 in fields:
        at, successor = _row(fields[8], 2, "succession")
        if successors == 0:
            raise Malformed(f"label: more than {MAX_SUCCESSION} successors")
        nested = _parse_label(expect(successor, bytes, "successor label"), successors - 1)
        succession = Succession(at, nested)
    return Label(
        policy=PolicyRef(*_row(fields[1], 4, "policy reference")),
        classification=fields[2],
        categories=read_categories(fields[3], "label"),
        privacy_mark=fields.get(4),
        originator=fields.get(5),
        created=fields.get(6),
        review=fields.get(7),
        succession=succession,
    )


def breadth(label: Label) -> int:
    """How many values it has, those of its successors included: some 200 octets of memory each."""
    count = 0
    step: Label | None = label
    while step is not None:
        count += sum(len(category.values) for category in step.categories)
        step = step.succession.label if step.succession is not None else None
    return count


# Labels repeat: a relay sees the same few dozen byte strings all day. A label in memory is up to 45 times its octets.
# Those of one message fit, being judged for each of its readers.
label_of = remember(1 << 18, lambda _label, encoded: len(encoded))(parse_label)


def readable_label(encoded: bytes) -> Label | None:
    """The label in its encoding, or None if it is none."""
    try:
        return label_of(encoded)
    except LiaisonError:
        return None


def clearance_bytes(clearance: Clearance) -> bytes:
    """The one encoding of a clearance."""
    return canonical.encode(
        {
            1: clearance.policy_name,
            2: clearance.policy_oid,
            3: list(clearance.classifications),
            4: category_rows(clearance.categories),
            5: clearance.not_before,
            6: clearance.not_after,
        }
    )


def parse_clearance(encoded: bytes) -> Clearance:
    """Read a clearance; raises Malformed for anything but its one encoding."""
    fields = read_map(encoded, frozenset(range(1, 7)), frozenset(), "clearance")
    return Clearance(
        policy_name=fields[1],
        policy_oid=fields[2],
        classifications=expect_texts(fields[3], "clearance classifications"),
        categories=read_categories(fields[4], "clearance"),
        not_before=fields[5],
        not_after=fields[6],
    )


def _row(value: Any, length: int, what: str) -> list[Any]:
    if type(value) is not list or len(value) != length:
        raise Malformed(f"{what}: expected an array of {length}")
    return value


def category_rows(categories: Sequence[Category]) -> list[list[Any]]:
    return [[each.tag_name, each.tag_set_oid, int(each.type), list(each.values)] for each in categories]


def read_categories(rows: Any, what: str) -> tuple[Category, ...]:
    """Categories from their rows, in their one order; raises Malformed."""
    if type(rows) is not list:
        raise Malformed(f"{what}: categories are not an array")
    categories = []
    for row in rows:
        name, oid, number, values = _row(row, 4, f"{what} category")
        if type(number) is not int or number not in TagType._value2member_map_:
            raise Malformed(f"{what}: unknown category type {number!r}")
        texts = expect_texts(values, f"{what} category values")
        categories.append(Category(name, oid, TagType(number), texts))
    if tuple(categories) != _canonical(categories):
        raise Malformed(f"{what}: categories out of order")
    return tuple(categories)
