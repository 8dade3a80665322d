"""What can be wrong with a delivery at each step of "The reader opens", made from one that is right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256

from liaison.portions import pack
from octets import flipped
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.endorsement import ENDORSEMENT
from relay.protocol.entry import Event
from relay.protocol.envelope import RECEIPT, Delivery, parse_message
from vector_world import (
    ANNA,
    BANNER,
    JEAN,
    KEYS,
    MAREK,
    NOW,
    Sender,
    consent,
    deliver,
    endorsement,
    fixture,
    original,
    release,
    seed,
    signed,
    with_header,
)

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

    def with_handling(self, change: Callable[[dict[int, object]], object]) -> dict[str, object]:
        """The core with its handling changed."""
        fields = decode(self.core)
        change(fields[13])
        return self.with_core(encode(fields))

    def with_slot(self, slot: bytes, portions: str = "portions 0") -> dict[str, object]:
        """Another slot under the same core, signed anew."""
        message = signed(self.core, [slot])
        ref = parse_message(message).ref
        return self.having(slot=slot, message=message, release=release(ref, KEYS[JEAN].device_id, detail=portions))

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
            ("cbor-long", "an array's length in two octets", fixture(b"\x98\x06" + delivery[1:], self.parts)),
            ("cbor-indefinite", "an array of indefinite length", fixture(b"\x9f" + delivery[1:] + b"\xff", self.parts)),
            ("cbor-duplicate-key", "the core says key 1 twice", self.with_core(b"\xb1\x01\x01" + core[1:])),
            ("cbor-unsorted", "the core's first key comes last", self.with_core(b"\xb0" + core[3:] + b"\x01\x01")),
            ("cbor-float", "the time of creation as a float", self.with_core(core.replace(created, as_float))),
            ("alg-unknown", "a signature algorithm of no suite", self.having(message=with_header(self.right.message, -70002))),
            ("suite-unknown", "suite 2 in the core", self.with_core(encode(fields | {1: 2}))),
            ("field-unknown", "a field 17 in the core", self.with_core(encode(fields | {17: 0}))),
            ("field-missing", "no field 14 in the core", self.with_core(encode({k: v for k, v in fields.items() if k != 14}))),
            ("handling-missing", "no field 9 in the handling", self.with_handling(lambda handling: handling.pop(9))),
            ("reason-blank", "a label lowered without a reason", self.with_handling(lambda h: h.update({9: [bytes(32), " "]}))),
            ("precedence-info", "info precedence above action precedence", self.with_handling(lambda h: h.update({2: 4}))),
            ("alternatives-unsorted", "alternative labels not ascending", self.with_core(encode(fields | {14: [[b"b", b""], [b"a", b""]]}))),
            ("passed-on-text", "a passed-on message that is text", self.with_core(encode(fields | {15: [""]}))),
            ("consents-too-many", "17 consents", self.with_core(encode(fields | {16: [b""] * 17}))),
            ("delivery-short", "a delivery without endorsements", fixture(encode(decode(delivery)[:5]), self.parts)),
            ("endorsement-text", "an endorsement that is text", fixture(encode([*decode(delivery)[:5], [""]]), self.parts)),
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
            ("signature-ed25519", UNVERIFIED, "a bit of the Ed25519 half", self.having(message=flipped(message))),
            ("signature-mldsa", UNVERIFIED, "a bit of the ML-DSA half", self.having(message=flipped(message, -3000))),
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
            ("slot-changed", UNVERIFIED, "a bit of the slot", self.having(slot=flipped(self.right.slot))),
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
            ("release-changed", "a bit of the entry", replace(given, entry=flipped(given.entry))),
            ("release-classical", "no ML-DSA-44 line on the checkpoint", replace(given, checkpoint=classical)),
            ("release-denied", "the entry is a denial", release(ref, device, event=Event.DENY, permitted=False)),
            ("release-message", "the entry is of another message", release(bytes(32), device)),
            ("release-portions", "the entry names another portion", release(ref, device, detail="portions 1")),
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
            (
                "grant-other",
                UNVERIFIED,
                "sealed for portion 0, granted as portion 1",
                self.with_slot(regranted, "portions 1"),
            ),
            ("prekey-other", UNVERIFIED, "another private key", self.having() | {"kem_seed": seed("another")}),
        ]

    def step_9(self) -> list[Row]:
        """Digests, commitments, chunks, inner labels. What is wrong is signed, but for the first."""
        model = Sender(self.directory)
        keys, contexts = model.sealing_keys, model.contexts
        relabelled = pack(replace(model.contents[0], label=BANNER))
        changed = fixture(self.right, [flipped(self.parts[0]), self.parts[1]])
        crooked = [flipped(model.plaintexts[0]), model.plaintexts[1]]
        return [
            ("part-changed", UNVERIFIED, "a bit of a part", changed),
            ("commitment", UNVERIFIED, "sealed under another key than the slot holds", self.sent(sealing_keys=keys[::-1])),
            ("context", UNVERIFIED, "sealed as another portion", self.sent(contexts=contexts[::-1])),
            ("chunk", UNVERIFIED, "the last chunk lacks an octet", self.sent(cut=1)),
            ("label-inside", UNVERIFIED, "the label inside is not the label outside", self.sent(plaintexts=[relabelled, model.plaintexts[1]])),
            ("padding", MALFORMED, "padding that is not zero", self.sent(plaintexts=crooked)),
        ]  # fmt: skip

    def step_10(self) -> list[Row]:
        """Second signatures. The rules themselves are in vectors/decision."""
        ref, (given, _) = self.parsed.ref, passed_on(self.directory)
        own = parse_message(given.message).core
        bare = decode(own.encoded())
        rows = [
            ("endorsement-message", "an endorsement of another message", endorsed(self.right, [endorsement(bytes(32), MAREK)], self.parts)),
            ("endorsement-self", "by the sender", endorsed(self.right, [endorsement(ref, ANNA)], self.parts)),
            ("endorsement-office", "by an officer of another office", endorsed(self.right, [endorsement(ref, JEAN)], self.parts)),
            ("endorsement-twice", "two by one person", endorsed(self.right, [endorsement(ref, MAREK)] * 2, self.parts)),
            ("endorsement-changed", "a bit of an endorsement", endorsed(self.right, [flipped(endorsement(ref, MAREK))], self.parts)),
            ("original-changed", "a bit of a passed-on message", self.changed_core(passed_on=[flipped(own.passed_on[0])])),
            ("consent-changed", "a bit of a consent", self.changed_core(passed_on=bare[15], consents=[flipped(own.consents[0])])),
        ]  # fmt: skip
        return [(name, UNVERIFIED, comment, given) for name, comment, given in rows]

    def changed_core(self, **changes: list[bytes]) -> dict[str, object]:
        """A delivery whose sender passed something else on."""
        return fixture(*deliver(Sender(self.directory, **{name: tuple(value) for name, value in changes.items()})))

    def steps(self) -> dict[int, list[Row]]:
        return {
            1: self.step_1(), 3: self.step_3(), 6: self.step_6(), 7: self.step_7(), 8: self.step_8(), 9: self.step_9(),
            10: self.step_10(),
        }  # fmt: skip


def endorsed(delivery: Delivery, endorsements: list[bytes], parts: list[bytes]) -> dict[str, object]:
    """The delivery with these second signatures, and the keys that the directory has of their signers."""
    publics = {KEYS[word].kid: KEYS[word].public for word in (ANNA, JEAN, MAREK)}
    signers = [publics[parse_sign1(each, ENDORSEMENT).kid] for each in endorsements]
    return fixture(replace(delivery, endorsements=tuple(endorsements)), parts) | {"endorser_publics": signers}


def passed_on(directory: tuple[str, int, bytes]) -> tuple[Delivery, list[bytes]]:
    """A delivery of a message that passes Kari's on to Paris, with her consent."""
    sender = Sender(directory)
    shown = original(sender.core(sender.parts()))
    return deliver(Sender(directory, passed_on=(shown,), consents=(consent(parse_message(shown).ref),)))
