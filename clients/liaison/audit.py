"""Pulling the access log: verified entry by entry before anything is shown.

The pulled leaves, contents or bare hashes, must hash to the root that the relay's keys signed, and that tree
must extend the last one seen. An entry that is erased must be named by a destruction record after it. Nothing is
printed past the first entry that does not hold.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from relay.protocol.canonical import expect, expect_bytes
from relay.protocol.entry import AccessEntry, Event, parse_access_entry
from relay.protocol.envelope import decode_list
from relay.protocol.errors import LiaisonError, Malformed, Unverified
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.protocol.retention import parse_destruction

from .client import Client
from .trust import ACCESS
from .witnessing import compare, fetch, log_of, pinned_policy

_PAGE = 1000
BACK_DATING_TOLERANCE = 60_000  # milliseconds; as long as a signed request is good


@dataclass(frozen=True, slots=True)
class PulledEntry:
    """An entry of the log: in scope with its content, out of scope or once erased as a hash."""

    index: int
    leaf_hash: bytes
    entry: AccessEntry | None
    is_erased: bool = False

    def as_json(self, client: Client) -> dict[str, Any]:
        """The line of `audit pull`."""
        entry = self.entry
        if entry is None:
            erased = {"erased": True} if self.is_erased else {}
            return {"v": 1, "index": self.index, "event": None, "leaf_hash": self.leaf_hash.hex(), **erased}
        label = client.labels.label_of(entry.label) if entry.label is not None else None
        return {
            "v": 1,
            "index": self.index,
            "time": datetime.fromtimestamp(entry.time / 1000, UTC)
            .isoformat(timespec="milliseconds")
            .replace("+00:00", "Z"),
            "event": entry.event.value,
            "actor": entry.address,
            "office": entry.office,
            "message_id": entry.message_id.hex() if entry.message_id is not None else None,
            "label": client.labels.marking(label) if entry.label is not None else None,
            "decision": "permit" if entry.permitted else "deny",
            "rules": list(entry.rules),
            "leaf_hash": self.leaf_hash.hex(),
        }


class AuditPull:
    """One walk over the whole log. Keeps the leaves of earlier pulls, so that only what is new is fetched."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._cabinet = client.profile.cabinet

    def pull(self) -> None:
        """Fetch what is new and verify it, with what was pulled before, under the newest checkpoint.

        Raises Unverified naming the first entry that does not hold; what was verified before stays.
        """
        kept = self._cabinet.entries(ACCESS)
        fresh = self._checked(kept, len(kept))
        self._cabinet.append_entries(ACCESS, len(kept), fresh)

    def verify(self, exchanged: Sequence[bytes] = ()) -> int:
        """Fetch the whole log anew and check it against the checkpoint and against every earlier pull; its size.

        Against the checkpoint that witnesses have cosigned, where a policy is pinned, and against those `exchanged`
        with others. Raises Unverified naming the first entry that does not hold, or the sizes of a fork.
        """
        client, pinned = self._client, pinned_policy(self._cabinet)
        foreign = [(log_of(client.trust, note), note, "others") for note in exchanged]
        if pinned is not None:
            foreign.append((ACCESS, fetch(client.trust, client.transport, ACCESS, pinned), "the witnesses"))
        kept = self._cabinet.entries(ACCESS)
        rows = self._checked([], 0, earlier=kept)
        self._keep_shown(kept, rows)
        if len(rows) > len(kept):
            self._cabinet.append_entries(ACCESS, len(kept), rows[len(kept) :])
        for log, note, whose in foreign:  # the head they are held against is now that of all leaves above
            compare(client.trust, client.transport, log, note, whose)
        return len(rows)

    def _keep_shown(self, kept: Sequence[bytes], rows: Sequence[bytes]) -> None:
        """Contents of entries that were hashes when they were pulled: the scope has grown since."""
        for index, (before, now) in enumerate(zip(kept, rows, strict=False)):
            if before[:1] == _HIDDEN and now[:1] == _SHOWN:
                self._cabinet.replace_entry(ACCESS, index, now)

    def _checked(
        self, kept: list[bytes], start: int, earlier: Sequence[bytes] = (), *, is_again: bool = False
    ) -> list[bytes]:
        """Rows from `start` on which, after those kept, hash to the signed root of a log that only grew.

        `earlier` pulls are compared first: a root says that something changed, they say which entry.
        """
        client, trust = self._client, self._client.trust
        tree, fresh = MerkleTree(_leaf(row) for row in kept), list[bytes]()
        # The checkpoint first: the pull itself is logged, and may make the tree larger than what is pulled.
        note = client.transport.get("/v1/log/access/checkpoint", newest=1)
        checkpoint = trust.alarmed(note, lambda: trust.read_checkpoint(ACCESS, note))
        while page := self._page(start + len(fresh), checkpoint.size):
            fresh += page
        self._compare(earlier, fresh, note)
        if start + len(fresh) < checkpoint.size:
            raise self._alarm(f"entries {start + len(fresh)} to {checkpoint.size} of the access log are withheld", note)
        unaccounted = _unaccounted([*kept, *fresh])
        if unaccounted is not None and not is_again:
            # Erased while we pulled, perhaps: then its record is under a newer checkpoint.
            return self._checked(kept, start, earlier, is_again=True)
        for row in fresh:
            tree.append(_leaf(row))
        if tree.size > checkpoint.size:
            raise self._alarm(f"the access log went back from {tree.size} entries to {checkpoint.size}", note)
        if tree.root() != checkpoint.root:
            raise self._alarm(f"{self._where(tree, start)} of the access log does not hold", note)
        if unaccounted is not None:
            raise self._alarm(f"entry {unaccounted} of the access log was erased, and no record says so", note)
        trust.alarmed(note, lambda: trust.advance(checkpoint, note, (), client.transport))
        if (late := back_dated([*kept, *fresh])) is not None:
            raise self._alarm(f"entry {late} of the access log is dated before an earlier one", note)
        return fresh

    def _compare(self, earlier: Sequence[bytes], rows: Sequence[bytes], evidence: bytes) -> None:
        for index, (before, now) in enumerate(zip(earlier, rows, strict=False)):
            if _leaf(before) != _leaf(now):
                raise self._alarm(f"entry {index} of the access log is not the one that was pulled before", evidence)
        if len(rows) < len(earlier):
            gone = f"entry {len(rows)} of the access log is gone"
            raise self._alarm(f"{gone}: it went back from {len(earlier)} entries to {len(rows)}", evidence)

    def _page(self, first: int, size: int) -> list[bytes]:
        if first >= size:
            return []
        answer = self._client.transport.get("/v1/audit/entries", after=first, count=min(_PAGE, size - first))
        _size, rows = decode_list(answer, "audit entries")
        return [_row(row) for row in expect(rows, list, "audit entries")]

    def _where(self, tree: MerkleTree, start: int) -> str:
        """The first entry whose tile differs from the log's own hash tiles, as near as hashes can tell."""
        for first in range(start - start % 256, tree.size, 256):
            width = min(256, tree.size - first)
            suffix = "" if width == 256 else f".p/{width}"
            number = first // 256
            path = f"{number:03}" if number < 1000 else f"x{number // 1000:03}/{number % 1000:03}"
            try:
                tile = self._client.transport.get(f"/v1/log/access/tile/0/{path}{suffix}")
            except LiaisonError:
                return f"entry {first} or a later one"
            for offset in range(width):
                if tile[32 * offset : 32 * offset + 32] != tree.node(0, first + offset):
                    return f"entry {first + offset}"
        return f"an entry from {start} on" if start < tree.size else "an earlier entry"

    def _alarm(self, text: str, evidence: bytes) -> Unverified:
        self._cabinet.raise_alarm(text, evidence, int(time.time()))
        return Unverified(text)

    def entries(self, first: int = 0) -> Iterator[PulledEntry]:
        """What has been verified, from entry `first` on."""
        for offset, row in enumerate(self._cabinet.entries(ACCESS, first)):
            entry = parse_access_entry(row[1:]) if row[:1] == _SHOWN else None
            yield PulledEntry(first + offset, _leaf(row), entry, row[:1] == _ERASED)

    def count(self) -> int:
        return self._cabinet.count_entries(ACCESS)


def back_dated(rows: Iterable[bytes]) -> int | None:
    """The first entry whose time is more than the tolerance before the latest time of those in front of it."""
    latest = 0
    for index, row in enumerate(rows):
        if row[:1] == b"\x01":
            at = parse_access_entry(row[1:]).time
            if at < latest - BACK_DATING_TOLERANCE:
                return index
            latest = max(latest, at)
    return None


_HIDDEN, _SHOWN, _ERASED = b"\x00", b"\x01", b"\x02"


def _unaccounted(rows: list[bytes]) -> int | None:
    """The first entry that is erased without a later record that names it."""
    erased = [index for index, row in enumerate(rows) if row[:1] == _ERASED]
    if not erased:
        return None
    named: set[int] = set()
    for index, row in enumerate(rows):
        if row[:1] == _SHOWN and (entry := parse_access_entry(row[1:])).event is Event.DESTROY:
            named |= {each for each in parse_destruction(entry.detail).entries if each < index}
    return next((index for index in erased if index not in named), None)


def _row(value: object) -> bytes:
    """As kept: 1 and the entry, 0 and its leaf hash, or 2 and the leaf hash of one that is erased."""
    if not isinstance(value, list) or len(value) != 2:
        raise Malformed("audit entry: not a pair")
    shown, content = value
    if shown is True:
        parse_access_entry(expect(content, bytes, "audit entry"))
        return _SHOWN + bytes(content)
    if shown is False or shown is None:
        return (_ERASED if shown is None else _HIDDEN) + expect_bytes(content, 32, "audit entry: hash")
    raise Malformed("audit entry: neither an entry nor a hash")


def _leaf(row: bytes) -> bytes:
    return leaf_hash(row[1:]) if row[:1] == _SHOWN else row[1:]
