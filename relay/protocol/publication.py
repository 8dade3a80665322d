"""An office adopts a security policy: its authority signs name, version and the digest of the exact file.

The files themselves (a SPIF is larger than a log entry may be) are kept by digest beside the log. A label pins
the version and digest it was made under; a reader decides with its own office's copy, and two texts under
one version, or a copy older than the one a label pins, release nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from .canonical import encode, expect, expect_bytes, expect_time, expect_version, read_map
from .cose import Sign1
from .identity import check_office

POLICY = "policy"


@dataclass(frozen=True, slots=True)
class PublishedPolicy:
    office: str
    name: str
    oid: str
    version: int
    spif_digest: bytes
    extensions_digest: bytes | None
    published: int

    @property
    def digests(self) -> tuple[bytes, ...]:
        """Of its files, in their order."""
        return (self.spif_digest,) if self.extensions_digest is None else (self.spif_digest, self.extensions_digest)

    def payload(self) -> bytes:
        return encode({
            1: 1, 2: self.office, 3: self.name, 4: self.oid, 5: self.version,
            6: self.spif_digest, 7: self.extensions_digest, 8: self.published,
        })  # fmt: skip


@dataclass(frozen=True, slots=True)
class Publication:
    """A policy as the directory log has it."""

    index: int  # of its entry
    time: int  # of its entry, milliseconds
    policy: PublishedPolicy


def read_published_policy(signed: Sign1) -> PublishedPolicy:
    """Read what was signed; raises Malformed for anything else."""
    fields = read_map(signed.payload, frozenset(range(1, 9)), frozenset(), "policy")
    expect_version(fields[1], "policy")
    extensions = fields[7]
    return PublishedPolicy(
        office=check_office(fields[2]),
        name=expect(fields[3], str, "policy: name"),
        oid=expect(fields[4], str, "policy: object identifier"),
        version=expect(fields[5], int, "policy: version"),
        spif_digest=expect_bytes(fields[6], 32, "policy: digest"),
        extensions_digest=None if extensions is None else expect_bytes(extensions, 32, "policy: extensions"),
        published=expect_time(fields[8], "policy: published"),
    )
