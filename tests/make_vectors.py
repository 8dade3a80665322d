"""Writes tests/vectors/message/: a small fixed world, one message in it, and what a reader must refuse.

    PYTHONPATH=.:clients:tests python tests/make_vectors.py

Keys grow from words, so that they stay the same from run to run; signatures are hedged and HPKE is randomised,
so that everything made with them does not. SPEC.md, "Vectors", describes the files.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from liaison.cobblestone import seal_part
from liaison.keys import SigningKey, kem_public_bytes
from liaison.portions import PortionContent, PortionKind, pack
from liaison.seal import Reader, seal_slot
from relay.logkeys import LogKeys
from relay.protocol.agreement import AGREEMENT, Agreement, Party
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import format_sign1, protected_header, to_be_signed
from relay.protocol.directory import Directory
from relay.protocol.entry import AccessEntry, Change, DirectoryEntry, Event, LoggedEntry
from relay.protocol.envelope import (
    MESSAGE,
    RECEIPT,
    Addressee,
    AddresseeKind,
    Core,
    Delivery,
    MessageHandling,
    Portion,
    Precedence,
    Receipt,
    message_payload,
    parse_message,
    part_context,
    slot_info,
    wrap_header,
)
from relay.protocol.identity import CERTIFICATE, REQUEST, STATEMENT, Certificate, EnrolmentRequest, Kind, Statement
from relay.protocol.label import Category, Clearance, Label, PolicyRef, TagType, label_bytes
from relay.protocol.merkle import MerkleTree, leaf_hash, root_of
from relay.protocol.prekey import KEY_BATCH, KeyBatch, KeyPackage
from relay.protocol.publication import POLICY, PublishedPolicy
from relay.protocol.suite import SUITE_1

FOLDER = Path(__file__).parent / "vectors" / "message"
NOW = 1_800_000_000  # 15 January 2027, 08:00 UTC
ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"
OFFICES = (("lo-warsaw", "POL"), ("lo-paris", "FRA"))
RELEASE = Category("Releasable To", "2.999.1.3", TagType.PERMISSIVE, ("FRA", "POL"))
CODEWORD = Category("Codeword", "2.999.1.2", TagType.RESTRICTIVE, ("IRIS",))
POLICY_REF = PolicyRef("EXAMPLE", "2.999.1", 1, sha256(b"the policy file").digest())
BANNER = label_bytes(Label(POLICY_REF, "CLOSED", (RELEASE, CODEWORD), created=NOW))
OPEN_LABEL = label_bytes(Label(POLICY_REF, "CLOSED", (RELEASE,), created=NOW))
TEXTS = ("The convoy is delayed by two hours.\n", "It waits at the second bridge.\n")


def seed(word: str) -> bytes:
    return sha256(word.encode()).digest()


def signing(word: str) -> SigningKey:
    return SigningKey.from_seeds(seed(f"{word}, lattice") + seed(f"{word}, curve"))


def request_public(word: str) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed(f"{word}, requests")).public_key().public_bytes_raw()


KEYS = {word: signing(word) for word in (ANNA, JEAN, "stranger", *(f"authority@{office}" for office, _ in OFFICES))}
LOG_KEYS = LogKeys(
    Ed25519PrivateKey.from_private_bytes(seed("log, curve")), MLDSA44PrivateKey.from_seed_bytes(seed("log, lattice"))
)
ORIGINS = ("relay.example/access", "relay.example/directory")
KEM_SEED = seed("jean's one-time key")
PACKAGE = KeyPackage(
    KEYS[JEAN].device_id, SUITE_1.kem_alg, kem_public_bytes(KEM_SEED), NOW - 60, NOW + 86400, one_time=True, serial=0
)


def directory_entries() -> list[bytes]:
    """Two offices, a device of each, a policy of each, an agreement that both have signed, the reader's keys."""
    parties = tuple(Party(office, nation, KEYS[f"authority@{office}"].kid) for office, nation in sorted(OFFICES))
    agreement = Agreement(
        "Example", parties, POLICY_REF.name, POLICY_REF.oid, ("CLOSED", "OPEN"), (CODEWORD, RELEASE), (), (),
        onward_release=False, not_before=NOW - 3600, not_after=NOW + 86400, nonce=seed("agreement")[:16],
    )  # fmt: skip
    changes = []
    for (office, nation), address in zip(OFFICES, (ANNA, JEAN), strict=True):
        authority = KEYS[f"authority@{office}"]
        statement = Statement(
            office, nation, 1, authority.public, request_public(f"authority@{office}"), NOW - 7200, vkeys()
        )
        changes += [
            (Change.OFFICE, authority.sign_object(STATEMENT, statement.payload())),
            (Change.CERTIFICATE, authority.sign_object(CERTIFICATE, certificate(address, nation).payload())),
            (Change.POLICY, authority.sign_object(POLICY, published(office).payload())),
        ]
    for office, _ in OFFICES:
        changes.append((Change.AGREEMENT, KEYS[f"authority@{office}"].sign_object(AGREEMENT, agreement.payload())))
    batch = sha256(KeyBatch(KEYS[JEAN].device_id, NOW - 60, (PACKAGE.ref,)).payload()).digest()
    changes.append((Change.KEY_BATCH, encode([KEYS[JEAN].device_id, batch])))
    return [
        DirectoryEntry(change, (NOW - 3600) * 1000 + place, seed(f"salt {place}")[:16], payload).encoded()
        for place, (change, payload) in enumerate(changes)
    ]


def certificate(address: str, nation: str) -> Certificate:
    key = KEYS[address]
    held = (Category("Codeword", "2.999.1.2", TagType.RESTRICTIVE, ("IRIS",)), replace(RELEASE, values=(nation,)))
    clearance = Clearance("EXAMPLE", "2.999.1", ("CLOSED", "OPEN"), held, NOW - 3600, NOW + 86400)
    return Certificate(
        key.device_id, address, Kind.OFFICER, ("duty",), (clearance,), (), 1, key.public, request_public(address),
        NOW - 3600, NOW + 86400, seed(f"serial of {address}")[:16],
    )  # fmt: skip


def published(office: str) -> PublishedPolicy:
    return PublishedPolicy(office, POLICY_REF.name, POLICY_REF.oid, 1, POLICY_REF.digest, None, NOW - 3600)


def vkeys() -> tuple[str, ...]:
    return LOG_KEYS.vkeys(ORIGINS)


class Sender:
    """Composes one delivery step by step, so that each vector can go wrong at its own step."""

    def __init__(self, directory: tuple[str, int, bytes], **changes: object) -> None:
        self.directory = directory
        self.changes = changes
        self.content_keys = [seed(f"content key {index}") for index in range(len(TEXTS))]
        self.contents = [
            PortionContent(PortionKind.BODY, OPEN_LABEL, TEXTS[0].encode(), "Convoy"),
            PortionContent(PortionKind.PARAGRAPH, BANNER, TEXTS[1].encode()),
        ]
        self.plaintexts = [pack(each) for each in self.contents]
        self.sealing_keys = list(self.content_keys)
        self.contexts = [part_context(seed("message")[:16], KEYS[ANNA].kid, index) for index in range(len(TEXTS))]
        self.reader = Reader(KEYS[JEAN].device_id, KEYS[JEAN].kid, PACKAGE, (0,))
        self.cut = 0

    def parts(self) -> list[bytes]:
        sealed = [
            seal_part(key, context, text, lambda _size, key=key: seed("salt of " + key.hex())[:24])
            for key, context, text in zip(self.sealing_keys, self.contexts, self.plaintexts, strict=True)
        ]
        return [each[: len(each) - self.cut] for each in sealed]

    def core(self, parts: list[bytes]) -> Core:
        key = KEYS[ANNA]
        core = Core(
            suite=SUITE_1, message_id=seed("message")[:16], sender=ANNA, sender_device=key.device_id,
            sender_kid=key.kid, created=NOW, expires=NOW + 86400, label=BANNER,
            addressees=(Addressee(AddresseeKind.ACTION, JEAN),),
            portions=tuple(
                Portion(len(part), sha256(part).digest(), content.label)
                for part, content in zip(parts, self.contents, strict=True)
            ),
            seq=1, prev=bytes(32), directory=self.directory,
            handling=MessageHandling(Precedence.PRIORITY, Precedence.ROUTINE, NOW - NOW % 60),
        )  # fmt: skip
        return replace(core, **self.changes)  # type: ignore[arg-type]

    def slot(self, core: Core) -> bytes:
        return seal_slot(core, sha256(core.encoded()).digest(), self.reader, self.content_keys)


def signed(core: bytes, slots: list[bytes], *, typ: str = MESSAGE, root: bytes | None = None) -> bytes:
    payload = message_payload(core, len(slots), root or root_of(map(leaf_hash, slots)))
    return KEYS[ANNA].sign_object(typ, payload)


def with_header(message: bytes, alg: int) -> bytes:
    """The message under a protected header that names another algorithm, signed anew."""
    payload = decode(message)[2]
    protected = protected_header(alg, KEYS[ANNA].kid, MESSAGE)
    return format_sign1(protected, payload, KEYS[ANNA].sign(to_be_signed(protected, payload)))


def release(ref: bytes, device: bytes, **changes: object) -> LoggedEntry:
    """An open entry between two others, under a signed checkpoint of three."""
    entry = AccessEntry(
        Event.OPEN, NOW * 1000, seed("salt")[:16], device, JEAN, "lo-paris", "lo-warsaw", seed("message")[:16], ref,
        BANNER, policy=POLICY_REF.digest, request=seed("nonce")[:16],
    )  # fmt: skip
    encoded = replace(entry, **changes).encoded()  # type: ignore[arg-type]
    tree = MerkleTree(map(leaf_hash, (b"the first entry", encoded, b"the third entry")))
    note = LOG_KEYS.sign_checkpoint(ORIGINS[0], 3, tree.root(), NOW)
    return LoggedEntry(encoded, 1, tuple(tree.inclusion_proof(1, 3)), note)


def fixture(delivery: Delivery | bytes, parts: list[bytes]) -> dict[str, object]:
    """What a reader has, as tests/go reads it."""
    return {
        "delivery": delivery if isinstance(delivery, bytes) else delivery.encoded(),
        "parts": {"0": parts[0]},
        "sender_public": KEYS[ANNA].public,
        "device_id": KEYS[JEAN].device_id,
        "recipient_kid": KEYS[JEAN].kid,
        "kem_seed": KEM_SEED,
        "log_vkeys": [key for key in vkeys() if key.startswith(ORIGINS[0])],
    }


def deliver(sender: Sender, message: bytes | None = None, slot: bytes | None = None) -> tuple[Delivery, list[bytes]]:
    parts = sender.parts()
    core = sender.core(parts)
    slot = sender.slot(core) if slot is None else slot
    message = signed(core.encoded(), [slot]) if message is None else message
    try:
        ref = parse_message(message).ref
    except Exception:  # noqa: BLE001 - a message that is malformed on purpose has no name
        ref = bytes(32)
    return Delivery(message, 0, slot, (), release(ref, KEYS[JEAN].device_id)), parts


def last_bit(octets: bytes, at: int = -1) -> bytes:
    changed = bytearray(octets)
    changed[at] ^= 1
    return bytes(changed)


def refused(directory: tuple[str, int, bytes]) -> dict[str, tuple[str, int, str, dict[str, object]]]:
    """name → (expected error, step of "The reader opens", comment, fixture)."""
    right, parts = deliver(Sender(directory))
    message, encoded = right.message, right.encoded()
    core_bytes = decode(parse_message(message).signed.payload)[0]
    ref = parse_message(message).ref
    device = KEYS[JEAN].device_id
    found: dict[str, tuple[str, int, str, dict[str, object]]] = {}

    def add(name: str, error: str, step: int, comment: str, given: dict[str, object]) -> None:
        found[name] = (error, step, comment, given)

    def put(name: str, error: str, step: int, comment: str, **changes: object) -> None:
        add(name, error, step, comment, fixture(replace(right, **changes), parts))  # type: ignore[arg-type]

    def resign(name: str, error: str, step: int, comment: str, core: bytes) -> None:
        again, sealed = deliver(Sender(directory), signed(core, [right.slot]))
        add(name, error, step, comment, fixture(replace(again, slot=right.slot), sealed))

    def sent(name: str, error: str, step: int, comment: str, sender: Sender) -> None:
        add(name, error, step, comment, fixture(*deliver(sender)))

    # 1. strict CBOR, type, algorithm
    add("cbor-trailing", "malformed", 1, "an octet after the end", fixture(encoded + b"\0", parts))
    add("cbor-long", "malformed", 1, "the array's length in two octets", fixture(b"\x98\x05" + encoded[1:], parts))
    add(
        "cbor-indefinite",
        "malformed",
        1,
        "an array of indefinite length",
        fixture(b"\x9f" + encoded[1:] + b"\xff", parts),
    )
    resign("cbor-duplicate-key", "malformed", 1, "the core says key 1 twice", b"\xae\x01\x01" + core_bytes[1:])
    resign("cbor-unsorted", "malformed", 1, "the core's first key comes last", b"\xad" + core_bytes[3:] + b"\x01\x01")
    core = parse_message(message).core
    fields = decode(core_bytes)
    resign("cbor-float", "malformed", 1, "the time of creation as a float", core_bytes.replace(
        b"\x04" + encode(NOW), b"\x04\xfb" + b"\x41\xda\xd2\x74\x80\x00\x00\x00"))  # fmt: skip
    put("alg-unknown", "malformed", 1, "a signature algorithm that no suite has", message=with_header(message, -70002))
    resign("suite-unknown", "malformed", 1, "suite 2 in the core", encode(fields | {1: 2}))
    resign("field-unknown", "malformed", 1, "a field 14 in the core", encode(fields | {14: 0}))
    put(
        "typ-other",
        "malformed",
        1,
        "a receipt's type in the header",
        message=signed(core_bytes, [right.slot], typ=RECEIPT),
    )
    protected, _, payload, signature = decode(message)
    put(
        "header-unprotected",
        "malformed",
        1,
        "a header that is not signed",
        message=encode([protected, {1: 0}, payload, signature]),
    )
    other = replace(core, sender_kid=KEYS["stranger"].kid, sender_device=KEYS["stranger"].device_id)
    resign("kid-other", "malformed", 1, "the core names another key than the header", other.encoded())
    # 3. the composite signature: both halves
    put("signature-ed25519", "unverified", 3, "a bit of the Ed25519 half", message=last_bit(message))
    put("signature-mldsa", "unverified", 3, "a bit of the ML-DSA half", message=last_bit(message, -3000))
    put("core-changed", "unverified", 3, "a bit of the core after signing", message=message.replace(b"nowak", b"novak"))
    add(
        "signer-other",
        "unverified",
        3,
        "another key than the directory says",
        fixture(right, parts) | {"sender_public": KEYS["stranger"].public},
    )
    # 6. the own slot, under the signed root
    put("slot-changed", "unverified", 6, "a bit of the slot", slot=last_bit(right.slot))
    put(
        "slot-root",
        "unverified",
        6,
        "a root over no slots, signed",
        message=signed(core_bytes, [right.slot], root=sha256(b"").digest()),
    )
    put("slot-index", "unverified", 6, "a place behind the last slot", index=1)
    away = Sender(directory)
    away.reader = replace(away.reader, device_id=KEYS["stranger"].device_id)
    sent("device-other", "unverified", 6, "the slot of another device", away)
    wide = encode([device, PACKAGE.ref, [2], decode(right.slot)[3]])
    put(
        "portion-missing",
        "malformed",
        6,
        "the slot grants a portion that is not there",
        slot=wide,
        message=signed(core_bytes, [wide]),
    )
    wrap = decode(right.slot)[3]
    odd = encode([device, PACKAGE.ref, [0], [encode({1: -70012, 4: PACKAGE.ref}), wrap[1], wrap[2]]])
    put(
        "kem-unknown",
        "malformed",
        6,
        "the slot's algorithm is not the suite's",
        slot=odd,
        message=signed(core_bytes, [odd]),
    )
    # 7. the entry that released it
    put(
        "release-changed",
        "unverified",
        7,
        "a bit of the log entry",
        release=replace(right.release, entry=last_bit(right.release.entry)),
    )
    classical = b"".join(right.release.checkpoint.splitlines(keepends=True)[:5])
    put(
        "release-classical",
        "unverified",
        7,
        "the checkpoint without its ML-DSA-44 line",
        release=replace(right.release, checkpoint=classical),
    )
    put(
        "release-denied",
        "unverified",
        7,
        "the entry is a denial",
        release=release(ref, device, event=Event.DENY, permitted=False),
    )
    put("release-message", "unverified", 7, "the entry is of another message", release=release(bytes(32), device))
    put(
        "release-device",
        "unverified",
        7,
        "the entry is of another device",
        release=release(ref, KEYS["stranger"].device_id),
    )
    # 8. HPKE: the slot was sealed for this core, sender, device and grant
    moved = signed(replace(core, seq=2).encoded(), [right.slot])
    again, _ = deliver(Sender(directory), moved, right.slot)
    add("core-other", "unverified", 8, "the slot of one message under another", fixture(again, parts))
    strange = Sender(directory)
    strange.reader = replace(strange.reader, kid=KEYS["stranger"].kid)
    sent("recipient-other", "unverified", 8, "sealed for another identity key", strange)
    add("prekey-other", "unverified", 8, "another private key", fixture(right, parts) | {"kem_seed": seed("another")})
    # 9. digests, commitments, chunks, inner labels
    add("part-changed", "unverified", 9, "a bit of a part", fixture(right, [last_bit(parts[0]), parts[1]]))
    twisted = Sender(directory)
    twisted.sealing_keys[0] = seed("another content key")
    sent("commitment", "unverified", 9, "the part was sealed under another key than the slot holds", twisted)
    misplaced = Sender(directory)
    misplaced.contexts[0] = misplaced.contexts[1]
    sent("context", "unverified", 9, "the part was sealed as another portion", misplaced)
    short = Sender(directory)
    short.cut = 1
    sent("chunk", "unverified", 9, "the last chunk lacks an octet; length and digest are signed so", short)
    relabelled = Sender(directory)
    relabelled.plaintexts[0] = pack(replace(relabelled.contents[0], label=BANNER))
    sent("label-inside", "unverified", 9, "the label inside is not the label outside", relabelled)
    padded = Sender(directory)
    padded.plaintexts[0] = last_bit(padded.plaintexts[0])
    sent("padding", "malformed", 9, "padding that is not zero", padded)
    return found


def detail(delivery: Delivery) -> dict[str, object]:
    """Every step on the way, for whoever looks for the one at which two programs part."""
    parsed = parse_message(delivery.message)
    core, key, reader = parsed.core, KEYS[ANNA], KEYS[JEAN]
    info = slot_info(core, parsed.core_digest, reader.device_id, reader.kid, (0,), wrap_header(SUITE_1, PACKAGE.ref))
    header = decode(parsed.signed.to_be_signed)[1]
    return {
        "sender": {"address": ANNA, "seeds": key.seeds, "kid": key.kid, "device_id": key.device_id},
        "reader": {"address": JEAN, "seeds": reader.seeds, "kid": reader.kid, "device_id": reader.device_id},
        "key_package": PACKAGE.encoded(), "kp_ref": PACKAGE.ref, "kem_public": PACKAGE.kem_public,
        "label": BANNER, "portion_labels": [portion.label for portion in core.portions],
        "core": core.encoded(), "core_digest": parsed.core_digest, "protected": header,
        "to_be_signed": parsed.signed.to_be_signed, "message_ref": parsed.ref, "slot": delivery.slot,
        "slot_leaf": leaf_hash(delivery.slot), "slot_root": parsed.slot_root, "info": info,
        "content_keys": {"0": seed("content key 0")}, "part_contexts": {"0": part_context(core.message_id, key.kid, 0)},
        "padded": {"0": Sender((ORIGINS[1], 0, bytes(32))).plaintexts[0]}, "plaintexts": {"0": TEXTS[0].encode()},
        "access_entry": delivery.release.entry, "access_leaf": leaf_hash(delivery.release.entry),
    }  # fmt: skip


def objects(delivery: Delivery) -> dict[str, object]:
    """The other signed objects, each with the key that verifies it."""
    message = parse_message(delivery.message)
    key = KEYS[JEAN]
    request = EnrolmentRequest(JEAN, 1, key.public, request_public(JEAN), KEYS["authority@lo-paris"].kid, NOW - 3700)
    receipt = Receipt(message.core.message_id, message.ref, key.device_id, "opened", NOW + 60)
    batch = KeyBatch(key.device_id, NOW - 60, (PACKAGE.ref,))
    rows = ((REQUEST, request.payload()), (KEY_BATCH, batch.payload()), (RECEIPT, receipt.payload()))
    return {typ: {"signed": key.sign_object(typ, payload), "public": key.public} for typ, payload in rows}


def plain(value: object, text: str) -> object:
    """For JSON: octets as hexadecimal or base64 text."""
    if isinstance(value, dict):
        return {name: plain(item, text) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, text) for item in value]
    if isinstance(value, bytes):
        return value.hex() if text == "hex" else b64encode(value).decode()
    return value


def write(name: str, head: dict[str, object], given: object, hexadecimal: dict[str, object] | None = None) -> None:
    content = {
        "format": "message vector, version 1",
        **head,
        **plain(given, "base64"),
        **plain(hexadecimal or {}, "hex"),
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def main() -> None:
    entries = directory_entries()
    replayed = Directory()
    for entry in entries:
        replayed.apply(entry)
    root = root_of(map(leaf_hash, entries))
    directory = (ORIGINS[1], len(entries), root)
    note = LOG_KEYS.sign_checkpoint(*directory, NOW)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.json"):
        old.unlink()
    delivery, parts = deliver(Sender(directory))
    write(
        "opened",
        {"expect": "opened", "comment": "a message that opens"},
        fixture(delivery, parts),
        {"detail": detail(delivery)},
    )
    log = {
        "origin": ORIGINS[1],
        "vkeys": [key for key in vkeys() if key.startswith(ORIGINS[1])],
        "entries": entries,
        "checkpoint": note,
        "root": root,
    }
    write("directory", {"expect": "verified", "comment": "the directory log that the message speaks of"}, {}, log)
    write(
        "objects",
        {"expect": "verified", "comment": "signed objects that no log holds"},
        {},
        {"objects": objects(delivery)},
    )
    for name, (error, step, comment, given) in refused(directory).items():
        write(f"refused-{name}", {"expect": error, "step": step, "comment": comment}, given)


if __name__ == "__main__":
    main()
