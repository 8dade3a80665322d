"""Sending: from a draft in the clear to a receipt. Decide, claim keys, seal, keep, post, check the receipt."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from relay.protocol.access import Circle, Judge, label_of
from relay.protocol.canonical import encode, expect
from relay.protocol.cose import parse_sign1, verify_sign1
from relay.protocol.decision import Decision, Handling
from relay.protocol.directory import Device
from relay.protocol.entry import Event, parse_logged_entry
from relay.protocol.envelope import (
    Addressee,
    AddresseeKind,
    Core,
    MessageHandling,
    Precedence,
    decode_list,
    parse_message,
)
from relay.protocol.errors import Conflict, Malformed, Refused, TooLarge, Unverified
from relay.protocol.label import Label, label_bytes
from relay.protocol.prekey import KEY_BATCH, KeyPackage, batch_digest, parse_key_package, read_key_batch

from .portions import PortionContent
from .profile import Profile
from .record import FAILED, read_record
from .release import NO_KEYS, Grant, Verdict, review
from .seal import Reader, seal
from .stock import check_package
from .transport import Transport
from .trust import DIRECTORY, Trust, relayed

DEFAULT_LIFETIME = 30 * 86400
FINAL = (Refused, Conflict, Malformed, TooLarge)  # answers to a message that asking again does not change
Keep = Callable[[bytes, Sequence[tuple[str, tuple[str, ...]]]], None]


@dataclass(frozen=True, slots=True)
class Draft:
    """A message before release: all of it in the clear, on the sender's machine only."""

    addressees: tuple[Addressee, ...]
    label: Label
    portions: tuple[PortionContent, ...]
    expires: int
    handling: MessageHandling


@dataclass(frozen=True, slots=True)
class Plan:
    """A draft with what the rules say of it. `verdicts` has one row per addressee."""

    draft: Draft
    sender: Decision
    verdicts: tuple[Verdict, ...]

    @property
    def released(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.is_released]

    @property
    def refused(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if not verdict.is_released]


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

    def plan(self, draft: Draft, now: int) -> Plan:
        """Ask the rules about every addressee and portion, and about the sender. Changes nothing."""
        own = self.trust.directory.devices[self.profile.signing.device_id]
        labels = [label_of(portion.label) for portion in draft.portions]
        circle = Circle(own.office, draft.addressees, Handling(expires=draft.expires))
        asked = [self.judge.judge_sender(label, own, now) for label in (draft.label, *dict.fromkeys(labels))]
        sender = next((decision for decision in asked if not decision.permitted), asked[0])
        return Plan(draft, sender, tuple(review(self.judge, self.trust, circle, labels, now)))

    def release(self, plan: Plan, now: int, keep: Keep) -> Sent:
        """Seal to everyone the plan releases to, and post. Raises Refused if that is nobody.

        `keep` writes the sender's own copy, in the transaction that fills the outbox.
        """
        if not plan.sender.permitted:
            raise Refused("you may not send under this label", rules=plan.sender.failing)
        claimed = self._claim([grant for verdict in plan.released for grant in verdict.grants], now)
        verdicts = [_without_keys(verdict, claimed) for verdict in plan.verdicts]
        released = [verdict for verdict in verdicts if verdict.is_released]
        refused = tuple(verdict for verdict in verdicts if not verdict.is_released)
        if not released:
            rules = tuple(dict.fromkeys(rule for verdict in refused for rule in verdict.rules))
            raise Refused("nobody may be given this message", rules=rules, hint="liaison explain says why")
        readers = _readers(released, claimed)
        core, submission = self._seal(
            plan.draft,
            released,
            readers,
            now,
            lambda encoded: keep(encoded, [(v.addressee.address, v.rules) for v in refused]),
        )
        index = self.post(core.message_id, submission)
        last_resort = tuple(
            sorted(
                {
                    grant.device.address
                    for each in released
                    for grant in each.grants
                    if not claimed[grant.device.device_id].one_time
                }
            )
        )
        addresses = tuple(verdict.addressee.address for verdict in released)
        return Sent(core.message_id, core.handling.dtg, addresses, refused, index, last_resort)

    def _claim(self, grants: Sequence[Grant], now: int) -> dict[bytes, KeyPackage]:
        """A verified key package for each device that has any."""
        devices = {grant.device.device_id: grant.device for grant in grants}
        if not devices:
            return {}
        answer = self.transport.post("/v1/keys/claim", encode(list(devices)))
        with relayed():
            return self._check_claimed(answer, devices, now)

    def _check_claimed(self, answer: bytes, devices: dict[bytes, Device], now: int) -> dict[bytes, KeyPackage]:
        rows = decode_list(answer, "claimed keys")
        if [row[0] for row in rows if type(row) is list and len(row) == 3] != list(devices):
            raise Unverified("the relay answered for other devices than were asked for")
        found = {}
        for device_id, package, batch in rows:
            if package is not None:
                parsed = parse_key_package(expect(package, bytes, "key package"))
                check_package(parsed, device_id, now)
                self._verify_batch(parsed, expect(batch, bytes, "key batch"), devices[device_id].signature_public)
                found[device_id] = parsed
        return found

    def _verify_batch(self, package: KeyPackage, encoded: bytes, public: bytes) -> None:
        """The package is in a batch that its device signed and that the directory log holds."""
        signed = parse_sign1(encoded, KEY_BATCH)
        batch = read_key_batch(signed)
        digest = batch_digest(signed)
        if self.trust.directory.key_batches.get(digest) != package.device_id:
            self.trust.sync(self.transport)  # the device may have stocked up since
        if self.trust.directory.key_batches.get(digest) != package.device_id:
            raise Unverified("a key batch that is not in the directory log: this key was swapped in")
        if batch.device_id != package.device_id or package.ref not in batch.refs:
            raise Unverified("a key package that its device's batch does not list: this key was swapped in")
        verify_sign1(signed, public)

    def _seal(
        self,
        draft: Draft,
        released: list[Verdict],
        readers: list[Reader],
        now: int,
        keep: Callable[[bytes], None],
    ) -> tuple[Core, bytes]:
        """Seal and keep: the submission is in the outbox, and the chain has moved, before anything is posted."""
        key, cabinet = self.profile.signing, self.profile.cabinet
        kept = {verdict.addressee for verdict in released}
        addressees = [a for a in draft.addressees if a in kept or a.kind is AddresseeKind.EXEMPTED]
        with cabinet.transaction():
            seq, prev = cabinet.chain()
            core = Core(
                suite=key.suite,
                message_id=os.urandom(16),
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
                directory=(
                    self.trust.verifiers(DIRECTORY)[0].name,
                    self.trust.tree.size,
                    self.trust.tree.root(),
                ),
                handling=draft.handling,
            )
            submission = seal(core, draft.portions, readers, key)
            cabinet.put_outbox(core.message_id, submission.encoded())
            keep(submission.message)
            cabinet.advance_chain(seq + 1, parse_message(submission.message).ref)
        return core, submission.encoded()

    def post(self, message_id: bytes, submission: bytes) -> int:
        """Post what is in the outbox and check the receipt; the index of the accept entry. Safe to repeat.

        An answer in FINAL takes the message out of the outbox and marks its record as failed.
        """
        try:
            answer = self.transport.post("/v1/messages", submission, self.trust.seen())
        except FINAL:
            self._give_up(message_id)
            raise
        with relayed():
            logged = parse_logged_entry(answer)
        entry = self.trust.verify_logged(logged, self.transport)
        message = parse_message(decode_list(submission, "submission")[0])
        own = (Event.ACCEPT, self.profile.signing.device_id, message_id, message.ref, True)
        if (entry.event, entry.device_id, entry.message_id, entry.message_ref, entry.permitted) != own:
            raise Unverified("the receipt is for something else than was posted")
        self.profile.cabinet.drop_outbox(message_id)
        return logged.index

    def _give_up(self, message_id: bytes) -> None:
        cabinet = self.profile.cabinet
        with cabinet.transaction():
            cabinet.drop_outbox(message_id)
            if (kept := cabinet.message(message_id)) is not None:
                cabinet.put_message(message_id, read_record(kept).with_state(FAILED).to_bytes())


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


def message_handling(
    precedence: Precedence,
    dtg: int,
    references: Sequence[bytes],
    *,
    require_ack: bool,
    originator_controlled: bool = False,
) -> MessageHandling:
    """Handling of an ordinary message; info addressees are served as ROUTINE, or slower if action ones are."""
    return MessageHandling(
        precedence=precedence,
        info_precedence=min(precedence, Precedence.ROUTINE),
        dtg=dtg,
        references=tuple(references),
        require_ack=require_ack,
        originator_controlled=originator_controlled,
    )
