"""Writes tests/vectors/message/: messages of a small fixed world, and what a reader must refuse.

    PYTHONPATH=.:clients:tests python tests/make_vectors.py

SPEC.md, "Vectors", describes the files.
"""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

from relay.protocol.canonical import decode
from relay.protocol.directory import Directory
from relay.protocol.endorsement import CONSENT, ENDORSEMENT
from relay.protocol.envelope import RECEIPT, Delivery, Receipt, parse_message, part_context, slot_info, wrap_header
from relay.protocol.identity import REQUEST, EnrolmentRequest
from relay.protocol.merkle import leaf_hash, root_of
from relay.protocol.prekey import KEY_BATCH, KeyBatch
from relay.protocol.suite import SUITE_1
from vector_faults import Refused, endorsed, passed_on
from vector_world import (
    ANNA,
    BANNER,
    JEAN,
    KARI,
    KEYS,
    LOG_KEYS,
    MAREK,
    NOW,
    ORIGINS,
    PACKAGE,
    TEXTS,
    Sender,
    consent,
    deliver,
    directory_entries,
    endorsement,
    fixture,
    request_public,
    seed,
    vkeys,
)

FOLDER = Path(__file__).parent / "vectors" / "message"


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
    found: dict[str, object] = {
        typ: {"signed": key.sign_object(typ, payload), "public": key.public} for typ, payload in rows
    }
    found[ENDORSEMENT] = {"signed": endorsement(message.ref, MAREK), "public": KEYS[MAREK].public}
    found[CONSENT] = {"signed": consent(message.ref), "public": KEYS[KARI].public}
    return found


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
    again = endorsed(delivery, [endorsement(parse_message(delivery.message).ref, MAREK)], parts)
    write("opened-endorsed", {"expect": "opened", "comment": "the same message, released by a second officer"}, again)
    onward = fixture(*passed_on(directory))
    write("opened-passed-on", {"expect": "opened", "comment": "a message that passes another on, with consent"}, onward)
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
