"""What a policy demands of a message as a whole, beside who may read it. Asked at sender, relay and reader.

    banner              the message's label is at least the safe join of its portions
    minimum-suite       its suite is strong enough for the policy
    one-time-key        from a classification on, no slot is sealed to a last-resort key
    two-person-release  from a classification on, a second officer has signed; to lower a label, two others have
    recovery-addressee  the addressee that the policy demands gets it, visibly; not asked of a draft
    derived-label       its label is at least that of every message it passes on and does not lawfully replace

The policy is the originating office's own copy. What cannot be established fails. Of a label with a successor
counts what was in force when the message was created: the same at all three, whenever they ask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from .aggregate import Nobody, dominates, effective_label, join
from .directory import Device
from .endorsement import RELEASING_ROLE, PassedOn
from .errors import LiaisonError
from .header import AddresseeKind, Core
from .label import Label, label_of
from .policy import Period, Policy, is_at_or_above, label_periods, static_findings, timed_findings


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What was found out about a message: its releasing officers, its originals, whether all keys are one-time."""

    officers: tuple[Device, ...]
    originals: tuple[PassedOn, ...]
    one_time: bool


def failing_obligations(policy: Policy | None, core: Core, found: Circumstances, now: int) -> tuple[str, ...]:
    """Every obligation that is not met, in the order above; all of them if the policy is not known. Never raises."""
    if policy is None:
        return ("policy-known",)
    try:
        banner = label_at_creation(core, core.label)
        portions = [label_at_creation(core, portion.label) for portion in core.portions]
        checks = (
            ("banner", is_at_least(policy, banner, portions, now)),
            ("minimum-suite", core.suite.number >= policy.extensions.minimum_suite),
            ("one-time-key", found.one_time or not _demands_one_time(policy, banner)),
            ("two-person-release", len(found.officers) >= officers_needed(policy, core)),
            ("recovery-addressee", missing_recovery(policy, core) is None),
            ("derived-label", _is_derived(policy, banner, core, found.originals, now)),
        )
    except LiaisonError:
        return ("obligations",)
    return tuple(name for name, met in checks if not met)


def label_at_creation(core: Core, encoded: bytes) -> Label:
    """The label, or the successor of it that was in force when the message was created. Raises Malformed."""
    return effective_label(label_of(encoded), core.created)


def officers_needed(policy: Policy, core: Core) -> int:
    """How many releasing officers beside the sender must have signed. Raises Malformed."""
    if is_draft(core):
        return 0
    if core.handling.supersedes is not None:
        return 2
    threshold = policy.extensions.two_person_release_from
    return 1 if is_at_or_above(policy, label_at_creation(core, core.label).classification, threshold) else 0


def is_at_least(policy: Policy, banner: Label, labels: Sequence[Label], now: int) -> bool:
    """Whether `banner` dominates the safe join of `labels`; one that is invalid, or for nobody, is not dominated."""
    periods = _dominated(policy, banner, tuple(labels))
    return periods is not None and not timed_findings(periods, now)


@lru_cache(maxsize=64)
def _dominated(policy: Policy, banner: Label, labels: tuple[Label, ...]) -> tuple[Period, ...] | None:
    """The periods within which the safe join of `labels` is valid, if `banner` dominates it: no time changes that."""
    joined = join(policy, labels)
    if isinstance(joined, Nobody) or static_findings(policy, joined) or not dominates(policy, banner, joined):
        return None
    return label_periods(policy, joined)


def is_draft(core: Core) -> bool:
    """Whether it goes to the originating office's own releasing officers and to nobody else."""
    return _reached(core) == {f"{RELEASING_ROLE}@{core.office}"}


def missing_recovery(policy: Policy, core: Core) -> str | None:
    """The policy's recovery addressee, if the message does not go there. Of a draft, what it carries is asked."""
    wanted = policy.extensions.recovery_addressee
    return None if is_draft(core) or wanted in _reached(core) else wanted


def _reached(core: Core) -> set[str]:
    return {each.address for each in core.addressees if each.kind is not AddresseeKind.EXEMPTED}


def _demands_one_time(policy: Policy, banner: Label) -> bool:
    return is_at_or_above(policy, banner.classification, policy.extensions.one_time_key_from)


def _is_derived(policy: Policy, banner: Label, core: Core, originals: Sequence[PassedOn], now: int) -> bool:
    replaced = core.handling.supersedes[0] if core.handling.supersedes is not None else None
    found = False
    kept = []
    for original in originals:
        if original.message.ref == replaced and original.message.core.office == core.office:
            found = True  # the two officers that `officers_needed` asks for answer for this one
        else:
            kept.append(label_at_creation(core, original.message.core.label))
    if replaced is not None and not found:
        return False
    return not kept or is_at_least(policy, banner, [banner, *kept], now)
