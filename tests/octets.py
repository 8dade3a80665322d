"""Octets with a fault in them."""

from __future__ import annotations


def flipped(octets: bytes, at: int = -1) -> bytes:
    """With the lowest bit of one octet changed: the last, or the one at `at`."""
    changed = bytearray(octets)
    changed[at] ^= 1
    return bytes(changed)
