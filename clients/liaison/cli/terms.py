"""An agreement's terms, as a security officer drafts them in TOML. Unknown, missing and mistyped keys are errors."""

from __future__ import annotations

import os
import time
import tomllib
from pathlib import Path
from typing import Any

from liaison.authority import DAY, Authority
from relay.protocol.agreement import Agreement, Party
from relay.protocol.errors import Malformed
from relay.protocol.label import Category
from relay.protocol.policy import Policy

_TYPES = {  # of the draft's keys, in words
    "title": "text",
    "policy": "text",
    "offices": "a list of texts",
    "ceiling": "text",
    "classifications": "a list of texts",
    "categories": "a table of lists of texts",
    "communities": "a list of texts",
    "purposes": "a list of texts",
    "equivalent_to": "a list of texts",
    "onward_release": "true or false",
    "valid_days": "a number of days",
}


def read_terms(file: Path, office: Authority) -> Agreement:
    """The agreement that a TOML file describes, valid from now. Raises Malformed."""
    try:
        given = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise Malformed(f"{file}: {problem}") from None
    if unknown := given.keys() - _TYPES.keys():
        raise Malformed(f"{file}: unknown key {min(unknown)}", hint=f"known: {', '.join(sorted(_TYPES))}")
    for key in ("policy", "offices"):
        if key not in given:
            raise Malformed(f"{file}: {key} is missing")
    for key, value in given.items():
        if not _is_a(value, _TYPES[key]):
            raise Malformed(f"{file}: {key} must be {_TYPES[key]}")
    policy = next((each for each in office.policies() if each.name == given["policy"]), None)
    if policy is None:
        raise Malformed(f"{file}: your office has published no policy {given['policy']!r}")
    now = int(time.time())
    return Agreement(
        title=given.get("title", ""),
        parties=_parties(file, given["offices"], office),
        policy_name=policy.name,
        policy_oid=policy.oid,
        classifications=_classifications(file, given, policy),
        categories=_categories(file, given.get("categories", {}), policy),
        communities=tuple(sorted(given.get("communities", []))),
        purposes=tuple(sorted(given.get("purposes", []))),
        onward_release=given.get("onward_release", False),
        not_before=now - 60,
        not_after=now + given.get("valid_days", 365) * DAY,
        nonce=os.urandom(16),
        mappings=_mappings(file, given, policy, office),
    )


def _mappings(file: Path, given: dict[str, Any], policy: Policy, office: Authority) -> tuple[tuple[bytes, bytes], ...]:
    """The policy's own table into other parties' policies, pinned file by file: both sides sign these digests."""
    published = office.trust.directory.policies.values()
    pairs = set()
    for name in given.get("equivalent_to", []):
        targets = {p.spif_digest for p in published if p.name == name and p.office in given["offices"]}
        if not targets:
            raise Malformed(f"{file}: none of the parties has published a policy {name!r}")
        pairs |= {(policy.digest, target) for target in targets}
    return tuple(sorted(pairs))


def _is_a(value: Any, wanted: str) -> bool:
    match wanted:
        case "text":
            return isinstance(value, str)
        case "a list of texts":
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        case "a table of lists of texts":
            return isinstance(value, dict) and all(_is_a(item, "a list of texts") for item in value.values())
        case "true or false":
            return isinstance(value, bool)
        case _:
            return type(value) is int and value > 0


def _parties(file: Path, offices: Any, office: Authority) -> tuple[Party, ...]:
    known = office.trust.directory.offices
    for name in offices:
        if name not in known:
            raise Malformed(f"{file}: office {name!r} is not admitted at this relay", hint="relay office list")
    if office.office not in offices:
        raise Malformed(f"{file}: your own office {office.office} is not a party")
    return tuple(Party(name, known[name].nation, known[name].kid) for name in sorted(set(offices)))


def _classifications(file: Path, given: dict[str, Any], policy: Policy) -> tuple[str, ...]:
    if ("ceiling" in given) == ("classifications" in given):
        raise Malformed(f"{file}: give either ceiling or classifications")
    if "ceiling" in given:
        ceiling = policy.classification(str(given["ceiling"]))
        if ceiling is None:
            raise Malformed(f"{file}: {policy.name} has no classification {given['ceiling']!r}")
        return tuple(sorted(c.name for c in policy.classifications if c.hierarchy <= ceiling.hierarchy))
    names = [policy.classification(str(name)) for name in given["classifications"]]
    if None in names:
        raise Malformed(f"{file}: a classification that {policy.name} does not have")
    return tuple(sorted({known.name for known in names if known is not None}))


def _categories(file: Path, given: dict[str, Any], policy: Policy) -> tuple[Category, ...]:
    found = []
    for tag_name, values in given.items():
        tag_set = policy.tag_set(tag_name)
        kinds = {kind for oid, kind in policy.index.values if tag_set is not None and oid == tag_set.oid}
        if tag_set is None or len(kinds) != 1:
            raise Malformed(f"{file}: {policy.name} has no tag set {tag_name!r}")
        category = Category(tag_set.name, tag_set.oid, next(iter(kinds)), tuple(values))
        for value, known in policy.chosen(category):
            if not known:
                raise Malformed(f"{file}: {tag_set.name} has no value {value!r}")
        found.append(category)
    return tuple(sorted(found, key=lambda category: (category.tag_set_oid, category.type)))
