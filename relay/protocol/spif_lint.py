"""What is wrong with a policy as a whole: what makes it unusable, and what its authority should look at.

Sources: ADatP-4774.1 section 3.4 (consistency checks); reference rules of Open XML SPIF 2.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from .errors import Malformed
from .label import TagType, fold
from .policy import Finding, Policy, expand_group
from .policy_elements import Classification, Group, Requirement, TagSet, Value

MAX_LANGUAGES = 64  # a marking is looked up in each
MAX_REQUIRED = 65536  # values, as often as they are named: everybody who meets a label of the policy goes through them


def check_policy(classifications: tuple[Classification, ...], tag_sets: tuple[TagSet, ...]) -> None:
    """Raise Malformed for what no label could be judged by: doubles and references that lead nowhere."""
    if not classifications:
        raise Malformed("SPIF: no classification")
    _unique("classification", (fold(each.name) for each in classifications))
    _unique("classification lacv", (each.lacv for each in classifications))
    # Two classifications of one rank would each count as the highest: a join could miss either.
    _unique("classification hierarchy", (str(each.hierarchy) for each in classifications))
    _unique("tag set", (fold(each.name) for each in tag_sets))
    _unique("tag set id", (each.oid for each in tag_sets))
    known = {fold(each.name) for each in classifications}
    lacvs: set[tuple[str, TagType, str | None]] = set()
    for tag_set in tag_sets:
        rows = [(tag.type, value) for tag in tag_set.tags for value in tag.values]
        _unique(f"value of {tag_set.name}: lacv", (f"{kind.name} {value.lacv}" for kind, value in rows))
        _check_case(tag_set)
        _check_release(tag_set)
        lacvs |= {(fold(tag_set.name), kind, lacv) for kind, value in rows for lacv in (value.lacv, None)}
    for tag_set, _, value in _values(tag_sets):
        names = {*value.excluded_classes, *((value.required_class,) if value.required_class else ())}
        for name in names:
            if fold(name) not in known:
                raise Malformed(f"SPIF: {tag_set.name} {value.name} refers to no classification {name!r}")
        _check_groups(f"{tag_set.name} {value.name}", (*_groups(value.required), *value.excluded), lacvs)
    for rank in classifications:
        _check_groups(rank.name, _groups(rank.required), lacvs)


def _values(tag_sets: Iterable[TagSet]) -> Iterator[tuple[TagSet, TagType, Value]]:
    for tag_set in tag_sets:
        for tag in tag_set.tags:
            for value in tag.values:
                yield tag_set, tag.type, value


def _groups(requirements: Iterable[Requirement]) -> tuple[Group, ...]:
    return tuple(group for requirement in requirements for group in requirement.groups)


def _unique(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Malformed(f"SPIF: {what} {name!r} is given twice")
        seen.add(name)


def _check_case(tag_set: TagSet) -> None:
    spelled: dict[tuple[TagType, str], str] = {}
    for tag in tag_set.tags:
        for value in tag.values:
            first = spelled.setdefault((tag.type, fold(value.name)), value.name)
            if first != value.name:
                raise Malformed(f"SPIF: {tag_set.name} has {first!r} and {value.name!r}, different in case only")


def _check_release(tag_set: TagSet) -> None:
    tags = [tag.name for tag in tag_set.tags if tag.type is TagType.PERMISSIVE]
    if len(tags) > 1:
        raise Malformed(
            f"SPIF: {tag_set.name} has {len(tags)} permissive tags: {', '.join(tags)}",
            hint="give each a tag set of its own: of the values that a label has of one tag set any one will do",
        )


def _check_groups(holder: str, groups: Iterable[Group], lacvs: set[tuple[str, TagType, str | None]]) -> None:
    for group in groups:
        if (fold(group.tag_set), group.type, group.lacv) not in lacvs:
            raise Malformed(f"SPIF: {holder} refers to no value {group.lacv} of {group.tag_set}")


def check_extent(policy: Policy) -> None:
    """Raise Malformed for more languages, or requirements and exclusions, than to read and hold a label to."""
    values = [value for _, _, value in _values(policy.tag_sets)]
    required = [rank.required for rank in policy.classifications] + [value.required for value in values]
    excluded = (value.excluded for value in values)
    markings = [
        policy.marking,
        *(rank.marking for rank in policy.classifications),
        *(tag.marking for tag_set in policy.tag_sets for tag in tag_set.tags),
        *(value.marking for value in values),
    ]
    phrases = (phrase.lang for marking in markings for phrase in marking.phrases)
    qualifiers = (qualifier.lang for marking in markings for qualifier in marking.qualifiers)
    if len({*phrases, *qualifiers}) > MAX_LANGUAGES:
        raise Malformed(f"SPIF: its markings are in more than {MAX_LANGUAGES} languages")
    count = 0
    for group in chain(*map(_groups, required), *excluded):
        count += len(expand_group(policy, group))
        if count > MAX_REQUIRED:
            raise Malformed(f"SPIF: its requirements and exclusions name more than {MAX_REQUIRED} values")


def lint(policy: Policy) -> tuple[Finding, ...]:
    """Warnings: the policy is usable, but perhaps not what its authority meant."""
    return (
        *_names(policy),
        *_members(policy),
        *_constraints(policy),
        *_mappings(policy),
        *_release(policy),
        *_colors(policy),
    )


def _names(policy: Policy) -> Iterator[Finding]:
    for (oid, _), by_name in policy.index.values.items():
        for values in by_name.values():
            if len(values) > 1:
                name = f"{policy.index.by_oid[oid].name} {values[0].name}"
                yield Finding("duplicate-name", f"{name} stands for {len(values)} values; all constraints hold")
    for tag_set, _, value in _values(policy.tag_sets):
        if value.free_text:
            yield Finding("free-text", f"{tag_set.name} {value.name} takes free text, which no label may carry")


def _members(policy: Policy) -> Iterator[Finding]:
    for key, groups in policy.index.members.items():
        by_name = policy.index.values[key]
        for group, members in groups.items():
            for values in (by_name[name] for name in sorted(members)):
                if all(value.obsolete or value.not_after is not None for value in values):
                    why = f"{values[0].name} stays a member of {by_name[group][0].name} when its own value is over"
                    yield Finding("group-member", f"{why}: end the membership too")


def _constraints(policy: Policy) -> Iterator[Finding]:
    everything = {fold(each.name) for each in policy.classifications}
    for tag_set, _, value in _values(policy.tag_sets):
        excluded = value.excluded_classes
        name = f"{tag_set.name} {value.name}"
        if value.required_class is not None and fold(value.required_class) in excluded:
            yield Finding("contradiction", f"{name} requires and excludes {value.required_class}")
        if everything <= excluded:
            yield Finding("contradiction", f"{name} is excluded at every classification")
        needed = {each for group in _groups(value.required) for each in expand_group(policy, group)}
        barred = {each for group in value.excluded for each in expand_group(policy, group)}
        if needed & barred:
            yield Finding("contradiction", f"{name} requires and excludes one value")
        if value.not_before is not None and value.not_after is not None and value.not_before > value.not_after:
            yield Finding("contradiction", f"{name} ends before it begins")
    usable = {
        (fold(tag_set.name), kind, value.lacv): value.excluded_classes
        for tag_set, kind, value in _values(policy.tag_sets)
    }
    for rank in policy.classifications:
        for requirement in rank.required:
            wanted = {each for group in requirement.groups for each in expand_group(policy, group)}
            if all(fold(rank.name) in usable[each] for each in wanted):
                yield Finding("contradiction", f"{rank.name} requires only values that are excluded at it")


def _mappings(policy: Policy) -> Iterator[Finding]:
    known = {fold(each.name) for each in policy.equivalents}
    for rank in policy.classifications:
        for equal in rank.equivalences:
            if fold(equal.policy) not in known:
                yield Finding("mapping", f"{rank.name} maps to {equal.policy}, which is no equivalent policy")
    for tag_set in policy.tag_sets:
        for demand in tag_set.equivalences:
            if fold(demand.policy) not in known:
                yield Finding("mapping", f"{tag_set.name} demands something of unknown {demand.policy}")
    yield from _value_mappings(policy, known)


def _value_mappings(policy: Policy, known: set[str]) -> Iterator[Finding]:
    for tag_set, kind, value in _values(policy.tag_sets):
        for each in value.equivalences:
            if fold(each.policy) not in known:
                yield Finding("mapping", f"{tag_set.name} {value.name} maps to unknown {each.policy}")
            if each.discard and kind is not TagType.INFORMATIVE:
                yield Finding("mapping-discards", f"{tag_set.name} {value.name} is lost towards {each.policy}")
            if each.type is not None and each.type is not kind:
                yield Finding("mapping-type", f"{tag_set.name} {value.name} changes type towards {each.policy}")


def _release(policy: Policy) -> Iterator[Finding]:
    if policy.extensions.mandatory or any(means != "unrestricted" for _, means in policy.extensions.absent):
        return
    floor = min(each.hierarchy for each in policy.classifications)
    for rank in policy.classifications:
        if rank.hierarchy > floor and not rank.required:
            yield Finding("no-release-tag", f"a {rank.name} label needs no release tag: it limits nobody's access")


def _colors(policy: Policy) -> Iterator[Finding]:
    colors = [each.color.lower() for each in policy.classifications if each.color is not None]
    if len(set(colors)) != len(colors):
        yield Finding("color", "two classifications have one color")


def lint_mapping(source: Policy, target: Policy) -> tuple[Finding, ...]:
    """Mappings from `source` that lower, against the order or with a way back below the start, and that unite."""
    ranks: list[int] = []
    by_lacv = {each.lacv: each for each in target.classifications}
    findings: list[Finding] = []
    for rank in sorted(source.classifications, key=lambda each: each.hierarchy):
        for equal in rank.equivalences:
            arrival = by_lacv.get(equal.lacv) if fold(equal.policy) == fold(target.name) else None
            if arrival is None:
                continue
            if ranks and arrival.hierarchy < max(ranks):
                findings.append(Finding("mapping-lowers", f"{rank.name} maps below what a lower one maps to"))
            ranks.append(arrival.hierarchy)
            findings += _way_back(source, rank, arrival)
    return (*findings, *_united(source, target))


def _united(source: Policy, target: Policy) -> Iterator[Finding]:
    """Release tag sets that map into one, where any value of either would do: a label with both has no equivalent."""
    origins: dict[str, dict[str, None]] = {}
    for tag_set, kind, value in _values(source.tag_sets):
        for equal in value.equivalences:
            if kind is TagType.PERMISSIVE and not equal.discard and fold(equal.policy) == fold(target.name):
                origins.setdefault(equal.tag_set_oid, {})[tag_set.name] = None
    for names in origins.values():
        if len(names) > 1:
            yield Finding("mapping-unites", f"{' and '.join(names)} map into one: no label with both has an equivalent")


def _way_back(source: Policy, start: Classification, arrival: Classification) -> Iterator[Finding]:
    by_lacv = {each.lacv: each for each in source.classifications}
    for equal in arrival.equivalences:
        back = by_lacv.get(equal.lacv) if fold(equal.policy) == fold(source.name) else None
        if back is not None and back.hierarchy < start.hierarchy:
            yield Finding("mapping-lowers", f"{start.name} comes back from {arrival.name} as {back.name}")
