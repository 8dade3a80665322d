"""Labels, clearances and categories prepared for set comparison under one policy. Pure, hence cacheable.

Only what time does not change is kept; validity periods are kept as periods and looked at on every call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from .label import Category, Clearance, Label, TagType, breadth, fold
from .memo import remember
from .policy import Finding, Key, Period, Policy, label_periods, static_findings

Row = tuple[Key, frozenset[str], Category]


@dataclass(frozen=True, slots=True)
class CompiledLabel:
    """`permissive` rows hold every value that satisfies the tag, members of groups included."""

    findings: tuple[Finding, ...]
    periods: tuple[Period, ...]
    classification: str
    restrictive: tuple[Row, ...]
    permissive: tuple[Row, ...]
    owner_only: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CompiledGrant:
    """What a clearance or an agreement lists, folded."""

    classifications: frozenset[str]
    values: dict[Key, frozenset[str]]


NO_VALUES: frozenset[str] = frozenset()
_ENTRY = 256  # values; so no more than 512 policies are kept from being forgotten


def _weigh(compiled: CompiledLabel, _policy: Policy, label: Label) -> int:
    """In values. Under a policy that was written for it, a label of 400 octets has 8000 findings or members."""
    rows = sum(len(values) for _, values, _ in (*compiled.restrictive, *compiled.permissive))
    findings = sum(1 + len(finding.why) // 64 for finding in compiled.findings)
    return _ENTRY + breadth(label) + rows + findings + len(compiled.periods)


@remember(512 * _ENTRY, _weigh)
def compile_label(policy: Policy, label: Label) -> CompiledLabel:
    """What of a decision depends on the policy and the label alone, and not on a reader or the time."""
    restrictive: list[Row] = []
    permissive: list[Row] = []
    for category in label.categories:
        key = (category.tag_set_oid, category.type)
        values = frozenset(category.folded)
        if category.type is TagType.RESTRICTIVE:
            restrictive.append((key, values, category))
        elif category.type is TagType.PERMISSIVE:
            permissive.append((key, with_members(policy, key, values), category))
    released = {fold(category.tag_name) for _, _, category in permissive}
    return CompiledLabel(
        findings=static_findings(policy, label),
        periods=label_periods(policy, label),
        classification=fold(label.classification),
        restrictive=tuple(restrictive),
        permissive=tuple(permissive),
        owner_only=tuple(
            name for name, means in policy.extensions.absent if means == "owner_only" and fold(name) not in released
        ),
    )


def with_members(policy: Policy, key: Key, values: frozenset[str]) -> frozenset[str]:
    """The folded `values` of a permissive tag and every member of those that are groups."""
    groups = policy.index.members.get(key, {})
    return values.union(*(groups.get(value, NO_VALUES) for value in values))


@lru_cache(maxsize=4096)
def compile_clearance(clearance: Clearance) -> CompiledGrant:
    return _grant(clearance.classifications, clearance.categories)


@lru_cache(maxsize=4096)
def compile_ceiling(classifications: tuple[str, ...], categories: tuple[Category, ...]) -> CompiledGrant:
    return _grant(classifications, categories)


def _grant(classifications: tuple[str, ...], categories: tuple[Category, ...]) -> CompiledGrant:
    values: dict[Key, frozenset[str]] = {}
    for category in categories:
        key = (category.tag_set_oid, category.type)
        if key in values:  # a second list for one tag set is not what its author meant: grant neither
            values[key] = NO_VALUES
        else:
            values[key] = frozenset(category.folded)
    return CompiledGrant(frozenset(map(fold, classifications)), values)
