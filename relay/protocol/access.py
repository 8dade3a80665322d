"""May this device have this portion? The facts that `decide` needs, gathered the same way in all four places.

Sender, relay and reader each call `judge` with their own copy of the directory and of the policies; none takes
another's word for a clearance, an agreement or a rule. A missing fact is passed on as missing, and denies.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from .compiled import compile_label
from .decision import SAME_OFFICE, Action, Agreement, Decision, Handling, NeedToKnow, Sharing, decide
from .directory import Device, Directory
from .endorsement import PassedOn
from .equivalence import Direction, translate
from .errors import LiaisonError
from .header import Addressee, AddresseeKind, Core, Precedence
from .label import Clearance, Label, PolicyRef, label_bytes, label_of, readable_label
from .obligations import Circumstances, failing_obligations
from .policy import Policy
from .publication import PublishedPolicy

_EXPLAINING = 8  # of the agreements that permit nothing, not being in force, the newest: they only say why not
ReadPolicy = Callable[[PublishedPolicy], Policy | None]
"""What an office's authority published → the policy in those files, or None if there is none that can be read."""


@dataclass(frozen=True, slots=True)
class Circle:
    """What of a message, beside its labels, decides who may read it."""

    office: str  # the originator's
    addressees: tuple[Addressee, ...]
    expires: int
    purpose: str = ""
    alternatives: tuple[tuple[bytes, bytes], ...] = ()
    originals: tuple[PassedOn, ...] = ()
    named: Mapping[str, AddresseeKind] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Once for the message: built anew for every device, 500 readers would cost 250,000 steps.
        shown = (each for original in self.originals for each in original.message.core.addressees)
        exempted = {each.address: each.kind for each in shown if each.kind is AddresseeKind.EXEMPTED}
        object.__setattr__(self, "named", {each.address: each.kind for each in self.addressees} | exempted)

    @classmethod
    def of(cls, core: Core, originals: tuple[PassedOn, ...] = ()) -> Circle:
        """The circle of a message; `originals` are those that it passes on, verified."""
        return cls(core.office, core.addressees, core.expires, core.handling.purpose, core.alternatives, originals)


@dataclass(frozen=True, slots=True)
class Judge:
    """One party's view of who is who and what the rules are."""

    directory: Directory
    read_policy: ReadPolicy

    def policy_of(self, office: str, ref: PolicyRef) -> Policy | None:
        """That office's own copy, today, of the policy that a label names, or None."""
        published = self.directory.policy_of(office, ref.name, ref.oid)
        return self.read_policy(published) if published is not None else None

    def policy_then(self, office: str, ref: PolicyRef, core: Core) -> Policy | None:
        """The same as its sender had it when this message was created."""
        published = self.directory.policy_then(office, ref.name, ref.oid, core.directory[1], core.created)
        return self.read_policy(published) if published is not None else None

    def obligations_of(self, core: Core, found: Circumstances, today: int | None = None) -> tuple[str, ...]:
        """What the originating office's policy demanded of the whole message when it was created, and does not find.

        With `today`, in seconds, what its newest version demands as well.
        """
        label = readable_label(core.label)
        if label is None:
            return failing_obligations(None, core, found, core.created)
        asked = {self.policy_then(core.office, label.policy, core): core.created}
        if today is not None:
            asked.setdefault(self.policy_of(core.office, label.policy), today)
        failing = (failing_obligations(policy, core, found, at) for policy, at in asked.items())
        return tuple(dict.fromkeys(rule for rules in failing for rule in rules))

    def judge(self, action: Action, circle: Circle, encoded: bytes, device: Device, now: int) -> Decision:
        """Decide for one device and one label in its encoding; `now` in seconds. Total, as `decide` is.

        Of denials, the one that fails the fewest rules; of equals, the label's own.
        """
        action = Action.FORWARD if circle.originals else action
        needs = self.needs_to_know(circle.named, device)
        label = readable_label(encoded)
        own = self._decide_under(action, circle, label, label, device, needs, now)
        if own.permitted or label is None:
            return own
        denials = [own]
        for alternative in self._alternatives(circle, encoded, device, now):
            decision = self._decide_under(action, circle, label, alternative, device, needs, now)
            if decision.permitted:
                return decision
            denials.append(decision)
        return min(denials, key=lambda denial: len(denial.failing))

    def judge_sender(self, encoded: bytes, sender: Device, now: int) -> Decision:
        """Whether the sender may send under this label: as a reader of what he writes."""
        label = readable_label(encoded)
        policy = self.policy_of(sender.office, label.policy) if label is not None else None
        return self._as_originator(label, sender, policy, now)

    def judge_sender_then(self, core: Core, encoded: bytes, sender: Device) -> Decision:
        """Whether the sender could send under this label of his message when he created it, by the policy of then."""
        label = readable_label(encoded)
        policy = self.policy_then(sender.office, label.policy, core) if label is not None else None
        return self._as_originator(label, sender, policy, core.created)

    @staticmethod
    def _as_originator(label: Label | None, sender: Device, policy: Policy | None, at: int) -> Decision:
        certified = sender if sender.not_before <= at < sender.not_after else None
        need = NeedToKnow(basis="originator", of=sender.address)
        return decide(Action.SEND, label, _clearance(certified, label), SAME_OFFICE, need, policy, at, Handling())

    def needs_to_know(self, named: Mapping[str, AddresseeKind], device: Device) -> tuple[NeedToKnow, ...]:
        """Every positive determination: named, holder of an addressed role, on an addressed community's roster.

        Exemption beats all three, also one by the originator of a message that is passed on.
        """
        found = self.bases(device, named.keys())
        if any(named.get(address) is AddresseeKind.EXEMPTED for address in found):
            return ()
        return tuple(NeedToKnow(basis=basis, of=address) for address, basis in found.items() if address in named)

    def bases(self, device: Device, named: AbstractSet[str]) -> dict[str, str]:
        """Every address that reaches this device's holder, and by which basis; of communities those that are named."""
        roles = device.certificate.roles if device.certificate is not None else ()
        found = {device.address: "addressee"}
        found |= {f"{role}@{device.office}": "role" for role in roles}
        return found | dict.fromkeys(self.directory.communities_of(device.address, named), "coi")

    def precedence_for(self, core: Core, device: Device) -> Precedence:
        """The precedence that a message has for this device's holder."""
        return self.precedences(core, [device])[0]

    def precedences(self, core: Core, devices: Iterable[Device]) -> list[Precedence]:
        """For each device: that for information where its holder is addressed for nothing but information."""
        stated = core.handling
        if stated.precedence is stated.info_precedence:
            return [stated.precedence for _ in devices]
        named = {each.address: each.kind for each in core.addressees}

        def is_informed(device: Device) -> bool:
            kinds = {named.get(address) for address in self.bases(device, named.keys())}
            return AddresseeKind.INFO in kinds and AddresseeKind.ACTION not in kinds

        return [stated.info_precedence if is_informed(device) else stated.precedence for device in devices]

    def _decide_under(
        self,
        action: Action,
        circle: Circle,
        label: Label | None,
        chosen: Label | None,
        device: Device,
        needs: tuple[NeedToKnow, ...],
        now: int,
    ) -> Decision:
        """Decide on `chosen`, which is the label or an alternative of it: some rules always speak of the label."""
        policy = self.policy_of(device.office, chosen.policy) if chosen is not None else None
        clearance = _clearance(self.directory.device(device.device_id, now), chosen)
        handling = self._handling(circle, device, now)

        def under(sharing: Agreement) -> Decision:
            need = _need_under(sharing, needs)
            if chosen is label:
                return decide(action, chosen, clearance, sharing, need, policy, now, handling)
            origin = self.policy_of(circle.office, label.policy) if label is not None else None
            stated = decide(action, label, None, sharing, need, origin, now, handling)
            return _with_rules_of(decide(action, chosen, clearance, SAME_OFFICE, need, policy, now, handling), stated)

        if circle.office == device.office:
            return under(SAME_OFFICE)
        states = self.directory.agreements_between(circle.office, device.office)
        refused = []
        for state in filter(lambda state: state.is_in_force, states):
            found = under(state.agreement.sharing(in_force=True))
            if found.permitted:
                return found
            refused.append(found)
        others = [state for state in states if not state.is_in_force][-_EXPLAINING:]
        explaining = [under(state.agreement.sharing(in_force=False)) for state in others]
        # Of equals the first: drafts are not the reason.
        return min((*refused, *explaining, under(None)), key=lambda denial: len(denial.failing))

    def _alternatives(self, circle: Circle, encoded: bytes, device: Device, now: int) -> Iterator[Label]:
        """Alternative labels of this one that repeat exactly: by tables that both offices have signed."""
        claimed = {alternative for original, alternative in circle.alternatives if original == encoded}
        for alternative in self.translations(circle.office, device.office, encoded, now) if claimed else ():
            if alternative in claimed:
                yield label_of(alternative)

    def translations(self, origin: str, office: str, encoded: bytes, now: int) -> Iterator[bytes]:
        """The label in each policy of `office` into which the two offices have agreed a table.

        None for a label with a successor: a table translates one label, and the other would go unheeded.
        """
        label = readable_label(encoded)
        source = self.policy_of(origin, label.policy) if label is not None else None
        if label is None or label.succession is not None or source is None or source.digest != label.policy.digest:
            return
        for target in self.policies_of(office):
            if target.digest != source.digest and self.is_mapped(origin, office, source, target, now):
                translated = _translated(label, source, target, across=origin != office)
                if translated is not None:
                    yield translated

    def policies_of(self, office: str) -> list[Policy]:
        """Every policy that an office has published and that can be read."""
        published = [each for (publisher, _), each in list(self.directory.policies.items()) if publisher == office]
        refs = (PolicyRef(each.name, each.oid, each.version, each.spif_digest) for each in published)
        return [policy for ref in refs if (policy := self.policy_of(office, ref)) is not None]

    def is_mapped(self, left: str, right: str, source: Policy, target: Policy, now: int) -> bool:
        """Whether the source policy's table into the target policy is agreed between the offices, file for file."""
        if left == right:
            return True
        pair = (source.digest, target.digest)
        states = self.directory.agreements_between(left, right)
        return any(state.is_valid(now) and pair in state.agreement.mappings for state in states)

    def _handling(self, circle: Circle, device: Device, now: int) -> Handling:
        """Expiry, purpose, and for a message that passes others on what their originators ask for."""
        handling = Handling(expires=circle.expires, purpose=circle.purpose)
        if not circle.originals:
            return handling
        foreign = (each for each in circle.originals if each.message.core.office != circle.office)
        beyond = [
            each for each in foreign if not each.reaches(device.office) and not each.is_consented(device.office, now)
        ]
        return replace(
            handling,
            originator_controlled=any(each.message.core.handling.originator_controlled for each in beyond),
            consent=not beyond,
            onward=bool(beyond),
            onward_permitted=all(self._may_go_on(each, circle.office, now) for each in beyond),
        )

    def _may_go_on(self, original: PassedOn, office: str, now: int) -> bool:
        """Whether an agreement that covers the original lets `office` pass it on."""
        core = original.message.core
        label = readable_label(core.label)
        policy = self.policy_of(core.office, label.policy) if label is not None else None
        handling = Handling(purpose=core.handling.purpose)
        for state in self.directory.agreements_between(core.office, office):
            if state.is_in_force and state.agreement.onward_release:
                sharing = state.agreement.sharing(in_force=True)
                found = decide(Action.READ, label, None, sharing, None, policy, now, handling)
                if any(rule.id == "agreement" and rule.ok for rule in found.rules):  # what failed whole has none
                    return True
        return False


def deciding_policy(directory: Directory, office: str, encoded: bytes) -> bytes | None:
    """Digest of the policy file by which `office` decides on this label, for the log; None if there is none."""
    label = readable_label(encoded)
    published = directory.policy_of(office, label.policy.name, label.policy.oid) if label is not None else None
    return published.spif_digest if published is not None else None


def _need_under(sharing: Agreement, needs: tuple[NeedToKnow, ...]) -> NeedToKnow | None:
    """The first need that the agreement lets count, else the first: a reader may be on several addressed rosters."""
    listed = sharing.communities if isinstance(sharing, Sharing) else ()
    return next((need for need in needs if need.basis != "coi" or need.of in listed), next(iter(needs), None))


_OF_THE_ORIGINAL = frozenset({"policy-known", "label-valid", "agreement"})


def _with_rules_of(decision: Decision, stated: Decision) -> Decision:
    """`decision` on an alternative, with what `stated` found against the original: an alternative mends none of it."""
    if "internal" in stated.failing:
        return stated
    against = {rule.id: rule for rule in stated.rules if not rule.ok and rule.id in _OF_THE_ORIGINAL}
    rules = tuple(against.get(rule.id, rule) for rule in decision.rules)
    return Decision(all(rule.ok for rule in rules), rules)


def _translated(label: Label, source: Policy, target: Policy, *, across: bool) -> bytes | None:
    """None if there is no equivalent, or, `across` offices, if either policy keeps such a label to its owner."""
    try:
        translated = translate(label, source, target, Direction.ENCRYPT)
        kept = compile_label(source, label).owner_only or compile_label(target, translated).owner_only
    except LiaisonError:
        return None
    return None if across and kept else label_bytes(translated)


def _clearance(device: Device | None, label: Label | None) -> Clearance | None:
    if device is None or device.certificate is None or label is None:
        return None
    return device.certificate.clearance_under(label.policy.name, label.policy.oid)
