"""The parts of a security policy, in the words of the Open XML SPIF 2.1. Plain values without behaviour.

Names are normalised text; `tag_set` in a group is the tag set's name, in its own policy or, inside an
equivalence, in the policy that is mapped to. `lacv` is the label and certificate value, kept as text.
"""

from __future__ import annotations

from dataclasses import dataclass

from .label import TagType

APPLIED = frozenset({"encrypt", "decrypt", "both"})


@dataclass(frozen=True, slots=True)
class Phrase:
    """markingData: what is shown instead of a name, in one language, at the places its codes name."""

    lang: str
    text: str | None
    codes: frozenset[str]


@dataclass(frozen=True, slots=True)
class Qualifier:
    """A prefix, suffix or separator (`code`) in one language."""

    lang: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Marking:
    phrases: tuple[Phrase, ...] = ()
    qualifiers: tuple[Qualifier, ...] = ()


NO_MARKING = Marking()


@dataclass(frozen=True, slots=True)
class Group:
    """categoryGroup or excludedCategory: one value of a tag set, or with `lacv` None every value of it."""

    tag_set: str
    type: TagType
    lacv: str | None


@dataclass(frozen=True, slots=True, eq=False)
class Requirement:
    """requiredCategory: `operation` is onlyOne, oneOrMore or all of the values that the groups name.

    Compared and hashed by identity, as a policy is.
    """

    operation: str
    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class ClassEquivalence:
    policy: str
    lacv: str
    applied: str
    required: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class ValueEquivalence:
    """`discard`: the value may be left out of the target label; the other fields then mean nothing."""

    policy: str
    tag_set_oid: str
    type: TagType | None
    lacv: str
    applied: str
    discard: bool


@dataclass(frozen=True, slots=True)
class EquivalentPolicy:
    name: str
    oid: str
    required: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class Classification:
    """`hierarchy` ranks; `lacv` only identifies; names rank nothing."""

    name: str
    lacv: str
    hierarchy: int
    color: str | None = None
    obsolete: bool = False
    marking: Marking = NO_MARKING
    required: tuple[Requirement, ...] = ()
    equivalences: tuple[ClassEquivalence, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """tagCategory. Times are seconds since 1970. `free_text`: the user would type it; no label may.

    Compared and hashed by identity, as a policy is.
    """

    name: str
    lacv: str
    obsolete: bool = False
    free_text: bool = False
    required_class: str | None = None
    not_before: int | None = None
    not_after: int | None = None
    excluded_classes: frozenset[str] = frozenset()  # folded
    required: tuple[Requirement, ...] = ()
    excluded: tuple[Group, ...] = ()
    marking: Marking = NO_MARKING
    equivalences: tuple[ValueEquivalence, ...] = ()


@dataclass(frozen=True, slots=True)
class Tag:
    """securityCategoryTag: values of one type. The limits count the values selected in one label."""

    name: str
    type: TagType
    values: tuple[Value, ...]
    min_selection: int = 0
    max_selection: int | None = None
    marking: Marking = NO_MARKING


@dataclass(frozen=True, slots=True)
class SetEquivalence:
    """What an equivalent label must carry because the label carries a value of the tag set."""

    policy: str
    required: tuple[Requirement, ...]


@dataclass(frozen=True, slots=True)
class TagSet:
    name: str
    oid: str
    tags: tuple[Tag, ...]
    equivalences: tuple[SetEquivalence, ...] = ()
