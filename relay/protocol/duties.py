"""Separation of duties: whoever operates does not audit, and no key is anybody else's.

The rules:
  - a *key* is one device's for good, in any office, and does one of both with it: either half of a signature key and
    the request key are compared with those of every statement and certificate;
  - an *address* does one of both at a time: its standing certificates, the roles that stand at it and the communities
    it manages say which. Who changes sides is revoked first;
  - an auditor holds neither a role nor a clearance.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import TYPE_CHECKING

from .errors import Conflict, Malformed
from .identity import Certificate, Kind
from .suite import suite_numbered

if TYPE_CHECKING:
    from .directory import Directory  # which imports this module


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


def check_duty(directory: Directory, certificate: Certificate) -> None:
    """Raise Conflict unless this address, and those of its roles, do only what the certificate is for; or Malformed."""
    audits = certificate.kind is Kind.AUDITOR
    if audits and (certificate.roles or certificate.clearances):
        raise Malformed("certificate: an auditor has neither a role nor a clearance")
    if audits and any(state.community.manager == certificate.address for state in directory.communities.values()):
        raise Conflict(f"{certificate.address} manages a community", hint="give it another manager first")
    own = (certificate.address, *(f"{role}@{certificate.office}" for role in certificate.roles))
    held = [each for address in own for each in directory.by_address.get(address, ())]
    if audits:  # else nobody whom a role leads to is of the other duty: who audits has none
        held += directory.by_role.get(certificate.address, ())
    for device in (directory.devices[device_id] for device_id in held):
        if (device.kind is Kind.AUDITOR) is not audits and directory.stands(device.device_id):
            raise Conflict(
                f"{device.address} {duty_of(device.kind)} in {device.office} already: nobody does both",
                hint="revoke every device of one duty before the first of the other is enrolled",
            )


def take_keys(directory: Directory, device_id: bytes, keys: tuple[bytes, ...]) -> None:
    """Note whose these keys are from now on. Raises Conflict."""
    if any(directory.keys.get(key, device_id) != device_id for key in keys):
        raise Conflict("a key of this is another's already, in whole or as a half", hint="make new keys")
    directory.keys |= dict.fromkeys(keys, device_id)
