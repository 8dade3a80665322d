"""Whose log entries an auditor reads: what his certificate asks for, and what each office has granted.

The rules:
  - his own office is always in scope;
  - another is, if a term of his certificate covers it AND that office's authority has granted it to this very device.
    Either alone is nothing, so neither his own authority nor he himself can widen what he reads of others;
  - an office's newest grant to a device counts. It lapses at its end, with the device, and with the authority's key.

    Grant = Sign1(authority of the granting office; {1: 1, 2: office, 3: device_id, 4: address, 5: not after, 6: at})
"""

from __future__ import annotations

from dataclasses import dataclass

from .canonical import encode, expect_bytes, expect_time, expect_version, read_map
from .cose import Sign1
from .identity import EVERY_OFFICE, NATION_TERM, Certificate, Statement, check_office, parse_address

AUDIT_GRANT = "audit-grant"


@dataclass(frozen=True, slots=True)
class AuditGrant:
    """An office's leave to read its entries, for one device of another office."""

    office: str
    device_id: bytes
    address: str
    not_after: int
    at: int
    authority_kid: bytes

    def payload(self) -> bytes:
        return encode({1: 1, 2: self.office, 3: self.device_id, 4: self.address, 5: self.not_after, 6: self.at})


def read_audit_grant(signed: Sign1) -> AuditGrant:
    """The content of a grant whose signature the caller verifies with the office authority's key."""
    fields = read_map(signed.payload, frozenset(range(1, 7)), frozenset(), AUDIT_GRANT)
    expect_version(fields[1], AUDIT_GRANT)
    parse_address(fields[4])
    return AuditGrant(
        office=check_office(fields[2]),
        device_id=expect_bytes(fields[3], 16, "audit grant: device"),
        address=fields[4],
        not_after=expect_time(fields[5], "audit grant: not after"),
        at=expect_time(fields[6], "audit grant: time"),
        authority_kid=signed.kid,
    )


def is_asked_for(certificate: Certificate, statement: Statement) -> bool:
    """Whether a term of the certificate covers this office."""
    return not {statement.office, NATION_TERM + statement.nation, EVERY_OFFICE}.isdisjoint(certificate.scope)
