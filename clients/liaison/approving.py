"""Approving: read what is asked for as a person has to see it, and sign exactly that.

What is read comes from a file that somebody sent: whoever should have signed it must have, before it is shown.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from relay.protocol.approval import (
    APPROVAL,
    APPROVERS,
    Approval,
    Approvers,
    Matter,
    list_ref,
    read_approvers,
)
from relay.protocol.armor import dearmor, kinds_in
from relay.protocol.cose import Sign1, parse_sign1, verify_sign1
from relay.protocol.directory import Directory
from relay.protocol.errors import Malformed, Refused, Unknown
from relay.protocol.hold import HOLD, read_hold
from relay.protocol.identity import (
    CERTIFICATE,
    SECURITY_ROLE,
    STATEMENT,
    office_of,
    parse_statement,
    read_certificate,
)
from relay.protocol.words import words_for

from .cleared import cleared_for
from .client import Client
from .render import day


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody wants approved."""

    matter: Matter
    office: str  # whose approvers; "" for the relay's
    own: str  # whose own it is, and who so does not approve it
    ref: bytes
    lines: tuple[str, ...]  # what a person has to know before saying yes


def read_asked(text: bytes, directory: Directory) -> Asked:
    """The one object in a file, verified as far as it can be. Raises Malformed, Unverified, Unknown, Refused."""
    kinds = [kind for kind in kinds_in(text) if kind in _READ]
    if len(kinds) != 1:
        raise Malformed(
            "this is not one thing to be approved", hint="a certificate, hold, list of approvers, or statement"
        )
    return _READ[kinds[0]](dearmor(text, kinds[0]), directory)


def approve(client: Client, asked: Asked) -> bytes:
    """Agree to it. Raises Refused where one's word would not count."""
    own, approvers = client.sync(), client.trust.directory.approvers_of(asked.office)
    whose = asked.office or "the relay"
    if approvers is None or not approvers.threshold(asked.matter):
        raise Refused(f"{whose} has named nobody for this matter, {asked.matter}", rules=("approvers",))
    if (own.address, own.device_id) not in approvers.people:
        raise Refused(f"{own.address} is not named by {whose} with this device", rules=("approvers",))
    if own.address == asked.own:
        raise Refused("what is your own is for others to approve", rules=("approvers",))
    stated = Approval(asked.matter, asked.ref, own.device_id, own.address, int(time.time()))
    return client.profile.signing.sign_object(APPROVAL, stated.payload())


def _by_authority(signed: Sign1, office: str, directory: Directory) -> None:
    statement = directory.offices.get(office)
    if statement is None:
        raise Unknown(f"office {office} is not registered")
    verify_sign1(signed, statement.authority_public)


def _certificate(encoded: bytes, directory: Directory) -> Asked:
    signed = parse_sign1(encoded, CERTIFICATE)
    certificate = read_certificate(signed)
    _by_authority(signed, certificate.office, directory)
    if SECURITY_ROLE not in certificate.roles:
        raise Refused("this certificate takes no approval: it is no security officer's", rules=("approvers",))
    cleared = "; ".join(cleared_for(certificate)) or "nothing"
    lines = (
        f"enrolment of {certificate.address} as {certificate.kind}, with the roles {', '.join(certificate.roles)}",
        f"cleared for {cleared}; certified until {day(certificate.not_after)}",
        f"words of the device's key: {words_for([certificate.kid])}",
    )
    return Asked(Matter.ENROLMENT, certificate.office, certificate.address, signed.ref, lines)


def _statement(encoded: bytes, _directory: Directory) -> Asked:
    stated = parse_statement(encoded)
    lines = (
        f"admission of the office {stated.office}, nation {stated.nation}",
        f"words of its authority's key: {words_for([stated.kid])}",
    )
    return Asked(Matter.ADMISSION, "", "", parse_sign1(encoded, STATEMENT).ref, lines)


def _hold(encoded: bytes, directory: Directory) -> Asked:
    signed = parse_sign1(encoded, HOLD)
    stated, device = read_hold(signed), directory.devices.get(signed.kid[:16])
    if device is None or (device.device_id, device.address) != (stated.device_id, stated.address):
        raise Unknown(f"the hold is not signed by a device of {stated.address}")
    verify_sign1(signed, device.signature_public)
    lines = (f"{stated.address} would {stated.action} a legal hold on message {stated.message_id.hex()}", stated.reason)
    return Asked(Matter.HOLD, office_of(stated.address), stated.address, signed.ref, lines)


def _approvers(encoded: bytes, directory: Directory) -> Asked:
    signed = parse_sign1(encoded, APPROVERS)
    stated = read_approvers(signed.payload)
    _by_authority(signed, stated.office, directory)
    return Asked(Matter.APPROVERS, stated.office, "", signed.ref, describe(stated))


def _relay_approvers(encoded: bytes, _directory: Directory) -> Asked:
    stated = read_approvers(encoded)
    if stated.office:
        raise Malformed(f"this list is of {stated.office}, and not signed by its authority")
    return Asked(Matter.APPROVERS, "", "", list_ref(encoded), describe(stated))


_READ: dict[str, Callable[[bytes, Directory], Asked]] = {
    "CERTIFICATE": _certificate,
    "STATEMENT": _statement,
    "HOLD": _hold,
    "APPROVERS": _approvers,
    "RELAY APPROVERS": _relay_approvers,
}


def describe(approvers: Approvers) -> tuple[str, ...]:
    """A list of approvers as lines for a person."""
    people = sorted({address for address, _device in approvers.people})
    devices = [f"  {address} with device {device_id.hex()}" for address, device_id in approvers.people]
    takes = [f"  {matter} takes {count} of {len(people)}" for matter, count in approvers.needed]
    return (f"approvers of {approvers.office or 'the relay'}, version {approvers.version}", *takes, *devices)
