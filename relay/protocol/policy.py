"""A compiled security policy and the question whether a label is valid under it.

The rules:
  - a label is valid if `validate` finds nothing; what the policy does not know is a finding, never ignored;
  - names are compared with white space and case folded; the policy reader refuses two names that differ in
    case only, so folding never makes one of two;
  - values are looked up by (tag set oid, type), not by tag name. Where a policy gives one name to several
    values of a tag set, the constraints of all of them hold;
  - an obsolete name stays valid in labels that pin an older version of the policy, and is refused in new;
  - times are seconds since 1970, the clock is the caller's.

Sources: ADatP-4774 section 4 and App 2, ADatP-4774.1 sections 3.4 and 3.11, Open XML SPIF 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from .errors import Malformed
from .label import Category, Label, PolicyRef, TagType, fold
from .policy_elements import (
    NO_MARKING,
    Classification,
    EquivalentPolicy,
    Group,
    Marking,
    Requirement,
    TagSet,
    Value,
)
from .policy_extensions import NO_EXTENSIONS, PolicyExtensions, check_extensions, parse_extensions
from .policy_index import Key, PolicyIndex, build_index

__all__ = [
    "Finding",
    "Key",
    "Policy",
    "PolicyExtensions",
    "classification_rank",
    "is_at_or_above",
    "parse_extensions",
    "validate",
]


@dataclass(frozen=True, slots=True)
class Finding:
    """`rule` is a stable word, `why` is for people."""

    rule: str
    why: str


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """Immutable. `digest` is the SHA-256 of the policy file's bytes. Compared and hashed by identity."""

    name: str
    oid: str
    version: int
    digest: bytes
    classifications: tuple[Classification, ...]
    tag_sets: tuple[TagSet, ...] = ()
    marking: Marking = NO_MARKING
    equivalents: tuple[EquivalentPolicy, ...] = ()
    memberships: tuple[tuple[str, tuple[str, ...]], ...] = ()
    privacy_marks: tuple[str, ...] = ()
    not_before: int | None = None
    not_after: int | None = None
    extensions: PolicyExtensions = NO_EXTENSIONS
    index: PolicyIndex = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self,
            "index",
            build_index(self.classifications, self.tag_sets, (*self.memberships, *self.extensions.memberships)),
        )
        check_extensions(self)

    @property
    def ref(self) -> PolicyRef:
        return PolicyRef(self.name, self.oid, self.version, self.digest)

    def classification(self, name: str) -> Classification | None:
        return self.index.classifications.get(fold(name))

    def tag_set(self, name: str) -> TagSet | None:
        return self.index.tag_sets.get(fold(name))

    def chosen(self, category: Category) -> list[tuple[str, tuple[Value, ...]]]:
        """Each name in the category, with every value that its tag set and type have of it: perhaps none."""
        by_name = self.index.values.get((category.tag_set_oid, category.type), {})
        return [(name, by_name.get(folded, ())) for name, folded in zip(category.values, category.folded, strict=True)]


def classification_rank(policy: Policy, name: str) -> int:
    """The hierarchy number of a classification. Raises Malformed for an unknown one."""
    known = policy.classification(name)
    if known is None:
        raise Malformed(f"{policy.name} has no classification {name!r}")
    return known.hierarchy


def is_at_or_above(policy: Policy, name: str, threshold: str | None) -> bool:
    """Whether `name` ranks at or above `threshold`; without a threshold, nothing does."""
    return threshold is not None and classification_rank(policy, name) >= classification_rank(policy, threshold)


def validate(policy: Policy, label: Label, now: int) -> tuple[Finding, ...]:
    """Every reason why `label` is not valid under `policy` at `now`; empty if it is valid."""
    return (*static_findings(policy, label), *timed_findings(label_periods(policy, label), now))


def static_findings(policy: Policy, label: Label) -> tuple[Finding, ...]:
    """The findings that no passing of time changes."""
    return tuple(_identity_findings(policy, label.policy)) or tuple(_content_findings(policy, label))


Period = tuple[int | None, int | None, str]


def label_periods(policy: Policy, label: Label) -> tuple[Period, ...]:
    """The validity periods, with the name they belong to, that this label depends on."""
    rows: list[Period] = [(policy.not_before, policy.not_after, f"policy {policy.name}")]
    for category in label.categories:
        for name, values in policy.chosen(category):
            rows += [(value.not_before, value.not_after, name) for value in values]
    return tuple(row for row in rows if row[0] is not None or row[1] is not None)


def timed_findings(periods: Iterable[Period], now: int) -> tuple[Finding, ...]:
    """What of these is not valid at `now`, in seconds."""
    return tuple(
        Finding("validity-period", f"{name} is not valid at this time")
        for start, end, name in periods
        if (start is not None and now < start) or (end is not None and now > end)
    )


def _identity_findings(policy: Policy, ref: PolicyRef) -> Iterator[Finding]:
    if ref.oid != policy.oid or fold(ref.name) != fold(policy.name):
        yield Finding("policy", f"the label is under {ref.name} ({ref.oid}), not {policy.name} ({policy.oid})")
    elif policy.version < ref.version:
        yield Finding("policy", f"the label pins version {ref.version}, this is the older {policy.version}")
    elif policy.version == ref.version and policy.digest != ref.digest:
        yield Finding("policy", f"two different policy files claim to be version {policy.version}")


def _content_findings(policy: Policy, label: Label) -> Iterator[Finding]:
    rank = policy.classification(label.classification)
    if rank is None:
        yield Finding("classification", f"{policy.name} has no classification {label.classification!r}")
    elif rank.obsolete and label.policy.version >= policy.version:
        yield Finding("obsolete", f"classification {rank.name} is obsolete")
    selected = _selected(policy, label)
    for category in label.categories:
        yield from _category_findings(policy, label, category, selected)
    for requirement in rank.required if rank else ():
        yield from _requirement_findings(policy, selected, requirement, label.classification)
    yield from _selection_findings(policy, label)
    yield from _extension_findings(policy, label)
    if label.succession is not None:
        successor = label.succession.label
        if any(static_findings(policy, successor)):
            yield Finding("succession", "the successor label is not valid under the policy")


def _category_findings(policy: Policy, label: Label, category: Category, selected: Selected) -> Iterator[Finding]:
    tag_set = policy.index.by_oid.get(category.tag_set_oid)
    if tag_set is None:
        yield Finding("tag", f"{policy.name} has no tag set {category.tag_name} ({category.tag_set_oid})")
        return
    if fold(tag_set.name) != fold(category.tag_name):
        yield Finding("tag", f"{category.tag_set_oid} is {tag_set.name}, not {category.tag_name}")
    if (category.tag_set_oid, category.type) not in policy.index.tags:
        yield Finding("type", f"{tag_set.name} is not {category.type.name}")
        return
    for name, values in policy.chosen(category):
        if not values:
            yield Finding("value", f"{tag_set.name} has no value {name!r}")
        elif all(value.obsolete for value in values) and label.policy.version >= policy.version:
            yield Finding("obsolete", f"{tag_set.name} {name} is obsolete")
        for value in values:
            yield from _value_findings(policy, label, value, selected)


def _value_findings(policy: Policy, label: Label, value: Value, selected: Selected) -> Iterator[Finding]:
    rank = fold(label.classification)
    if value.free_text:
        yield Finding("value", f"{value.name} would carry free text, which no label may")
    if value.required_class is not None and fold(value.required_class) != rank:
        yield Finding("required-class", f"{value.name} needs {value.required_class}")
    if rank in value.excluded_classes:
        yield Finding("excluded-class", f"{value.name} is excluded at {label.classification}")
    for requirement in value.required:
        yield from _requirement_findings(policy, selected, requirement, value.name)
    for name in sorted({name for name, _, _ in selected.keys() & _named(policy, value)}):
        beside = policy.index.tag_sets[name].name
        yield Finding("excluded-category", f"{value.name} is excluded beside this value of {beside}")


Single = tuple[str, TagType, str]  # folded tag set, type, lacv
Selected = Mapping[Single, str]  # and the name, folded: a label has it with every value that it stands for


def _selected(policy: Policy, label: Label) -> Selected:
    return {
        (fold(category.tag_name), category.type, value.lacv): fold(name)
        for category in label.categories
        for name, values in policy.chosen(category)
        for value in values
    }


def expand_group(policy: Policy, group: Group) -> frozenset[Single]:
    """The single values that a group names."""
    key = (fold(group.tag_set), group.type)
    if group.lacv is not None:
        return frozenset({(*key, group.lacv)})
    tag_set = policy.tag_set(group.tag_set)
    tags = () if tag_set is None else policy.index.tags.get((tag_set.oid, group.type), ())
    return frozenset((*key, value.lacv) for tag in tags for value in tag.values)


@lru_cache(maxsize=1024)  # it may be 65536 values, and is asked for every label
def _named(policy: Policy, by: Requirement | Value) -> frozenset[Single]:
    groups = by.groups if isinstance(by, Requirement) else by.excluded
    return frozenset[Single]().union(*(expand_group(policy, group) for group in groups))


def _requirement_findings(policy: Policy, selected: Selected, requirement: Requirement, by: str) -> Iterator[Finding]:
    wanted = _named(policy, requirement)
    present = selected.keys() & wanted
    names = {(*key[:2], selected[key]) for key in present}
    met = {"onlyOne": len(names) == 1, "oneOrMore": bool(names), "all": bool(names) and present == wanted}
    if not met.get(requirement.operation, False):
        sets = ", ".join(sorted({group.tag_set for group in requirement.groups}))
        yield Finding("required-category", f"{by} needs {requirement.operation} of given values of {sets}")


def _selection_findings(policy: Policy, label: Label) -> Iterator[Finding]:
    chosen = {(each.tag_set_oid, each.type): each.folded for each in label.categories}
    for key, tag, names in policy.index.limited:
        count = len(names.intersection(chosen.get(key, ())))
        if count < tag.min_selection:
            yield Finding("selection", f"{tag.name} needs at least {tag.min_selection} value(s)")
        if tag.max_selection is not None and count > tag.max_selection:
            yield Finding("selection", f"{tag.name} takes at most {tag.max_selection} value(s)")


def _extension_findings(policy: Policy, label: Label) -> Iterator[Finding]:
    extensions = policy.extensions
    held = {fold(each.tag_name): set(each.folded) for each in label.categories}
    released = {fold(each.tag_name) for each in label.categories if each.type is TagType.PERMISSIVE}
    lacking = [name for name in extensions.mandatory if fold(name) not in held]
    lacking += [name for name, means in extensions.absent if means == "invalid" and fold(name) not in released]
    for name in lacking:
        yield Finding("mandatory-tag", f"every label of {policy.name} needs {name}")
    for pair in extensions.companions:
        partner = fold(pair.partner_value) in held.get(fold(pair.partner_set), set())
        if partner != (fold(pair.tag_set) in held):
            together = f"{pair.tag_set} and {pair.partner_set} {pair.partner_value}"
            yield Finding("companion", f"{together} come together or not at all")
    for choice in extensions.single_choices:
        chosen = held.get(fold(choice.tag_set))
        if chosen is not None and len(chosen - {fold(name) for name in choice.besides}) != 1:
            besides = ", ".join(choice.besides)
            yield Finding("selection", f"{choice.tag_set} takes one value besides {besides}")
