"""May this device have this portion? The facts that `decide` needs, gathered the same way in all four places.

Sender, relay and reader each call `judge` with their own copy of the directory and of the policies; none takes
another's word for a clearance, an agreement or a rule. A missing fact is passed on as missing, and denies.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

from .decision import SAME_OFFICE, Action, Decision, Handling, NeedToKnow, decide
from .directory import Device, Directory
from .envelope import Addressee, AddresseeKind, Core
from .identity import parse_address
from .label import Clearance, Label, PolicyRef, parse_label
from .policy import Policy

PolicyOf = Callable[[str, PolicyRef], Policy | None]
"""(office, policy that a label names) → that office's own copy of it, or None."""

# Labels repeat: a relay sees the same few dozen byte strings all day.
label_of = lru_cache(maxsize=4096)(parse_label)


@dataclass(frozen=True, slots=True)
class Circle:
    """What of a message, beside its labels, decides who may read it."""

    office: str  # the originator's
    addressees: tuple[Addressee, ...]
    handling: Handling

    @classmethod
    def of(cls, core: Core) -> Circle:
        handling = Handling(expires=core.expires, originator_controlled=core.handling.originator_controlled)
        return cls(office=core.office, addressees=core.addressees, handling=handling)


@dataclass(frozen=True, slots=True)
class Judge:
    """One party's view of who is who and what the rules are."""

    directory: Directory
    policy_of: PolicyOf

    def judge(
        self, action: Action, circle: Circle, label: Label | None, device: Device, now: int
    ) -> Decision:
        """Decide for one device and one label; `now` in seconds. Total, as `decide` is."""
        current = self.directory.device(device.device_id, now)
        need = need_to_know(circle.addressees, device)
        policy = self.policy_of(device.office, label.policy) if label is not None else None
        clearance = _clearance(current, label)
        if circle.office == device.office:
            return decide(action, label, clearance, SAME_OFFICE, need, policy, now, circle.handling)
        states = self.directory.agreements_between(circle.office, device.office)
        closest = decide(action, label, clearance, None, need, policy, now, circle.handling)
        for state in states:
            sharing = state.agreement.sharing(in_force=state.is_in_force)
            decision = decide(action, label, clearance, sharing, need, policy, now, circle.handling)
            if decision.permitted:
                return decision
            if len(decision.failing) <= len(closest.failing):  # a draft beside it must not be named as the reason
                closest = decision
        return closest

    def judge_sender(self, label: Label | None, sender: Device, now: int) -> Decision:
        """Whether the sender may send under this label: as a reader of what he writes."""
        current = self.directory.device(sender.device_id, now)
        policy = self.policy_of(sender.office, label.policy) if label is not None else None
        need = NeedToKnow(basis="originator", of=sender.address)
        return decide(
            Action.SEND, label, _clearance(current, label), SAME_OFFICE, need, policy, now, Handling()
        )


def _clearance(device: Device | None, label: Label | None) -> Clearance | None:
    if device is None or device.certificate is None or label is None:
        return None
    return device.certificate.clearance_under(label.policy.name, label.policy.oid)


def need_to_know(addressees: tuple[Addressee, ...], device: Device) -> NeedToKnow | None:
    """The positive determination: named as addressee, or holder of an addressed role. Exemption beats both."""
    roles = device.certificate.roles if device.certificate is not None else ()
    own = {device.address, *(f"{role}@{device.office}" for role in roles)}
    if any(addressee.kind is AddresseeKind.EXEMPTED and addressee.address in own for addressee in addressees):
        return None
    for addressee in addressees:
        if addressee.address in own:
            basis = "addressee" if addressee.address == device.address else "role"
            return NeedToKnow(basis=basis, of=addressee.address)
    return None


def is_covered(addressee: Addressee, device: Device) -> bool:
    """Whether a slot for this device is a slot for this addressee."""
    local, office = parse_address(addressee.address)
    roles = device.certificate.roles if device.certificate is not None else ()
    return device.address == addressee.address or (device.office == office and local in roles)
