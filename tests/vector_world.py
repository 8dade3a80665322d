"""A small fixed world for vectors: three offices, four officers, and one message that can go wrong at any step.

Keys grow from words, so that they are the same from run to run; signatures are hedged and HPKE is randomised.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from liaison.cobblestone import seal_part
from liaison.keys import SigningKey, kem_public_bytes
from liaison.portions import PortionContent, PortionKind, pack
from liaison.seal import Reader, seal_slot
from relay.logkeys import LogKeys
from relay.protocol.agreement import AGREEMENT, Agreement, Party
from relay.protocol.canonical import decode, encode
from relay.protocol.community import COMMUNITY, ROSTER, Community, Roster
from relay.protocol.cose import format_sign1, protected_header, to_be_signed
from relay.protocol.endorsement import CONSENT, ENDORSEMENT, RELEASING_ROLE, Consent, Endorsement
from relay.protocol.entry import AccessEntry, Change, DirectoryEntry, Event, LoggedEntry
from relay.protocol.envelope import MESSAGE, Delivery, message_payload, parse_message, part_context
from relay.protocol.header import Addressee, AddresseeKind, Core, MessageHandling, Portion, Precedence
from relay.protocol.identity import CERTIFICATE, STATEMENT, Certificate, Kind, Statement
from relay.protocol.label import Category, Clearance, Label, PolicyRef, TagType, label_bytes
from relay.protocol.merkle import MerkleTree, leaf_hash, root_of
from relay.protocol.parts import part_digest
from relay.protocol.prekey import KeyBatch, KeyPackage
from relay.protocol.publication import POLICY, PublishedPolicy
from relay.protocol.suite import SUITE_1

NOW = 1_800_000_000  # 15 January 2027, 08:00 UTC
ANNA, JEAN, KARI = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "kari.lie@lo-oslo"
MAREK = "marek.zawada@lo-warsaw"  # a releasing officer
OFFICES = (("lo-warsaw", "POL"), ("lo-paris", "FRA"), ("lo-oslo", "NOR"))
COMMUNITY_ADDRESS = "convoys@lo-warsaw"
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


WORDS = (ANNA, JEAN, KARI, MAREK, "stranger", *(f"authority@{office}" for office, _ in OFFICES))
KEYS = {word: signing(word) for word in WORDS}
LOG_KEYS = LogKeys(
    Ed25519PrivateKey.from_private_bytes(seed("log, curve")), MLDSA44PrivateKey.from_seed_bytes(seed("log, lattice"))
)
ORIGINS = ("relay.example/access", "relay.example/directory")
KEM_SEED = seed("jean's one-time key")
PACKAGE = KeyPackage(
    KEYS[JEAN].device_id, SUITE_1.kem_alg, kem_public_bytes(KEM_SEED), NOW - 60, NOW + 86400, one_time=True, serial=0
)


def directory_entries() -> list[bytes]:
    """Offices, their devices and policies, an agreement that all have signed, the reader's keys, a community."""
    parties = tuple(Party(office, nation, KEYS[f"authority@{office}"].kid) for office, nation in sorted(OFFICES))
    agreement = Agreement(
        "Example", parties, POLICY_REF.name, POLICY_REF.oid, ("CLOSED", "OPEN"), (CODEWORD, RELEASE), (), (),
        onward_release=False, not_before=NOW - 3600, not_after=NOW + 86400, nonce=seed("agreement")[:16],
    )  # fmt: skip
    changes = []
    for (office, nation), address in zip(OFFICES, (ANNA, JEAN, KARI), strict=True):
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
    warsaw = KEYS["authority@lo-warsaw"]
    community = Community(COMMUNITY_ADDRESS, ANNA, "Convoys", NOW - 3600)
    roster = Roster(COMMUNITY_ADDRESS, 1, (ANNA, JEAN), NOW - 3500)
    changes += [
        (Change.CERTIFICATE, warsaw.sign_object(CERTIFICATE, certificate(MAREK, "POL", RELEASING_ROLE).payload())),
        (Change.COMMUNITY, warsaw.sign_object(COMMUNITY, community.payload())),
        (Change.ROSTER, KEYS[ANNA].sign_object(ROSTER, roster.payload())),
    ]
    return [
        DirectoryEntry(change, (NOW - 3600) * 1000 + place, seed(f"salt {place}")[:16], payload).encoded()
        for place, (change, payload) in enumerate(changes)
    ]


def certificate(address: str, nation: str, role: str = "duty") -> Certificate:
    key = KEYS[address]
    held = (Category("Codeword", "2.999.1.2", TagType.RESTRICTIVE, ("IRIS",)), replace(RELEASE, values=(nation,)))
    clearance = Clearance("EXAMPLE", "2.999.1", ("CLOSED", "OPEN"), held, NOW - 3600, NOW + 86400)
    return Certificate(
        key.device_id, address, Kind.OFFICER, (role,), (clearance,), (), 1, key.public, request_public(address),
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
                Portion(len(part), part_digest(part), content.label)
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
        BANNER, policy=POLICY_REF.digest, request=seed("nonce")[:16], detail="portions 0",
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
        "endorser_publics": [],
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


def endorsement(ref: bytes, address: str, **changes: object) -> bytes:
    """A second signature over the message."""
    stated = replace(Endorsement(ref, KEYS[address].device_id, address, NOW + 30), **changes)  # type: ignore[arg-type]
    return KEYS[address].sign_object(ENDORSEMENT, stated.payload())


def original(core: Core) -> bytes:
    """A message that Kari sent to Anna, made of the pieces of another."""
    key = KEYS[KARI]
    of_kari = replace(
        core, message_id=seed("original")[:16], sender=KARI, sender_device=key.device_id, sender_kid=key.kid,
        created=NOW - 600, addressees=(Addressee(AddresseeKind.ACTION, ANNA),),
        handling=replace(core.handling, originator_controlled=True),
    )  # fmt: skip
    return key.sign_object(MESSAGE, message_payload(of_kari.encoded(), 1, root_of([leaf_hash(b"a slot")])))


def consent(ref: bytes, **changes: object) -> bytes:
    """Kari's, to passing her message on to Paris."""
    stated = replace(Consent(ref, KEYS[KARI].device_id, "lo-paris", NOW + 86400), **changes)  # type: ignore[arg-type]
    return KEYS[KARI].sign_object(CONSENT, stated.payload())
