"""Separation of duties: whoever operates does not audit.

The rules:
  - a *key* that has ever operated never audits, and the reverse, in any office: signature key, either half of it, and
    request key are compared with those of every statement and certificate;
  - an *address* does one of both at a time: its standing certificates, the roles that stand at it and the communities
    it manages say which. Who changes sides is revoked first;
  - an auditor holds neither a role nor a clearance.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum

from .identity import Kind
from .suite import suite_numbered


class Duty(StrEnum):
    OPERATES = "operates"
    AUDITS = "audits"


def duty_of(kind: Kind) -> Duty:
    return Duty.AUDITS if kind is Kind.AUDITOR else Duty.OPERATES


def key_names(suite: int, signature_public: bytes, request_public: bytes) -> tuple[bytes, ...]:
    """Names of every key in a certificate or statement; the halves of a composite key have names of their own."""
    lattice = suite_numbered(suite).signature.mldsa_public
    parts = (signature_public[:lattice], signature_public[lattice:], request_public)
    return tuple(hashlib.sha256(part).digest() for part in parts)
