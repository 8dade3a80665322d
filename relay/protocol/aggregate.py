"""Labels of several things together, and the order among labels of one policy.

The rules:
  - the join is an upper bound: whoever may read under the join may read under every label that went in.
    ADatP-4774.1 section 4.4 rules 5 and 6 drop a release tag that is empty or not common, which is not an
    upper bound; here an absent release tag means everyone, the tags present are intersected, and nothing in
    common is NOBODY, which needs a person;
  - where the policy keeps a label without a tag in its owner's office (`owner_only`), to lack the tag is the
    narrowest release: a member that lacks it, or nothing in common, makes a join that lacks it;
  - informative values limit nobody: they are united, and left out where that makes a label that is not valid;
  - a join may turn out invalid under its policy (`policy.validate`): then no label expresses it;
  - bounds presume clearances without gaps (`clearance_gaps`): a list down to the lowest classification, and
    what the policy's extensions say an owner holds. What an office keeps to itself it shows to those who
    may read what it releases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import Enum

from .compiled import NO_VALUES, compile_label, with_members
from .equivalence import translate
from .errors import Malformed, Refused
from .label import Category, Clearance, Label, TagType, fold
from .policy import Finding, Key, Policy, classification_rank

__all__ = [
    "NOBODY",
    "Nobody",
    "clearance_gaps",
    "dominates",
    "effective_label",
    "join",
    "translate",
]


class Nobody(Enum):
    """The join of labels that no one reader may read together."""

    NOBODY = "nobody"


NOBODY = Nobody.NOBODY


def effective_label(label: Label, now: int) -> Label:
    """The label that counts at `now`: the successor from its time on. A past review time changes nothing."""
    while label.succession is not None and label.succession.at <= now:
        label = label.succession.label
    return label


def clearance_gaps(policy: Policy, clearance: Clearance) -> tuple[Finding, ...]:
    """Why bounds do not hold for this clearance: a gap in its list, or an owner without the owner's value."""
    held = {fold(name) for name in clearance.classifications}
    known = [each for each in policy.classifications if fold(each.name) in held]
    top = max((each.hierarchy for each in known), default=-1)
    findings = [
        Finding("gap", f"the clearance lists a higher classification, but not {each.name}")
        for each in policy.classifications
        if each.hierarchy < top and fold(each.name) not in held
    ]
    values = {(fold(each.tag_name), fold(name)) for each in clearance.categories for name in each.values}
    for owner in policy.extensions.owners:
        owns = (fold(owner.owner_set), fold(owner.owner_value)) in values
        if owns and (fold(owner.tag_set), fold(owner.value)) not in values:
            findings.append(
                Finding("owner", f"{owner.owner_set} {owner.owner_value} without {owner.tag_set} {owner.value}")
            )
    return tuple(findings)


def join(policy: Policy, labels: Iterable[Label]) -> Label | Nobody:
    """The lowest label that bounds all `labels` (at least one, all under `policy`), or NOBODY.

    It pins the oldest version that they pin. Successions, originators, times and privacy marks are not joined. Raises
    Refused for a label of another policy, Malformed for no label or a name that the policy does not know.
    """
    members = tuple(labels)
    if not members:
        raise Malformed("join: no label")
    for label in members:
        if label.policy.oid != policy.oid:
            raise Refused(f"join: {label.policy.name} is not {policy.name}", rules=("same-policy",))
    highest = max(members, key=lambda label: classification_rank(policy, label.classification))
    categories: list[Category] = []
    for key in sorted({(each.tag_set_oid, each.type) for label in members for each in label.categories}):
        joined = _join_tag(policy, key, members)
        if joined is NOBODY:
            return NOBODY
        if joined is not None:
            categories.append(joined)
    _drop_owned(policy, categories)
    rank = policy.classification(highest.classification)
    name = highest.classification if rank is None else rank.name
    # what is obsolete since then is so in a label of today only
    oldest = min((each.policy for each in members), key=lambda ref: ref.version)
    bound = _without_offence(policy, Label(policy=oldest, classification=name, categories=tuple(categories)))
    # where a label that is not valid went in, nothing may bound it
    return bound if all(dominates(policy, bound, each) for each in members) else NOBODY


def _without_offence(policy: Policy, bound: Label) -> Label:
    """`bound` without each INFORMATIVE category that only makes it invalid: it limits nobody."""
    for category in bound.categories:
        if category.type is TagType.INFORMATIVE and (findings := compile_label(policy, bound).findings):
            bare = replace(bound, categories=tuple(each for each in bound.categories if each != category))
            if len(compile_label(policy, bare).findings) < len(findings):
                bound = bare
    return bound


def _join_tag(policy: Policy, key: Key, labels: Sequence[Label]) -> Category | Nobody | None:
    """The tag's joined values; None if the join lacks the tag, which keeps it in its owner's office."""
    tag_set = policy.index.by_oid.get(key[0])
    if tag_set is None or key not in policy.index.tags:
        raise Malformed(f"join: {policy.name} has no {key[1].name} tag set {key[0]}")
    lists = [
        frozenset(map(fold, each.values))
        for label in labels
        for each in label.categories
        if (each.tag_set_oid, each.type) == key
    ]
    values = lists[0]
    for other in lists[1:]:
        values = _common(policy, key, values, other) if key[1] is TagType.PERMISSIVE else values | other
    known = policy.index.values[key]
    unknown = values - known.keys()
    if unknown:
        raise Malformed(f"join: {tag_set.name} has no value {min(unknown)!r}")
    owner_only = key[1] is TagType.PERMISSIVE and fold(tag_set.name) in _owner_only(policy)
    if owner_only and (len(lists) < len(labels) or not values):
        return None
    if not values:
        return NOBODY
    return Category(tag_set.name, tag_set.oid, key[1], tuple(known[value][0].name for value in values))


def _owner_only(policy: Policy) -> frozenset[str]:
    """The tag sets, folded, without which a label stays in its owner's office."""
    return frozenset(fold(name) for name, means in policy.extensions.absent if means == "owner_only")


def _common(policy: Policy, key: Key, left: frozenset[str], right: frozenset[str]) -> frozenset[str]:
    """Values that satisfy both lists: a group and its member have the member in common.

    The closures are transitive, so whoever satisfies a common value satisfies both lists. A member of a
    common group is left out, being said already.
    """
    both = with_members(policy, key, left) & with_members(policy, key, right)
    groups = policy.index.members.get(key, {})
    return both.difference(*(_below(groups, group) for group in both & groups.keys()))


def _below(groups: Mapping[str, frozenset[str]], group: str) -> frozenset[str]:
    """The members of a group without those that have it for a member themselves."""
    members = groups[group]
    if group not in members:  # in no circle
        return members
    return frozenset(value for value in members if group not in groups.get(value, NO_VALUES))


def _drop_owned(policy: Policy, categories: list[Category]) -> None:
    """Take away a release tag that every reader satisfies already, being one of its owners."""
    released = {
        fold(each.tag_name): frozenset(map(fold, each.values)) for each in categories if each.type is TagType.PERMISSIVE
    }
    for owner in policy.extensions.owners:
        name, owners = fold(owner.tag_set), frozenset({fold(owner.owner_value)})
        if name in _owner_only(policy):  # there its absence narrows
            continue
        if released.get(fold(owner.owner_set)) == owners and fold(owner.value) in released.get(name, NO_VALUES):
            categories[:] = [
                each for each in categories if fold(each.tag_name) != name or each.type is not TagType.PERMISSIVE
            ]


def dominates(policy: Policy, high: Label, low: Label) -> bool:
    """Whether every clearance without gaps that permits `high` permits `low`. False for the unknown."""
    if high.policy.oid != policy.oid or low.policy.oid != policy.oid:
        return False
    above, below = policy.classification(high.classification), policy.classification(low.classification)
    if above is None or below is None or above.hierarchy < below.hierarchy:
        return False
    upper, lower = compile_label(policy, high), compile_label(policy, low)
    required = {key: values for key, values, _ in upper.restrictive}
    released = {key: values for key, values, _ in upper.permissive}
    if not all(values <= required.get(key, NO_VALUES) for key, values, _ in lower.restrictive):
        return False
    if not set(lower.owner_only) <= set(upper.owner_only):
        return False
    kept = set(map(fold, upper.owner_only))
    return all(
        fold(category.tag_name) in kept
        or (key in released and released[key] <= values)
        or _is_owned(policy, released, key, values)
        for key, values, category in lower.permissive
    )


def _is_owned(policy: Policy, released: Mapping[Key, frozenset[str]], key: Key, values: frozenset[str]) -> bool:
    for owner in policy.extensions.owners:
        tag_set, owners = policy.tag_set(owner.tag_set), policy.tag_set(owner.owner_set)
        if tag_set is None or owners is None or tag_set.oid != key[0] or fold(owner.value) not in values:
            continue
        if released.get((owners.oid, TagType.PERMISSIVE)) == frozenset({fold(owner.owner_value)}):
            return True
    return False
