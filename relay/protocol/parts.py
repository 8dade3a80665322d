"""Large parts travel outside the submission, in equal chunks. What both ends must count in the same way."""

from __future__ import annotations

CHUNK = 4 * 1024 * 1024  # octets of every chunk of a part but the last
MAX_INLINE = 1024 * 1024  # a longer sealed part is uploaded before the submission
MAX_PART = 4 * 1024 * 1024 * 1024  # sealed


def chunk_count(length: int) -> int:
    """How many chunks a sealed part of this length has."""
    return -(-length // CHUNK)


def chunk_length(length: int, chunk: int) -> int:
    """The octets of one chunk of a sealed part of this length."""
    return min(CHUNK, length - chunk * CHUNK)
