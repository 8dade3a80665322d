"""What an office's security officer does: enrol, revoke, publish policies, sign agreements.

The authority's key never leaves this profile. Everything it signs is published in the relay's directory log,
where the office's own people and its partners find it.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from relay.protocol.agreement import AGREEMENT, WITHDRAWAL, Agreement, Withdrawal
from relay.protocol.approval import APPROVERS, Approvers, Matter, devices_of_people, read_approvers
from relay.protocol.audit_scope import AUDIT_GRANT, AuditGrant
from relay.protocol.canonical import encode, expect, read_array
from relay.protocol.community import COMMUNITY, Community
from relay.protocol.cose import parse_sign1
from relay.protocol.directory import AgreementState, Device
from relay.protocol.entry import Change
from relay.protocol.errors import Refused, Unknown
from relay.protocol.identity import (
    CERTIFICATE,
    REVOCATION,
    Certificate,
    Kind,
    Revocation,
    office_of,
    parse_request,
    read_certificate,
)
from relay.protocol.label import Clearance
from relay.protocol.policy import Finding, Policy
from relay.protocol.policy_extensions import NO_EXTENSIONS, parse_extensions
from relay.protocol.publication import POLICY, PublishedPolicy
from relay.protocol.spif import read_spif
from relay.protocol.spif_lint import lint_mapping

from . import witnessing
from .alarming import report
from .documents import Documents
from .home.profile import AUTHORITY, Profile, home_folder, open_profile
from .transport import HttpTransport, Transport
from .trust import Trust
from .watch import Watch, remember_signed

DAY = 86400
FEWEST_DIGITS = 8  # of the beginning of an id that a person gives: what is done by it is final, or is signed for


@dataclass(slots=True)
class Authority:
    """An open authority profile with its relay."""

    profile: Profile
    transport: Transport
    trust: Trust
    documents: Documents

    @classmethod
    def open(cls, folder: Path | None = None, *, passphrase: str) -> Self:
        """Unlock the authority's profile in `folder` (default: LIAISON_HOME). Raises Unauthenticated, Refused."""
        profile = open_profile(folder or home_folder(), passphrase)
        if profile.pins.kind != AUTHORITY:
            raise Refused(
                "this is an officer's profile, not an office authority's",
                hint="set LIAISON_HOME",
                rules=("authority",),
            )
        transport = HttpTransport(profile.pins.relay_url, profile.keyid, profile.request)
        trust = Trust(profile.cabinet, profile.statement.kid, profile.pins.relay_keys, watch=Watch(profile).look)
        return cls(profile, transport, trust, Documents(profile.folder / "documents", transport))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.transport.close()
        self.profile.close()

    @property
    def office(self) -> str:
        return self.profile.statement.office

    def sync(self) -> None:
        witnessing.sync(self.trust, self.transport)
        if self.trust.directory.device(self.profile.signing.device_id, int(time.time())) is not None:
            report(self.profile, self.trust, self.transport)

    def policies(self) -> list[Policy]:
        """What this authority has published."""
        return list(self.documents.policies_of(self.trust.directory, self.office))

    def enrol(self, request: bytes, **terms: Any) -> Certificate:
        """Certify a device that asked for it, as `certify` does; the certificate, published."""
        return self.publish_certificate(self.certify(request, **terms))

    def publish_certificate(self, signed: bytes, approvals: Sequence[bytes] = ()) -> Certificate:
        """Enrol the device, with the approvals that a security officer's enrolment may take. Raises Refused."""
        self._publish(Change.CERTIFICATE, signed, approvals=approvals)
        return read_certificate(parse_sign1(signed, CERTIFICATE))

    def certify(
        self,
        request: bytes,
        *,
        kind: Kind,
        roles: Sequence[str],
        clearances: Sequence[Clearance],
        scope: Sequence[str],
        valid_days: int,
    ) -> bytes:
        """Sign a certificate for a device that asked for it; nothing holds before it is published."""
        wanted = parse_request(request)
        if wanted.authority_kid != self.profile.statement.kid:
            raise Refused(
                "the request is addressed to another authority",
                hint="its holder ran init with another statement than yours: compare the words of both",
                rules=("authority",),
            )
        if office_of(wanted.address) != self.office:
            raise Refused(f"{wanted.address} is no address of {self.office}", rules=("authority",))
        now = int(time.time())
        certificate = Certificate(
            device_id=wanted.device_id,
            address=wanted.address,
            kind=kind,
            roles=tuple(sorted(set(roles))),
            clearances=tuple(sorted(clearances, key=lambda c: (c.policy_name, c.policy_oid))),
            scope=tuple(sorted(set(scope))),
            suite=wanted.suite,
            signature_public=wanted.signature_public,
            request_public=wanted.request_public,
            not_before=now - 60,  # so that a clock a little behind does not make it wait
            not_after=now + valid_days * DAY,
            serial=os.urandom(16),
        )
        return self.profile.signing.sign_object(CERTIFICATE, certificate.payload())

    def draft_approvers(self, people: Sequence[str], needed: tuple[tuple[Matter, int], ...]) -> bytes:
        """Sign a list of approvers that follows the one in force; it holds once it is published."""
        now, known = int(time.time()), self.trust.directory.approvers_of(self.office)
        named = devices_of_people(self.trust.directory, people, now)
        stated = Approvers(self.office, (known.version if known is not None else 0) + 1, needed, named, now)
        read_approvers(stated.payload())  # what nobody would accept is not signed
        return self.profile.signing.sign_object(APPROVERS, stated.payload())

    def publish_approvers(self, signed: bytes, approvals: Sequence[bytes] = ()) -> None:
        """Put the list in force, with the approvals of the old one's people if there is one. Raises Refused."""
        self._publish(Change.APPROVERS, signed, approvals=approvals)

    def revoke(self, wanted: str, reason: str) -> list[Device]:
        """Revoke what `revocable` names. Raises Unknown."""
        self.sync()
        devices = self.revocable(wanted)
        self.revoke_devices(devices, reason)
        return devices

    def revocable(self, wanted: str) -> list[Device]:
        """Every device of an address, or the one whose id begins with `wanted`. Raises Unknown."""
        directory = self.trust.directory
        own = [
            device
            for device in directory.devices.values()
            if device.office == self.office
            and device.certificate is not None
            and device.device_id not in directory.revoked
        ]
        named = [device for device in own if _begins(device.device_id, wanted)]
        devices = [device for device in own if device.address == wanted] or named
        if not devices or len(named) > 1:
            hint = f"give an address, or the first {FEWEST_DIGITS} digits or more of a device id: liaison peers --json"
            raise Unknown(f"{len(devices)} devices of this office answer to {wanted!r}", hint=hint)
        return devices

    def revoke_devices(self, devices: Sequence[Device], reason: str) -> None:
        for device in devices:
            revocation = Revocation(device.device_id, device.address, reason, int(time.time()))
            self._publish(Change.REVOCATION, self.profile.signing.sign_object(REVOCATION, revocation.payload()))

    def publish_policy(self, spif: bytes, extensions: bytes | None = None) -> Policy:
        """Adopt a security policy for this office; it is read whole before it is signed."""
        policy = read_spif(spif, NO_EXTENSIONS if extensions is None else parse_extensions(extensions))[0]
        published = PublishedPolicy(
            office=self.office,
            name=policy.name,
            oid=policy.oid,
            version=policy.version,
            spif_digest=hashlib.sha256(spif).digest(),
            extensions_digest=None if extensions is None else hashlib.sha256(extensions).digest(),
            published=int(time.time()),
        )
        files = [spif] if extensions is None else [spif, extensions]
        self._publish(Change.POLICY, self.profile.signing.sign_object(POLICY, published.payload()), files)
        return policy

    def mapping_findings(self, agreement: Agreement) -> list[tuple[str, Finding]]:
        """Where the tables that it agrees lower or unite, each with the name of the policy whose table it is.

        Raises Unknown if it pins a file that is not published now: what nobody can look at is not signed for.
        """
        published = {each.spif_digest: each for each in self.trust.directory.policies.values()}
        found = []
        for pair in agreement.mappings:
            if missing := [digest for digest in pair if digest not in published]:
                raise Unknown(
                    f"policy file {missing[0].hex()[:16]}, which the agreement names, is not published now",
                    hint="draft a new agreement with the policies of today",
                )
            source, target = (self.documents.compile(published[digest]) for digest in pair)
            found += [(source.name, finding) for finding in lint_mapping(source, target)]
        return found

    def sign_agreement(self, agreement: Agreement) -> None:
        """Sign, in the office's name. Whoever calls has compared the other parties' keys out of band."""
        party = agreement.party(self.office)
        if party is None or party.authority_kid != self.profile.statement.kid:
            raise Refused("this office is not a party of the agreement under this key", rules=("authority",))
        self._publish(Change.AGREEMENT, self.profile.signing.sign_object(AGREEMENT, agreement.payload()))

    def withdraw(self, agreement_id: bytes, reason: str) -> None:
        withdrawal = Withdrawal(agreement_id, self.office, reason, int(time.time()))
        self._publish(Change.WITHDRAWAL, self.profile.signing.sign_object(WITHDRAWAL, withdrawal.payload()))

    def found_community(self, address: str, manager: str, title: str) -> None:
        """Found a community of interest of this office, or give it another manager."""
        community = Community(address, manager, title, int(time.time()))
        self._publish(Change.COMMUNITY, self.profile.signing.sign_object(COMMUNITY, community.payload()))

    def auditor(self, wanted: str) -> Device:
        """The one auditor's device, of any office, that an address or the beginning of an id names. Raises Unknown."""
        directory, now = self.trust.directory, int(time.time())
        found = [
            device
            for device_id in list(directory.devices)
            if (device := directory.device(device_id, now)) is not None and device.kind is Kind.AUDITOR
            if device.address == wanted or _begins(device_id, wanted)
        ]
        if len(found) != 1:
            raise Unknown(f"{len(found)} auditors' devices answer to {wanted}", hint="give the device's whole id")
        return found[0]

    def grant_audit(self, auditor: Device, not_after: int) -> AuditGrant:
        """Let another office's auditor read this office's entries until then; a time that has come ends it."""
        newest = self.trust.directory.audit_grants.get((self.office, auditor.device_id))
        at = max(int(time.time()), newest.at + 1 if newest is not None else 0)
        kid = self.profile.statement.kid
        grant = AuditGrant(self.office, auditor.device_id, auditor.address, not_after, at, kid)
        self._publish(Change.AUDIT_GRANT, self.profile.signing.sign_object(AUDIT_GRANT, grant.payload()))
        return grant

    def agreement(self, prefix: str) -> AgreementState:
        """The agreement whose id begins with these digits. Raises Unknown."""
        matching = [state for key, state in self.trust.directory.agreements.items() if _begins(key, prefix)]
        if len(matching) != 1:
            hint = f"give its first {FEWEST_DIGITS} digits or more; see: liaison agreement list"
            raise Unknown(f"{len(matching)} agreements answer to {prefix!r}", hint=hint)
        return matching[0]

    def _publish(
        self, change: Change, signed: bytes, files: Sequence[bytes] = (), approvals: Sequence[bytes] = ()
    ) -> None:
        remember_signed(self.profile, expect(read_array(signed, 4, "signed object")[2], bytes, "payload"))
        beside = [list(approvals)] if approvals else []
        self.transport.post("/v1/directory", encode([change.value, signed, list(files), *beside]))
        self.trust.sync(self.transport)


def _begins(identifier: bytes, digits: str) -> bool:
    """Whether an id begins with these digits, and they are enough to name it."""
    return len(digits) >= FEWEST_DIGITS and identifier.hex().startswith(digits.lower())
