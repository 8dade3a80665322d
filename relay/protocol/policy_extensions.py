"""What a security policy must say and an Open XML SPIF cannot: a small TOML file beside it.

The rules:
  - an unknown key, a value of the wrong type or an unknown choice is malformed, never ignored;
  - tag sets, values and classifications are named as the policy names them, and exist there;
  - every entry narrows access or adds an obligation, except `memberships` and `owners`, which say who
    belongs to a group and what goes without saying.

    mandatory = ["Context"]
    one_time_key_from = "SECRET"
    absent = { "Releasable To" = "owner_only" }
    memberships = { KFOR = ["SWE", "IRL"] }
    portion_marks = { SECRET = "NS" }
    retention = { SECRET = 31536000 }
    forbidden_precedences = ["DEFERRED", "OVERRIDE"]
    [[companions]]
    tag_set = "Releasable To"
    partner_set = "Context"
    partner_value = "Releasable"
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .errors import Malformed
from .label import TagType, check_name, fold

if TYPE_CHECKING:
    from .policy import Policy

ABSENT_MEANS = frozenset({"unrestricted", "owner_only", "invalid"})
WITHHOLD_STYLES = frozenset({"marked", "silent"})
FORBIDDABLE = frozenset({"DEFERRED", "OVERRIDE"})  # every policy has the other precedences
MAX_DOTS = 4096  # in names and numbers too; a key of as many parts takes TOML's reader the square of them


@dataclass(frozen=True, slots=True)
class Companion:
    """`tag_set` and the value `partner_value` of `partner_set` come together or not at all."""

    tag_set: str
    partner_set: str
    partner_value: str


@dataclass(frozen=True, slots=True)
class SingleChoice:
    """Where `tag_set` is on a label, it has exactly one value besides `besides`."""

    tag_set: str
    besides: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Owner:
    """Holders of `owner_value` of `owner_set` hold `value` of `tag_set`; a marking leaves it unsaid.

    Clearances are to be issued so. No decision presumes it: it orders and joins labels, and completes a
    marking that releases to others beside the owner.
    """

    tag_set: str
    value: str
    owner_set: str
    owner_value: str


@dataclass(frozen=True, slots=True)
class PolicyExtensions:
    """`*_from` names the lowest classification with that obligation.

    `retention` and `entry_retention` are in seconds, for every classification (None) or for those named.
    """

    mandatory: tuple[str, ...] = ()
    absent: tuple[tuple[str, str], ...] = ()
    companions: tuple[Companion, ...] = ()
    single_choices: tuple[SingleChoice, ...] = ()
    owners: tuple[Owner, ...] = ()
    memberships: tuple[tuple[str, tuple[str, ...]], ...] = ()
    minimum_suite: int = 1
    one_time_key_from: str | None = None
    two_person_release_from: str | None = None
    recovery_addressee: str | None = None
    retention: tuple[tuple[str | None, int], ...] = ()
    entry_retention: tuple[tuple[str | None, int], ...] = ()
    forbidden_precedences: tuple[str, ...] = ()
    withhold: str = "marked"
    portion_marks: tuple[tuple[str, str], ...] = ()
    portion_prefixes: tuple[tuple[str, str], ...] = ()

    def values(self) -> Iterator[tuple[str, str]]:
        """Every value that is named as one of a tag set: (tag set, value)."""
        yield from ((pair.partner_set, pair.partner_value) for pair in self.companions)
        yield from ((choice.tag_set, name) for choice in self.single_choices for name in choice.besides)
        for owner in self.owners:
            yield from ((owner.tag_set, owner.value), (owner.owner_set, owner.owner_value))

    def beside(self, standard: PolicyExtensions) -> PolicyExtensions:
        """These extensions and what a standard demands; its portion marks only where there are none."""
        return replace(
            self,
            mandatory=tuple(dict.fromkeys(standard.mandatory + self.mandatory)),
            companions=tuple(dict.fromkeys(standard.companions + self.companions)),
            single_choices=tuple(dict.fromkeys(standard.single_choices + self.single_choices)),
            owners=tuple(dict.fromkeys(standard.owners + self.owners)),
            portion_marks=self.portion_marks or standard.portion_marks,
            portion_prefixes=self.portion_prefixes or standard.portion_prefixes,
        )


NO_EXTENSIONS = PolicyExtensions()

# ADatP-4774 App 2 says in prose what the NATO policy file does not: Context is mandatory with one context
# value, and Releasable goes with "Releasable To". In its Table 17 a marking leaves the owner NATO unsaid.
_NATO = PolicyExtensions(
    mandatory=("Context",),
    companions=(Companion("Releasable To", "Context", "Releasable"),),
    single_choices=(SingleChoice("Context", ("Releasable",)),),
    owners=(Owner("Releasable To", "NATO", "Context", "NATO"),),
    portion_marks=(
        ("UNCLASSIFIED", "NU"),
        ("RESTRICTED", "NR"),
        ("CONFIDENTIAL", "NC"),
        ("SECRET", "NS"),
        ("TOP SECRET", "CTS"),
    ),
    portion_prefixes=(("Releasable To", "REL "),),
)
STANDARD_EXTENSIONS: Mapping[str, PolicyExtensions] = {"1.3.26.1.3.1": _NATO}


def parse_extensions(toml_text: bytes) -> PolicyExtensions:
    """Read extensions from TOML in UTF-8. Raises Malformed naming the key."""
    if len(toml_text) > 1 << 20:
        raise Malformed("policy extensions: over 1 MiB")
    if toml_text.count(b".") > MAX_DOTS:
        raise Malformed(f"policy extensions: more than {MAX_DOTS} full stops")
    try:
        table = tomllib.loads(toml_text.decode("utf-8"))
    except (ValueError, RecursionError) as problem:
        raise Malformed(f"policy extensions: {problem}") from problem
    fields = {}
    for key, value in table.items():
        reader = _READERS.get(key)
        if reader is None:
            raise Malformed(f"policy extensions: unknown key {key!r:.80}", hint=f"known: {', '.join(_READERS)}")
        fields[key] = reader(value, f"policy extensions: {key}")
    return PolicyExtensions(**fields)


def _name(value: Any, what: str) -> str:
    return check_name(value, what)


def _names(value: Any, what: str) -> tuple[str, ...]:
    if type(value) is not list or not value:
        raise Malformed(f"{what}: expected a list of names")
    return tuple(check_name(each, what) for each in value)


def _table(value: Any, what: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise Malformed(f"{what}: expected a table")
    return value


def _texts(value: Any, what: str) -> tuple[tuple[str, str], ...]:
    pairs = []
    for key, text in _table(value, what).items():
        if type(text) is not str or not text.isprintable() or not text.strip():
            raise Malformed(f"{what}: {key!r:.80} is not text")
        pairs.append((check_name(key, what), text))
    return tuple(pairs)


def _choices(allowed: frozenset[str]) -> Callable[[Any, str], tuple[tuple[str, str], ...]]:
    def read(value: Any, what: str) -> tuple[tuple[str, str], ...]:
        pairs = _texts(value, what)
        for key, text in pairs:
            if text not in allowed:
                raise Malformed(f"{what}: {key!r} = {text!r}, expected one of {sorted(allowed)}")
        return pairs

    return read


def _number(least: int) -> Callable[[Any, str], int]:
    def read(value: Any, what: str) -> int:
        if type(value) is not int or value < least:
            raise Malformed(f"{what}: expected a whole number from {least}")
        return value

    return read


def _periods(value: Any, what: str) -> tuple[tuple[str | None, int], ...]:
    seconds = _number(1)
    if type(value) is int:
        return ((None, seconds(value, what)),)
    return tuple((check_name(name, what), seconds(each, what)) for name, each in _table(value, what).items())


def _withhold(value: Any, what: str) -> str:
    if value not in WITHHOLD_STYLES:
        raise Malformed(f"{what}: expected one of {sorted(WITHHOLD_STYLES)}")
    return str(value)


def _precedences(value: Any, what: str) -> tuple[str, ...]:
    names = _names(value, what)
    if not FORBIDDABLE.issuperset(names):
        raise Malformed(f"{what}: expected some of {sorted(FORBIDDABLE)}")
    return names


def _memberships(value: Any, what: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    return tuple((check_name(group, what), _names(each, what)) for group, each in _table(value, what).items())


def _rows(kind: Any, lists: frozenset[str] = frozenset()) -> Callable[[Any, str], tuple[Any, ...]]:
    def read(value: Any, what: str) -> tuple[Any, ...]:
        if type(value) is not list:
            raise Malformed(f"{what}: expected an array of tables")
        rows = []
        for row in value:
            if _table(row, what).keys() != set(kind.__dataclass_fields__):
                raise Malformed(f"{what}: expected the keys {', '.join(kind.__dataclass_fields__)}")
            fields = {key: _names(each, what) if key in lists else _name(each, what) for key, each in row.items()}
            rows.append(kind(**fields))
        return tuple(rows)

    return read


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "mandatory": _names,
    "absent": _choices(ABSENT_MEANS),
    "companions": _rows(Companion),
    "single_choices": _rows(SingleChoice, frozenset({"besides"})),
    "owners": _rows(Owner),
    "memberships": _memberships,
    "minimum_suite": _number(1),
    "one_time_key_from": _name,
    "two_person_release_from": _name,
    "recovery_addressee": _name,
    "retention": _periods,
    "entry_retention": _periods,
    "forbidden_precedences": _precedences,
    "withhold": _withhold,
    "portion_marks": _texts,
    "portion_prefixes": _texts,
}


def check_extensions(policy: Policy) -> None:
    """Raise Malformed for what its extensions name and the policy does not have."""
    extensions = policy.extensions
    sets = {*extensions.mandatory, *(name for name, _ in extensions.absent)}
    sets |= {name for name, _ in extensions.portion_prefixes}
    sets |= {name for pair in extensions.companions for name in (pair.tag_set, pair.partner_set)}
    sets |= {choice.tag_set for choice in extensions.single_choices}
    sets |= {name for each in extensions.owners for name in (each.tag_set, each.owner_set)}
    for name in sorted(sets):
        if policy.tag_set(name) is None:
            raise Malformed(f"policy extensions: {policy.name} has no tag set {name!r}")
    for name, _ in extensions.absent:
        if (policy.index.tag_sets[fold(name)].oid, TagType.PERMISSIVE) not in policy.index.tags:
            raise Malformed(f"policy extensions: {policy.name} has no permissive tag in {name!r} that could be absent")
    _check_values(policy)
    ranks = [extensions.one_time_key_from, extensions.two_person_release_from]
    ranks += [name for name, _ in (*extensions.retention, *extensions.entry_retention)]
    for rank in (*ranks, *(name for name, _ in extensions.portion_marks)):
        if rank is not None and policy.classification(rank) is None:
            raise Malformed(f"policy extensions: {policy.name} has no classification {rank!r}")


def _check_values(policy: Policy) -> None:
    index = policy.index
    for name, value in policy.extensions.values():
        oid, wanted = index.tag_sets[fold(name)].oid, fold(value)
        if not any(wanted in index.values.get((oid, kind), ()) for kind in TagType):
            raise Malformed(f"policy extensions: {policy.name} has no value {value!r} in {name}")
    permissive = [by_name.keys() for (_oid, kind), by_name in index.values.items() if kind is TagType.PERMISSIVE]
    for group, members in policy.extensions.memberships:
        together = {fold(name) for name in (group, *members)}
        if not any(together <= names for names in permissive):
            raise Malformed(f"policy extensions: {policy.name} has no permissive tag with {group} and all its members")
