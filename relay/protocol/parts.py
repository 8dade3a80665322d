"""Large parts travel outside the submission, in equal chunks. What both ends must count in the same way.

A part's digest is made from those of its chunks: each is hashed once, by whoever has it, in any order, and the same
hash is what its request is signed over. How many there are follows from the length, which is signed with the digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

CHUNK = 4 * 1024 * 1024  # octets of every chunk of a part but the last
MAX_INLINE = 1024 * 1024  # a longer sealed part is uploaded before the submission
MAX_PART = 4 * 1024 * 1024 * 1024  # sealed


def chunk_count(length: int) -> int:
    """How many chunks a sealed part of this length has."""
    return -(-length // CHUNK)


def chunk_length(length: int, chunk: int) -> int:
    """The octets of one chunk of a sealed part of this length."""
    return min(CHUNK, length - chunk * CHUNK)


class PartDigest:
    """The digest of a sealed part as it comes."""

    def __init__(self) -> None:
        self._full: list[bytes] = []
        self._hashed, self._left = sha256(), CHUNK

    def update(self, octets: bytes) -> None:
        rest = memoryview(octets)
        while rest:
            if not self._left:
                self._full.append(self._hashed.digest())
                self._hashed, self._left = sha256(), CHUNK
            self._hashed.update(rest[: self._left])
            taken = min(self._left, len(rest))
            self._left -= taken
            rest = rest[taken:]

    def chunks(self) -> tuple[bytes, ...]:
        return (*self._full, self._hashed.digest())

    def digest(self) -> bytes:
        return joined_digest(self.chunks())


def part_digest(sealed: bytes) -> bytes:
    """The digest of a sealed part that is at hand."""
    hashed = PartDigest()
    hashed.update(sealed)
    return hashed.digest()


def joined_digest(chunks: Sequence[bytes]) -> bytes:
    """The digest of a sealed part whose chunks have these: SHA-256 over them, or the only one's own."""
    return chunks[0] if len(chunks) == 1 else sha256(b"".join(chunks)).digest()
