"""What a policy demands of a message as a whole, beside who may read it. Asked at sender, relay and reader.

    banner              the message's label is at least the safe join of its portions
    minimum-suite       its suite is strong enough for the policy
    one-time-key        from a classification on, no slot is sealed to a last-resort key
    two-person-release  from a classification on, a second officer has signed; to lower a label, two others have
    recovery-addressee  the addressee that the policy demands gets all of it, visibly; not asked of a draft
    derived-label       its label is at least that of every message it passes on and does not lawfully replace
    precedence          neither of its precedences is one that the policy forbids

The policy is the originating office's own copy. What cannot be established fails. Where a label has a successor,
everything must hold when the message was created and again each time that a label changes before it expires: the
same at all three, whenever they ask, and no label is low, or high, for a moment only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from .aggregate import Nobody, dominates, effective_label, join
from .directory import Device
from .endorsement import RELEASING_ROLE, PassedOn
from .errors import LiaisonError, Malformed
from .header import Core, MessageHandling
from .label import Label, breadth, label_of
from .memo import remember
from .policy import Period, Policy, is_at_or_above, label_periods, static_findings, timed_findings

MAX_MOMENTS = 8  # of one message: each costs a join of all its portions


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What was found out about a message: its releasing officers, its originals, whether all keys are one-time.

    `given_all` says whether a device behind an address is given every portion; a reader, who knows his own slot only,
    has None and does not ask.
    """

    officers: tuple[Device, ...]
    originals: tuple[PassedOn, ...]
    one_time: bool
    given_all: Callable[[str], bool] | None = None


def failing_obligations(policy: Policy | None, core: Core, found: Circumstances, now: int) -> tuple[str, ...]:
    """Every obligation that is not met, in the order above; all of them if the policy is not known. Never raises."""
    if policy is None:
        return ("policy-known",)
    try:
        banner = label_of(core.label)
        portions = [label_of(encoded) for encoded in dict.fromkeys(each.label for each in core.portions)]
        derived = [label_of(each.message.core.label) for each in found.originals]
        asked = moments([banner, *portions, *derived], core.created, core.expires)
        checks = (
            ("banner", is_always_at_least(policy, banner, portions, asked, now)),
            ("minimum-suite", core.suite.number >= policy.extensions.minimum_suite),
            ("one-time-key", found.one_time or not demands_one_time(policy, banner, core.created, core.expires)),
            ("two-person-release", len(found.officers) >= officers_needed(policy, core)),
            ("recovery-addressee", _is_recoverable(policy, core, found)),
            ("derived-label", _is_derived(policy, banner, core, found.originals, asked, now)),
            ("precedence", _has_permitted_precedences(policy, core.handling)),
        )
    except LiaisonError:
        return ("obligations",)
    return tuple(name for name, met in checks if not met)


def moments(labels: Iterable[Label], start: int, end: int) -> tuple[int, ...]:
    """`start`, and each time after it and before `end` at which one of these labels changes, in seconds.

    Raises Malformed for more than MAX_MOMENTS.
    """
    found = {start}
    for label in labels:
        change = label.succession
        while change is not None:
            if start < change.at < end:
                found.add(change.at)
            change = change.label.succession
    if len(found) > MAX_MOMENTS:
        raise Malformed(f"the labels of one message change at more than {MAX_MOMENTS - 1} times")
    return tuple(sorted(found))


def officers_needed(policy: Policy, core: Core) -> int:
    """How many releasing officers beside the sender must have signed. Raises Malformed."""
    if is_draft(core):
        return 0
    if core.handling.supersedes is not None:
        return 2
    threshold = policy.extensions.two_person_release_from
    return 1 if _reaches(policy, label_of(core.label), threshold, core.created, core.expires) else 0


def demands_one_time(policy: Policy, banner: Label, start: int, end: int) -> bool:
    """Whether a message under this label, created at `start`, may have no slot sealed to a last-resort key."""
    return _reaches(policy, banner, policy.extensions.one_time_key_from, start, end)


def _reaches(policy: Policy, label: Label, threshold: str | None, start: int, end: int) -> bool:
    """Whether the label is at or above the threshold at any time between these."""
    in_force = (effective_label(label, at) for at in moments([label], start, end))
    return any(is_at_or_above(policy, each.classification, threshold) for each in in_force)


def is_always_at_least(policy: Policy, banner: Label, labels: Sequence[Label], asked: Iterable[int], now: int) -> bool:
    """Whether `banner` dominates the safe join of `labels` at each time that is `asked`, as all of them are then.

    What is invalid, at `now` by its periods, or for nobody, is not dominated.
    """
    return all(
        _is_at_least(policy, effective_label(banner, at), tuple(effective_label(each, at) for each in labels), now)
        for at in asked
    )


def _is_at_least(policy: Policy, banner: Label, labels: tuple[Label, ...], now: int) -> bool:
    periods = _dominated(policy, banner, labels)
    return periods is not None and not timed_findings(periods, now)


@remember(128 * 256, lambda _periods, _policy, banner, labels: 256 + sum(map(breadth, (banner, *labels))))
def _dominated(policy: Policy, banner: Label, labels: tuple[Label, ...]) -> tuple[Period, ...] | None:
    """The periods within which the safe join of `labels` is valid, if `banner` dominates it: no time changes that."""
    joined = join(policy, labels)
    if isinstance(joined, Nobody) or static_findings(policy, joined) or not dominates(policy, banner, joined):
        return None
    return label_periods(policy, joined)


def is_draft(core: Core) -> bool:
    """Whether it goes to the originating office's own releasing officers and to nobody else."""
    return set(core.reached) == {f"{RELEASING_ROLE}@{core.office}"}


def missing_recovery(policy: Policy, core: Core) -> str | None:
    """The policy's recovery addressee, if the message does not go there. Of a draft, what it carries is asked."""
    wanted = policy.extensions.recovery_addressee
    return None if is_draft(core) or wanted in core.reached else wanted


def _is_recoverable(policy: Policy, core: Core, found: Circumstances) -> bool:
    wanted = policy.extensions.recovery_addressee
    if wanted is None or is_draft(core):
        return True
    return wanted in core.reached and (found.given_all is None or found.given_all(wanted))


def _has_permitted_precedences(policy: Policy, handling: MessageHandling) -> bool:
    stated = {handling.precedence.name, handling.info_precedence.name}
    return stated.isdisjoint(policy.extensions.forbidden_precedences)


def _is_derived(
    policy: Policy, banner: Label, core: Core, originals: Sequence[PassedOn], asked: Iterable[int], now: int
) -> bool:
    replaced = core.handling.supersedes[0] if core.handling.supersedes is not None else None
    found = False
    kept = []
    for original in originals:
        if original.message.ref == replaced and original.message.core.office == core.office:
            found = True  # the two officers that `officers_needed` asks for answer for this one
        else:
            kept.append(label_of(original.message.core.label))
    if replaced is not None and not found:
        return False
    return not kept or is_always_at_least(policy, banner, [banner, *kept], asked, now)
