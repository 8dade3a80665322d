"""Cabinets: a state key, and what is put into them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from liaison.home.cabinet import Cabinet

STATE_KEY = hashlib.sha256(b"state").digest()
ID, OTHER_ID, DEVICE = b"M" * 16, b"N" * 16, b"D" * 16


def ref(number: int) -> bytes:
    return hashlib.sha256(b"ref%d" % number).digest()


def seed(number: int) -> bytes:
    return hashlib.sha256(b"seed%d" % number).digest()


def stock(cabinet: Cabinet, count: int) -> None:
    cabinet.add_prekeys([(ref(i), seed(i), 1_900_000_000, i > 0) for i in range(count)])


def everything_beside(path: Path) -> bytes:
    """The database and any journal, as a thief of the folder has them."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))
