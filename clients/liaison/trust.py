"""What this endpoint has verified so far, and nothing else: the directory, the logs' heads, whom it trusts.

The rules:
  - The directory log is replayed whole, entry by entry; its root must be the one that the relay's keys signed, and no
    entry is dated after that, or after now.
  - Heads only move forward, by consistency proof. A smaller tree, another root at the same size, a proof that
    fails or an entry that does not hold is an alarm: it is kept, with the evidence, and every command fails
    with exit 5 until a person resolves it.
  - Trust begins with the own office's authority and reaches others only through agreements it has signed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from relay.protocol.actor import verify_actor
from relay.protocol.canonical import decode, expect, read_array
from relay.protocol.dating import CLOCKS_APART, Dating, Mark
from relay.protocol.directory import Device, Directory
from relay.protocol.entry import AccessEntry, DirectoryEntry, LoggedEntry, parse_access_entry
from relay.protocol.errors import LiaisonError, Malformed, Unknown, Unverified
from relay.protocol.merkle import MerkleTree, leaf_hash, verify_consistency, verify_inclusion
from relay.protocol.note import ED25519, MLDSA44, NoteVerifier, parse_vkey, signed_at, verify_note
from relay.protocol.tlog import Checkpoint, parse_checkpoint_body

from .home.cabinet import Cabinet
from .transport import Transport

T = TypeVar("T")
DIRECTORY, ACCESS = "directory", "access"


@contextmanager
def relayed() -> Iterator[None]:
    """Inside, what the relay answered is read: where it is not even the format, the relay is at fault."""
    try:
        yield
    except Malformed as problem:
        raise Unverified(f"what the relay answered does not hold: {problem}", hint=problem.hint) from problem


@dataclass(slots=True)
class Trust:
    """The endpoint's own view. `directory` is as of the last `sync`."""

    cabinet: Cabinet
    own_kid: bytes
    relay_keys: tuple[str, ...]
    directory: Directory = field(default_factory=Directory)
    tree: MerkleTree = field(default_factory=MerkleTree)
    watch: Callable[[int, list[bytes], Directory], None] | None = None  # sees each new entry once

    def load(self) -> None:
        """Rebuild the directory from the entries that were verified before."""
        for entry in self.cabinet.entries(DIRECTORY, self.tree.size):
            self.tree.append(leaf_hash(entry))
            self.directory.apply(entry)

    def sync(self, transport: Transport) -> None:
        """Bring the directory up to date. Raises Unverified, keeping an alarm, if the log is not the one we knew."""
        self.load()  # another process of this profile may have been here meanwhile
        start, found, is_whole = self.tree.size, list[bytes](), False
        while not is_whole:
            answer = transport.get("/v1/directory", after=start + len(found))
            with relayed():
                note, page = _directory_page(answer)
            checkpoint = self.alarmed(note, partial(self.read_checkpoint, DIRECTORY, note))
            found += page
            is_whole = not page or start + len(found) >= checkpoint.size  # no more than the relay has signed for
        self.alarmed(note, lambda: self._take_in(start, found, checkpoint, note))

    def _take_in(self, start: int, found: list[bytes], checkpoint: Checkpoint, note: bytes) -> None:
        """Entries from `start` on, under their checkpoint. Whatever of them does not hold, nothing of them is kept."""
        if checkpoint.size < start:
            raise Unverified(f"the directory log went back from {start} entries to {checkpoint.size}")
        try:
            with self.cabinet.transaction():
                self.load()  # and again: what another process has taken in since stays
                self._replay(found[self.tree.size - start : checkpoint.size - start], checkpoint, note)
        except LiaisonError:
            self.directory, self.tree = Directory(), MerkleTree()  # believe nothing of it
            self.load()
            raise

    def _replay(self, fresh: list[bytes], checkpoint: Checkpoint, note: bytes) -> None:
        held = self.tree.size
        # Our own clock too: the relay's signature states what time the relay likes.
        at = min(self.signed_at(DIRECTORY, note), int(time.time()) + CLOCKS_APART)
        dating = Dating([Mark(checkpoint.size, at)], self.directory.latest, DIRECTORY)
        for entry in fresh:
            dating.take(self.tree.size, _apply(self.directory, entry).time)
            self.tree.append(leaf_hash(entry))
        if self.tree.size < checkpoint.size:
            raise Unverified(f"entries {self.tree.size} to {checkpoint.size} of the directory log are withheld")
        if self.tree.root(checkpoint.size) != checkpoint.root:
            raise Unverified(f"the directory log was forked: another history at {checkpoint.size} entries")
        if dating.misdated is not None:
            raise Unverified(dating.misdated)
        if checkpoint.size >= held:
            self.cabinet.append_entries(DIRECTORY, held, fresh)
            self.cabinet.put_log_state(DIRECTORY, checkpoint.size, checkpoint.root, note)
            if self.watch is not None:
                self.watch(held, fresh, self.directory)

    def read_checkpoint(self, log: str, note: bytes) -> Checkpoint:
        """The checkpoint of that log, if every key of the relay for it has signed it. Raises Unverified."""
        verifiers = self.verifiers(log)
        text = verify_note(note, verifiers)
        checkpoint = parse_checkpoint_body(text)
        if checkpoint.origin != verifiers[0].name:
            raise Unverified(f"a checkpoint of {checkpoint.origin} where {verifiers[0].name} was due")
        return checkpoint

    def signed_at(self, log: str, note: bytes) -> int:
        """When the relay signed this checkpoint, as it says itself, in seconds since 1970. Raises Unverified."""
        return signed_at(note, next(key for key in self.verifiers(log) if key.type == MLDSA44))

    def verifiers(self, log: str) -> list[NoteVerifier]:
        found = [key for key in map(parse_vkey, self.relay_keys) if key.name.rpartition("/")[2] == log]
        if {key.type for key in found} != {ED25519, MLDSA44}:
            raise Unverified(f"not both an Ed25519 and an ML-DSA-44 key are pinned for the relay's {log} log")
        return found

    def seen(self, log: str = ACCESS) -> int:
        """Size of the largest tree of that log that was verified here."""
        state = self.cabinet.log_state(log)
        return state.size if state is not None else 0

    def verify_logged(self, logged: LoggedEntry, transport: Transport) -> AccessEntry:
        """The entry, as its device's holder's, if it is included under a checkpoint consistent with every one seen."""

        def verify() -> AccessEntry:
            checkpoint = self.read_checkpoint(ACCESS, logged.checkpoint)
            verify_inclusion(leaf_hash(logged.entry), logged.index, checkpoint.size, logged.proof, checkpoint.root)
            self.advance(checkpoint, logged.checkpoint, logged.consistency, transport)
            entry = parse_access_entry(logged.entry)
            verify_actor(entry, self.directory)
            return entry

        return self.alarmed(logged.checkpoint, verify)

    def advance(self, new: Checkpoint, note: bytes, consistency: tuple[bytes, ...], transport: Transport) -> None:
        """Move the access log's head to `new`, or check that `new` lies before it. Raises Unverified.

        While the relay is asked nothing is locked. Where another process moved the head meanwhile, it is held against
        that one too.
        """
        while True:
            state = self.cabinet.log_state(ACCESS)
            if state is not None:
                _verify_one_log((state.size, state.root), (new.size, new.root), consistency, transport)
            with self.cabinet.transaction():
                if self.cabinet.log_state(ACCESS) == state:
                    if state is None or new.size > state.size:
                        self.cabinet.put_log_state(ACCESS, new.size, new.root, note)
                    return

    def is_trusted(self, device: Device) -> bool:
        """Whether the authority that vouches for this device is ours, or a party to an agreement ours has signed."""
        trusted = self.directory.trusted_kids(self.own_kid)
        return trusted.get(self.directory.authority_kid_of(device)) == device.office

    def check_sender_view(self, view: tuple[str, int, bytes]) -> None:
        """Compare the directory that a sender says it saw with ours: two histories shown to two offices meet here.

        It is the sender's word, so it condemns this message and nothing else: no alarm, or any officer of any
        partner could stop ours.
        """
        origin, size, root = view
        if origin != self.verifiers(DIRECTORY)[0].name:
            raise Unverified(f"the sender speaks of another directory, {origin}")
        if not 0 < size <= self.tree.size:
            raise Unverified(f"the sender saw {size} entries of the directory log, we were shown {self.tree.size}")
        if self.tree.root(size) != root:
            raise Unverified("the directory log was forked: the sender was shown another history")

    def require_no_alarm(self) -> None:
        """Raise Unverified while an alarm is unresolved."""
        if alarms := self.cabinet.alarms():
            raise Unverified(
                f"unresolved alarm: {alarms[0].text}",
                hint="find out why; then: liaison status --resolve " + alarms[0].alarm_id,
            )

    def alarmed(self, evidence: bytes, check: Callable[[], T]) -> T:
        """What `check` returns; if it finds that a log lies, an alarm is kept with the evidence. Raises Unverified."""
        try:
            return check()
        except (Unverified, Malformed) as problem:
            self.cabinet.raise_alarm(str(problem), evidence, int(time.time()))
            raise Unverified(str(problem), hint=problem.hint) from problem


def _directory_page(answer: bytes) -> tuple[bytes, list[bytes]]:
    note, page = read_array(answer, 2, "directory")
    entries = [expect(entry, bytes, "directory: entry") for entry in expect(page, list, "directory")]
    return expect(note, bytes, "directory: checkpoint"), entries


def _apply(directory: Directory, entry: bytes) -> DirectoryEntry:
    try:
        return directory.apply(entry)
    except LiaisonError as problem:
        raise Unverified(f"directory entry {directory.size} does not hold: {problem}") from problem


def _verify_one_log(
    held: tuple[int, bytes], new: tuple[int, bytes], consistency: tuple[bytes, ...], transport: Transport
) -> None:
    old, young = sorted([held, new])
    if old[0] == young[0] and old[1] != young[1]:
        raise Unverified(f"the access log was forked: another history at {old[0]} entries")
    if 0 < old[0] < young[0]:
        _verify_growth(old, young, consistency, transport)


def _verify_growth(
    old: tuple[int, bytes], young: tuple[int, bytes], consistency: tuple[bytes, ...], transport: Transport
) -> None:
    try:
        verify_consistency(*old, *young, consistency)
    except Unverified:
        # The hashes that came along lead from another tree, if another process moved the head meanwhile: ask again.
        try:
            asked = decode(transport.get("/v1/log/access/consistency", old=old[0], new=young[0]), "consistency")
        except Unknown:
            raise Unverified(f"the relay cannot prove that the access log grew from {old[0]} to {young[0]}") from None
        verify_consistency(
            *old, *young, [expect(step, bytes, "consistency") for step in expect(asked, list, "consistency")]
        )
