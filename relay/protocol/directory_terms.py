"""What the directory is made of: devices, agreements and communities, each with where it stands."""

from __future__ import annotations

from dataclasses import dataclass, field

from .agreement import Agreement, Withdrawal
from .community import Community
from .identity import Certificate, Kind, Statement


@dataclass(slots=True)
class AgreementState:
    """An agreement with who has signed it and whether anyone has withdrawn."""

    agreement: Agreement
    signed: dict[str, int] = field(default_factory=dict)  # office → time of its entry, milliseconds
    withdrawn: Withdrawal | None = None

    @property
    def is_in_force(self) -> bool:
        return self.withdrawn is None and all(party.office in self.signed for party in self.agreement.parties)

    def is_valid(self, now: int) -> bool:
        """Whether it is in force, and its terms say that it holds now, in seconds."""
        return self.is_in_force and self.agreement.not_before <= now <= self.agreement.not_after


@dataclass(slots=True)
class CommunityState:
    """A community of interest with its newest roster; without one it is nobody."""

    community: Community
    founded: int  # index of its first entry
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


def authority_device(statement: Statement) -> Device:
    """The office's authority as a key holder that makes requests: as long as its office is registered."""
    return Device(
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
    )


def certified_device(certificate: Certificate, nation: str) -> Device:
    """The device that a certificate is for; the nation is its office's."""
    return Device(
        device_id=certificate.device_id,
        address=certificate.address,
        kind=certificate.kind,
        office=certificate.office,
        nation=nation,
        request_public=certificate.request_public,
        signature_public=certificate.signature_public,
        kid=certificate.kid,
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        certificate=certificate,
    )
