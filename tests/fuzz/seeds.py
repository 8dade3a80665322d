"""What the targets begin with: a small world of the vectors' builders, one of each thing that offices and relays write."""

from __future__ import annotations

import json
from base64 import b64decode
from functools import cache
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from liaison.evidence.package import GRANTS_FILE, MESSAGE_FILE, RELAY_FILE, SLOT_FILE, Package
from relay.protocol.agreement import WITHDRAWAL, Withdrawal
from relay.protocol.alarm import ALARM, Alarm
from relay.protocol.approval import APPROVAL, APPROVERS, Approval, Approvers, Matter
from relay.protocol.audit_scope import AUDIT_GRANT, AuditGrant
from relay.protocol.canonical import encode
from relay.protocol.directory import Directory
from relay.protocol.entry import (
    AccessEntry,
    Change,
    DirectoryEntry,
    Event,
    LoggedEntry,
    parse_directory_entry,
)
from relay.protocol.envelope import RECEIPT, Delivery, Receipt, Submission, parse_message, parse_slot
from relay.protocol.grants import Grants, accept_detail, format_grants, format_portions, grants_of
from relay.protocol.header import Precedence
from relay.protocol.hold import HOLD, Action, Hold
from relay.protocol.identity import REQUEST, REVOCATION, EnrolmentRequest, Revocation
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.protocol.prekey import KEY_BATCH, KeyBatch
from relay.protocol.recall import RECALL, Recall, Recalled, RecallState, recall_detail
from relay.protocol.witness import WitnessKeys
from vector_faults import passed_on
from vector_world import (
    ANNA,
    BANNER,
    JEAN,
    KEYS,
    LOG_KEYS,
    MAREK,
    NOW,
    ORIGINS,
    PACKAGE,
    POLICY_REF,
    Sender,
    consent,
    deliver,
    directory_entries,
    endorsement,
    request_public,
    seed,
    vkeys,
)

VECTORS = Path(__file__).parents[1] / "vectors"
AUTHORITY = KEYS["authority@lo-warsaw"]


@cache
def entries() -> tuple[bytes, ...]:
    """Of the directory log."""
    return tuple(directory_entries())


@cache
def directory() -> Directory:
    replayed = Directory()
    for entry in entries():
        replayed.apply(entry)
    return replayed


@cache
def directory_tree() -> MerkleTree:
    return MerkleTree(map(leaf_hash, entries()))


@cache
def delivery() -> Delivery:
    tree = directory_tree()
    return deliver(Sender((ORIGINS[1], len(entries()), tree.root())))[0]


@cache
def submissions() -> tuple[Submission, ...]:
    """A plain one, one that is endorsed and has a part that was uploaded, one that passes another message on."""
    tree = directory_tree()
    place = (ORIGINS[1], len(entries()), tree.root())
    sent, parts = deliver(Sender(place))
    endorsed = endorsement(parse_message(sent.message).ref, MAREK)
    onward, others = passed_on(place)
    return (
        Submission(sent.message, (sent.slot,), tuple(parts)),
        Submission(sent.message, (sent.slot,), (None, parts[1]), (endorsed,)),
        Submission(onward.message, (onward.slot,), tuple(others)),
    )


@cache
def grants() -> Grants:
    return grants_of([parse_slot(delivery().slot, parse_message(delivery().message).core)])


@cache
def signed() -> tuple[bytes, ...]:
    """One of each kind of signed object."""
    message, anna = parse_message(delivery().message), KEYS[ANNA]
    device, agreement_id = anna.device_id, next(iter(directory().agreements))
    people = tuple(sorted((address, KEYS[address].device_id) for address in (ANNA, MAREK)))
    needed = ((Matter.ENROLMENT, 2), (Matter.HOLD, 1))
    request = EnrolmentRequest(ANNA, 1, anna.public, request_public(ANNA), AUTHORITY.kid, NOW)
    own = (
        (REQUEST, request.payload()),
        (RECALL, Recall(message.core.message_id, device, False, "Sent too early", NOW).payload()),
        (HOLD, Hold(Action.PLACE, message.core.message_id, device, ANNA, NOW, "Inquiry 7").payload()),
        (RECEIPT, Receipt(message.core.message_id, message.ref, device, "opened", NOW).payload()),
        (ALARM, Alarm(device, 3, bytes(32), "a certificate that nobody asked for", NOW).payload()),
        (APPROVAL, Approval(Matter.HOLD, bytes(32), device, ANNA, NOW).payload()),
        (KEY_BATCH, KeyBatch(device, NOW, (bytes(32), PACKAGE.ref)).payload()),
    )
    of_the_office = (
        (REVOCATION, Revocation(device, ANNA, "lost", NOW).payload()),
        (WITHDRAWAL, Withdrawal(agreement_id, "lo-warsaw", "ended", NOW).payload()),
        (APPROVERS, Approvers("lo-warsaw", 1, needed, people, NOW).payload()),
        (AUDIT_GRANT, AuditGrant("lo-warsaw", device, ANNA, NOW + 9, NOW, AUTHORITY.kid).payload()),
    )
    logged = {entry.change: entry.payload for entry in map(parse_directory_entry, entries())}
    return (
        delivery().message,
        endorsement(message.ref, MAREK),
        consent(message.ref),
        *(anna.sign_object(typ, payload) for typ, payload in own),
        *(AUTHORITY.sign_object(typ, payload) for typ, payload in of_the_office),
        *(payload for change, payload in logged.items() if change is not Change.KEY_BATCH),
    )


def of_kind(typ: str) -> bytes:
    """The signed object of that type."""
    return next(each for each in signed() if typ.encode() + b"+cose" in each[:100])


@cache
def changes() -> tuple[bytes, ...]:
    """Entries that may follow those of the directory."""
    rows = (
        (Change.APPROVERS, of_kind(APPROVERS)),
        (Change.WITHDRAWAL, of_kind(WITHDRAWAL)),
        (Change.REVOCATION, of_kind(REVOCATION)),
        (Change.OFFICE_REMOVED, encode(["lo-oslo"])),
    )
    made = [DirectoryEntry(change, NOW * 1000, bytes(16), payload).encoded() for change, payload in rows]
    approved = DirectoryEntry(Change.APPROVERS, NOW * 1000, bytes(16), of_kind(APPROVERS), (of_kind(APPROVAL),))
    return (*made, approved.encoded())


def _entry(event: Event, address: str, detail: str, at: int = NOW, **more: object) -> AccessEntry:
    ref, office = parse_message(delivery().message).ref, address.partition("@")[2]
    concerns = "" if office == "lo-warsaw" else "lo-warsaw"
    return AccessEntry(
        event, at * 1000, seed("salt")[:16], KEYS[address].device_id, address, office, concerns, seed("message")[:16],
        ref, BANNER, policy=POLICY_REF.digest, request=seed("nonce")[:16], detail=detail, **more,
    )  # fmt: skip


@cache
def access_entries() -> tuple[bytes, ...]:
    """Accepted, opened, receipted, recalled; then one that is denied and one that nobody asked for."""
    states = (RecallState(KEYS[JEAN].device_id, (0,), 1),)
    recalled = recall_detail(states, "Sent too early", spill=False, held=False)
    return tuple(
        entry.encoded()
        for entry in (
            _entry(Event.ACCEPT, ANNA, accept_detail(grants(), Precedence.PRIORITY)),
            _entry(Event.OPEN, JEAN, format_portions((0,))),
            _entry(Event.ACKNOWLEDGE, JEAN, "opened"),
            _entry(Event.RECALL, ANNA, recalled, warrant=(of_kind(RECALL),)),
            _entry(Event.DENY, ANNA, "", permitted=False, rules=("clearance", "agreement")),
            _entry(Event.DESTROY, ANNA, f"messages=1 entries=2-4,9 policies={'ab' * 32}"),
            _entry(Event.HOLD, ANNA, "place 1 of 2: Inquiry 7", warrant=(of_kind(HOLD), of_kind(APPROVAL))),
        )
    )


@cache
def logged_entries() -> tuple[LoggedEntry, ...]:
    """The access entries, each proven."""
    tree = MerkleTree(map(leaf_hash, access_entries()))
    size = len(access_entries())
    note = LOG_KEYS.sign_checkpoint(ORIGINS[0], size, tree.root(), NOW)
    return tuple(
        LoggedEntry(entry, index, tuple(tree.inclusion_proof(index, size)), note)
        for index, entry in enumerate(access_entries())
    )


def recalled() -> bytes:
    """The relay's answer to a recall."""
    accept, opened, _receipt, recall = logged_entries()[:4]
    return Recalled(recall, accept, grants(), (opened,)).encoded()


def packages() -> list[Package]:
    """Evidence of the originator, by hash only, and of the reader; the manifests are not in them."""
    size = len(entries())
    note = LOG_KEYS.sign_checkpoint(ORIGINS[1], size, directory_tree().root(), NOW)
    shared = {RELAY_FILE: "".join(f"{key}\n" for key in vkeys()).encode(), "directory/checkpoint": note}
    shared["access/checkpoint"] = logged_entries()[0].checkpoint
    for index, entry in enumerate(entries()):
        proof = directory_tree().inclusion_proof(index, size)
        shared[f"directory/{index:010}.cbor"] = encode([entry, index, proof])
    for each in logged_entries()[:3]:
        shared[f"access/{each.index:010}.cbor"] = encode(each.fields()[:3])
    message, jean = parse_message(delivery().message), KEYS[JEAN]
    receipt = Receipt(message.core.message_id, message.ref, jean.device_id, "opened", NOW)
    shared[f"receipts/{jean.device_id.hex()}-opened.cose"] = jean.sign_object(RECEIPT, receipt.payload())
    shared[f"policy/{sha256(b'the policy file').hexdigest()}"] = b"the policy file"
    own = {GRANTS_FILE: format_grants(grants())}
    slot = {SLOT_FILE: encode(delivery().proven_slot())}
    members = [own | {MESSAGE_FILE: delivery().message}, own, slot | {MESSAGE_FILE: delivery().message}, {}]
    return [Package(message.core.message_id, message.ref, NOW, shared | each) for each in members]


def message_vectors() -> list[bytes]:
    """Every delivery that the vectors have, the refused ones too."""
    files = sorted((VECTORS / "message").glob("*.json"))
    read = (json.loads(file.read_text()) for file in files)
    return [b64decode(each["delivery"]) for each in read if "delivery" in each]


def notes() -> list[bytes]:
    return [file.read_bytes().partition(b"---\n")[2] for file in sorted((VECTORS / "note").glob("*.txt"))]


def spifs() -> list[bytes]:
    """Those of the vectors, and one with a mapping of a whole tag set."""
    found = [file.read_bytes() for file in sorted((VECTORS / "label").glob("*.spif.xml"))]
    end = b"</spif:securityCategoryTagSet>"
    mapping = b'<spif:equivalentSecurityCategoryTagSet policyRef="TIDEWATER"/>'
    return [*found, found[0].replace(end, mapping + end, 1)]


def label_documents() -> list[bytes]:
    return [case["xml"].encode() for case in json.loads((VECTORS / "label" / "labels.json").read_text())["vectors"]]


@cache
def witness() -> WitnessKeys:
    curve = Ed25519PrivateKey.from_private_bytes(seed("witness, curve"))
    return WitnessKeys("witness.example/w1", curve, MLDSA44PrivateKey.from_seed_bytes(seed("witness, lattice")))
