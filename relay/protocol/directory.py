"""The directory: what the entries of the directory log add up to. Relay and clients replay it with this code.

The rules:
  - `apply` is the one way in; what each kind of entry needs stands in changes.py;
  - that an entry holds says who signed it, not that this reader trusts the signer: `trusted_kids` says that, starting
    from the reader's own authority and the agreements which that authority has signed;
  - an entry is not dated before the latest one in front of it, give or take what clocks differ (dating.py): what held
    at some time is what the entries up to that time say;
  - revocation, withdrawal and removal are final and effective with their entry;
  - nobody reads of an office what it has not granted (audit_scope.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from .agreement import Agreement
from .approval import Approvers
from .audit_scope import AuditGrant, is_asked_for
from .changes import CHANGES
from .dating import CLOCKS_APART, goes_back
from .directory_terms import AgreementState, CommunityState, Device
from .entry import DirectoryEntry, parse_directory_entry
from .errors import Unverified
from .identity import (
    Kind,
    Revocation,
    Statement,
    office_of,
)
from .publication import Publication, PublishedPolicy


@dataclass(slots=True)
class Directory:
    """Everything that holds, by what it is looked up by."""

    size: int = 0
    latest: int = 0  # milliseconds; the latest time of an entry
    offices: dict[str, Statement] = field(default_factory=dict)
    statements: dict[bytes, Statement] = field(default_factory=dict)  # by authority kid, removed ones too
    devices: dict[bytes, Device] = field(default_factory=dict)  # revoked ones too
    certificates: dict[bytes, int] = field(default_factory=dict)  # device_id → index of its entry
    by_address: dict[str, list[bytes]] = field(default_factory=dict)
    by_role: dict[str, list[bytes]] = field(default_factory=dict)
    revoked: dict[bytes, Revocation] = field(default_factory=dict)
    policies: dict[tuple[str, str], PublishedPolicy] = field(default_factory=dict)  # (office, oid or name) → newest
    publications: dict[tuple[str, str], list[Publication]] = field(default_factory=dict)  # of the same, oldest first
    agreements: dict[bytes, AgreementState] = field(default_factory=dict)
    shared: dict[frozenset[str], dict[bytes, AgreementState]] = field(
        default_factory=dict
    )  # those one of two has signed
    key_batches: dict[bytes, bytes] = field(default_factory=dict)  # batch digest → device_id
    communities: dict[str, CommunityState] = field(default_factory=dict)
    memberships: dict[str, set[str]] = field(default_factory=dict)  # member → communities on whose roster it is
    approvers: dict[tuple[str, bytes], Approvers] = field(default_factory=dict)  # by office and its authority's kid
    audit_grants: dict[tuple[str, bytes], AuditGrant] = field(default_factory=dict)  # (office, device_id) → newest
    vouchers: dict[bytes, bytes] = field(default_factory=dict)  # device_id → kid of the authority that certified it
    keys: dict[bytes, bytes] = field(default_factory=dict)  # name of every key that was ever here → whose: device_id

    def apply(self, encoded: bytes) -> DirectoryEntry:
        """Verify one entry and take it in. Raises Malformed, Unverified, Conflict, Unknown; then nothing changed."""
        entry = parse_directory_entry(encoded)
        if goes_back(entry.time, self.latest):
            raise Unverified("dated before an earlier one")
        CHANGES[entry.change](self, entry)
        self.size += 1
        self.latest = max(self.latest, entry.time)
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

    def stands(self, device_id: bytes) -> bool:
        """Whether it is neither revoked nor of an authority that is gone. It may have expired: clocks go back."""
        statement = self.offices.get(self.devices[device_id].office)
        return device_id not in self.revoked and statement is not None and statement.kid == self.vouchers[device_id]

    def authority_kid_of(self, device: Device) -> bytes:
        """The key that vouches for this device."""
        return self.vouchers[device.device_id]

    def devices_of(self, address: str, now: int) -> list[Device]:
        """The devices behind an address: its holder's, whoever holds that role now, a community's members'."""
        ids = self.by_address.get(address, []) + self.by_role.get(address, [])
        if (state := self.communities.get(address)) is not None:
            ids = [each for member in sorted(state.members) for each in self.by_address.get(member, [])]
        found = (self.device(device_id, now) for device_id in dict.fromkeys(ids))
        return [device for device in found if device is not None]

    def communities_of(self, address: str, named: AbstractSet[str]) -> list[str]:
        """Those of the named communities on whose roster this address is, the oldest first."""
        found = self.memberships.get(address, set()) & named
        return sorted(found, key=lambda name: self.communities[name].founded)

    def agreements_between(self, left: str, right: str) -> list[AgreementState]:
        """Every agreement that names both offices under the authority keys they have today, and one of them has signed.

        What a third office drafts for them is none until then, and no more once it was withdrawn before all had signed.
        """
        return [
            state
            for state in list(self.shared.get(frozenset((left, right)), {}).values())
            if self._names(state.agreement, left) and self._names(state.agreement, right)
        ]

    def _names(self, agreement: Agreement, office: str) -> bool:
        party, statement = agreement.party(office), self.offices.get(office)
        return party is not None and statement is not None and party.authority_kid == statement.kid

    def policy_of(self, office: str, name: str, oid: str) -> PublishedPolicy | None:
        """The newest version of a policy that the office's authority has published."""
        published = self.policies.get((office, oid or name))
        return published if published is not None and published.name == name else None

    def policy_then(self, office: str, name: str, oid: str, seen: int, at: int) -> PublishedPolicy | None:
        """The newest version for one who had seen so many entries `at` that time, in seconds.

        What had stood there for longer than clocks differ he should have seen.
        """
        every = reversed(self.publications.get((office, oid or name), []))
        known = (each for each in every if each.index < seen or each.time // 1000 + CLOCKS_APART <= at)
        found = next(known, None)
        return found.policy if found is not None and found.policy.name == name else None

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


__all__ = ["AgreementState", "CommunityState", "Device", "Directory", "office_of"]
