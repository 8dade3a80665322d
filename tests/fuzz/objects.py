"""CBOR of every kind: values, labels, keys, claims, and the objects that offices and devices sign."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from relay.protocol.agreement import AGREEMENT, WITHDRAWAL, read_agreement, read_withdrawal
from relay.protocol.alarm import ALARM, read_alarm
from relay.protocol.approval import APPROVAL, APPROVERS, read_approval, read_approvers
from relay.protocol.audit_scope import AUDIT_GRANT, read_audit_grant
from relay.protocol.canonical import decode, encode, read_array
from relay.protocol.claim import ED25519, Claim
from relay.protocol.community import COMMUNITY, ROSTER, read_community, read_roster
from relay.protocol.cose import Sign1, format_sign1, parse_sign1, protected_header
from relay.protocol.endorsement import (
    CONSENT,
    ENDORSEMENT,
    read_consent,
    read_endorsement,
)
from relay.protocol.envelope import (
    RECEIPT,
    read_receipt,
)
from relay.protocol.errors import Malformed
from relay.protocol.hold import HOLD, read_hold
from relay.protocol.identity import (
    CERTIFICATE,
    REQUEST,
    REVOCATION,
    STATEMENT,
    parse_request,
    parse_statement,
    read_certificate,
    read_revocation,
)
from relay.protocol.kem import is_mlkem768_x25519
from relay.protocol.label import (
    Succession,
    breadth,
    clearance_bytes,
    label_bytes,
    parse_clearance,
    parse_label,
)
from relay.protocol.prekey import KEY_BATCH, parse_key_package, read_key_batch
from relay.protocol.publication import POLICY, read_published_policy
from relay.protocol.recall import RECALL, read_recall
from relay.protocol.suite import SUITE_1
from vector_world import ANNA, BANNER, KEYS, NOW, OPEN_LABEL, PACKAGE, certificate

from . import mutators, seeds
from .target import Property, Target, rewritten, spelled_once

_READERS: dict[str, Callable[[Sign1], Any]] = {
    AGREEMENT: lambda signed: read_agreement(signed.payload),
    WITHDRAWAL: read_withdrawal,
    ALARM: read_alarm,
    APPROVAL: lambda signed: read_approval(signed.payload),
    APPROVERS: lambda signed: read_approvers(signed.payload),
    AUDIT_GRANT: read_audit_grant,
    COMMUNITY: read_community,
    ROSTER: read_roster,
    ENDORSEMENT: read_endorsement,
    CONSENT: read_consent,
    RECEIPT: read_receipt,
    HOLD: read_hold,
    CERTIFICATE: read_certificate,
    REVOCATION: read_revocation,
    STATEMENT: lambda signed: parse_statement(whole(signed)),
    REQUEST: lambda signed: parse_request(whole(signed)),
    KEY_BATCH: read_key_batch,
    POLICY: read_published_policy,
    RECALL: read_recall,
}


def whole(signed: Sign1) -> bytes:
    return format_sign1(protected_header(signed.alg, signed.kid, signed.typ), signed.payload, signed.signature)


def _signed_object(octets: bytes) -> tuple[Sign1, Any]:
    """Of whichever type it says it is."""
    for typ, read in _READERS.items():
        if f"relay-{typ}+cose".encode() in octets[:200]:
            signed = parse_sign1(octets, typ)
            return signed, read(signed)
    raise Malformed("of no type")


def _is_whole(found: tuple[Sign1, Any], octets: bytes) -> None:
    signed, value = found
    assert value.payload() == signed.payload
    assert whole(signed) == octets
    repr(value)


def _key_package_holds(package: Any, octets: bytes) -> None:
    assert package.encoded() == octets
    assert package.fault(NOW) is None or package.fault(NOW)


def _label_holds(label: Any, octets: bytes) -> None:
    assert label_bytes(label) == octets
    assert breadth(label) < 5 * 512


def _claim(octets: bytes) -> Claim:
    public, message, signature = read_array(octets, 3, "claim")
    if not type(public) is type(message) is type(signature) is bytes:
        raise Malformed("a claim is three strings of octets")
    return Claim(SUITE_1.signature_alg, public, message, signature)


def _claim_has_an_answer(claim: Claim, _octets: bytes) -> None:
    for alg in (ED25519, SUITE_1.signature_alg, 0):
        fault = claim._replace(alg=alg).fault()
        assert fault is None or fault
    assert is_mlkem768_x25519(claim.public) in {True, False}


def _claims() -> list[bytes]:
    found = [parse_sign1(seeds.of_kind(RECALL), RECALL), parse_sign1(seeds.of_kind(HOLD), HOLD)]
    claims = [[KEYS[ANNA].public, each.to_be_signed, each.signature] for each in found]
    return [encode(claim) for claim in claims] + [encode([PACKAGE.kem_public, b"", b""])]


def _values() -> list[bytes]:
    every = [*seeds.signed(), *seeds.access_entries(), *seeds.entries(), OPEN_LABEL]
    return [*every, encode({key: [key, {}, None, True, b"a", "a"] for key in range(-24, 24)}), encode(-(1 << 63))]


def _of_labels() -> list[bytes]:
    label = parse_label(BANNER)
    later = replace(label, succession=Succession(NOW, label), privacy_mark="FOUO", originator=ANNA, review=NOW)
    clearances = [clearance_bytes(each) for each in certificate(ANNA, "POL").clearances]
    return [BANNER, OPEN_LABEL, label_bytes(later), *clearances]


TARGETS = (
    Target("cbor", (Property(decode, rewritten(encode)),), _values, mutators.cbor),
    Target("signed", (Property(_signed_object, _is_whole),), lambda: list(seeds.signed()), mutators.cbor, behind=True),
    Target(
        "labels",
        (Property(parse_label, _label_holds), spelled_once(parse_clearance, clearance_bytes)),
        _of_labels,
        mutators.cbor,
    ),
    Target("keys", (Property(parse_key_package, _key_package_holds),), lambda: [PACKAGE.encoded()], mutators.cbor),
    Target("claims", (Property(_claim, _claim_has_an_answer),), _claims, mutators.cbor),
)
