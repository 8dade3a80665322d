"""Look-up tables of a policy, by folded names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .errors import Malformed
from .label import TagType, fold
from .policy_elements import Classification, Tag, TagSet, Value

MAX_VALUES = 8192  # of all tags, and the tags themselves; the largest policy that is in use has some 200
MAX_MEMBERS = 65536  # of all groups, through groups within groups

Key = tuple[str, TagType]
Memberships = tuple[tuple[str, tuple[str, ...]], ...]


@dataclass(frozen=True, slots=True)
class PolicyIndex:
    """Look-up tables by folded names. `members` is transitively closed and knows a group's members only.

    `limited` are the tags that limit how many of their values a label has, with the names of those values.
    """

    classifications: Mapping[str, Classification]
    tag_sets: Mapping[str, TagSet]
    by_oid: Mapping[str, TagSet]
    tags: Mapping[Key, tuple[Tag, ...]]
    values: Mapping[Key, Mapping[str, tuple[Value, ...]]]
    members: Mapping[Key, Mapping[str, frozenset[str]]]
    limited: tuple[tuple[Key, Tag, frozenset[str]], ...]


def build_index(
    classifications: tuple[Classification, ...], tag_sets: tuple[TagSet, ...], memberships: Memberships
) -> PolicyIndex:
    """The look-up tables of a policy; `memberships` pairs the name of a group with its members.

    Raises Malformed for more than MAX_VALUES or MAX_MEMBERS: everybody who meets the policy pays for them.
    """
    if sum(1 + len(tag.values) for tag_set in tag_sets for tag in tag_set.tags) > MAX_VALUES:
        raise Malformed(f"policy: more than {MAX_VALUES} tags and values")
    tags: dict[Key, tuple[Tag, ...]] = {}
    values: dict[Key, dict[str, tuple[Value, ...]]] = {}
    for tag_set in tag_sets:
        for tag in tag_set.tags:
            key = (tag_set.oid, tag.type)
            tags[key] = (*tags.get(key, ()), tag)
            by_name = values.setdefault(key, {})
            for value in tag.values:
                by_name[fold(value.name)] = (*by_name.get(fold(value.name), ()), value)
    return PolicyIndex(
        classifications={fold(each.name): each for each in classifications},
        tag_sets={fold(each.name): each for each in tag_sets},
        by_oid={each.oid: each for each in tag_sets},
        tags=tags,
        values=values,
        members=_close_groups(memberships, values),
        limited=tuple(
            (key, tag, frozenset(fold(value.name) for value in tag.values))
            for key, same in tags.items()
            for tag in same
            if tag.min_selection or tag.max_selection is not None
        ),
    )


def _close_groups(
    memberships: Memberships, values: Mapping[Key, Mapping[str, tuple[Value, ...]]]
) -> dict[Key, dict[str, frozenset[str]]]:
    table: dict[str, set[str]] = {}
    for group, members in memberships:
        table.setdefault(fold(group), set()).update(fold(name) for name in members)
    closed: dict[Key, dict[str, frozenset[str]]] = {}
    count = 0
    for key, by_name in values.items():
        if key[1] is TagType.PERMISSIVE:
            closed[key] = {}
            for name in by_name.keys() & table.keys():
                reached = _reachable(name, table)
                if (count := count + len(reached)) > MAX_MEMBERS:
                    raise Malformed(f"policy: its groups have more than {MAX_MEMBERS} members, groups within groups")
                closed[key][name] = frozenset(reached & by_name.keys())
    return closed


def _reachable(group: str, table: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    front = set(table[group])
    while front:
        found |= front
        front = {member for name in front for member in table.get(name, set())} - found
    return found
