"""The directory: what the entries of the directory log add up to. Relay and clients replay it with this code.

The rules:
  - `apply` verifies everything that an entry claims before anything changes; an entry that does not hold
    raises and changes nothing. What the relay would refuse to append, a client refuses to believe.
  - An office's authority certifies, revokes and publishes for its own office only.
  - That an entry holds says who signed it, not that this reader trusts the signer: `trusted_kids` says that,
    starting from the reader's own authority and the agreements which that authority has signed.
  - Revocation, withdrawal and removal are final and effective with their entry.
  - What a list of approvers governs does not hold without their approvals, whoever else signed it. A list outlives
    the removal of its office: the same authority, registered again, finds it in force.
  - Whoever operates does not audit (duties.py), and nobody reads of an office what it has not granted (audit_scope.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from .agreement import AGREEMENT, WITHDRAWAL, Agreement, Withdrawal, read_agreement, read_withdrawal
from .approval import (
    APPROVERS,
    Approvers,
    Matter,
    Question,
    check_people,
    list_ref,
    read_approvers,
    verify_approvals,
)
from .audit_scope import AUDIT_GRANT, AuditGrant, is_asked_for, read_audit_grant
from .canonical import expect_bytes, read_array
from .community import COMMUNITY, ROSTER, Community, read_community, read_roster
from .cose import Sign1, parse_sign1, verify_sign1
from .duties import Duty, duty_of, key_names
from .entry import Change, DirectoryEntry, parse_directory_entry
from .errors import Conflict, Malformed, Unknown, Unverified
from .identity import (
    CERTIFICATE,
    REVOCATION,
    SECURITY_ROLE,
    STATEMENT,
    Certificate,
    Kind,
    Revocation,
    Statement,
    check_office,
    office_of,
    parse_address,
    parse_statement,
    read_certificate,
    read_revocation,
)
from .publication import POLICY, PublishedPolicy, read_published_policy


@dataclass(slots=True)
class AgreementState:
    """An agreement with who has signed it and whether anyone has withdrawn."""

    agreement: Agreement
    signed: dict[str, int] = field(default_factory=dict)  # office → time of its entry, milliseconds
    withdrawn: Withdrawal | None = None

    @property
    def is_in_force(self) -> bool:
        return self.withdrawn is None and all(party.office in self.signed for party in self.agreement.parties)


@dataclass(slots=True)
class CommunityState:
    """A community of interest with its newest roster; without one it is nobody."""

    community: Community
    version: int = 0
    members: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Device:
    """A key holder that may make requests: a certified device, or an office authority as derived from its statement."""

    device_id: bytes
    address: str
    kind: Kind
    office: str
    nation: str
    request_public: bytes
    signature_public: bytes
    kid: bytes
    not_before: int
    not_after: int
    certificate: Certificate | None


_FOREVER = 1 << 40


@dataclass(slots=True)
class Directory:
    """Everything that holds, by what it is looked up by."""

    size: int = 0
    offices: dict[str, Statement] = field(default_factory=dict)
    statements: dict[bytes, Statement] = field(default_factory=dict)  # by authority kid, removed ones too
    devices: dict[bytes, Device] = field(default_factory=dict)  # revoked ones too
    certificates: dict[bytes, int] = field(default_factory=dict)  # device_id → index of its entry
    by_address: dict[str, list[bytes]] = field(default_factory=dict)
    by_role: dict[str, list[bytes]] = field(default_factory=dict)
    revoked: dict[bytes, Revocation] = field(default_factory=dict)
    policies: dict[tuple[str, str], PublishedPolicy] = field(default_factory=dict)  # (office, oid or name) → newest
    agreements: dict[bytes, AgreementState] = field(default_factory=dict)
    key_batches: dict[bytes, bytes] = field(default_factory=dict)  # batch digest → device_id
    communities: dict[str, CommunityState] = field(default_factory=dict)
    approvers: dict[tuple[str, bytes], Approvers] = field(default_factory=dict)  # by office and its authority's kid
    audit_grants: dict[tuple[str, bytes], AuditGrant] = field(default_factory=dict)  # (office, device_id) → newest
    duties: dict[bytes, Duty] = field(default_factory=dict)  # name of every key that was ever here → what it does

    def apply(self, encoded: bytes) -> DirectoryEntry:
        """Verify one entry and take it in. Raises Malformed, Unverified, Conflict, Unknown; then nothing changed."""
        entry = parse_directory_entry(encoded)
        _APPLY[entry.change](self, entry)
        self.size += 1
        return entry

    # -- look-ups -----------------------------------------------------------------------------------------------

    def device(self, device_id: bytes, now: int) -> Device | None:
        """The device if it may act now: certified, current, not revoked, its office not removed."""
        device = self.devices.get(device_id)
        if device is None or device_id in self.revoked or device.office not in self.offices:
            return None
        if self.offices[device.office].kid != self.authority_kid_of(device):
            return None
        return device if device.not_before <= now < device.not_after else None

    def authority_kid_of(self, device: Device) -> bytes:
        """The key that vouches for this device."""
        return self._vouchers[device.device_id]

    def devices_of(self, address: str, now: int) -> list[Device]:
        """The devices behind an address: its holder's, whoever holds that role now, a community's members'."""
        ids = self.by_address.get(address, []) + self.by_role.get(address, [])
        if (state := self.communities.get(address)) is not None:
            ids = [each for member in sorted(state.members) for each in self.by_address.get(member, [])]
        found = (self.device(device_id, now) for device_id in dict.fromkeys(ids))
        return [device for device in found if device is not None]

    def communities_of(self, address: str) -> list[str]:
        """The communities on whose roster this address is."""
        return [name for name, state in list(self.communities.items()) if address in state.members]

    def agreements_between(self, left: str, right: str) -> list[AgreementState]:
        """Every agreement that names both offices under the authority keys they have today."""
        return [
            state
            for state in list(self.agreements.values())
            if self._names(state.agreement, left) and self._names(state.agreement, right)
        ]

    def _names(self, agreement: Agreement, office: str) -> bool:
        party, statement = agreement.party(office), self.offices.get(office)
        return party is not None and statement is not None and party.authority_kid == statement.kid

    def policy_of(self, office: str, name: str, oid: str) -> PublishedPolicy | None:
        """The newest version of a policy that the office's authority has published."""
        published = self.policies.get((office, oid or name))
        return published if published is not None and published.name == name else None

    def trusted_kids(self, own_kid: bytes) -> dict[bytes, str]:
        """Authority keys that the owner of `own_kid` trusts: its own, and the parties of agreements it has signed."""
        trusted = {own_kid: self.statements[own_kid].office} if own_kid in self.statements else {}
        for state in list(self.agreements.values()):
            own = next((party for party in state.agreement.parties if party.authority_kid == own_kid), None)
            if own is not None and own.office in state.signed:
                trusted |= {party.authority_kid: party.office for party in state.agreement.parties}
        return trusted

    def approvers_of(self, office: str) -> Approvers | None:
        """Whom the office's authority has named; of the office "", whom the relay's operator has."""
        statement = self.offices.get(office)
        return self.approvers.get((office, statement.kid if statement is not None else b""))

    def addresses(self) -> Iterator[str]:
        yield from self.by_address

    def audit_scope(self, device_id: bytes, now: int) -> frozenset[str]:
        """The offices whose entries this device may read now; none, if it is not an auditor that may act."""
        device = self.device(device_id, now)
        if device is None or device.kind is not Kind.AUDITOR or device.certificate is None:
            return frozenset()
        certificate, found = device.certificate, {device.office}
        for office, statement in list(self.offices.items()):
            grant = self.audit_grants.get((office, device_id))
            if grant is not None and grant.authority_kid == statement.kid and now < grant.not_after:
                found |= {office} if is_asked_for(certificate, statement) else set()
        return frozenset(found)

    # -- one method per change ----------------------------------------------------------------------------------

    def _office(self, entry: DirectoryEntry) -> None:
        statement = parse_statement(entry.payload)
        if statement.office in self.offices:
            raise Conflict(f"office {statement.office} is registered already", hint="remove it first")
        ref = parse_sign1(entry.payload, STATEMENT).ref
        self._require_approvals(entry, self.approvers_of(""), Question(Matter.ADMISSION, ref, ""))
        self._take_duty(Duty.OPERATES, key_names(statement.suite, statement.authority_public, statement.request_public))
        self.offices[statement.office] = statement
        self.statements[statement.kid] = statement
        self._admit(
            Device(
                device_id=statement.device_id,
                address=f"authority@{statement.office}",
                kind=Kind.AUTHORITY,
                office=statement.office,
                nation=statement.nation,
                request_public=statement.request_public,
                signature_public=statement.authority_public,
                kid=statement.kid,
                not_before=0,
                not_after=_FOREVER,
                certificate=None,
            ),
            statement.kid,
        )

    def _office_removed(self, entry: DirectoryEntry) -> None:
        office = check_office(read_array(entry.payload, 1, "removal")[0])
        if self.offices.pop(office, None) is None:
            raise Unknown(f"office {office} is not registered")

    def _certificate(self, entry: DirectoryEntry) -> None:
        signed = parse_sign1(entry.payload, CERTIFICATE)
        certificate = read_certificate(signed)
        statement = self._verified_authority(signed, certificate.office)
        if certificate.device_id in self.devices:
            raise Conflict(
                f"device {certificate.device_id.hex()} is certified already", hint="a new device has new keys"
            )
        own = {certificate.address, *(f"{role}@{certificate.office}" for role in certificate.roles)}
        if "authority" in certificate.roles or own & self.communities.keys():
            raise Malformed("certificate: an address or role that stands for something else")
        if parse_address(certificate.address)[0] in {"authority", *certificate.roles}:
            raise Malformed(f"certificate: {certificate.address} may not be both a person's and a role's address")
        if SECURITY_ROLE in certificate.roles:
            question = Question(Matter.ENROLMENT, signed.ref, certificate.address)
            self._require_approvals(entry, self.approvers_of(certificate.office), question)
        self._check_duty(certificate)
        keys = key_names(certificate.suite, certificate.signature_public, certificate.request_public)
        self._take_duty(duty_of(certificate.kind), keys)
        device = Device(
            device_id=certificate.device_id,
            address=certificate.address,
            kind=certificate.kind,
            office=certificate.office,
            nation=statement.nation,
            request_public=certificate.request_public,
            signature_public=certificate.signature_public,
            kid=certificate.kid,
            not_before=certificate.not_before,
            not_after=certificate.not_after,
            certificate=certificate,
        )
        self._admit(device, statement.kid)
        self.certificates[device.device_id] = self.size
        self.by_address.setdefault(device.address, []).append(device.device_id)
        for role in certificate.roles:
            self.by_role.setdefault(f"{role}@{device.office}", []).append(device.device_id)

    def _check_duty(self, certificate: Certificate) -> None:
        """Raise Conflict unless this address, and those of its roles, do only what the certificate is for."""
        audits = certificate.kind is Kind.AUDITOR
        if audits and (certificate.roles or certificate.clearances):
            raise Malformed("certificate: an auditor has neither a role nor a clearance")
        if audits and any(state.community.manager == certificate.address for state in self.communities.values()):
            raise Conflict(f"{certificate.address} manages a community", hint="give it another manager first")
        own = (certificate.address, *(f"{role}@{certificate.office}" for role in certificate.roles))
        held = [each for address in own for each in (*self.by_address.get(address, ()), *self.by_role.get(address, ()))]
        for device in (self.devices[device_id] for device_id in held if self._stands(device_id)):
            if duty_of(device.kind) is not duty_of(certificate.kind):
                raise Conflict(
                    f"{device.address} {duty_of(device.kind)} in {device.office} already: nobody does both",
                    hint="revoke every device of one duty before the first of the other is enrolled",
                )

    def _take_duty(self, duty: Duty, keys: tuple[bytes, ...]) -> None:
        if any(self.duties.get(key, duty) is not duty for key in keys):
            raise Conflict(
                "a key of this was used for the other duty: who operates does not audit", hint="make new keys"
            )
        self.duties |= dict.fromkeys(keys, duty)

    def _stands(self, device_id: bytes) -> bool:
        """Whether it is neither revoked nor of an authority that is gone. It may have expired: clocks go back."""
        statement = self.offices.get(self.devices[device_id].office)
        return device_id not in self.revoked and statement is not None and statement.kid == self._vouchers[device_id]

    def _audit_grant(self, entry: DirectoryEntry) -> None:
        signed = parse_sign1(entry.payload, AUDIT_GRANT)
        grant = read_audit_grant(signed)
        self._verified_authority(signed, grant.office)
        auditor = self.devices.get(grant.device_id)
        if auditor is None or auditor.kind is not Kind.AUDITOR or auditor.address != grant.address:
            raise Unknown(f"audit grant: no auditor {grant.device_id.hex()} at {grant.address}")
        newest = self.audit_grants.get((grant.office, grant.device_id))
        if newest is not None and grant.at <= newest.at:
            raise Conflict("audit grant: not later than the one that stands", hint="an ended grant cannot be replayed")
        self.audit_grants[grant.office, grant.device_id] = grant

    def _revocation(self, entry: DirectoryEntry) -> None:
        signed = parse_sign1(entry.payload, REVOCATION)
        revocation = read_revocation(signed)
        device = self.devices.get(revocation.device_id)
        if device is None or device.certificate is None or device.address != revocation.address:
            raise Unknown(f"no certified device {revocation.device_id.hex()} at {revocation.address}")
        self._verified_authority(signed, device.office)
        if signed.kid != self.authority_kid_of(device):
            raise Unverified("revocation: signed by another authority than the certificate")
        self.revoked.setdefault(revocation.device_id, revocation)

    def _policy(self, entry: DirectoryEntry) -> None:
        signed = parse_sign1(entry.payload, POLICY)
        published = read_published_policy(signed)
        self._verified_authority(signed, published.office)
        key = (published.office, published.oid or published.name)
        newest = self.policies.get(key)
        if newest is not None and published.version < newest.version:
            raise Conflict(f"policy {published.name}: version {published.version} is older than {newest.version}")
        if newest is not None and published.version == newest.version and published.spif_digest != newest.spif_digest:
            raise Conflict(f"policy {published.name}: version {published.version} stands for another text already")
        self.policies[key] = published

    def _agreement(self, entry: DirectoryEntry) -> None:
        signed = parse_sign1(entry.payload, AGREEMENT)
        agreement = read_agreement(signed.payload)
        party = next((party for party in agreement.parties if party.authority_kid == signed.kid), None)
        if party is None:
            raise Unverified("agreement: signed by none of its parties")
        self._verified_authority(signed, party.office)
        state = self.agreements.get(agreement.agreement_id) or AgreementState(agreement)
        if state.withdrawn is not None:
            raise Conflict("the agreement is withdrawn", hint="draft a new one")
        if party.office in state.signed:
            raise Conflict(f"{party.office} has signed this agreement already")
        state.signed[party.office] = entry.time
        self.agreements[agreement.agreement_id] = state

    def _withdrawal(self, entry: DirectoryEntry) -> None:
        signed = parse_sign1(entry.payload, WITHDRAWAL)
        withdrawal = read_withdrawal(signed)
        state = self.agreements.get(withdrawal.agreement_id)
        party = state.agreement.party(withdrawal.office) if state else None
        if state is None or party is None:
            raise Unknown("withdrawal: no such agreement with that party")
        if signed.kid != party.authority_kid:
            raise Unverified("withdrawal: signed by another key than the party's")
        self._verified_authority(signed, withdrawal.office)
        if state.withdrawn is None:
            state.withdrawn = withdrawal

    def _key_batch(self, entry: DirectoryEntry) -> None:
        device_id, digest = read_array(entry.payload, 2, "key batch entry")
        if expect_bytes(device_id, 16, "key batch entry: device") not in self.devices:
            raise Unknown("key batch entry: the device is unknown")
        self.key_batches[expect_bytes(digest, 32, "key batch entry: digest")] = device_id

    def _community(self, entry: DirectoryEntry) -> None:
        signed = parse_sign1(entry.payload, COMMUNITY)
        community = read_community(signed)
        self._verified_authority(signed, community.office)
        if community.address in self.by_address or community.address in self.by_role:
            raise Conflict(f"{community.address} is a person's or a role's address already")
        managers = (each for each in self.by_address.get(community.manager, ()) if self._stands(each))
        if any(self.devices[each].kind is Kind.AUDITOR for each in managers):
            raise Conflict(f"{community.manager} audits, and so manages no community")
        known = self.communities.get(community.address)
        state = CommunityState(community) if known is None else replace(known, community=community)
        self.communities[community.address] = state

    def _roster(self, entry: DirectoryEntry) -> None:
        signed = parse_sign1(entry.payload, ROSTER)
        roster = read_roster(signed)
        state, manager = self.communities.get(roster.address), self.devices.get(signed.kid[:16])
        if state is None:
            raise Unknown(f"there is no community {roster.address}")
        if manager is None or manager.address != state.community.manager or manager.device_id in self.revoked:
            raise Unverified(f"roster: not signed by the manager of {roster.address}")
        if not manager.not_before <= roster.at < manager.not_after:
            raise Unverified("roster: its manager's certificate was not valid then")
        verify_sign1(signed, manager.signature_public)
        if roster.version != state.version + 1:
            raise Conflict(f"roster: version {roster.version} does not follow {state.version}")
        self.communities[roster.address] = replace(state, version=roster.version, members=frozenset(roster.members))

    def _approvers(self, entry: DirectoryEntry) -> None:
        signed = parse_sign1(entry.payload, APPROVERS)
        stated = read_approvers(signed.payload)
        statement = self._verified_authority(signed, stated.office)
        self._name(entry, stated, statement.kid, signed.ref)

    def _relay_approvers(self, entry: DirectoryEntry) -> None:
        stated = read_approvers(entry.payload)
        if stated.office:
            raise Unverified(f"approvers: those of {stated.office} are for its authority to name")
        self._name(entry, stated, b"", list_ref(entry.payload))

    def _name(self, entry: DirectoryEntry, stated: Approvers, kid: bytes, ref: bytes) -> None:
        old = self.approvers.get((stated.office, kid))
        if stated.version != (old.version if old is not None else 0) + 1:
            raise Conflict(f"approvers: version {stated.version} does not follow the one in force")
        check_people(stated, lambda device_id: self.device(device_id, entry.time // 1000))
        self._require_approvals(entry, old, Question(Matter.APPROVERS, ref, ""))
        self.approvers[stated.office, kid] = stated

    def _require_approvals(self, entry: DirectoryEntry, approvers: Approvers | None, question: Question) -> None:
        """Approvals that nothing asks for are passed over: a part of the directory can be shown without the lists."""
        if approvers is not None and approvers.threshold(question.matter):
            now = entry.time // 1000
            verify_approvals(approvers, question, entry.approvals, lambda each: self.device(each, now), now)

    _vouchers: dict[bytes, bytes] = field(default_factory=dict)  # device_id → kid of the authority that certified it

    def _admit(self, device: Device, authority_kid: bytes) -> None:
        self.devices[device.device_id] = device
        self._vouchers[device.device_id] = authority_kid

    def _verified_authority(self, signed: Sign1, office: str) -> Statement:
        statement = self.offices.get(office)
        if statement is None:
            raise Unknown(f"office {office} is not registered")
        verify_sign1(signed, statement.authority_public)
        return statement


_APPLY = {
    Change.OFFICE: Directory._office,
    Change.OFFICE_REMOVED: Directory._office_removed,
    Change.CERTIFICATE: Directory._certificate,
    Change.REVOCATION: Directory._revocation,
    Change.POLICY: Directory._policy,
    Change.AGREEMENT: Directory._agreement,
    Change.WITHDRAWAL: Directory._withdrawal,
    Change.KEY_BATCH: Directory._key_batch,
    Change.COMMUNITY: Directory._community,
    Change.ROSTER: Directory._roster,
    Change.APPROVERS: Directory._approvers,
    Change.RELAY_APPROVERS: Directory._relay_approvers,
    Change.AUDIT_GRANT: Directory._audit_grant,
}

__all__ = ["AgreementState", "Device", "Directory", "office_of"]
