"""Second signatures: a releasing officer's over a message, and an originator's consent to passing it on.

    Endorsement = Sign1(releasing officer's device; [1, message_ref, device_id, address, at])
    Consent     = Sign1(originator's device;        [1, message_ref, device_id, office, not_after])

An endorsement is over the exact bytes, by way of message_ref; a consent is for one message, one office and a
limited time, and is good for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from .canonical import encode, expect_bytes, expect_time, expect_version, read_array
from .cose import Sign1, parse_sign1, verify_once, verify_sign1
from .dating import CLOCKS_APART
from .directory import Device, Directory
from .envelope import Message, parse_message
from .errors import Unverified
from .header import Core
from .identity import Kind, check_office, parse_address

ENDORSEMENT, CONSENT = "endorsement", "consent"
RELEASING_ROLE = "release"


@dataclass(frozen=True, slots=True)
class Endorsement:
    message_ref: bytes
    device_id: bytes
    address: str
    at: int

    def payload(self) -> bytes:
        return encode([1, self.message_ref, self.device_id, self.address, self.at])


def read_endorsement(signed: Sign1) -> Endorsement:
    """Read what was signed; raises Malformed for anything else."""
    version, ref, device_id, address, at = read_array(signed.payload, 5, "endorsement")
    expect_version(version, "endorsement")
    parse_address(address)
    return Endorsement(
        message_ref=expect_bytes(ref, 32, "endorsement: message"),
        device_id=expect_bytes(device_id, 16, "endorsement: device"),
        address=address,
        at=expect_time(at, "endorsement: time"),
    )


def verify_endorsements(directory: Directory, message: Message, endorsements: Sequence[bytes]) -> tuple[Device, ...]:
    """The releasing officers who signed exactly this message: of the originator's office, other persons than the
    sender and each other, entitled when they signed. Raises Malformed, Unverified for any that does not hold.
    """
    officers: dict[str, Device] = {}
    for encoded in endorsements:
        signed = parse_sign1(encoded, ENDORSEMENT)
        stated = read_endorsement(signed)
        device = _signer(directory, stated.device_id, stated.at)
        if stated.at < message.core.created - CLOCKS_APART:
            raise Unverified("endorsement: signed before there was a message to sign")
        if stated.message_ref != message.ref or stated.address != device.address:
            raise Unverified("endorsement: for another message, or by another person than it says")
        roles = device.certificate.roles if device.certificate is not None else ()
        if device.office != message.core.office or device.kind is not Kind.OFFICER or RELEASING_ROLE not in roles:
            raise Unverified(f"endorsement: {device.address} is no releasing officer of {message.core.office}")
        if device.address == message.core.sender or device.address in officers:
            raise Unverified("endorsement: two-person release takes two persons")
        verify_sign1(signed, device.signature_public)
        officers[device.address] = device
    return tuple(officers.values())


@dataclass(frozen=True, slots=True)
class Consent:
    message_ref: bytes
    device_id: bytes
    office: str
    not_after: int

    def payload(self) -> bytes:
        return encode([1, self.message_ref, self.device_id, self.office, self.not_after])


def read_consent(signed: Sign1) -> Consent:
    """Read what was signed; raises Malformed for anything else."""
    version, ref, device_id, office, not_after = read_array(signed.payload, 5, "consent")
    expect_version(version, "consent")
    return Consent(
        message_ref=expect_bytes(ref, 32, "consent: message"),
        device_id=expect_bytes(device_id, 16, "consent: device"),
        office=check_office(office),
        not_after=expect_time(not_after, "consent: end"),
    )


@dataclass(frozen=True, slots=True)
class PassedOn:
    """An original that a message passes on: its verified header and its originator's consents."""

    message: Message
    consents: tuple[Consent, ...]

    def reaches(self, office: str) -> bool:
        """Whether the originator itself addressed that office."""
        return self.message.core.has_party(office)

    def is_consented(self, office: str, now: int) -> bool:
        return any(consent.office == office and now < consent.not_after for consent in self.consents)


def verify_passed_on(directory: Directory, core: Core) -> tuple[PassedOn, ...]:
    """The originals that this header carries, each signed by its originator, with consents by the same office.

    An original that passes others on itself must come with them: nothing is laundered through a second hop.
    Raises Malformed, Unverified.
    """
    consents = [verify_consent(directory, encoded) for encoded in core.consents]
    originals = []
    for encoded in core.passed_on:
        original = parse_message(encoded)
        device = _signer(directory, original.core.sender_device, original.core.created)
        if device.address != original.core.sender:
            raise Unverified("passed-on message: its sender is not its signer")
        verify_once(original.signed, device.signature_public)
        own = tuple(
            consent
            for consent, signer in consents
            if consent.message_ref == original.ref and signer.office == original.core.office
        )
        originals.append(PassedOn(original, own))
    refs = {original.message.ref for original in originals}
    for each in originals:
        nested = {parse_message(inner).ref for inner in each.message.core.passed_on}
        if not nested <= refs:
            raise Unverified("passed-on message: it passes on others that are not shown")
    return tuple(originals)


def verify_consent(directory: Directory, encoded: bytes) -> tuple[Consent, Device]:
    """A consent, good no longer than its signer's certificate, and the signer. Raises Malformed, Unverified."""
    signed = parse_sign1(encoded, CONSENT)
    consent = read_consent(signed)
    device = directory.devices.get(consent.device_id)
    if device is None or device.device_id in directory.revoked or device.office not in directory.offices:
        raise Unverified("consent: its signer is unknown or revoked")
    if device.kind is not Kind.OFFICER:
        raise Unverified(f"consent: {device.address} is no officer")
    verify_once(signed, device.signature_public)
    return replace(consent, not_after=min(consent.not_after, device.not_after)), device


def _signer(directory: Directory, device_id: bytes, at: int) -> Device:
    """The certified device that could sign at that time."""
    device = directory.devices.get(device_id)
    if device is None or device.certificate is None or not device.not_before <= at < device.not_after:
        raise Unverified("a signature by a device that was not certified at that time")
    revocation = directory.revoked.get(device_id)
    if revocation is not None and revocation.at <= at:
        raise Unverified("a signature by a device that was revoked at that time")
    return device
