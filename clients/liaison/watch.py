"""Watching the directory for what its owner did not do: every entry is looked at once, as it comes in.

    a device   another device under its address, with its roles and clearances; a revocation; key batches that it did
               not make; its office removed or under another key
    authority  whatever carries its signature, or certifies for its office, and was not signed in this profile

What is found is a warning, shown with every command until its owner says that it was looked into, and an alarm in the
log (`alarming.py`). It stops nothing: an entry that the right key signed may be right, and only the owner can know.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from relay.protocol.canonical import read_array
from relay.protocol.cose import parse_sign1
from relay.protocol.directory import Directory
from relay.protocol.entry import Change, DirectoryEntry, parse_directory_entry
from relay.protocol.identity import (
    CERTIFICATE,
    REVOCATION,
    Certificate,
    parse_statement,
    read_certificate,
    read_revocation,
)

from .alarming import await_log
from .cleared import cleared_for
from .home.profile import AUTHORITY, Profile

_SIGNED = {
    Change.CERTIFICATE, Change.REVOCATION, Change.POLICY, Change.AGREEMENT, Change.WITHDRAWAL, Change.COMMUNITY,
    Change.APPROVERS, Change.AUDIT_GRANT,
}  # fmt: skip


def remember_signed(profile: Profile, payload: bytes) -> None:
    """What this profile is about to sign for the directory: remembered before it leaves."""
    profile.cabinet.put_published(hashlib.sha256(payload).digest())


@dataclass(frozen=True, slots=True)
class Watch:
    profile: Profile

    def look(self, first: int, entries: Sequence[bytes], directory: Directory) -> None:
        """Entries from `first` on, which `directory` has taken in. Inside the transaction that keeps them."""
        for index, encoded in enumerate(entries, first):
            entry = parse_directory_entry(encoded)
            found = list(self._unexpected(entry, directory, beginning=first == 0))
            for text in found:
                self.profile.cabinet.put_warning(f"directory entry {index}: {text}", encoded, int(time.time()))
            if found:
                await_log(self.profile.cabinet, index, encoded, "; ".join(found))

    def _unexpected(self, entry: DirectoryEntry, directory: Directory, *, beginning: bool) -> Iterator[str]:
        """What the owner did not do, or would want to know of. At the `beginning`, only what still holds."""
        yield from self._about_office(entry)
        if self.profile.pins.kind == AUTHORITY:
            yield from self._about_authority(entry)
        elif entry.change is Change.CERTIFICATE:
            certificate = read_certificate(parse_sign1(entry.payload, CERTIFICATE))
            if not (beginning and certificate.device_id in directory.revoked):
                yield from self._about_certificate(certificate, directory)
        elif entry.change is Change.REVOCATION:
            yield from self._about_revocation(entry, beginning=beginning)
        elif entry.change is Change.KEY_BATCH:
            device_id, digest = read_array(entry.payload, 2, "key batch entry")
            if device_id == self.profile.signing.device_id and not self.profile.cabinet.is_published(digest):
                yield "a batch of keys for this device that it did not make"

    def _about_office(self, entry: DirectoryEntry) -> Iterator[str]:
        own = self.profile.statement
        if entry.change is Change.OFFICE and (statement := parse_statement(entry.payload)).office == own.office:
            if statement.kid != own.kid:
                yield f"{own.office} is registered under another authority's key"
        elif entry.change is Change.OFFICE_REMOVED and read_array(entry.payload, 1, "removal")[0] == own.office:
            yield f"the operator removed {own.office}"

    def _about_authority(self, entry: DirectoryEntry) -> Iterator[str]:
        if entry.change not in _SIGNED:
            return
        signed = parse_sign1(entry.payload, entry.change.value)
        if self.profile.cabinet.is_published(hashlib.sha256(signed.payload).digest()):
            return
        if entry.change is Change.CERTIFICATE:
            certificate = read_certificate(signed)
            if certificate.office == self.profile.statement.office:
                yield f"a certificate for {certificate.address} that was not issued here{_says(certificate)}"
        elif signed.kid == self.profile.statement.kid:
            yield f"a {entry.change.value} with this authority's signature that was not signed here"

    def _about_certificate(self, certificate: Certificate, directory: Directory) -> Iterator[str]:
        device, address = directory.devices.get(self.profile.signing.device_id), self.profile.pins.address
        own = None if device is None else device.certificate
        if certificate.device_id == self.profile.signing.device_id:
            if certificate.address != address:
                yield f"this device's keys are certified for {certificate.address}"
        elif certificate.address == address:
            same = own is not None and (own.roles, own.clearances) == (certificate.roles, certificate.clearances)
            rights = "" if same else ", with other roles or clearances than this one"
            yield f"another device is certified for {address}{rights}{_says(certificate)}"

    def _about_revocation(self, entry: DirectoryEntry, *, beginning: bool) -> Iterator[str]:
        revocation = read_revocation(parse_sign1(entry.payload, REVOCATION))
        if revocation.device_id == self.profile.signing.device_id:
            yield f"this device was revoked: {revocation.reason}"
        elif revocation.address == self.profile.pins.address and not beginning:
            yield f"another device of {revocation.address} was revoked: {revocation.reason}"


def _says(certificate: Certificate) -> str:
    """Device, kind, roles and clearances: where they differ from what one has, a person sees it here."""
    said = [f"device {certificate.device_id.hex()}", certificate.kind.value, *certificate.roles]
    return f" ({'; '.join([*said, *cleared_for(certificate)])})"
