"""An entry of the access log as an auditor gets it: in scope with its content, else as its hash.

kept row = 0x01 || entry | 0x00 || leaf hash, out of scope | 0x02 || leaf hash, erased after its retention
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any

from liaison.client import Client
from relay.protocol.canonical import expect, expect_bytes
from relay.protocol.entry import AccessEntry, parse_access_entry
from relay.protocol.errors import Malformed
from relay.protocol.merkle import leaf_hash

_HIDDEN, _SHOWN, _ERASED = b"\x00", b"\x01", b"\x02"
_TOLD = ("time", "event", "actor", "office", "message_id", "label", "decision", "rules", "detail")


@dataclass(frozen=True, slots=True)
class PulledEntry:
    """An entry of the log: in scope with its content, out of scope or once erased as a hash."""

    index: int
    leaf_hash: bytes
    entry: AccessEntry | None
    is_erased: bool = False

    def as_json(self, marking: Callable[[bytes], str]) -> dict[str, Any]:
        """The line of `audit pull`; `marking` is that of an encoded label."""
        erased = {"erased": True} if self.is_erased else {}
        told = dict.fromkeys(_TOLD) if self.entry is None else _told(self.entry, marking)
        return {"v": 1, "index": self.index, **told, "leaf_hash": self.leaf_hash.hex(), **erased}


def _told(entry: AccessEntry, marking: Callable[[bytes], str]) -> dict[str, Any]:
    return {
        "time": utc(entry.time),
        "event": entry.event.value,
        "actor": entry.address,
        "office": entry.office,
        "message_id": entry.message_id.hex() if entry.message_id is not None else None,
        "label": marking(entry.label) if entry.label is not None else None,
        "decision": "permit" if entry.permitted else "deny",
        "rules": list(entry.rules),
        "detail": entry.detail or None,
    }


def utc(time: int) -> str:
    """Milliseconds since 1970 as an instant of ISO 8601."""
    return datetime.fromtimestamp(time / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def local(time: int, zone: tzinfo) -> datetime:
    """Milliseconds since 1970 in this zone; in the last hours of 9999, which not every zone has, in UTC."""
    at = datetime.fromtimestamp(time / 1000, UTC)
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at


def markings(client: Client) -> Callable[[bytes], str]:
    """The marking of an encoded label, the latest ones remembered: a million entries have few labels."""
    labels = client.labels
    return lru_cache(256)(lambda encoded: labels.marking(labels.label_of(encoded)))


def read_answer(index: int, value: object) -> tuple[bytes, PulledEntry]:
    """What the relay answered for this index, as the row to keep and as the entry. Raises Malformed."""
    if not isinstance(value, list) or len(value) != 2:
        raise Malformed("audit entry: not a pair")
    shown, content = value
    if shown is True:
        row = _SHOWN + expect(content, bytes, "audit entry")
    elif shown is False or shown is None:
        row = (_ERASED if shown is None else _HIDDEN) + expect_bytes(content, 32, "audit entry: hash")
    else:
        raise Malformed("audit entry: neither an entry nor a hash")
    return row, read_row(index, row)


def read_row(index: int, row: bytes) -> PulledEntry:
    entry = parse_access_entry(row[1:]) if row[:1] == _SHOWN else None
    return PulledEntry(index, leaf_of(row), entry, row[:1] == _ERASED)


def is_hidden(row: bytes) -> bool:
    """Whether it was out of scope when it was pulled."""
    return row[:1] == _HIDDEN


def leaf_of(row: bytes) -> bytes:
    return leaf_hash(row[1:]) if row[:1] == _SHOWN else row[1:]
