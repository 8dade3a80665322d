"""Opening: the reader believes nothing that it has not checked. The steps are those of SPEC.md, "The reader opens"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from relay.protocol.access import Circle, Judge
from relay.protocol.actor import verify_concerns
from relay.protocol.canonical import encode
from relay.protocol.cose import verify_sign1
from relay.protocol.dating import CLOCKS_APART
from relay.protocol.decision import Action
from relay.protocol.directory import Device
from relay.protocol.endorsement import verify_endorsements, verify_passed_on
from relay.protocol.entry import AccessEntry, Event, parse_logged_entry
from relay.protocol.envelope import RECEIPT, Message, Receipt, Slot, parse_delivery, parse_message, parse_slot
from relay.protocol.errors import Malformed, Refused, Unverified
from relay.protocol.grants import format_portions
from relay.protocol.header import Core, Precedence
from relay.protocol.identity import MAY_SEND
from relay.protocol.merkle import leaf_hash, verify_inclusion
from relay.protocol.obligations import Circumstances
from relay.protocol.parts import MAX_INLINE

from .carriage import downloaded
from .home.cabinet import Prekey
from .home.profile import Profile
from .meter import Meter, no_meter
from .portions import MAX_CONTENT, PortionContent, PortionKind
from .record import read_record
from .seal import unseal_part, unseal_slot
from .sealed import check_file, into_memory, too_much
from .transport import Transport
from .trust import Trust, relayed


@dataclass(frozen=True, slots=True)
class Opened:
    """A message that passed every check."""

    message: Message
    sender: Device
    portions: dict[int, PortionContent]  # the granted ones
    one_time: bool  # False: sealed to the last-resort key
    entry: AccessEntry  # the log entry that released it
    released_by: tuple[str, ...]  # the officers who signed beside the sender
    slot: bytes  # [own slot, index, [proof...]]: what shows that the sender sealed it to this device


@dataclass(slots=True)
class Incoming:
    """The reading side of one profile."""

    profile: Profile
    trust: Trust
    judge: Judge
    transport: Transport
    meter: Meter = no_meter

    def verify_header(self, encoded: bytes) -> tuple[Message, Device]:
        """Steps 1 to 3: what an inbox line may be shown from. Raises Malformed, Unverified."""
        # 1. strict CBOR, type, algorithm
        message = parse_message(encoded)
        core = message.core
        # 2. the sender's certificate: in the verified directory, vouched for by an authority we trust, valid then
        sender = self.trust.directory.devices.get(core.sender_device)
        if sender is None or sender.address != core.sender or sender.certificate is None:
            raise Unverified(f"{core.sender}: this device is not in the directory")
        if not self.trust.is_trusted(sender):
            raise Unverified(f"{core.sender}: no agreement that our authority has signed names this office's authority")
        if not sender.not_before <= core.created < sender.not_after:
            raise Unverified(f"{core.sender}: the certificate was not valid when the message was created")
        revocation = self.trust.directory.revoked.get(core.sender_device)
        if revocation is not None and revocation.at <= core.created:
            raise Unverified(f"{core.sender}: the device was revoked before the message was created")
        # 3. the composite signature
        verify_sign1(message.signed, sender.signature_public)
        if core.directory[1] > self.trust.tree.size:
            self.trust.sync(self.transport)  # sent after our last look
        self.trust.check_sender_view(core.directory)
        return message, sender

    def precedence_for(self, core: Core) -> Precedence:
        """The precedence that a message has for this profile's owner."""
        own = self.trust.directory.devices.get(self.profile.signing.device_id)
        return core.handling.precedence if own is None else self.judge.precedence_for(core, own)

    def open(
        self,
        message_id: bytes,
        now: int,
        store: Callable[[Opened], None],
        precedence: Precedence = Precedence.ROUTINE,
    ) -> Opened:
        """Ask for the slot, check everything in order, store, delete the one-time key, send the receipt.

        `precedence` is what it has for this reader, where the header is known: the relay serves the urgent first.
        `store` writes the message in the transaction that deletes the key. Raises Unknown (not available to this
        device), Unverified, Refused, TooLarge.
        """
        answer = self.transport.post(f"/v1/messages/{message_id.hex()}/open", b"", self.trust.seen(), precedence)
        with relayed():
            opened, slot = self._check(answer, message_id, now)
        # 11. store, and delete the one-time key with it
        cabinet = self.profile.cabinet
        with cabinet.transaction():
            if cabinet.message(message_id) is None:  # else another process of this profile was faster
                store(opened)
                cabinet.mark_seen(opened.message.core.sender_device, opened.message.core.seq, message_id)
                if opened.one_time:
                    cabinet.delete_prekey(slot.kp_ref)
        # 12. the receipt
        self.send_receipt(opened.message, "opened", now)
        return opened

    def _check(self, answer: bytes, message_id: bytes, now: int) -> tuple[Opened, Slot]:
        """Steps 1 to 10: what was delivered, in the clear, with the slot that opened it."""
        delivery = parse_delivery(answer)
        message, sender = self.verify_header(delivery.message)
        core = message.core
        if core.message_id != message_id:
            raise Unverified("the relay delivered another message than was asked for")
        # 4. expiry and clock
        if now >= core.expires:
            raise Refused("the message has expired", rules=("handling",))
        if core.created > now + CLOCKS_APART:
            raise Unverified("the message was created in the future", hint="check this machine's clock")
        # 5. replay
        self._check_replay(message)
        # 6. our own slot, under the signed root
        slot = self._own_slot(message, delivery.slot, delivery.index, delivery.proof)
        # 7. the access-log entry that released it, under a checkpoint consistent with every one seen
        entry = self.trust.verify_logged(delivery.release, self.transport)
        self._check_release(entry, message, slot)
        # 8. HPKE
        prekey = self._prekey(slot)
        keys = unseal_slot(message, slot, prekey.seed, self.profile.signing.kid)
        # 9. digests, commitments, chunks, inner labels
        portions = self._portions(message, keys)
        # 10. the rules, by our own copy of everything
        officers = verify_endorsements(self.trust.directory, message, delivery.endorsements)
        originals = verify_passed_on(self.trust.directory, core)
        self._decide(message, sender, portions, Circumstances(officers, originals, prekey.one_time), now)
        released_by, proven = tuple(each.address for each in officers), encode(delivery.proven_slot())
        return Opened(message, sender, portions, prekey.one_time, entry, released_by, proven), slot

    def send_receipt(self, message: Message, state: str, now: int) -> AccessEntry:
        """Sign and post a receipt; its verified log entry."""
        receipt = Receipt(message.core.message_id, message.ref, self.profile.signing.device_id, state, now)
        signed = self.profile.signing.sign_object(RECEIPT, receipt.payload())
        path = f"/v1/messages/{message.core.message_id.hex()}/receipts"
        answer = self.transport.post(path, signed, self.trust.seen())
        with relayed():
            entry = self.trust.verify_logged(parse_logged_entry(answer), self.transport)
        own = (Event.ACKNOWLEDGE, receipt.device_id, receipt.message_id, message.ref, state)
        if (entry.event, entry.device_id, entry.message_id, entry.message_ref, entry.detail) != own:
            raise Unverified("the relay logged another receipt than was sent")
        verify_concerns(entry, message.core.office)
        return entry

    def _check_replay(self, message: Message) -> None:
        seen = self.profile.cabinet.seen(message.core.sender_device, message.core.seq)
        if seen is not None and seen != message.core.message_id:
            raise Unverified("the sender's device has used this sequence number for another message")
        if seen is not None or self.profile.cabinet.message(message.core.message_id) is not None:
            raise Unverified("this message was opened before: it is being replayed")
        # What came between two messages may have gone to others; that the two are not of one chain is no accident.
        for seq, earlier in ((message.core.seq - 1, True), (message.core.seq + 1, False)):
            neighbour = self._opened_before(message.core.sender_device, seq)
            if neighbour is None:
                continue
            first, second = (neighbour, message) if earlier else (message, neighbour)
            if second.core.prev != first.ref:
                raise Unverified("the sender's device has two histories: the chain of its messages is broken")

    def _opened_before(self, sender_device: bytes, seq: int) -> Message | None:
        message_id = self.profile.cabinet.seen(sender_device, seq)
        kept = self.profile.cabinet.message(message_id) if message_id is not None else None
        return read_record(kept).message if kept is not None else None

    def _prekey(self, slot: Slot) -> Prekey:
        for prekey in self.profile.cabinet.prekeys():
            if prekey.kp_ref == slot.kp_ref:
                return prekey
        raise Unverified("the key that this message was sealed to is gone: it was read before, or was never ours")

    def _own_slot(self, message: Message, encoded: bytes, index: int, proof: tuple[bytes, ...]) -> Slot:
        verify_inclusion(leaf_hash(encoded), index, message.slot_count, proof, message.slot_root)
        slot = parse_slot(encoded, message.core)
        if slot.device_id != self.profile.signing.device_id:
            raise Unverified("the relay delivered another device's slot")
        return slot

    def _check_release(self, entry: AccessEntry, message: Message, slot: Slot) -> None:
        expected = (Event.OPEN, self.profile.signing.device_id, message.core.message_id, message.ref, True)
        if (entry.event, entry.device_id, entry.message_id, entry.message_ref, entry.permitted) != expected:
            raise Unverified("the slot came without a log entry of its own release")
        if entry.detail != format_portions(slot.granted):
            raise Unverified("the log entry names other portions than the slot grants")
        verify_concerns(entry, message.core.office)

    def _portions(self, message: Message, keys: dict[int, bytes]) -> dict[int, PortionContent]:
        """What was granted, large attachments on the disk. Raises TooLarge for more of the rest than anybody sends."""
        found, room = dict[int, PortionContent](), MAX_CONTENT
        for index, key in keys.items():
            found[index] = self._portion(message, index, key, room)
            room -= len(found[index].content)
        return found

    def _portion(self, message: Message, index: int, key: bytes, room: int) -> PortionContent:
        core, folder = message.core, self.profile.cabinet.parts
        if core.portions[index].length <= MAX_INLINE:
            sealed = self.transport.get(f"/v1/messages/{core.message_id.hex()}/parts/{index}")
            with _sealed_by_the_sender():
                found = unseal_part(core, index, key, sealed)
            if len(found.content) > room:
                raise too_much()
            return found
        with downloaded(folder, core, index, self.transport, self.meter):
            with _sealed_by_the_sender():
                found = check_file(core, index, key, folder)
            return found if found.kind is PortionKind.ATTACHMENT else into_memory(found, room)

    def _decide(
        self, message: Message, sender: Device, portions: dict[int, PortionContent], found: Circumstances, now: int
    ) -> None:
        core, rules = message.core, dict[str, None]()
        own = self.trust.directory.devices.get(self.profile.signing.device_id)
        if own is None:
            raise Refused("this device is not enrolled", rules=("clearance-valid",))
        circle = Circle.of(core, found.originals)
        for label in dict.fromkeys(portion.label for portion in portions.values()):
            rules |= dict.fromkeys(self.judge.judge(Action.READ, circle, label, own, now).failing)
        for label in dict.fromkeys((core.label, *(portion.label for portion in core.portions))):
            failing = self.judge.judge_sender_then(core, label, sender).failing
            rules |= dict.fromkeys(f"sender:{rule}" for rule in failing)
        if sender.kind not in MAY_SEND:
            rules["sender:kind"] = None
        rules |= dict.fromkeys(self.judge.obligations_of(core, found))
        if rules:
            raise Refused("the rules do not permit you to read this", rules=tuple(rules))


@contextmanager
def _sealed_by_the_sender() -> Iterator[None]:
    """Inside, what opened under the sender's keys is read: where it is not the format, the relay is not at fault."""
    try:
        yield
    except Malformed as problem:
        raise Unverified(f"what the sender sealed does not hold: {problem}", hint=problem.hint) from problem
