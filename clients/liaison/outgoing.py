"""Sending: from a draft in the clear to a receipt. Decide, claim keys, seal, keep, post, check the receipt."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from relay.protocol.access import Circle, Judge
from relay.protocol.decision import Decision
from relay.protocol.endorsement import PassedOn, verify_passed_on
from relay.protocol.entry import Event, parse_logged_entry
from relay.protocol.envelope import parse_message, parse_slot, parse_submission
from relay.protocol.errors import Conflict, Malformed, Refused, TooLarge, Unverified
from relay.protocol.grants import accept_detail, grants_of
from relay.protocol.header import Addressee, AddresseeKind, Core, MessageHandling, Portion, fresh_message_id
from relay.protocol.label import Label, label_bytes
from relay.protocol.obligations import Circumstances
from relay.protocol.policy import is_at_or_above
from relay.protocol.prekey import KeyPackage

from .carriage import upload
from .claiming import claim
from .meter import Meter, no_meter
from .portions import PortionContent
from .profile import Profile
from .record import FAILED, change
from .release import NO_KEYS, Grant, Verdict, review
from .seal import Reader, fresh_keys, seal
from .sealed import SealedFile, seal_file
from .transport import Transport
from .trust import DIRECTORY, Trust, relayed

DEFAULT_LIFETIME = 30 * 86400
MANY = 10  # devices; sealing to fewer is done before anybody looks
TWO_PERSON = "two-person-release"
_HINTS = {
    "banner": "the message's label must be at least that of every part: raise it, or lower what you attach",
    "derived-label": "a message that passes others on carries at least their labels",
    "recovery-addressee": "the policy names an addressee for recovery; add it with --info",
}
FINAL = (Refused, Conflict, Malformed, TooLarge)  # answers to a message that asking again does not change
Keep = Callable[[bytes, Sequence[tuple[str, tuple[str, ...]]], Mapping[int, SealedFile]], None]


@dataclass(frozen=True, slots=True)
class Draft:
    """A message before release: all of it in the clear, on the sender's machine only."""

    addressees: tuple[Addressee, ...]
    label: Label
    portions: tuple[PortionContent, ...]
    expires: int
    handling: MessageHandling
    passed_on: tuple[bytes, ...] = ()
    consents: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A draft with what the rules say of it. `verdicts` has one row per addressee."""

    draft: Draft
    alternatives: tuple[tuple[bytes, bytes], ...]
    sender: Decision  # whether the sender may send this: of the banner, or of the first portion that says no
    obligations: tuple[str, ...]  # what the policy demands of the message and does not find
    verdicts: tuple[Verdict, ...]

    @property
    def released(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.is_released]

    @property
    def refused(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.is_released]

    @property
    def needs_release(self) -> bool:
        """Whether another officer must sign before this can be posted."""
        return TWO_PERSON in self.obligations

    def require_permitted(self) -> None:
        """Raise Refused for what stands against the message as a whole, a second signature aside."""
        if not self.sender.permitted:
            why = "; ".join(rule.why for rule in self.sender.rules if not rule.ok)
            raise Refused(f"you may not send under this label: {why}", rules=self.sender.failing)
        if against := tuple(rule for rule in self.obligations if rule != TWO_PERSON):
            raise Refused("the policy does not permit this message", rules=against, hint=_HINTS.get(against[0], ""))


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a message: who it went to, who was refused and by which rules."""

    message_id: bytes
    dtg: int
    released_to: tuple[str, ...]
    refused: tuple[Verdict, ...]
    index: int  # of its accept entry in the access log
    last_resort: tuple[str, ...] = field(default=())  # addresses whose one-time keys had run out


@dataclass(slots=True)
class Outgoing:
    """The sending side of one profile."""

    profile: Profile
    trust: Trust
    judge: Judge
    transport: Transport
    meter: Meter = no_meter
    sealed: dict[bytes, tuple[bytes, ...]] = field(default_factory=dict)  # digests of chunks, by their part's

    def plan(self, draft: Draft, now: int) -> Plan:
        """Ask the rules about every addressee and portion, about the sender and the whole. Changes nothing."""
        own = self.trust.directory.devices[self.profile.signing.device_id]
        core = self._core(draft, draft.addressees, now)
        core = replace(core, portions=tuple(Portion(1, bytes(32), portion.label) for portion in draft.portions))
        labels = [portion.label for portion in draft.portions]
        alternatives = self._alternatives(core, labels, now)
        originals = self._originals(draft, core)
        circle = replace(Circle.of(core, originals), alternatives=alternatives)
        own_right = [self.judge.judge_sender(label, own, now) for label in dict.fromkeys((core.label, *labels))]
        sender = next((decision for decision in own_right if not decision.permitted), own_right[0])
        obligations = self.judge.obligations_of(core, Circumstances((), originals, one_time=True), now)
        verdicts = review(self.judge, self.trust, circle, labels, now)
        return Plan(draft, alternatives, sender, obligations, tuple(verdicts))

    def _originals(self, draft: Draft, core: Core) -> tuple[PassedOn, ...]:
        return verify_passed_on(self.trust.directory, core) if draft.passed_on else ()

    def _alternatives(self, core: Core, labels: Sequence[bytes], now: int) -> tuple[tuple[bytes, bytes], ...]:
        """Every label in every policy of an addressed office into which the offices have agreed a table."""
        offices = {
            device.office
            for each in core.addressees
            if each.kind is not AddresseeKind.EXEMPTED
            for device in self.trust.directory.devices_of(each.address, now)
        }
        found = set[tuple[bytes, bytes]]()
        for label in {core.label, *labels}:
            for office in offices:
                found |= {
                    (label, alternative) for alternative in self.judge.translations(core.office, office, label, now)
                }
        return tuple(sorted(found))

    def release(self, plan: Plan, now: int, keep: Keep) -> Sent:
        """Seal to everyone the plan releases to, and post. Raises Refused if that is nobody.

        `keep` writes the sender's own copy, in the transaction that fills the outbox.
        """
        plan.require_permitted()
        if plan.needs_release:
            raise Refused("another officer must release this", rules=(TWO_PERSON,), hint="use: liaison draft")
        core, submission, claimed, verdicts = self.prepare(plan, now, keep)
        index = self.post(core.message_id, submission)
        released = [verdict for verdict in verdicts if verdict.is_released]
        devices = {grant.device.device_id: grant.device for each in released for grant in each.grants}
        last_resort = sorted({device.address for key, device in devices.items() if not claimed[key].one_time})
        return Sent(
            message_id=core.message_id,
            dtg=core.handling.dtg,
            released_to=tuple(verdict.addressee.address for verdict in released),
            refused=tuple(verdict for verdict in verdicts if not verdict.is_released),
            index=index,
            last_resort=tuple(last_resort),
        )

    def prepare(
        self, plan: Plan, now: int, keep: Keep, content_keys: list[bytes] | None = None
    ) -> tuple[Core, bytes, dict[bytes, KeyPackage], list[Verdict]]:
        """Claim keys, seal, sign and keep. With `content_keys` it is a draft, which waits for release."""
        claimed = self._claim([grant for verdict in plan.released for grant in verdict.grants], now)
        if not self._may_use_last_resort(plan.draft.label):
            claimed = {key: package for key, package in claimed.items() if package.one_time}
        verdicts = [_without_keys(verdict, claimed) for verdict in plan.verdicts]
        refused = [(each.addressee.address, each.rules) for each in verdicts if not each.is_released]
        released = {each.addressee: each for each in verdicts if each.is_released}
        if not released:
            rules = tuple(dict.fromkeys(rule for _, each in refused for rule in each))
            raise Refused("nobody may be given this message", rules=rules, hint="liaison explain says why")
        addressees = [a for a in plan.draft.addressees if a in released or a.kind is AddresseeKind.EXEMPTED]
        readers = _readers(list(released.values()), claimed)
        key, cabinet = self.profile.signing, self.profile.cabinet
        message_id, keys = fresh_message_id(now, os.urandom(12)), content_keys or fresh_keys(len(plan.draft.portions))
        apart = self._seal_apart(plan.draft, message_id, keys)  # this takes long, and holds no lock
        with cabinet.transaction():
            # The submission is in the outbox, and the chain has moved, before anything is posted.
            core = replace(
                self._core(plan.draft, addressees, now), message_id=message_id, alternatives=plan.alternatives
            )
            stated = {index: portion for index, (_file, portion) in apart.items()}
            meter = self.meter if len(readers) >= MANY else no_meter
            with meter("sealing to", len(readers), counted="devices") as advance:
                submission = seal(core, plan.draft.portions, readers, key, keys, stated, advance)
            if content_keys is None:
                cabinet.put_outbox(core.message_id, submission.encoded())
            keep(submission.message, refused, {index: file for index, (file, _portion) in apart.items()})
            cabinet.advance_chain(core.seq, parse_message(submission.message).ref)
        return core, submission.encoded(), claimed, verdicts

    def _seal_apart(
        self, draft: Draft, message_id: bytes, keys: Sequence[bytes]
    ) -> dict[int, tuple[SealedFile, Portion]]:
        """Every large content, sealed to a file of the profile: ready to be sent, and the sender's own copy."""
        found, kid = {}, self.profile.signing.kid
        for index, portion in enumerate(draft.portions):
            if portion.apart is not None:
                folder = self.profile.cabinet.parts
                file, length = seal_file(folder, message_id, kid, index, keys[index], portion, self.meter)
                found[index] = file, Portion(length, file.digest, portion.label)
                self.sealed[file.digest] = file.chunks
        return found

    def _may_use_last_resort(self, label: Label) -> bool:
        policy = self.judge.policy_of(self.profile.statement.office, label.policy)
        threshold = policy.extensions.one_time_key_from if policy is not None else None
        return policy is None or not is_at_or_above(policy, label.classification, threshold)

    def _core(self, draft: Draft, addressees: Sequence[Addressee], now: int) -> Core:
        """The header of this draft, next in this device's chain, portions still to come."""
        key, (seq, prev) = self.profile.signing, self.profile.cabinet.chain()
        tree = self.trust.tree
        return Core(
            suite=key.suite,
            message_id=fresh_message_id(now, os.urandom(12)),
            sender=self.profile.pins.address,
            sender_device=key.device_id,
            sender_kid=key.kid,
            created=now,
            expires=draft.expires,
            label=label_bytes(draft.label),
            addressees=tuple(sorted(addressees, key=lambda a: (a.kind, a.address))),
            portions=(),
            seq=seq + 1,
            prev=prev,
            directory=(self.trust.verifiers(DIRECTORY)[0].name, tree.size, tree.root()),
            handling=draft.handling,
            passed_on=draft.passed_on,
            consents=draft.consents,
        )

    def _claim(self, grants: Sequence[Grant], now: int) -> dict[bytes, KeyPackage]:
        """A verified key package for each device that has any."""
        return claim({grant.device.device_id: grant.device for grant in grants}, self.trust, self.transport, now)

    def post(self, message_id: bytes, submission: bytes) -> int:
        """Post what is in the outbox and check the receipt; the index of the accept entry. Safe to repeat.

        An answer in FINAL takes the message out of the outbox and marks its record as failed.
        """
        try:
            posted = parse_submission(submission)
            message = parse_message(posted.message)
            for portion, part in zip(message.core.portions, posted.parts, strict=True):
                if part is None:
                    fresh = self.sealed.get(portion.digest, ())
                    upload(self.profile.cabinet.parts, portion, self.transport, self.meter, fresh)
            precedence = message.core.handling.precedence
            answer = self.transport.post("/v1/messages", submission, self.trust.seen(), precedence)
        except FINAL:
            self._give_up(message_id)
            raise
        with relayed():
            logged = parse_logged_entry(answer)
        entry = self.trust.verify_logged(logged, self.transport)
        detail = accept_detail(grants_of(parse_slot(each, message.core) for each in posted.slots), precedence)
        own = (Event.ACCEPT, self.profile.signing.device_id, message_id, message.ref, detail, True)
        said = (entry.event, entry.device_id, entry.message_id, entry.message_ref, entry.detail, entry.permitted)
        if said != own:
            raise Unverified("the receipt is for something else than was posted")
        self.profile.cabinet.drop_outbox(message_id)
        return logged.index

    def _give_up(self, message_id: bytes) -> None:
        cabinet = self.profile.cabinet
        with cabinet.transaction():
            cabinet.drop_outbox(message_id)
            change(cabinet, message_id, state=FAILED)


def _without_keys(verdict: Verdict, claimed: dict[bytes, KeyPackage]) -> Verdict:
    """The verdict, less the devices that have left no key."""
    grants = tuple(grant for grant in verdict.grants if grant.device.device_id in claimed)
    if verdict.is_released and not grants:
        return Verdict(verdict.addressee, (), verdict.decisions, NO_KEYS)
    return Verdict(verdict.addressee, grants, verdict.decisions, verdict.obstacle)


def _readers(released: Sequence[Verdict], claimed: dict[bytes, KeyPackage]) -> list[Reader]:
    """One reader per device, also where a device stands behind two addresses."""
    readers = {}
    for verdict in released:
        for grant in verdict.grants:
            device = grant.device
            readers[device.device_id] = Reader(device.device_id, device.kid, claimed[device.device_id], grant.granted)
    return list(readers.values())


def next_dtg(now: int, last: int) -> int:
    """A DTG that this originator has not used: this minute, or the first free one after it."""
    return max(now - now % 60, last + 60 if last else 0)


def check_addressees(addressees: Sequence[Addressee]) -> tuple[Addressee, ...]:
    """In order, each once, exemptions taken out of the others. Raises Malformed for none."""
    exempted = {each.address for each in addressees if each.kind is AddresseeKind.EXEMPTED}
    chosen: dict[str, Addressee] = {}
    for each in sorted(addressees, key=lambda a: (a.kind, a.address)):
        if each.kind is AddresseeKind.EXEMPTED or each.address not in exempted:
            chosen.setdefault(each.address, each)
    if all(each.kind is AddresseeKind.EXEMPTED for each in chosen.values()):
        raise Malformed("no addressee is left", hint="an empty list never means everyone")
    return tuple(sorted(chosen.values(), key=lambda a: (a.kind, a.address)))
