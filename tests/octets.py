"""Octets with a fault in them."""

from __future__ import annotations

from pathlib import Path


def flipped(octets: bytes, at: int = -1) -> bytes:
    """With the lowest bit of one octet changed: the last, or the one at `at`."""
    changed = bytearray(octets)
    changed[at] ^= 1
    return bytes(changed)


def flip(path: Path, at: int) -> None:
    """The same in a file."""
    path.write_bytes(flipped(path.read_bytes(), at))
