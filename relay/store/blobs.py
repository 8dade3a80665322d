"""Chunks of large parts, outside the database: in files, or in a bucket.

The rules:
  - a chunk is durable before `put` returns: written under another name, synced, linked, its folder synced;
  - the first bytes under a name stay: `put` never replaces, so what was verified is what is served;
  - row before blob: an upload's row is committed before its first chunk is written, is nobody's before its chunks are
    removed, and goes after them. Crash states: a row without chunks (they are still missing, and asked for); chunks of
    nobody's row (the sweep removes them); chunks of no row, by a restore that was killed or another database (they
    stay). Never a row that calls itself complete without its chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from .files import Files


class Blobs(Protocol):
    """Where chunks lie, by upload and number."""

    def put(self, upload: bytes, chunk: int, pieces: Sequence[bytes]) -> bool:
        """Whether these bytes were kept: False if the chunk was there before."""

    def get(self, upload: bytes, chunk: int) -> bytes | None: ...

    def chunks(self, upload: bytes) -> set[int]: ...

    def uploads(self) -> set[bytes]: ...

    def remove(self, upload: bytes) -> None: ...


def open_blobs(place: str) -> Blobs:
    """The store at `place`: a folder, or s3://BUCKET/PREFIX, with keys and endpoint from AWS_* variables."""
    if place.startswith("s3://"):
        from .bucket import Bucket  # noqa: PLC0415 - an extra that most relays do without

        return Bucket(place)
    return Files(Path(place))
