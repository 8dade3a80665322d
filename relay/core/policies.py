"""Each office's own copy of a policy, compiled once per pair of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from threading import Lock

from sqlalchemy import Engine, select

from relay.protocol.errors import LiaisonError
from relay.protocol.policy import Policy
from relay.protocol.policy_extensions import NO_EXTENSIONS, parse_extensions
from relay.protocol.publication import PublishedPolicy
from relay.protocol.spif import read_spif
from relay.store.engine import with_reader
from relay.store.schema import document

_MOST = 256


class PolicyShelf:
    """Looks a policy up by what the office's authority published; None whenever anything is missing or wrong."""

    def __init__(self, readers: Engine) -> None:
        self._readers = readers
        # By the digests of its files, and so never a wrong one; with the office that had it compiled.
        self._compiled: dict[tuple[bytes, ...], tuple[str, Policy]] = {}
        self._lock = Lock()

    def put(self, office: str, digests: Sequence[bytes], policy: Policy) -> None:
        """Have it here before the directory names it: its files cannot be read until they are durable.

        Of too many the office that has the most here loses its oldest: nobody crowds out another one's.
        """
        with self._lock:
            self._compiled.setdefault(tuple(digests), (office, policy))
            if len(self._compiled) > _MOST:
                ((crowding, _count),) = Counter(owner for owner, _ in self._compiled.values()).most_common(1)
                del self._compiled[next(key for key, (owner, _) in self._compiled.items() if owner == crowding)]

    def read(self, published: PublishedPolicy) -> Policy | None:
        """The policy in these files; None if that is nothing that can be read."""
        if (held := self._compiled.get(published.digests)) is not None:
            return held[1]
        try:
            policy = self._compile(*published.digests)
        except LiaisonError:
            return None
        self.put(published.office, published.digests, policy)
        return policy

    def _compile(self, spif_digest: bytes, extensions_digest: bytes | None = None) -> Policy:
        extensions = NO_EXTENSIONS if extensions_digest is None else parse_extensions(self.content(extensions_digest))
        return read_spif(self.content(spif_digest), extensions)[0]

    def content(self, digest: bytes) -> bytes:
        """The file with this digest. Raises LiaisonError if the relay does not hold it."""
        wanted = select(document.c.content).where(document.c.digest == digest)
        found = with_reader(self._readers, lambda connection: connection.scalar(wanted))
        if found is None:
            raise LiaisonError("the relay does not hold this file")
        return bytes(found)
