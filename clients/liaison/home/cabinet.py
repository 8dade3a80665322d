"""The local database of a profile: one SQLite file in which only sizes and numbers of rows can be read.

The rules:
  - every value is sealed under a key derived from the vault's state key (`shelf.py`);
  - what belongs together is one transaction, `with cabinet.transaction():`; two processes take turns;
  - one-time private keys are sealed under a prekey key that is replaced, and the rest sealed anew, whenever
    one of them is deleted: the state key and the file of afterwards do not open a message of before.
    `secure_delete` zeroes the old bytes inside the file; outside it, in the free blocks where the journal was
    and in what an SSD or a copy-on-write file system keeps, they may remain;
  - a Cabinet serves one thread and survives no fork. An older copy of the whole file is not recognised.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

from relay.protocol import canonical
from relay.protocol.errors import Conflict, Unknown, Unverified

from .kept_entries import append_entries, count_entries, drop_entries, read_entries, replace_entries
from .private_file import create_private, open_private
from .shelf import Database, Kind, Shelf, draft, open_database

KIND = Kind("cabinet", 0x4C434142, 3)  # "LCAB"
_KEPT = ("message", "part", "seen", "log", "entry", "alarm", "warning", "pin", "published", "chain", "outbox")
SHELVES = (*_KEPT, "prekey_key")
NO_PREVIOUS = bytes(32)


class Prekey(NamedTuple):
    kp_ref: bytes
    seed: bytes
    not_after: int  # seconds since 1970
    one_time: bool


class LogState(NamedTuple):
    size: int
    root: bytes
    checkpoint: bytes


@dataclass(frozen=True, slots=True)
class Alarm:
    alarm_id: str
    text: str
    evidence: bytes
    at: int  # seconds since 1970, of the first time


def create_cabinet(path: Path, state_key: bytes) -> None:
    """Make an empty cabinet. Raises Conflict if `path` is taken."""

    def first_prekey_key(database: Database) -> None:
        Shelf(database, "prekey_key", state_key).put([], os.urandom(32))

    create_private(path, draft(KIND, (*SHELVES, "prekey"), first_prekey_key), "cabinet")


class Cabinet:
    """An open cabinet; every method is a transaction or joins the one around it.

    Besides what each method names: Unavailable (locked for 30 s, disk full), Malformed (no database any
    more), Unverified (a row was altered).
    """

    def __init__(self, path: Path, state_key: bytes) -> None:
        """Raises Unauthenticated (none, or open to others), Malformed, Unverified (another state key)."""
        os.close(open_private(path, "cabinet"))
        self.parts = path.parent / "parts"  # sealed files of large parts; their keys are in the records here
        self._state_key = state_key
        self._database = open_database(path, KIND)
        self._shelves = {name: Shelf(self._database, name, state_key) for name in SHELVES}
        try:
            self._prekeys()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._database.close()

    def transaction(self) -> AbstractContextManager[None]:
        """All or nothing. What fails inside fails the whole, even if the caller catches it."""
        return self._database.transaction()

    # --- One-time private keys

    def add_prekeys(self, rows: Sequence[Prekey | tuple[bytes, bytes, int, bool]]) -> None:
        """Raises Conflict if a kp_ref is there already."""
        with self.transaction():
            shelf = self._prekeys()
            for row in map(Prekey._make, rows):
                key = [_octets(row.kp_ref, 32, "kp_ref")]
                if shelf.get(key) is not None:
                    raise Conflict(f"cabinet: prekey {row.kp_ref.hex()[:16]} exists already")
                shelf.put(key, canonical.encode([row.seed, row.not_after, row.one_time]))

    def prekey(self, kp_ref: bytes) -> bytes | None:
        """The private seed, or None if it was never here or is deleted."""
        with self.transaction():
            found = self._prekeys().get([_octets(kp_ref, 32, "kp_ref")])
        return None if found is None else _prekey(kp_ref, found).seed

    def prekeys(self) -> list[Prekey]:
        """In the order in which they were added."""
        with self.transaction():
            return [_prekey(key[0], value) for key, value in self._prekeys().rows()]

    def delete_prekey(self, kp_ref: bytes) -> None:
        """For good: the prekey key is replaced. Raises Unknown if it is not there, which means used twice."""
        with self.transaction():
            old = self._prekeys()
            if not old.drop([_octets(kp_ref, 32, "kp_ref")]):
                raise Unknown(f"cabinet: there is no prekey {kp_ref.hex()[:16]}")
            kept = old.rows()
            old.clear()
            self._shelves["prekey_key"].put([], os.urandom(32))
            new = self._prekeys()
            for key, value in kept:
                new.put(key, value)

    def _prekeys(self) -> Shelf:
        # Read each time: another process may have replaced the key since.
        box_key = self._shelves["prekey_key"].get([])
        if box_key is None:
            raise Unverified("cabinet: the prekey key is missing", hint="restore the profile from a backup")
        return Shelf(self._database, "prekey", self._state_key, box_key=box_key)

    # --- Messages

    def put_message(self, message_id: bytes, record: bytes) -> None:
        """Add, or replace the record (its state changes); a message keeps its turn."""
        self._shelves["message"].put([_octets(message_id, 16, "message_id")], record)

    def message(self, message_id: bytes) -> bytes | None:
        return self._shelves["message"].get([_octets(message_id, 16, "message_id")])

    def messages(self) -> list[tuple[bytes, bytes]]:
        """(message_id, record), in the order of arrival."""
        return [(key[0], record) for key, record in self._shelves["message"].rows()]

    def put_part(self, message_id: bytes, index: int, part: bytes) -> None:
        self._shelves["part"].put([_octets(message_id, 16, "message_id"), index], part)

    def part(self, message_id: bytes, index: int) -> bytes | None:
        return self._shelves["part"].get([_octets(message_id, 16, "message_id"), index])

    def seen(self, sender_device: bytes, seq: int) -> bytes | None:
        """The message_id that took this place in the sender's chain, if one did."""
        return self._shelves["seen"].get([_octets(sender_device, 16, "sender_device"), seq])

    def mark_seen(self, sender_device: bytes, seq: int, message_id: bytes) -> None:
        """Raises Conflict if another message took this place."""
        key = [_octets(sender_device, 16, "sender_device"), seq]
        self._shelves["seen"].put_once(key, _octets(message_id, 16, "message_id"))

    # --- Logs

    def log_state(self, log: str) -> LogState | None:
        """What the last verified checkpoint of this log said."""
        found = self._shelves["log"].get([log])
        return None if found is None else LogState(*canonical.read_array(found, 3, f"cabinet log {log}"))

    def put_log_state(self, log: str, size: int, root: bytes, checkpoint: bytes) -> None:
        """Raises Unverified if the log would shrink or change at its size: such a log is lying."""
        with self.transaction():
            last = self.log_state(log)
            if last and (size < last.size or (size == last.size and root != last.root)):
                raise Unverified(f"log {log}: size {size} contradicts the checkpoint of size {last.size} seen before")
            self._shelves["log"].put([log], canonical.encode([size, _octets(root, 32, "root"), checkpoint]))

    def append_entries(self, log: str, start: int, entries: Sequence[bytes]) -> None:
        """Raises Conflict unless `start` is the number of entries that are here: no gap, no overlap."""
        with self.transaction():
            append_entries(self._shelves["entry"], log, start, entries)

    def drop_entries(self, log: str, start: int) -> None:
        """Forget those from `start` on."""
        with self.transaction():
            drop_entries(self._shelves["entry"], log, start)

    def replace_entries(self, log: str, changed: Mapping[int, bytes]) -> None:
        """Keep more of entries that are here already. Raises Unknown."""
        with self.transaction():
            replace_entries(self._shelves["entry"], log, changed)

    def count_entries(self, log: str) -> int:
        return count_entries(self._shelves["entry"], log)

    def entries(self, log: str, start: int = 0) -> Iterator[bytes]:
        """All from `start` on, some at a time. Raises Unknown if `start` is past the end, Unverified for a gap."""
        return read_entries(self._shelves["entry"], log, start)

    def raise_alarm(self, text: str, evidence: bytes, at: int) -> str:
        """Its identifier. The same alarm again is the same row, with its first time."""
        alarm_id = hashlib.sha256(canonical.encode([text, evidence])).hexdigest()[:16]
        with self.transaction():
            if self._shelves["alarm"].get([alarm_id]) is None:
                self._shelves["alarm"].put([alarm_id], canonical.encode([text, evidence, at]))
        return alarm_id

    def alarms(self) -> list[Alarm]:
        """Those that nobody has resolved, oldest first."""
        rows = self._shelves["alarm"].rows()
        return [Alarm(key[0], *canonical.read_array(value, 3, "cabinet alarm")) for key, value in rows]

    def resolve_alarm(self, alarm_id: str) -> None:
        """Forget an alarm or a warning, and its evidence. Raises Unknown."""
        if not (self._shelves["alarm"].drop([alarm_id]) or self._shelves["warning"].drop([alarm_id])):
            raise Unknown(f"there is no alarm {alarm_id}")

    # --- What its owner should know, and what it is held to

    def put_warning(self, text: str, evidence: bytes, at: int) -> None:
        """Like an alarm, but it stops nothing."""
        warning_id = hashlib.sha256(canonical.encode(["warning", text, evidence])).hexdigest()[:16]
        self._shelves["warning"].put([warning_id], canonical.encode([text, evidence, at]))

    def warnings(self) -> list[Alarm]:
        """Those that nobody has looked into, oldest first."""
        rows = self._shelves["warning"].rows()
        return [Alarm(key[0], *canonical.read_array(value, 3, "cabinet warning")) for key, value in rows]

    def put_published(self, digest: bytes) -> None:
        """What has this digest was made in this profile, for the directory."""
        self._shelves["published"].put([_octets(digest, 32, "digest")], b"")

    def is_published(self, digest: bytes) -> bool:
        return self._shelves["published"].get([_octets(digest, 32, "digest")]) is not None

    def put_pin(self, name: str, value: bytes) -> None:
        self._shelves["pin"].put([name], value)

    def pin(self, name: str) -> bytes | None:
        return self._shelves["pin"].get([name])

    # --- Sending

    def chain(self) -> tuple[int, bytes]:
        """(seq, hash) of the last message of this device; (0, 32 zero octets) before the first."""
        found = self._shelves["chain"].get([])
        if found is None:
            return 0, NO_PREVIOUS
        seq, prev = canonical.read_array(found, 2, "cabinet chain")
        return seq, prev

    def next_seq(self) -> int:
        return self.chain()[0] + 1

    def advance_chain(self, seq: int, prev: bytes) -> None:
        """Message `seq` exists and its hash is `prev`. Raises Conflict if `seq` is not the next."""
        with self.transaction():
            if seq != self.next_seq():
                raise Conflict(f"message {seq} does not follow {self.chain()[0]} in this device's chain")
            self._shelves["chain"].put([], canonical.encode([seq, _octets(prev, 32, "prev")]))

    def put_outbox(self, message_id: bytes, message: bytes) -> None:
        """Raises Conflict if other bytes wait under this identifier: a retry sends the same message."""
        self._shelves["outbox"].put_once([_octets(message_id, 16, "message_id")], message)

    def outbox(self) -> list[tuple[bytes, bytes]]:
        """(message_id, message), oldest first."""
        return [(key[0], message) for key, message in self._shelves["outbox"].rows()]

    def waits(self, message_id: bytes) -> bool:
        """Whether it is in the outbox."""
        return self._shelves["outbox"].get([_octets(message_id, 16, "message_id")]) is not None

    def drop_outbox(self, message_id: bytes) -> None:
        """Gone already is fine: two processes may have delivered the same message."""
        self._shelves["outbox"].drop([_octets(message_id, 16, "message_id")])


def _prekey(kp_ref: bytes, value: bytes) -> Prekey:
    return Prekey(kp_ref, *canonical.read_array(value, 3, "cabinet prekey"))


def _octets(value: bytes, length: int, what: str) -> bytes:
    return canonical.expect_bytes(value, length, f"cabinet {what}")
