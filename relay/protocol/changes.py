"""What may change the directory: one function for each kind of entry, which verifies all that it claims first.

The rules:
  - an entry that does not hold raises and changes nothing. What the relay would refuse to append, a client refuses to
    believe;
  - an office's authority certifies, revokes and publishes for its own office only;
  - what a list of approvers governs does not hold without their approvals, whoever else signed it. A list outlives the
    removal of its office: the same authority, registered again, finds it in force;
  - whoever operates does not audit, and no key is anybody else's (duties.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from .agreement import AGREEMENT, WITHDRAWAL, read_agreement, read_withdrawal
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
from .audit_scope import AUDIT_GRANT, read_audit_grant
from .canonical import expect_bytes, read_array
from .community import COMMUNITY, ROSTER, read_community, read_roster
from .cose import Sign1, parse_sign1, verify_sign1
from .directory_terms import AgreementState, CommunityState, Device, authority_device, certified_device
from .duties import check_duty, key_names, take_keys
from .entry import Change, DirectoryEntry
from .errors import Conflict, Malformed, Unknown, Unverified
from .identity import (
    CERTIFICATE,
    REVOCATION,
    SECURITY_ROLE,
    STATEMENT,
    Kind,
    Statement,
    check_office,
    parse_address,
    parse_statement,
    read_certificate,
    read_revocation,
)
from .publication import POLICY, Publication, read_published_policy

if TYPE_CHECKING:
    from .directory import Directory  # which imports this module


def _office(directory: Directory, entry: DirectoryEntry) -> None:
    statement = parse_statement(entry.payload)
    if statement.office in directory.offices:
        raise Conflict(f"office {statement.office} is registered already", hint="remove it first")
    # A device is one holder's for good: what is logged of it keeps its name.
    known, device = directory.devices.get(statement.device_id), authority_device(statement)
    if known is not None and known.address != device.address:
        raise Conflict(f"the key of this authority is {known.address}'s", hint="make a new one")
    ref = parse_sign1(entry.payload, STATEMENT).ref
    _require_approvals(directory, entry, directory.approvers_of(""), Question(Matter.ADMISSION, ref, ""))
    keys = key_names(statement.suite, statement.authority_public, statement.request_public)
    take_keys(directory, statement.device_id, keys)
    directory.offices[statement.office] = statement
    directory.statements[statement.kid] = statement
    _admit(directory, device, statement.kid)


def _office_removed(directory: Directory, entry: DirectoryEntry) -> None:
    office = check_office(read_array(entry.payload, 1, "removal")[0])
    if directory.offices.pop(office, None) is None:
        raise Unknown(f"office {office} is not registered")


def _certificate(directory: Directory, entry: DirectoryEntry) -> None:
    signed = parse_sign1(entry.payload, CERTIFICATE)
    certificate = read_certificate(signed)
    statement = _verified_authority(directory, signed, certificate.office)
    if certificate.device_id in directory.devices:
        raise Conflict(f"device {certificate.device_id.hex()} is certified already", hint="a new device has new keys")
    own = {certificate.address, *(f"{role}@{certificate.office}" for role in certificate.roles)}
    if "authority" in certificate.roles or own & directory.communities.keys():
        raise Malformed("certificate: an address or role that stands for something else")
    if parse_address(certificate.address)[0] in {"authority", *certificate.roles}:
        raise Malformed(f"certificate: {certificate.address} may not be both a person's and a role's address")
    if SECURITY_ROLE in certificate.roles:
        question = Question(Matter.ENROLMENT, signed.ref, certificate.address)
        _require_approvals(directory, entry, directory.approvers_of(certificate.office), question)
    check_duty(directory, certificate)
    keys = key_names(certificate.suite, certificate.signature_public, certificate.request_public)
    take_keys(directory, certificate.device_id, keys)
    device = certified_device(certificate, statement.nation)
    _admit(directory, device, statement.kid)
    directory.certificates[device.device_id] = directory.size
    directory.by_address.setdefault(device.address, []).append(device.device_id)
    for role in certificate.roles:
        directory.by_role.setdefault(f"{role}@{device.office}", []).append(device.device_id)


def _audit_grant(directory: Directory, entry: DirectoryEntry) -> None:
    signed = parse_sign1(entry.payload, AUDIT_GRANT)
    grant = read_audit_grant(signed)
    _verified_authority(directory, signed, grant.office)
    auditor = directory.devices.get(grant.device_id)
    if auditor is None or auditor.kind is not Kind.AUDITOR or auditor.address != grant.address:
        raise Unknown(f"audit grant: no auditor {grant.device_id.hex()} at {grant.address}")
    newest = directory.audit_grants.get((grant.office, grant.device_id))
    if newest is not None and grant.at <= newest.at:
        raise Conflict("audit grant: not later than the one that stands", hint="an ended grant cannot be replayed")
    directory.audit_grants[grant.office, grant.device_id] = grant


def _revocation(directory: Directory, entry: DirectoryEntry) -> None:
    signed = parse_sign1(entry.payload, REVOCATION)
    revocation = read_revocation(signed)
    device = directory.devices.get(revocation.device_id)
    if device is None or device.certificate is None or device.address != revocation.address:
        raise Unknown(f"no certified device {revocation.device_id.hex()} at {revocation.address}")
    _verified_authority(directory, signed, device.office)
    if signed.kid != directory.authority_kid_of(device):
        raise Unverified("revocation: signed by another authority than the certificate")
    directory.revoked.setdefault(revocation.device_id, revocation)


def _policy(directory: Directory, entry: DirectoryEntry) -> None:
    signed = parse_sign1(entry.payload, POLICY)
    published = read_published_policy(signed)
    _verified_authority(directory, signed, published.office)
    key = (published.office, published.oid or published.name)
    newest = directory.policies.get(key)
    if newest is not None and published.version < newest.version:
        raise Conflict(f"policy {published.name}: version {published.version} is older than {newest.version}")
    if newest is not None and published.version == newest.version and published.spif_digest != newest.spif_digest:
        raise Conflict(f"policy {published.name}: version {published.version} stands for another text already")
    directory.policies[key] = published
    directory.publications.setdefault(key, []).append(Publication(directory.size, entry.time, published))


def _agreement(directory: Directory, entry: DirectoryEntry) -> None:
    signed = parse_sign1(entry.payload, AGREEMENT)
    agreement = read_agreement(signed.payload)
    party = next((party for party in agreement.parties if party.authority_kid == signed.kid), None)
    if party is None:
        raise Unverified("agreement: signed by none of its parties")
    _verified_authority(directory, signed, party.office)
    state = directory.agreements.get(agreement.agreement_id) or AgreementState(agreement)
    if state.withdrawn is not None:
        raise Conflict("the agreement is withdrawn", hint="draft a new one")
    if party.office in state.signed:
        raise Conflict(f"{party.office} has signed this agreement already")
    state.signed[party.office] = entry.time
    directory.agreements[agreement.agreement_id] = state
    for pair in _shared(state):
        directory.shared.setdefault(pair, {})[agreement.agreement_id] = state


def _withdrawal(directory: Directory, entry: DirectoryEntry) -> None:
    signed = parse_sign1(entry.payload, WITHDRAWAL)
    withdrawal = read_withdrawal(signed)
    state = directory.agreements.get(withdrawal.agreement_id)
    party = state.agreement.party(withdrawal.office) if state else None
    if state is None or party is None:
        raise Unknown("withdrawal: no such agreement with that party")
    if signed.kid != party.authority_kid:
        raise Unverified("withdrawal: signed by another key than the party's")
    _verified_authority(directory, signed, withdrawal.office)
    if state.withdrawn is not None:
        return
    if not state.is_in_force:  # nor ever was: nobody needs to find it again
        for pair in _shared(state):
            directory.shared[pair].pop(withdrawal.agreement_id, None)
    state.withdrawn = withdrawal


def _shared(state: AgreementState) -> Iterator[frozenset[str]]:
    """The pairs of its parties of which one has signed."""
    for office in state.signed:
        yield from (frozenset((office, party.office)) for party in state.agreement.parties if party.office != office)


def _key_batch(directory: Directory, entry: DirectoryEntry) -> None:
    device_id, digest = read_array(entry.payload, 2, "key batch entry")
    if expect_bytes(device_id, 16, "key batch entry: device") not in directory.devices:
        raise Unknown("key batch entry: the device is unknown")
    directory.key_batches[expect_bytes(digest, 32, "key batch entry: digest")] = device_id


def _community(directory: Directory, entry: DirectoryEntry) -> None:
    signed = parse_sign1(entry.payload, COMMUNITY)
    community = read_community(signed)
    _verified_authority(directory, signed, community.office)
    if community.address in directory.by_address or community.address in directory.by_role:
        raise Conflict(f"{community.address} is a person's or a role's address already")
    managers = (each for each in directory.by_address.get(community.manager, ()) if directory.stands(each))
    if any(directory.devices[each].kind is Kind.AUDITOR for each in managers):
        raise Conflict(f"{community.manager} audits, and so manages no community")
    known = directory.communities.get(community.address)
    state = CommunityState(community, directory.size) if known is None else replace(known, community=community)
    directory.communities[community.address] = state


def _roster(directory: Directory, entry: DirectoryEntry) -> None:
    signed = parse_sign1(entry.payload, ROSTER)
    roster = read_roster(signed)
    state, manager = directory.communities.get(roster.address), directory.devices.get(signed.kid[:16])
    if state is None:
        raise Unknown(f"there is no community {roster.address}")
    if manager is None or manager.address != state.community.manager or manager.device_id in directory.revoked:
        raise Unverified(f"roster: not signed by the manager of {roster.address}")
    if not manager.not_before <= roster.at < manager.not_after:
        raise Unverified("roster: its manager's certificate was not valid then")
    verify_sign1(signed, manager.signature_public)
    if roster.version != state.version + 1:
        raise Conflict(f"roster: version {roster.version} does not follow {state.version}")
    members = frozenset(roster.members)
    directory.communities[roster.address] = replace(state, version=roster.version, members=members)
    for member in state.members - members:
        directory.memberships[member].discard(roster.address)
    for member in members - state.members:
        directory.memberships.setdefault(member, set()).add(roster.address)


def _approvers(directory: Directory, entry: DirectoryEntry) -> None:
    signed = parse_sign1(entry.payload, APPROVERS)
    stated = read_approvers(signed.payload)
    statement = _verified_authority(directory, signed, stated.office)
    _name(directory, entry, stated, statement.kid, signed.ref)


def _relay_approvers(directory: Directory, entry: DirectoryEntry) -> None:
    stated = read_approvers(entry.payload)
    if stated.office:
        raise Unverified(f"approvers: those of {stated.office} are for its authority to name")
    _name(directory, entry, stated, b"", list_ref(entry.payload))


def _name(directory: Directory, entry: DirectoryEntry, stated: Approvers, kid: bytes, ref: bytes) -> None:
    old = directory.approvers.get((stated.office, kid))
    if stated.version != (old.version if old is not None else 0) + 1:
        raise Conflict(f"approvers: version {stated.version} does not follow the one in force")
    check_people(stated, lambda device_id: directory.device(device_id, entry.time // 1000))
    _require_approvals(directory, entry, old, Question(Matter.APPROVERS, ref, ""))
    directory.approvers[stated.office, kid] = stated


def _require_approvals(
    directory: Directory, entry: DirectoryEntry, approvers: Approvers | None, question: Question
) -> None:
    """Approvals that nothing asks for are passed over: a part of the directory can be shown without the lists."""
    if approvers is not None and approvers.threshold(question.matter):
        now = entry.time // 1000
        verify_approvals(approvers, question, entry.approvals, lambda each: directory.device(each, now), now)


def _admit(directory: Directory, device: Device, authority_kid: bytes) -> None:
    directory.devices[device.device_id] = device
    directory.vouchers[device.device_id] = authority_kid


def _verified_authority(directory: Directory, signed: Sign1, office: str) -> Statement:
    statement = directory.offices.get(office)
    if statement is None:
        raise Unknown(f"office {office} is not registered")
    verify_sign1(signed, statement.authority_public)
    return statement


CHANGES: Mapping[Change, Callable[[Directory, DirectoryEntry], None]] = {
    Change.OFFICE: _office,
    Change.OFFICE_REMOVED: _office_removed,
    Change.CERTIFICATE: _certificate,
    Change.REVOCATION: _revocation,
    Change.POLICY: _policy,
    Change.AGREEMENT: _agreement,
    Change.WITHDRAWAL: _withdrawal,
    Change.KEY_BATCH: _key_batch,
    Change.COMMUNITY: _community,
    Change.ROSTER: _roster,
    Change.APPROVERS: _approvers,
    Change.RELAY_APPROVERS: _relay_approvers,
    Change.AUDIT_GRANT: _audit_grant,
}
