"""The message: a signed core that the relay can read, slots and parts that it cannot open.

    core     = {1: suite, 2: message_id, 3: [address, device_id, kid], 4: created, 5: expires, 6: label,
                7: [[kind, address]...], 8: [[length, sha256, label]...], 9: content_alg, 10: seq, 11: prev,
                12: [directory origin, size, root], 13: handling}
    slot     = [device_id, kp_ref, [portion...], wrap]           wrap = [protected, {-4: enc}, ct]  (COSE_recipient)
    Message  = Sign1(device; [core, n, slot_root])               message_ref = SHA-256(TBS)
    Delivery = [Message, i, slot, [proof of slot...], LoggedEntry]
    Submission = [Message, [slot...], [part...]]

Everything a reader's release depends on is inside `core`, so the signature, every slot's `info` and every log
entry speak of the same bytes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from .canonical import decode, encode, expect, expect_bytes, expect_version, read_array, read_map
from .cose import Sign1, parse_sign1
from .entry import LoggedEntry, read_logged_entry
from .errors import Malformed
from .identity import office_of, parse_address
from .suite import Suite, suite_numbered

MESSAGE, RECEIPT = "message", "receipt"
MAX_ADDRESSEES, MAX_PORTIONS, MAX_SLOTS = 2000, 256, 5000
MAX_LIFETIME = 366 * 86400  # seconds


class Precedence(IntEnum):
    """Values of MMHS; info precedence is never above action precedence."""

    DEFERRED = 0
    ROUTINE = 1
    PRIORITY = 2
    IMMEDIATE = 3
    FLASH = 4
    OVERRIDE = 5


class AddresseeKind(IntEnum):
    ACTION = 1
    INFO = 2
    EXEMPTED = 3


@dataclass(frozen=True, slots=True)
class Addressee:
    kind: AddresseeKind
    address: str


@dataclass(frozen=True, slots=True)
class Portion:
    """One sealed part as the relay sees it."""

    length: int
    digest: bytes
    label: bytes


@dataclass(frozen=True, slots=True)
class MessageHandling:
    """What the relay and the readers must heed beside the label."""

    precedence: Precedence
    info_precedence: Precedence
    dtg: int  # unix seconds of a full minute; printed DDHHMMZ MON YY
    message_type: str = "operation"
    references: tuple[bytes, ...] = ()
    require_ack: bool = False
    originator_controlled: bool = False

    def fields(self) -> dict[int, Any]:
        return {
            1: int(self.precedence), 2: int(self.info_precedence), 3: self.dtg, 4: self.message_type,
            5: list(self.references), 6: self.require_ack, 7: self.originator_controlled,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Core:
    """The visible header. `encoded` is the truth; the other fields are read from it."""

    suite: Suite
    message_id: bytes
    sender: str
    sender_device: bytes
    sender_kid: bytes
    created: int
    expires: int
    label: bytes
    addressees: tuple[Addressee, ...]
    portions: tuple[Portion, ...]
    seq: int
    prev: bytes
    directory: tuple[str, int, bytes]  # origin, size and root of the directory log the sender saw
    handling: MessageHandling

    @property
    def office(self) -> str:
        return office_of(self.sender)

    def encoded(self) -> bytes:
        return encode({
            1: self.suite.number, 2: self.message_id, 3: [self.sender, self.sender_device, self.sender_kid],
            4: self.created, 5: self.expires, 6: self.label,
            7: [[int(addressee.kind), addressee.address] for addressee in self.addressees],
            8: [[portion.length, portion.digest, portion.label] for portion in self.portions],
            9: self.suite.content_alg, 10: self.seq, 11: self.prev, 12: list(self.directory),
            13: self.handling.fields(),
        })  # fmt: skip


def parse_core(encoded: bytes) -> Core:
    """Read a core strictly; labels inside are parsed by whoever decides on them. Raises Malformed."""
    fields = read_map(encoded, frozenset(range(1, 14)), frozenset(), "message core")
    suite = suite_numbered(fields[1])
    if fields[9] != suite.content_alg:
        raise Malformed("message core: content algorithm is not the suite's")
    address, device_id, kid = _items(fields[3], 3, "sender")
    parse_address(address)
    origin, size, root = _items(fields[12], 3, "directory")
    core = Core(
        suite=suite,
        message_id=expect_bytes(fields[2], 16, "message core: message id"),
        sender=address,
        sender_device=expect_bytes(device_id, 16, "message core: device"),
        sender_kid=expect_bytes(kid, 32, "message core: kid"),
        created=expect(fields[4], int, "message core: created"),
        expires=expect(fields[5], int, "message core: expires"),
        label=expect(fields[6], bytes, "message core: label"),
        addressees=_addressees(fields[7]),
        portions=_portions(fields[8]),
        seq=expect(fields[10], int, "message core: seq"),
        prev=expect_bytes(fields[11], 32, "message core: prev"),
        directory=(expect(origin, str, "origin"), expect(size, int, "size"), expect_bytes(root, 32, "root")),
        handling=_handling(fields[13]),
    )
    if core.sender_kid[:16] != core.sender_device:
        raise Malformed("message core: the sender's device is not named by its key")
    if not core.created < core.expires <= core.created + MAX_LIFETIME:
        raise Malformed("message core: expires before it is created, or more than a year after")
    return core


def _items(value: Any, count: int, what: str) -> list[Any]:
    if type(value) is not list or len(value) != count:
        raise Malformed(f"message core: {what}: expected an array of {count}")
    return value


def _addressees(value: Any) -> tuple[Addressee, ...]:
    found = []
    for item in expect(value, list, "message core: addressees"):
        kind, address = _items(item, 2, "addressee")
        if type(kind) is not int or kind not in set(AddresseeKind):
            raise Malformed(f"message core: addressee kind {kind!r:.20} is unknown")
        parse_address(address)
        found.append(Addressee(AddresseeKind(kind), address))
    if len(found) > MAX_ADDRESSEES:
        raise Malformed(f"message core: more than {MAX_ADDRESSEES} addressees")
    if not any(addressee.kind is not AddresseeKind.EXEMPTED for addressee in found):
        raise Malformed("message core: no addressee", hint="an empty list never means everyone")
    keys = [(addressee.kind, addressee.address) for addressee in found]
    if keys != sorted(set(keys)) or len({address for _, address in keys}) != len(keys):
        raise Malformed("message core: addressees not in ascending order, or named twice")
    return tuple(found)


def _portions(value: Any) -> tuple[Portion, ...]:
    items = expect(value, list, "message core: portions")
    if not 0 < len(items) <= MAX_PORTIONS:
        raise Malformed(f"message core: expected 1 to {MAX_PORTIONS} portions")
    found = []
    for item in items:
        length, digest, label = _items(item, 3, "portion")
        if expect(length, int, "portion: length") <= 0:
            raise Malformed("message core: portion of no length")
        found.append(
            Portion(length, expect_bytes(digest, 32, "portion: digest"), expect(label, bytes, "portion: label"))
        )
    return tuple(found)


def _handling(value: Any) -> MessageHandling:
    fields = expect(value, dict, "message core: handling")
    if fields.keys() != {1, 2, 3, 4, 5, 6, 7}:
        raise Malformed("message core: handling has missing or unknown fields")
    for key in (1, 2):
        if type(fields[key]) is not int or fields[key] not in set(Precedence):
            raise Malformed("message core: precedence is unknown")
    if fields[2] > fields[1]:
        raise Malformed("message core: info precedence is above action precedence")
    if expect(fields[3], int, "handling: DTG") % 60:
        raise Malformed("message core: a DTG is a full minute")
    references = tuple(expect_bytes(item, 16, "reference") for item in expect(fields[5], list, "references"))
    return MessageHandling(
        precedence=Precedence(fields[1]),
        info_precedence=Precedence(fields[2]),
        dtg=fields[3],
        message_type=_message_type(fields[4]),
        references=references,
        require_ack=expect(fields[6], bool, "handling: acknowledgement"),
        originator_controlled=expect(fields[7], bool, "handling: originator control"),
    )


def _message_type(value: Any) -> str:
    if expect(value, str, "handling: type") not in {"operation", "exercise", "project", "drill"}:
        raise Malformed(f"message core: type {value!r:.40} is unknown", hint="operation, exercise, project or drill")
    return str(value)


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
    protected, header, wrapped = _items(wrap, 3, "slot: wrap")
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
    parts: tuple[bytes, ...]

    def encoded(self) -> bytes:
        return encode([self.message, list(self.slots), list(self.parts)])


def parse_submission(encoded: bytes) -> Submission:
    message, slots, parts = read_array(encoded, 3, "submission")
    return Submission(
        message=expect(message, bytes, "submission: message"),
        slots=tuple(expect(slot, bytes, "submission: slot") for slot in expect(slots, list, "submission: slots")),
        parts=tuple(expect(part, bytes, "submission: part") for part in expect(parts, list, "submission: parts")),
    )


@dataclass(frozen=True, slots=True)
class Delivery:
    """What a reader gets: the message, its own slot and nobody else's, and the log entry that released it."""

    message: bytes
    index: int
    slot: bytes
    proof: tuple[bytes, ...]
    release: LoggedEntry

    def encoded(self) -> bytes:
        return encode([self.message, self.index, self.slot, list(self.proof), self.release.fields()])


def parse_delivery(encoded: bytes) -> Delivery:
    message, index, slot, proof, release = read_array(encoded, 5, "delivery")
    return Delivery(
        message=expect(message, bytes, "delivery: message"),
        index=expect(index, int, "delivery: index"),
        slot=expect(slot, bytes, "delivery: slot"),
        proof=tuple(expect_bytes(step, 32, "delivery: proof") for step in expect(proof, list, "delivery: proof")),
        release=read_logged_entry(release),
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
    if expect(state, str, "receipt: state") not in {"opened", "acknowledged"}:
        raise Malformed("receipt: state is unknown")
    return Receipt(
        message_id=expect_bytes(message_id, 16, "receipt: message"),
        message_ref=expect_bytes(ref, 32, "receipt: message"),
        device_id=expect_bytes(device_id, 16, "receipt: device"),
        state=state,
        at=expect(at, int, "receipt: time"),
    )


def decode_list(encoded: bytes, what: str) -> list[Any]:
    """A CBOR array whose items the caller checks one by one."""
    return list(expect(decode(encoded, what), list, what))
