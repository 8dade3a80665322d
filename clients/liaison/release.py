"""Need-to-know before release: who of the addressees may be given what, and why not the rest.

Nobody is dropped in silence: an addressee who gets nothing is refused by name, with every rule that says no.
An addressee is served if at least one of the devices behind the address may have at least one portion; each
device gets exactly the portions that the rules permit it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from relay.protocol.access import Circle, Judge
from relay.protocol.decision import Action, Decision, Rule
from relay.protocol.directory import Device
from relay.protocol.header import Addressee, AddresseeKind

from .trust import Trust

UNKNOWN_ADDRESS, UNTRUSTED, NO_KEYS = "unknown-address", "untrusted-authority", "no-keys"
UNUSABLE_KEYS, EMPTY_COMMUNITY, RECALLED = "unusable-keys", "empty-community", "recalled"
KEYLESS = (NO_KEYS, UNUSABLE_KEYS)  # found out when keys are claimed: no plan has them
_WHY = {
    UNKNOWN_ADDRESS: "nobody is enrolled at this address",
    UNTRUSTED: "no agreement that our authority has signed names this office's authority",
    EMPTY_COMMUNITY: "nobody who is enrolled is on this community's roster",
    RECALLED: "the message was taken back: nobody is given it any more",
    NO_KEYS: "its devices have left no keys at the relay yet",
    UNUSABLE_KEYS: "its device has signed a key that nothing can be sealed to; its holder must be told",
}


@dataclass(frozen=True, slots=True)
class Grant:
    """A device and the portions it may have."""

    device: Device
    granted: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say of one addressee."""

    addressee: Addressee
    grants: tuple[Grant, ...]
    decisions: tuple[Decision, ...]  # one per portion, of the device that may have most
    obstacle: str = ""  # what was in the way before any rule was asked

    @property
    def is_released(self) -> bool:
        return bool(self.grants)

    def is_given_all(self, portions: int) -> bool:
        """Whether one of the devices may have all of so many portions."""
        return any(len(grant.granted) == portions for grant in self.grants)

    @property
    def rules(self) -> tuple[str, ...]:
        """Every failing rule, in order; empty if released."""
        if self.is_released:
            return ()
        if self.obstacle:
            return (self.obstacle,)
        return tuple(dict.fromkeys(rule for decision in self.decisions for rule in decision.failing))

    @property
    def reasons(self) -> tuple[tuple[str, str], ...]:
        """(rule, why) of every failing rule."""
        if self.obstacle:
            return ((self.obstacle, _WHY[self.obstacle]),)
        failing: dict[str, Rule] = {}
        for decision in self.decisions:
            failing |= {rule.id: rule for rule in decision.rules if not rule.ok and rule.id not in failing}
        return tuple((rule.id, rule.why) for rule in failing.values())


def review(judge: Judge, trust: Trust, circle: Circle, labels: Sequence[bytes], now: int) -> list[Verdict]:
    """One verdict per addressee, exempted ones excepted."""
    wanted = [each for each in circle.addressees if each.kind is not AddresseeKind.EXEMPTED]
    return [_verdict(judge, trust, circle, addressee, labels, now) for addressee in wanted]


def _verdict(
    judge: Judge, trust: Trust, circle: Circle, addressee: Addressee, labels: Sequence[bytes], now: int
) -> Verdict:
    found = trust.directory.devices_of(addressee.address, now)
    if addressee.address in trust.directory.communities and not found:
        return Verdict(addressee, (), (), EMPTY_COMMUNITY)
    if not found:
        return Verdict(addressee, (), (), UNKNOWN_ADDRESS)
    devices = [device for device in found if trust.is_trusted(device)]
    if not devices:
        return Verdict(addressee, (), (), UNTRUSTED)
    grants, best = [], tuple[Decision, ...]()
    for device in devices:
        decisions = tuple(judge.judge(Action.SEND, circle, label, device, now) for label in labels)
        granted = tuple(index for index, decision in enumerate(decisions) if decision.permitted)
        if granted:
            grants.append(Grant(device, granted))
        if not best or len(granted) > sum(decision.permitted for decision in best):
            best = decisions
    return Verdict(addressee, tuple(grants), best)
