"""Each office's own copy of a policy, compiled once per pair of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from threading import Lock
from typing import NamedTuple

from sqlalchemy import Engine, select

from relay.protocol.errors import LiaisonError
from relay.protocol.policy import Policy
from relay.protocol.policy_extensions import NO_EXTENSIONS, parse_extensions
from relay.protocol.publication import PublishedPolicy
from relay.protocol.spif import read_spif
from relay.store.engine import with_reader
from relay.store.schema import document

_MOST = 24 << 20  # octets of files, of all offices together; in memory they are up to twelve times as many


class _Kept(NamedTuple):
    office: str  # that had it compiled
    policy: Policy
    octets: int


class PolicyShelf:
    """Looks a policy up by what the office's authority published; None whenever anything is missing or wrong."""

    def __init__(self, readers: Engine) -> None:
        self._readers = readers
        self._compiled: dict[tuple[bytes, ...], _Kept] = {}  # by the digests of its files, and so never a wrong one
        self._lock = Lock()

    def put(self, office: str, digests: Sequence[bytes], policy: Policy, octets: int) -> None:
        """Have it here before the directory names it: its files, of so many octets, are not there until durable.

        Of too much the office that has the most here loses its oldest: nobody crowds out another one's.
        """
        with self._lock:
            self._compiled.setdefault(tuple(digests), _Kept(office, policy, octets))
            while len(self._compiled) > 1 and sum(kept.octets for kept in self._compiled.values()) > _MOST:
                held = Counter[str]()
                for kept in self._compiled.values():
                    held[kept.office] += kept.octets
                ((crowding, _octets),) = held.most_common(1)
                del self._compiled[next(key for key, kept in self._compiled.items() if kept.office == crowding)]

    def read(self, published: PublishedPolicy) -> Policy | None:
        """The policy in these files; None if that is nothing that can be read."""
        if (held := self._compiled.get(published.digests)) is not None:
            return held.policy
        try:
            files = [self.content(digest) for digest in published.digests]
            policy = self._compile(*files)
        except LiaisonError:
            return None
        self.put(published.office, published.digests, policy, sum(map(len, files)))
        return policy

    @staticmethod
    def _compile(spif: bytes, extensions: bytes | None = None) -> Policy:
        return read_spif(spif, NO_EXTENSIONS if extensions is None else parse_extensions(extensions))[0]

    def content(self, digest: bytes) -> bytes:
        """The file with this digest. Raises LiaisonError if the relay does not hold it."""
        wanted = select(document.c.content).where(document.c.digest == digest)
        found = with_reader(self._readers, lambda connection: connection.scalar(wanted))
        if found is None:
            raise LiaisonError("the relay does not hold this file")
        return bytes(found)
