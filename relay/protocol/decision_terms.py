"""The words in which an access decision is asked and answered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, StrEnum

from .explain import explain, reference
from .label import Category

NEED_BASES = frozenset({"addressee", "role", "coi", "originator", "recovery"})


class Action(StrEnum):
    SEND = "send"
    ACCEPT = "accept"
    LIST = "list"
    OPEN = "open"
    READ = "read"
    FORWARD = "forward"


class Boundary(Enum):
    """Stands for an agreement where none is needed."""

    SAME_OFFICE = "same-office"


SAME_OFFICE = Boundary.SAME_OFFICE


@dataclass(frozen=True, slots=True)
class NeedToKnow:
    """A positive determination. `basis` is in NEED_BASES; `of` is the address, role or community."""

    basis: str
    of: str


@dataclass(frozen=True, slots=True)
class Sharing:
    """What one agreement lets pass between two offices. `in_force`: every party has signed, none withdrew.

    A community's members are reached only if it is listed; where purposes are listed, the message states one.
    A restrictive value passes if it is listed. A permissive tag that the agreement names must be on the label
    and have a value in common with it; a permissive tag that it does not name is left to the clearance.
    Under a category that the policy does not have in that type nothing passes: it would limit nothing.
    """

    agreement_id: str
    policy_name: str
    policy_oid: str
    classifications: tuple[str, ...]
    categories: tuple[Category, ...]
    not_before: int
    not_after: int
    in_force: bool
    communities: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Handling:
    """Obligations beside the label.

    `consent`: the originator's consent to exactly this forward was verified. `onward`: the forward leaves the
    offices that the originator addressed. `onward_permitted`: the agreement allows onward release.
    """

    expires: int | None = None
    originator_controlled: bool = False
    consent: bool = False
    onward: bool = False
    onward_permitted: bool = False
    purpose: str = ""


NO_HANDLING = Handling()


@dataclass(frozen=True, slots=True)
class Rule:
    """The outcome of one rule. `facts` is what `why` is made of when somebody asks."""

    id: str
    ok: bool
    facts: tuple[object, ...] = ()

    @property
    def why(self) -> str:
        return explain(self.id, self.ok, self.facts)

    @property
    def reference(self) -> str:
        return reference(self.id)


@dataclass(frozen=True, slots=True)
class Decision:
    permitted: bool
    rules: tuple[Rule, ...]

    @property
    def failing(self) -> tuple[str, ...]:
        return tuple(rule.id for rule in self.rules if not rule.ok)


Agreement = Sharing | Boundary | None
