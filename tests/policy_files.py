"""Policies for tests: two fictitious ones kept here, and public ones read from LIAISON_SHARED where present."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from relay.protocol.decision import SAME_OFFICE, Action, NeedToKnow, decide
from relay.protocol.label import Category, Clearance, Label
from relay.protocol.policy import Policy
from relay.protocol.spif import read_spif

HERE = Path(__file__).parent
VECTORS = HERE / "vectors"
NEED = NeedToKnow("addressee", "anna.nowak@lo-warsaw")
NOW = 1_790_000_000  # 21 September 2026


def shared(name: str) -> bytes:
    path = Path(os.environ.get("LIAISON_SHARED", HERE.parent.parent / "shared")) / "examples" / name
    if not path.exists():
        pytest.skip(f"{name} is not at hand: set LIAISON_SHARED")
    return path.read_bytes()


@cache
def _kept(name: str) -> Policy:
    return read_spif((VECTORS / "label" / f"{name}.spif.xml").read_bytes())[0]


def meridian() -> Policy:
    return _kept("meridian")


def tidewater() -> Policy:
    return _kept("tidewater")


_READ: dict[str, Policy] = {}


def _shared_policy(name: str) -> Policy:
    if name not in _READ:
        _READ[name] = read_spif(shared(name))[0]
    return _READ[name]


def nato() -> Policy:
    return _shared_policy("nato-policy.xml")


def acme() -> Policy:
    return _shared_policy("ACME-SPIF-example.xml")


POLICIES = {"meridian": meridian, "tidewater": tidewater, "nato": nato, "acme": acme}


def categories(policy: Policy, chosen: dict[str, list[str]]) -> tuple[Category, ...]:
    """{"Release": ["ASTER"]} as categories of the type that the policy gives the tag set."""
    found = []
    for name, values in chosen.items():
        tag_set = policy.tag_set(name)
        assert tag_set is not None, name
        found.append(Category(tag_set.name, tag_set.oid, tag_set.tags[0].type, tuple(values)))
    return tuple(found)


def label(policy: Policy, rank: str, chosen: dict[str, list[str]] | None = None, **fields: object) -> Label:
    return Label(policy.ref, rank, categories(policy, chosen or {}), **fields)


def clearance(
    policy: Policy,
    ranks: list[str],
    chosen: dict[str, list[str]] | None = None,
    not_before: int = 0,
    not_after: int = 4_000_000_000,
) -> Clearance:
    return Clearance(policy.name, policy.oid, tuple(ranks), categories(policy, chosen or {}), not_before, not_after)


def chosen(**rows: list[str]) -> dict[str, list[str]]:
    """The rows that have a value, by the names of their tag sets."""
    return {name.replace("_", " "): values for name, values in rows.items() if values}


def may_read(policy: Policy, one: Label, grant: Clearance) -> bool:
    decision = decide(Action.READ, one, grant, SAME_OFFICE, NEED, policy, NOW)
    return not set(decision.failing) - {"label-valid"}  # a bound need not be a valid label


MERIDIAN = (VECTORS / "label" / "meridian.spif.xml").read_text()


def edited(text: str, old: str, new: str) -> Policy:
    """The policy of this SPIF after one replacement."""
    assert old in text
    return read_spif(text.replace(old, new, 1).encode())[0]
