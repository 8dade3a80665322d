"""Labels as ADatP-5636 JSON, out and in. Of three JSON forms in circulation, the one of that standard.

    {"context": {"@base": "urn:nato:stanag:5636:A:1:elements:json"},
     "ocl": {"pol": "urn:oid:…", "cls": "SECRET", "catl": [{"name", "type": R|P|I, "vals"}], "dcr": "…Z"}}

In is as strict as the XML: unknown, missing, doubled and mistyped keys are malformed. What the form has no place
for (privacy mark, originator, review, succession) is not in it.
"""

from __future__ import annotations

import json
from typing import Any

from .errors import Malformed
from .label import Category, Label, TagType
from .policy import Policy
from .xml import format_datetime, parse_datetime

_BASE = "urn:nato:stanag:5636:A:1:elements:json"
_LETTERS = {TagType.RESTRICTIVE: "R", TagType.PERMISSIVE: "P", TagType.INFORMATIVE: "I"}
_TYPES = {letter: kind for kind, letter in _LETTERS.items()}
_MAX = 1 << 20


def label_ocl_json(label: Label) -> bytes:
    """The label in UTF-8."""
    content: dict[str, Any] = {
        "pol": f"urn:oid:{label.policy.oid}",
        "cls": label.classification,
        "catl": [
            {"name": each.tag_name, "type": _LETTERS[each.type], "vals": list(each.values)} for each in label.categories
        ],
    }
    if label.created is not None:
        content["dcr"] = format_datetime(label.created)
    return json.dumps({"context": {"@base": _BASE}, "ocl": content}, ensure_ascii=False, separators=(",", ":")).encode()


def read_label_ocl_json(encoded: bytes, policy: Policy) -> Label:
    """The label in such a document, pinned to `policy`. Raises Malformed naming the key.

    Whether it is valid under the policy is `policy.validate`'s question.
    """
    if len(encoded) > _MAX:
        raise Malformed("label JSON: over 1 MiB")
    try:
        document = json.loads(encoded, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as problem:
        raise Malformed(f"label JSON: {problem}") from None
    _keys(document, {"context", "ocl"}, set(), "label JSON")
    if document["context"] != {"@base": _BASE}:
        raise Malformed("label JSON: the context is not that of ADatP-5636")
    content = document["ocl"]
    _keys(content, {"pol", "cls", "catl"}, {"dcr"}, "ocl")
    if content["pol"] != f"urn:oid:{policy.oid}":
        raise Malformed(f"ocl: pol is {content['pol']!r:.80}, the policy at hand is urn:oid:{policy.oid}")
    rank = policy.classification(_text(content["cls"], "ocl: cls"))
    if type(content["catl"]) is not list:
        raise Malformed("ocl: catl is not a list")
    return Label(
        policy=policy.ref,
        classification=rank.name if rank is not None else content["cls"],
        categories=tuple(_category(each, policy) for each in content["catl"]),
        created=parse_datetime(_text(content["dcr"], "ocl: dcr"), "ocl: dcr") if "dcr" in content else None,
    )


def _category(given: Any, policy: Policy) -> Category:
    _keys(given, {"name", "type", "vals"}, set(), "catl")
    tag_set = policy.tag_set(_text(given["name"], "catl: name"))
    kind = _TYPES.get(_text(given["type"], "catl: type"))
    if tag_set is None or kind is None:
        raise Malformed(f"catl: tag {given['name']!r:.80} of type {given['type']!r:.10} is unknown")
    if type(given["vals"]) is not list or not given["vals"]:
        raise Malformed(f"catl: tag {tag_set.name} has no value")
    values = [_text(value, "catl: vals") for value in given["vals"]]
    if len(set(values)) != len(values):
        raise Malformed(f"catl: tag {tag_set.name} has a value twice")
    probe = Category(tag_set.name, tag_set.oid, kind, tuple(values))
    spelled = tuple(known[0].name if known else value for value, known in policy.chosen(probe))
    return Category(tag_set.name, tag_set.oid, kind, spelled)


def _text(value: Any, what: str) -> str:
    if type(value) is not str:
        raise Malformed(f"{what} is not text")
    return value


def _keys(given: Any, required: set[str], optional: set[str], what: str) -> None:
    if type(given) is not dict or not required <= given.keys() <= required | optional:
        raise Malformed(f"{what}: expected {', '.join(sorted(required))} and nothing unknown")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key given twice")
    return found
