"""Who is who: addresses, an office's statement, a device's request and certificate, and its revocation.

An office authority certifies the devices of its own office and nobody else's. A device's name is the first
16 octets of its signature key's thumbprint, so that no two keys can claim one name. The authority itself
makes requests to the relay too; its device name is derived from its own key in the same way.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .canonical import encode, expect, expect_bytes, expect_texts, expect_time, expect_version, read_map
from .cose import Sign1, parse_sign1, thumbprint, verify_sign1
from .errors import Malformed, Unverified
from .label import Clearance, clearance_bytes, parse_clearance
from .suite import suite_numbered

_OFFICE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_LOCAL = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_NATION = re.compile(r"[A-Z0-9][A-Z0-9_-]{1,15}")

STATEMENT, REQUEST, CERTIFICATE, REVOCATION = "statement", "request", "certificate", "revocation"
NATION_TERM, EVERY_OFFICE = "nation:", "*"  # terms of an auditor's scope, beside the names of offices


class Kind(StrEnum):
    OFFICER = "officer"
    SYSTEM = "system"
    AUDITOR = "auditor"
    AUTHORITY = "authority"  # only ever derived from an office's statement, never certified


MAY_SEND = frozenset({Kind.OFFICER, Kind.SYSTEM})
SECURITY_ROLE = "security"


def check_office(office: str) -> str:
    """`office` if it is a well-formed office name, else Malformed."""
    if not isinstance(office, str) or not _OFFICE.fullmatch(office):
        raise Malformed(
            f"{office!r:.80} is not an office name", hint="lower-case letters, digits and hyphens: lo-warsaw"
        )
    return office


def parse_address(address: str) -> tuple[str, str]:
    """Split `anna.nowak@lo-warsaw` into its local part and its office. Raises Malformed."""
    local, at, office = address.partition("@") if isinstance(address, str) else ("", "", "")
    if not at or not _LOCAL.fullmatch(local) or not _OFFICE.fullmatch(office):
        raise Malformed(f"{address!r:.120} is not an address", hint="lower case, one @: anna.nowak@lo-warsaw")
    return local, office


def office_of(address: str) -> str:
    return parse_address(address)[1]


@dataclass(frozen=True, slots=True)
class Statement:
    """An office authority's self-signed introduction of itself."""

    office: str
    nation: str
    suite: int
    authority_public: bytes
    request_public: bytes  # Ed25519, signs the authority's requests to the relay
    created: int
    relay_keys: tuple[str, ...]  # the relay's log verifier keys as the authority compared them; may be empty
    kid: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Once: whoever looks at a device asks for its authority's.
        alg = suite_numbered(self.suite).signature_alg
        object.__setattr__(self, "kid", thumbprint(alg, self.authority_public))

    @property
    def device_id(self) -> bytes:
        return self.kid[:16]

    def payload(self) -> bytes:
        return encode({
            1: 1, 2: self.office, 3: self.nation, 4: self.suite, 5: self.authority_public,
            6: self.request_public, 7: self.created, 8: list(self.relay_keys),
        })  # fmt: skip


def parse_statement(encoded: bytes) -> Statement:
    """Read and verify a statement against the key it carries. Raises Malformed, Unverified."""
    signed = parse_sign1(encoded, STATEMENT)
    fields = _fields(signed, 8)
    statement = Statement(
        office=check_office(fields[2]),
        nation=check_nation(fields[3]),
        suite=suite_numbered(fields[4]).number,
        authority_public=expect(fields[5], bytes, "statement: key"),
        request_public=_request_key(fields[6], fields[4], fields[5], "statement"),
        created=expect_time(fields[7], "statement: created"),
        relay_keys=expect_texts(fields[8], "statement: relay keys"),
    )
    verify_sign1(signed, statement.authority_public)
    return statement


def check_nation(nation: str) -> str:
    """`nation` if it is a nation or organisation code (`POL`, `NATO`), else Malformed."""
    if not isinstance(nation, str) or not _NATION.fullmatch(nation):
        raise Malformed(f"{nation!r:.40} is not a nation or organisation code", hint="such as POL, FRA or NATO")
    return nation


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """A device's keys and the address it asks for, signed with the key to be certified (proof of possession)."""

    address: str
    suite: int
    signature_public: bytes
    request_public: bytes
    authority_kid: bytes
    created: int

    @property
    def kid(self) -> bytes:
        return thumbprint(suite_numbered(self.suite).signature_alg, self.signature_public)

    @property
    def device_id(self) -> bytes:
        return self.kid[:16]

    def payload(self) -> bytes:
        return encode({
            1: 1, 2: self.address, 3: self.suite, 4: self.signature_public,
            5: self.request_public, 6: self.authority_kid, 7: self.created,
        })  # fmt: skip


def parse_request(encoded: bytes) -> EnrolmentRequest:
    """Read a request and verify it against the key it carries. Raises Malformed, Unverified."""
    signed = parse_sign1(encoded, REQUEST)
    fields = _fields(signed, 7)
    parse_address(fields[2])
    request = EnrolmentRequest(
        address=fields[2],
        suite=suite_numbered(fields[3]).number,
        signature_public=expect(fields[4], bytes, "request: key"),
        request_public=_request_key(fields[5], fields[3], fields[4], "request"),
        authority_kid=expect_bytes(fields[6], 32, "request: authority"),
        created=expect_time(fields[7], "request: created"),
    )
    verify_sign1(signed, request.signature_public)
    return request


@dataclass(frozen=True, slots=True)
class Certificate:
    """What an office authority says of one device: whose it is, what its holder may access, and until when."""

    device_id: bytes
    address: str
    kind: Kind
    roles: tuple[str, ...]
    clearances: tuple[Clearance, ...]  # at most one per policy
    scope: tuple[str, ...]  # an auditor's terms beyond his own office: offices, `nation:POL`, `*`; see audit_scope.py
    suite: int
    signature_public: bytes
    request_public: bytes
    not_before: int
    not_after: int
    serial: bytes

    @property
    def kid(self) -> bytes:
        return thumbprint(suite_numbered(self.suite).signature_alg, self.signature_public)

    @property
    def office(self) -> str:
        return self.address.partition("@")[2]

    def clearance_under(self, policy_name: str, policy_oid: str) -> Clearance | None:
        """The holder's clearance under that policy, limited by the certificate's own validity."""
        for clearance in self.clearances:
            if clearance.policy_name == policy_name and clearance.policy_oid == policy_oid:
                return clearance
        return None

    def payload(self) -> bytes:
        return encode({
            1: 1, 2: self.device_id, 3: self.address, 4: self.kind.value, 5: list(self.roles),
            6: [clearance_bytes(clearance) for clearance in self.clearances], 7: list(self.scope), 8: self.suite,
            9: self.signature_public, 10: self.request_public, 11: self.not_before, 12: self.not_after, 13: self.serial,
        })  # fmt: skip


def read_certificate(signed: Sign1) -> Certificate:
    """The content of a certificate whose signature the caller verifies with the office authority's key."""
    fields = _fields(signed, 13)
    parse_address(fields[3])
    certificate = Certificate(
        device_id=expect_bytes(fields[2], 16, "certificate: device"),
        address=fields[3],
        kind=_certified_kind(fields[4]),
        roles=expect_texts(fields[5], "certificate: roles"),
        clearances=_clearances(fields[6]),
        scope=tuple(check_scope_term(term) for term in expect_texts(fields[7], "certificate: scope")),
        suite=suite_numbered(fields[8]).number,
        signature_public=expect(fields[9], bytes, "certificate: key"),
        request_public=_request_key(fields[10], fields[8], fields[9], "certificate"),
        not_before=expect_time(fields[11], "certificate: not before"),
        not_after=expect_time(fields[12], "certificate: not after"),
        serial=expect_bytes(fields[13], 16, "certificate: serial"),
    )
    if certificate.device_id != certificate.kid[:16]:
        raise Unverified("certificate: the device's name is not its key's")
    for role in certificate.roles:
        parse_address(f"{role}@{certificate.office}")
    if certificate.scope and certificate.kind is not Kind.AUDITOR:
        raise Malformed("certificate: only an auditor has a scope")
    return certificate


def check_scope_term(term: str) -> str:
    """`term` if it is an office's name, `nation:` and a nation's code, or `*` for every office, else Malformed."""
    if term.startswith(NATION_TERM):
        check_nation(term.removeprefix(NATION_TERM))
    elif term != EVERY_OFFICE:
        check_office(term)
    return term


def _certified_kind(value: Any) -> Kind:
    if expect(value, str, "certificate: kind") not in {Kind.OFFICER, Kind.SYSTEM, Kind.AUDITOR}:
        raise Malformed(f"certificate: kind {value!r:.40} is unknown", hint="officer, system or auditor")
    return Kind(value)


def _clearances(value: Any) -> tuple[Clearance, ...]:
    clearances = tuple(parse_clearance(expect(item, bytes, "clearance")) for item in expect(value, list, "clearances"))
    if len({(clearance.policy_name, clearance.policy_oid) for clearance in clearances}) != len(clearances):
        raise Malformed("certificate: two clearances under one policy")
    return clearances


@dataclass(frozen=True, slots=True)
class Revocation:
    """The end of a certificate, effective at once."""

    device_id: bytes
    address: str
    reason: str
    at: int

    def payload(self) -> bytes:
        return encode({1: 1, 2: self.device_id, 3: self.address, 4: self.reason, 5: self.at})


def read_revocation(signed: Sign1) -> Revocation:
    """Read what was signed; raises Malformed for anything else."""
    fields = _fields(signed, 5)
    parse_address(fields[3])
    return Revocation(
        device_id=expect_bytes(fields[2], 16, "revocation: device"),
        address=fields[3],
        reason=expect(fields[4], str, "revocation: reason"),
        at=expect_time(fields[5], "revocation: time"),
    )


def _request_key(value: Any, suite: int, signature_public: bytes, what: str) -> bytes:
    if value == signature_public[suite_numbered(suite).signature.mldsa_public :]:
        raise Malformed(f"{what}: the request key is half of the signature key", hint="make new keys")
    return expect_bytes(value, 32, f"{what}: request key")


def _fields(signed: Sign1, last: int) -> dict[int, Any]:
    fields = read_map(signed.payload, frozenset(range(1, last + 1)), frozenset(), signed.typ)
    expect_version(fields[1], signed.typ)
    return fields
