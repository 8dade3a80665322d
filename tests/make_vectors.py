"""Writes tests/vectors/message/: one message in a small fixed world, and what a reader must refuse.

    PYTHONPATH=.:clients:tests python tests/make_vectors.py

SPEC.md, "Vectors", describes the files.
"""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from liaison.portions import pack
from relay.protocol.canonical import decode, encode
from relay.protocol.directory import Directory
from relay.protocol.entry import Event
from relay.protocol.envelope import RECEIPT, Delivery, Receipt, parse_message, part_context, slot_info, wrap_header
from relay.protocol.identity import REQUEST, EnrolmentRequest
from relay.protocol.merkle import leaf_hash, root_of
from relay.protocol.prekey import KEY_BATCH, KeyBatch
from relay.protocol.suite import SUITE_1
from vector_world import (
    ANNA,
    BANNER,
    JEAN,
    KEYS,
    LOG_KEYS,
    NOW,
    ORIGINS,
    PACKAGE,
    TEXTS,
    Sender,
    deliver,
    directory_entries,
    fixture,
    last_bit,
    release,
    request_public,
    seed,
    signed,
    vkeys,
    with_header,
)

FOLDER = Path(__file__).parent / "vectors" / "message"
MALFORMED, UNVERIFIED = "malformed", "unverified"
STRANGER = KEYS["stranger"]
Row = tuple[str, str, str, dict[str, object]]  # name, expected error, what is wrong, what the reader has


class Refused:
    """What is wrong at each step of "The reader opens", made from one message that is right."""

    def __init__(self, directory: tuple[str, int, bytes]) -> None:
        self.directory = directory
        self.right, self.parts = deliver(Sender(directory))
        self.parsed = parse_message(self.right.message)
        self.core = decode(self.parsed.signed.payload)[0]

    def having(self, **changes: object) -> dict[str, object]:
        """The right delivery with these fields changed."""
        return fixture(replace(self.right, **changes), self.parts)  # type: ignore[arg-type]

    def with_core(self, core: bytes) -> dict[str, object]:
        """The right slot under another core, signed anew."""
        delivery, parts = deliver(Sender(self.directory), signed(core, [self.right.slot]), self.right.slot)
        return fixture(delivery, parts)

    def with_slot(self, slot: bytes) -> dict[str, object]:
        """Another slot under the same core, signed anew."""
        message = signed(self.core, [slot])
        ref = parse_message(message).ref
        return self.having(slot=slot, message=message, release=release(ref, KEYS[JEAN].device_id))

    def sent(self, **changes: object) -> dict[str, object]:
        """A delivery whose sender did something else."""
        sender = Sender(self.directory)
        for name, value in changes.items():
            setattr(sender, name, value)
        return fixture(*deliver(sender))

    def step_1(self) -> list[Row]:
        """Strict CBOR, type, algorithm."""
        delivery, fields, core = self.right.encoded(), decode(self.core), self.core
        other = replace(self.parsed.core, sender_kid=STRANGER.kid, sender_device=STRANGER.device_id)
        created, as_float = b"\x04" + encode(NOW), b"\x04\xfb\x41\xda\xd2\x74\x80\x00\x00\x00"
        receipt = signed(core, [self.right.slot], typ=RECEIPT)
        protected, _, payload, signature = decode(self.right.message)
        unsigned = encode([protected, {1: 0}, payload, signature])
        rows = [
            ("cbor-trailing", "an octet after the end", fixture(delivery + b"\0", self.parts)),
            ("cbor-long", "an array's length in two octets", fixture(b"\x98\x05" + delivery[1:], self.parts)),
            ("cbor-indefinite", "an array of indefinite length", fixture(b"\x9f" + delivery[1:] + b"\xff", self.parts)),
            ("cbor-duplicate-key", "the core says key 1 twice", self.with_core(b"\xae\x01\x01" + core[1:])),
            ("cbor-unsorted", "the core's first key comes last", self.with_core(b"\xad" + core[3:] + b"\x01\x01")),
            ("cbor-float", "the time of creation as a float", self.with_core(core.replace(created, as_float))),
            ("alg-unknown", "a signature algorithm of no suite", self.having(message=with_header(self.right.message, -70002))),
            ("suite-unknown", "suite 2 in the core", self.with_core(encode(fields | {1: 2}))),
            ("field-unknown", "a field 14 in the core", self.with_core(encode(fields | {14: 0}))),
            ("typ-other", "a receipt's type in the header", self.having(message=receipt)),
            ("header-unprotected", "a header that is not signed", self.having(message=unsigned)),
            ("kid-other", "the core names another key than the header", self.with_core(other.encoded())),
        ]  # fmt: skip
        return [(name, MALFORMED, comment, given) for name, comment, given in rows]

    def step_3(self) -> list[Row]:
        """The composite signature, both halves."""
        message = self.right.message
        other = self.having() | {"sender_public": STRANGER.public}
        return [
            ("signature-ed25519", UNVERIFIED, "a bit of the Ed25519 half", self.having(message=last_bit(message))),
            ("signature-mldsa", UNVERIFIED, "a bit of the ML-DSA half", self.having(message=last_bit(message, -3000))),
            ("core-changed", UNVERIFIED, "the core, after signing", self.having(message=message.replace(b"nowak", b"novak"))),
            ("signer-other", UNVERIFIED, "another key than the directory says", other),
        ]  # fmt: skip

    def step_6(self) -> list[Row]:
        """The own slot, under the signed root."""
        device, ref, _, wrap = decode(self.right.slot)
        wrong_root = signed(self.core, [self.right.slot], root=sha256(b"").digest())
        away = replace(Sender(self.directory).reader, device_id=STRANGER.device_id)
        kem = encode([device, ref, [0], [encode({1: -70012, 4: ref}), wrap[1], wrap[2]]])
        return [
            ("slot-changed", UNVERIFIED, "a bit of the slot", self.having(slot=last_bit(self.right.slot))),
            ("slot-root", UNVERIFIED, "a root over no slots, signed", self.having(message=wrong_root)),
            ("slot-index", UNVERIFIED, "a place behind the last slot", self.having(index=1)),
            ("device-other", UNVERIFIED, "the slot of another device", self.sent(reader=away)),
            ("portion-missing", MALFORMED, "a portion that is not there", self.with_slot(encode([device, ref, [2], wrap]))),
            ("kem-unknown", MALFORMED, "the slot's algorithm is not the suite's", self.with_slot(kem)),
        ]  # fmt: skip

    def step_7(self) -> list[Row]:
        """The entry that released the slot."""
        given, ref, device = self.right.release, self.parsed.ref, KEYS[JEAN].device_id
        classical = b"".join(given.checkpoint.splitlines(keepends=True)[:5])
        rows = [
            ("release-changed", "a bit of the entry", replace(given, entry=last_bit(given.entry))),
            ("release-classical", "no ML-DSA-44 line on the checkpoint", replace(given, checkpoint=classical)),
            ("release-denied", "the entry is a denial", release(ref, device, event=Event.DENY, permitted=False)),
            ("release-message", "the entry is of another message", release(bytes(32), device)),
            ("release-device", "the entry is of another device", release(ref, STRANGER.device_id)),
        ]
        return [(name, UNVERIFIED, comment, self.having(release=wrong)) for name, comment, wrong in rows]

    def step_8(self) -> list[Row]:
        """HPKE: the slot was sealed for this core, sender, reader and grant."""
        moved = replace(self.parsed.core, seq=2).encoded()
        strange = replace(Sender(self.directory).reader, kid=STRANGER.kid)
        device, ref, _, wrap = decode(self.right.slot)
        regranted = encode([device, ref, [1], wrap])
        return [
            ("core-other", UNVERIFIED, "the slot of one message under another", self.with_core(moved)),
            ("recipient-other", UNVERIFIED, "sealed for another identity key", self.sent(reader=strange)),
            ("grant-other", UNVERIFIED, "sealed for portion 0, granted as portion 1", self.with_slot(regranted)),
            ("prekey-other", UNVERIFIED, "another private key", self.having() | {"kem_seed": seed("another")}),
        ]

    def step_9(self) -> list[Row]:
        """Digests, commitments, chunks, inner labels. What is wrong is signed, but for the first."""
        model = Sender(self.directory)
        keys, contexts = model.sealing_keys, model.contexts
        relabelled = pack(replace(model.contents[0], label=BANNER))
        changed = fixture(self.right, [last_bit(self.parts[0]), self.parts[1]])
        crooked = [last_bit(model.plaintexts[0]), model.plaintexts[1]]
        return [
            ("part-changed", UNVERIFIED, "a bit of a part", changed),
            ("commitment", UNVERIFIED, "sealed under another key than the slot holds", self.sent(sealing_keys=keys[::-1])),
            ("context", UNVERIFIED, "sealed as another portion", self.sent(contexts=contexts[::-1])),
            ("chunk", UNVERIFIED, "the last chunk lacks an octet", self.sent(cut=1)),
            ("label-inside", UNVERIFIED, "the label inside is not the label outside", self.sent(plaintexts=[relabelled, model.plaintexts[1]])),
            ("padding", MALFORMED, "padding that is not zero", self.sent(plaintexts=crooked)),
        ]  # fmt: skip

    def steps(self) -> dict[int, list[Row]]:
        return {
            1: self.step_1(), 3: self.step_3(), 6: self.step_6(), 7: self.step_7(), 8: self.step_8(), 9: self.step_9(),
        }  # fmt: skip


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
    for step, rows in Refused(directory).steps().items():
        for name, error, comment, given in rows:
            write(f"refused-{name}", {"expect": error, "step": step, "comment": comment}, given)


if __name__ == "__main__":
    main()
