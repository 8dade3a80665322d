"""Policy files, by digest: fetched once, checked at every reading, compiled once per process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from relay.protocol.directory import Directory
from relay.protocol.errors import Malformed, Unknown, Unverified
from relay.protocol.label import PolicyRef
from relay.protocol.policy import Policy
from relay.protocol.policy_extensions import NO_EXTENSIONS, parse_extensions
from relay.protocol.publication import PublishedPolicy
from relay.protocol.spif import read_spif

from .home.private_file import replace_private
from .transport import Transport


@dataclass(slots=True)
class Documents:
    folder: Path
    transport: Transport
    _compiled: dict[tuple[bytes, bytes | None], Policy] = field(default_factory=dict)

    def policy_of(self, directory: Directory, office: str, ref: PolicyRef) -> Policy | None:
        """That office's copy of the policy that a label names, or None if there is none that can be read.

        Raises Unverified if the relay hands out another file than was signed.
        """
        published = directory.policy_of(office, ref.name, ref.oid)
        return self.read(published) if published is not None else None

    def read(self, published: PublishedPolicy) -> Policy | None:
        """The policy in these files, or None if there is none that can be read. Raises Unverified as above."""
        try:
            return self.compile(published)
        except (Malformed, Unknown):
            return None

    def policies_of(self, directory: Directory, office: str) -> Iterator[Policy]:
        """Every policy that the office has published."""
        for (publisher, _), published in directory.policies.items():
            if publisher == office:
                yield self.compile(published)

    def compile(self, published: PublishedPolicy) -> Policy:
        """The policy in the published files, which have the digests that were signed. Raises LiaisonError."""
        key = (published.spif_digest, published.extensions_digest)
        if key not in self._compiled:
            extensions = NO_EXTENSIONS if key[1] is None else parse_extensions(self.content(key[1]))
            self._compiled[key] = read_spif(self.content(key[0]), extensions)[0]
        return self._compiled[key]

    def content(self, digest: bytes) -> bytes:
        """The file with this digest, from the folder or the relay. Raises Unverified if it is another."""
        path = self.folder / digest.hex()
        if path.exists():
            found = path.read_bytes()
        else:
            found = self.transport.get(f"/v1/documents/{digest.hex()}")
            if hashlib.sha256(found).digest() == digest:
                replace_private(path, found, "document")
        if hashlib.sha256(found).digest() != digest:
            raise Unverified(f"document {digest.hex()[:16]}: other bytes than were signed")
        return found
