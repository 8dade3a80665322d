"""The message: a signed core that the relay can read, slots and parts that it cannot open.

    slot     = [device_id, kp_ref, [portion...], wrap]           wrap = [protected, {-4: enc}, ct]  (COSE_recipient)
    Message  = Sign1(device; [core, n, slot_root])               message_ref = SHA-256(TBS)
    Submission = [Message, [slot...], [part or null...], [Endorsement...]]    null: uploaded before
    Delivery = [Message, i, slot, [proof of slot...], LoggedEntry, [Endorsement...]]

Everything a reader's release depends on is inside `core`, so the signature, every slot's `info` and every log
entry speak of the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from .canonical import decode, encode, expect, expect_bytes, expect_items, expect_time, expect_version, read_array
from .cose import Sign1, parse_sign1
from .entry import LoggedEntry, read_logged_entry
from .errors import Malformed
from .header import Core, parse_core
from .memo import remember
from .suite import Suite

MESSAGE, RECEIPT = "message", "receipt"
RECEIPT_STATES = frozenset({"opened", "acknowledged"})
MAX_SLOTS, MAX_ENDORSEMENTS = 5000, 8
MAX_GRANTED = 1 << 19  # portions, all slots together: what lists them is one CBOR value
MAX_JUDGED = 1 << 14  # labels, all slots together: each is decided about while everybody waits for the log


@dataclass(frozen=True, slots=True)
class Slot:
    """The content keys of the granted portions, sealed to one device. `encoded` is the leaf."""

    device_id: bytes
    kp_ref: bytes
    granted: tuple[int, ...]
    protected: bytes
    enc: bytes
    wrapped: bytes
    encoded: bytes


def format_slot(
    device_id: bytes, kp_ref: bytes, granted: tuple[int, ...], protected: bytes, sealed: bytes, suite: Suite
) -> bytes:
    """Encode a slot; `sealed` is HPKE's enc || ct."""
    enc, wrapped = sealed[: suite.kem_ciphertext], sealed[suite.kem_ciphertext :]
    return encode([device_id, kp_ref, list(granted), [protected, {-4: enc}, wrapped]])


def parse_slot(encoded: bytes, core: Core) -> Slot:
    """Read a slot of this message: exact sizes, portions that exist, the message's own suite. Raises Malformed."""
    device_id, kp_ref, granted, wrap = read_array(encoded, 4, "slot")
    if type(granted) is not list or not granted or any(type(item) is not int for item in granted):
        raise Malformed("slot: grants no portion")
    if granted != sorted(set(granted)) or granted[0] < 0 or granted[-1] >= len(core.portions):
        raise Malformed("slot: grants a portion that does not exist, or one twice")
    protected, header, wrapped = expect_items(wrap, 3, "slot: wrap")
    expect_bytes(kp_ref, 32, "slot: key package")
    if protected != wrap_header(core.suite, kp_ref):
        raise Malformed("slot: another algorithm or key than the message's suite and the slot's key package")
    if type(header) is not dict or header.keys() != {-4}:
        raise Malformed("slot: unexpected headers")
    return Slot(
        device_id=expect_bytes(device_id, 16, "slot: device"),
        kp_ref=kp_ref,
        granted=tuple(granted),
        protected=protected,
        enc=expect_bytes(header[-4], core.suite.kem_ciphertext, "slot: enc"),
        wrapped=expect_bytes(wrapped, 32 * len(granted) + 16, "slot: wrapped keys"),
        encoded=encoded,
    )


def wrap_header(suite: Suite, kp_ref: bytes) -> bytes:
    """Protected header of a slot's COSE_recipient."""
    return encode({1: suite.kem_alg, 4: kp_ref})


def slot_info(
    core: Core,
    core_digest: bytes,
    device_id: bytes,
    recipient_kid: bytes,
    granted: tuple[int, ...],
    protected: bytes,
) -> bytes:
    """HPKE `info`: Recipient_structure of draft-ietf-cose-hpke with the core, both ends and the grant bound in.

    Without sender and core here, whoever strips the signature could sign the same slots as his own.
    """
    context = encode(["relay-msg/1", core_digest, core.sender_kid, device_id, recipient_kid, list(granted)])
    return encode(["HPKE Recipient", core.suite.content_alg, protected, context])


def part_context(message_id: bytes, sender_kid: bytes, index: int) -> bytes:
    """Cobblestone context of part `index`."""
    return encode(["relay-part/1", message_id, sender_kid, index])


@dataclass(frozen=True, slots=True)
class Message:
    """A parsed message; parsed is not verified."""

    signed: Sign1
    core: Core
    core_digest: bytes
    slot_count: int
    slot_root: bytes
    encoded: bytes

    @property
    def ref(self) -> bytes:
        return self.signed.ref


def message_payload(core: bytes, slot_count: int, slot_root: bytes) -> bytes:
    return encode([core, slot_count, slot_root])


# A message is read at submission, and again at each opening and receipt that follows. In memory it is up to 15 times
# its octets.
@remember(1 << 20, lambda _message, encoded: len(encoded))
def parse_message(encoded: bytes) -> Message:
    """Read a message. Raises Malformed; verifies no signature."""
    signed = parse_sign1(encoded, MESSAGE)
    core_bytes, count, root = read_array(signed.payload, 3, "message")
    core = parse_core(expect(core_bytes, bytes, "message: core"))
    if signed.alg != core.suite.signature_alg or signed.kid != core.sender_kid:
        raise Malformed("message: signed under another suite or key than its core names")
    if not 0 < expect(count, int, "message: slots") <= MAX_SLOTS:
        raise Malformed(f"message: expected 1 to {MAX_SLOTS} slots")
    return Message(
        signed=signed,
        core=core,
        core_digest=hashlib.sha256(core_bytes).digest(),
        slot_count=count,
        slot_root=expect_bytes(root, 32, "message: slot root"),
        encoded=encoded,
    )


@dataclass(frozen=True, slots=True)
class Submission:
    """What a sender uploads: the message, its slots in ascending order of device, its sealed parts."""

    message: bytes
    slots: tuple[bytes, ...]
    parts: tuple[bytes | None, ...]  # None: uploaded before
    endorsements: tuple[bytes, ...] = ()  # releasing officers' signatures over the message

    def encoded(self) -> bytes:
        return encode([self.message, list(self.slots), list(self.parts), list(self.endorsements)])


def parse_submission(encoded: bytes) -> Submission:
    """Read a submission into its parts, which stay encoded; raises Malformed."""
    message, slots, parts, endorsements = read_array(encoded, 4, "submission")
    return Submission(
        message=expect(message, bytes, "submission: message"),
        slots=tuple(expect(slot, bytes, "submission: slot") for slot in expect(slots, list, "submission: slots")),
        parts=tuple(
            part if part is None else expect(part, bytes, "submission: part")
            for part in expect(parts, list, "submission: parts")
        ),
        endorsements=_endorsements(endorsements),
    )


def _endorsements(value: Any) -> tuple[bytes, ...]:
    items = expect(value, list, "endorsements")
    if len(items) > MAX_ENDORSEMENTS:
        raise Malformed(f"more than {MAX_ENDORSEMENTS} endorsements")
    return tuple(expect(item, bytes, "endorsement") for item in items)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a reader gets: the message, its own slot and nobody else's, and the log entry that released it."""

    message: bytes
    index: int
    slot: bytes
    proof: tuple[bytes, ...]
    release: LoggedEntry
    endorsements: tuple[bytes, ...] = ()

    def encoded(self) -> bytes:
        release, endorsements = self.release.fields(), list(self.endorsements)
        return encode([self.message, self.index, self.slot, list(self.proof), release, endorsements])

    def proven_slot(self) -> list[object]:
        """[slot, index, [proof...]]: what shows that the message's sender sealed it to this device."""
        return [self.slot, self.index, list(self.proof)]


def parse_delivery(encoded: bytes) -> Delivery:
    """Read a delivery into its parts, which stay encoded and unverified; raises Malformed."""
    message, index, slot, proof, release, endorsements = read_array(encoded, 6, "delivery")
    return Delivery(
        message=expect(message, bytes, "delivery: message"),
        index=expect(index, int, "delivery: index"),
        slot=expect(slot, bytes, "delivery: slot"),
        proof=tuple(expect_bytes(step, 32, "delivery: proof") for step in expect(proof, list, "delivery: proof")),
        release=read_logged_entry(release),
        endorsements=_endorsements(endorsements),
    )


@dataclass(frozen=True, slots=True)
class Receipt:
    """A reader's signed word: `opened` as soon as the message is safe at the reader's, `acknowledged` by a person."""

    message_id: bytes
    message_ref: bytes
    device_id: bytes
    state: str
    at: int

    def payload(self) -> bytes:
        return encode([1, self.message_id, self.message_ref, self.device_id, self.state, self.at])


def read_receipt(signed: Sign1) -> Receipt:
    """The content of a receipt whose signature the caller verifies with the device's key."""
    version, message_id, ref, device_id, state, at = read_array(signed.payload, 6, "receipt")
    expect_version(version, "receipt")
    if expect(state, str, "receipt: state") not in RECEIPT_STATES:
        raise Malformed("receipt: state is unknown")
    return Receipt(
        message_id=expect_bytes(message_id, 16, "receipt: message"),
        message_ref=expect_bytes(ref, 32, "receipt: message"),
        device_id=expect_bytes(device_id, 16, "receipt: device"),
        state=state,
        at=expect_time(at, "receipt: time"),
    )


def decode_list(encoded: bytes, what: str) -> list[Any]:
    """A CBOR array whose items the caller checks one by one."""
    return list(expect(decode(encoded, what), list, what))
