"""Before release: a draft in the clear, and what the rules say of it. Nothing leaves this machine, nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from relay.protocol.access import Circle, Judge
from relay.protocol.canonical import decode
from relay.protocol.decision import Decision
from relay.protocol.endorsement import verify_passed_on
from relay.protocol.errors import Refused
from relay.protocol.header import Addressee, AddresseeKind, Core, MessageHandling, Portion
from relay.protocol.label import Label, label_bytes
from relay.protocol.obligations import Circumstances, missing_recovery

from .home.cabinet import Cabinet
from .home.profile import Profile
from .portions import PortionContent
from .release import KEYLESS, Verdict, review
from .trust import DIRECTORY, Trust

TWO_PERSON = "two-person-release"
_HINTS = {
    "banner": "the message's label must be at least that of every part: raise it, or lower what you attach",
    "derived-label": "a message that passes others on carries at least their labels",
    "precedence": "the policy forbids DEFERRED, OVERRIDE or both: give another --precedence",
    "recovery-addressee": "the policy's recovery addressee must be given all of it: see liaison send --dry-run",
}


LAST_DTG = "last dtg"  # a pin: of this device's own messages


def next_dtg(cabinet: Cabinet, now: int) -> int:
    """A DTG that this originator has not used: this minute, or the first free one after it. All in seconds."""
    last = cabinet.pin(LAST_DTG)
    return max(now - now % 60, 0 if last is None else int(decode(last, "cabinet: last DTG")) + 60)


@dataclass(frozen=True, slots=True)
class Draft:
    """A message before release: all of it in the clear, on the sender's machine only."""

    addressees: tuple[Addressee, ...]
    label: Label
    portions: tuple[PortionContent, ...]
    expires: int  # seconds since 1970
    handling: MessageHandling
    passed_on: tuple[bytes, ...] = ()
    consents: tuple[bytes, ...] = ()

    def header(self, addressees: Sequence[Addressee], profile: Profile, trust: Trust, now: int) -> Core:
        """To these addressees, next in this device's chain; portions and alternative labels still to come."""
        key, (seq, prev) = profile.signing, profile.cabinet.chain()
        return Core(
            suite=key.suite,
            message_id=bytes(16),  # nobody's yet: its own is given when it is sealed
            sender=profile.pins.address,
            sender_device=key.device_id,
            sender_kid=key.kid,
            created=now,
            expires=self.expires,
            label=label_bytes(self.label),
            addressees=tuple(sorted(addressees, key=lambda a: (a.kind, a.address))),
            portions=(),
            seq=seq + 1,
            prev=prev,
            directory=(trust.verifiers(DIRECTORY)[0].name, trust.tree.size, trust.tree.root()),
            handling=replace(self.handling, dtg=next_dtg(profile.cabinet, now)),
            passed_on=self.passed_on,
            consents=self.consents,
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """A draft with what the rules say of it. `verdicts` has one row per addressee."""

    draft: Draft
    alternatives: tuple[tuple[bytes, bytes], ...]
    sender: Decision  # whether the sender may send this: of the banner, or of the first portion that says no
    obligations: tuple[str, ...]  # what the policy demands of the message and does not find
    verdicts: tuple[Verdict, ...]
    added: tuple[Addressee, ...] = ()  # of the draft's addressees, by the policy and not the sender: recovery

    @property
    def released(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.is_released]

    @property
    def refused(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.is_released]

    @property
    def is_for_nobody(self) -> bool:
        """Whether nobody is left of those whom the sender named."""
        return all(verdict.addressee in self.added for verdict in self.released)

    @property
    def needs_release(self) -> bool:
        """Whether another officer must sign before this can be posted."""
        return TWO_PERSON in self.obligations

    def require_reader(self, hint: str = "") -> None:
        """Raise Refused, with every rule against those whom the sender named, if nobody is left of them."""
        if self.is_for_nobody:
            rules = tuple(dict.fromkeys(rule for verdict in self.refused for rule in verdict.rules))
            why = "".join(f"; {v.addressee.address}: {v.reasons[0][1]}" for v in self.refused if v.obstacle in KEYLESS)
            raise Refused(f"nobody may be given this message{why}", rules=rules, hint=hint)

    def require_unaided(self) -> None:
        """Raise Refused if its sender may not release it, or not without another officer."""
        self.require_permitted()
        if self.needs_release:
            raise Refused("another officer must release this", rules=(TWO_PERSON,), hint="use: liaison draft")

    def require_permitted(self) -> None:
        """Raise Refused for what stands against the message as a whole, a second signature aside."""
        if not self.sender.permitted:
            why = "; ".join(rule.why for rule in self.sender.rules if not rule.ok)
            raise Refused(f"you may not send under this label: {why}", rules=self.sender.failing)
        if against := tuple(rule for rule in self.obligations if rule != TWO_PERSON):
            raise Refused("the policy does not permit this message", rules=against, hint=_HINTS.get(against[0], ""))


def plan_of(draft: Draft, profile: Profile, trust: Trust, judge: Judge, now: int) -> Plan:
    """Ask the rules about every addressee and portion, about the sender and the whole, at `now` in seconds."""
    own = trust.directory.devices[profile.signing.device_id]
    core = draft.header(draft.addressees, profile, trust, now)
    added = _added(judge, draft, core)
    draft = replace(draft, addressees=(*draft.addressees, *added))
    portions = tuple(Portion(1, bytes(32), portion.label) for portion in draft.portions)
    core = replace(core, addressees=draft.addressees, portions=portions)
    labels = [portion.label for portion in draft.portions]
    alternatives = _alternatives(core, labels, trust, judge, now)
    originals = verify_passed_on(trust.directory, core) if draft.passed_on else ()
    circle = replace(Circle.of(core, originals), alternatives=alternatives)
    own_right = [judge.judge_sender(label, own, now) for label in dict.fromkeys((core.label, *labels))]
    sender = next((decision for decision in own_right if not decision.permitted), own_right[0])
    verdicts = tuple(review(judge, trust, circle, labels, now))
    refused = {verdict.addressee for verdict in verdicts if not verdict.is_released}
    reached = replace(core, addressees=tuple(each for each in core.addressees if each not in refused))
    whole = {each.addressee.address for each in verdicts if each.is_given_all(len(labels))}
    found = Circumstances((), originals, one_time=True, given_all=whole.__contains__)
    obligations = judge.obligations_of(reached, found, today=now)
    return Plan(draft, alternatives, sender, obligations, verdicts, added)


def _added(judge: Judge, draft: Draft, core: Core) -> tuple[Addressee, ...]:
    """The policy's recovery addressee, if it demands one that the sender neither named nor exempted."""
    policy = judge.policy_of(core.office, draft.label.policy)
    wanted = missing_recovery(policy, core) if policy is not None else None
    if wanted is None or any(each.address == wanted for each in core.addressees):
        return ()
    return (Addressee(AddresseeKind.INFO, wanted),)


def _alternatives(
    core: Core, labels: Sequence[bytes], trust: Trust, judge: Judge, now: int
) -> tuple[tuple[bytes, bytes], ...]:
    """Every label in every policy of an addressed office into which the offices have agreed a table."""
    offices = {device.office for address in core.reached for device in trust.directory.devices_of(address, now)}
    found = set[tuple[bytes, bytes]]()
    for label in {core.label, *labels}:
        for office in offices:
            found |= {(label, alternative) for alternative in judge.translations(core.office, office, label, now)}
    return tuple(sorted(found))
