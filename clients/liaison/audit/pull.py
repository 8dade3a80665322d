"""Pulling the access log: verified entry by entry before anything is shown, in memory that does not grow with it.

The rules:
  - the leaves, contents or bare hashes, must hash to the root that the relay's keys signed, and that tree must extend
    the last one seen. An entry must name the holder of its device, and its office; one that is erased must be named by
    a destruction record after it, and one of a hold or a recall must bear the signed words of those who ordered it;
  - a page is kept as it comes; it counts, and is shown, once all up to a checkpoint is verified: a *position*, kept
    with its checkpoint. What is behind the position is what an interrupted pull has left: it is read again and the pull
    goes on after it. Where something does not hold, all that is behind the position is forgotten;
  - what is kept is hashed again before anything is added to it;
  - what was *shown* is another place than the position: other commands verify, and what is written may fail.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

from liaison.client import Client
from liaison.trust import ACCESS, DIRECTORY, relayed
from liaison.witnessing import compare, fetch, log_of, pinned_policy
from relay.protocol.canonical import decode, encode, expect, read_array
from relay.protocol.dating import Dating, Mark
from relay.protocol.errors import Conflict, LiaisonError, Unverified, named
from relay.protocol.note import MLDSA44, signed_at, verify_note
from relay.protocol.tiles import TILE_WIDTH, tile_path
from relay.protocol.tlog import Checkpoint, parse_checkpoint_body
from relay.protocol.witness_policy import cosigned_at

from .pulled import PulledEntry, is_hidden, leaf_of, read_answer, read_row
from .walk import Walk
from .warranted import Warrants

_PAGE = 1000
_PIN = "audit-position"
_SHOWN = "audit-shown"


class Foreign(NamedTuple):
    """A checkpoint that others were shown; where it is from, and what it says of the time."""

    place: str
    log: str
    note: bytes
    whose: str
    marks: Sequence[Mark]


class Position(NamedTuple):
    """How far the copy in the profile has been verified, and under what."""

    size: int = 0
    root: bytes = b""
    latest: int = 0  # milliseconds; the latest time of an entry
    marks: tuple[Mark, ...] = ()
    checkpoint: bytes = b""


class AuditPull:
    """One walk over the whole log. Keeps the leaves of earlier pulls, so that only what is new is fetched."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._cabinet = client.profile.cabinet

    def pull(self) -> None:
        """Fetch what is new and verify it, with what was pulled before, under the newest checkpoint.

        Raises Unverified naming the first entry that does not hold; what was verified before stays.
        """
        position = self.position()
        self._client.trust.load()
        walk = Walk(Dating(position.marks, position.latest), Warrants(self._changes), self._client.trust.directory)
        self._retrace(walk, position)
        self._take_in(walk, position.size, [])

    def verify(self, exchanged: Sequence[tuple[str, bytes]] = ()) -> int:
        """Fetch the whole log anew and check it against the checkpoint and against every earlier pull; its size.

        Against the checkpoint that witnesses have cosigned, where a policy is pinned, and against those `exchanged`
        with others, each with the name of its file. Raises Unverified naming the first entry that does not hold, or the
        file, and the sizes of a fork.
        """
        client, pinned = self._client, pinned_policy(self._cabinet)
        foreign = [self._exchanged(*each) for each in exchanged]
        if pinned is not None:
            note = fetch(client.trust, client.transport, ACCESS, pinned)
            foreign.append(Foreign("the witnesses' checkpoint", ACCESS, note, "the witnesses", self._marks(note)))
        marks = [mark for each in foreign for mark in each.marks]
        walk = Walk(Dating(self.position().marks), Warrants(self._changes), client.trust.directory, Dating(marks))
        self._take_in(walk, 0, foreign, marks)
        return walk.size

    def _take_in(self, walk: Walk, start: int, foreign: Sequence[Foreign], marks: Sequence[Mark] = ()) -> None:
        client = self._client
        try:
            with relayed():
                note = self._follow(walk, start)
            for each in foreign:  # the head they are held against is now that of all leaves above
                with named(each.place):
                    compare(client.trust, client.transport, each.log, each.note, each.whose)
            if walk.others.misdated is not None:  # not before: theirs may be of another history
                raise self._alarm(walk.others.misdated, note)
        except Unverified:
            self._cabinet.drop_entries(ACCESS, min(self.position().size, self._cabinet.count_entries(ACCESS)))
            raise
        kept = [list(mark) for mark in sorted({*self._marks(note), *marks})]
        with self._cabinet.transaction():
            if self._cabinet.count_entries(ACCESS) != walk.size:
                raise Conflict("another `liaison audit` of this profile was at work meanwhile", hint="try again")
            self._cabinet.put_pin(_PIN, encode([walk.size, walk.root(), walk.dating.latest, kept, note]))

    def _retrace(self, walk: Walk, position: Position) -> None:
        """Walk over what is kept: by its hashes up to the position, from there on as if it had just come."""
        for index, row in enumerate(self._cabinet.entries(ACCESS)):
            if index < position.size:
                walk.pass_over(leaf_of(row))
            else:
                walk.take(read_row(index, row))
            if walk.size == position.size and walk.root() != position.root:
                break
        else:
            if walk.size >= position.size:
                return
        raise Unverified(
            "the access log that is kept in this profile is not the one that was verified",
            hint="restore the profile from a backup",
        )

    def _follow(self, walk: Walk, start: int) -> bytes:
        """Take in what the walk lacks, up to a checkpoint of a log that only grew; that checkpoint."""
        client, trust = self._client, self._client.trust
        for _ in range(2):  # erased while we pulled, perhaps: then its record is under a newer checkpoint
            # The checkpoint first: the pull itself is logged, and may make the tree larger than what is pulled.
            note = client.transport.get("/v1/log/access/checkpoint", newest=1)
            checkpoint = trust.alarmed(note, partial(trust.read_checkpoint, ACCESS, note))
            trust.sync(client.transport)  # after it: every change by which something in that tree was judged
            for mark in self._marks(note):
                walk.dating.add(mark)
            self._fetch(walk, checkpoint, note)
            if walk.root() != checkpoint.root:
                raise self._alarm(f"{self._where(start, walk.size)} of the access log does not hold", note)
            if (unaccounted := walk.erased.first()) is None:
                break
        else:
            raise self._alarm(f"entry {unaccounted} of the access log was erased, and no record says so", note)
        trust.alarmed(note, lambda: trust.advance(checkpoint, note, (), client.transport))
        if (wrong := walk.dating.misdated or walk.false_actor or walk.warrants.fault) is not None:
            raise self._alarm(wrong, note)
        return note

    def _fetch(self, walk: Walk, checkpoint: Checkpoint, note: bytes) -> None:
        """Pages up to the checkpoint, each compared with what was pulled before, which says where a log was changed."""
        while page := self._page(walk.size, checkpoint.size):
            first, held = walk.size, self._cabinet.count_entries(ACCESS)
            earlier = self._cabinet.entries(ACCESS, first) if first < held else iter(())
            grown = dict[int, bytes]()  # the scope has, since this was a hash: what hashes to it is kept in its place
            for (row, now), before in zip(page, earlier, strict=False):
                if now.entry is not None and is_hidden(before):
                    grown[now.index] = row
                if leaf_of(before) != now.leaf_hash:
                    raise self._alarm(
                        f"entry {now.index} of the access log is not the one that was pulled before", note
                    )
            self._cabinet.replace_entries(ACCESS, grown)
            for _row, entry in page:
                walk.take(entry)
            if walk.size > held:
                self._cabinet.append_entries(ACCESS, held, [row for row, _entry in page[held - first :]])
        held, size = self._cabinet.count_entries(ACCESS), checkpoint.size
        if walk.size < held:
            gone = f"entry {walk.size} of the access log is gone"
            raise self._alarm(f"{gone}: it went back from {held} entries to {walk.size}", note)
        if walk.size < size:
            raise self._alarm(f"entries {walk.size} to {size} of the access log are withheld", note)
        if walk.size > size:
            raise self._alarm(f"the access log went back from {walk.size} entries to {size}", note)

    def _page(self, first: int, size: int) -> list[tuple[bytes, PulledEntry]]:
        if first >= size:
            return []
        answer = self._client.transport.get("/v1/audit/entries", after=first, count=min(_PAGE, size - first))
        _size, rows = read_array(answer, 2, "audit entries")
        return [read_answer(index, row) for index, row in enumerate(expect(rows, list, "audit entries"), first)]

    def _where(self, start: int, size: int) -> str:
        """The first entry whose hash differs from the log's own hash tiles, as near as hashes can tell."""
        begin = start - start % TILE_WIDTH
        rows = self._cabinet.entries(ACCESS, begin)
        for first in range(begin, size, TILE_WIDTH):
            leaves = [leaf_of(row) for row in islice(rows, TILE_WIDTH)]
            path = tile_path(0, first // TILE_WIDTH, len(leaves))
            try:
                tile = self._client.transport.get(f"/v1/log/access/{path}")
            except LiaisonError:
                return f"entry {first} or a later one"
            for offset, leaf in enumerate(leaves):
                if tile[32 * offset : 32 * offset + 32] != leaf:
                    return f"entry {first + offset}"
        return f"an entry from {start} on" if start < size else "an earlier entry"

    def _changes(self, start: int) -> Iterator[bytes]:
        """The verified entries of the directory log, from `start` on."""
        return self._cabinet.entries(DIRECTORY, start)

    def _exchanged(self, file: str, note: bytes) -> Foreign:
        with named(file):
            log = log_of(self._client.trust, note)
            return Foreign(file, log, note, "others", self._marks(note) if log == ACCESS else [])

    def _marks(self, note: bytes) -> list[Mark]:
        """What the signatures of a checkpoint say of its time: the log's, and those of the pinned witnesses."""
        own, pinned = self._client.trust.verifiers(ACCESS), pinned_policy(self._cabinet)
        witnesses = [each.verifier for each in pinned.policy.witnesses.values()] if pinned is not None else []
        size = parse_checkpoint_body(verify_note(note, [*own, *witnesses], required=own)).size
        timed = next(key for key in own if key.type == MLDSA44)
        return [Mark(size, at) for at in (signed_at(note, timed), *cosigned_at(note, witnesses).values())]

    def _alarm(self, text: str, evidence: bytes) -> Unverified:
        self._cabinet.raise_alarm(text, evidence, int(time.time()))
        return Unverified(text)

    def position(self) -> Position:
        """How far what is kept has been verified."""
        found = self._cabinet.pin(_PIN)
        if found is None:
            return Position()
        size, root, latest, marks, note = read_array(found, 5, "cabinet audit position")
        return Position(size, root, latest, tuple(Mark(*mark) for mark in marks), note)

    def entries(self, first: int = 0) -> Iterator[PulledEntry]:
        """What has been verified, from entry `first` on, a few at a time."""
        rows = islice(self._cabinet.entries(ACCESS, first), self.position().size - first)
        return (read_row(index, row) for index, row in enumerate(rows, first))

    def count(self) -> int:
        return self.position().size

    def shown(self) -> int:
        """How many of them a pull has written, whole, to where it was asked to."""
        found = self._cabinet.pin(_SHOWN)
        return 0 if found is None else expect(decode(found, "cabinet audit shown"), int, "cabinet audit shown")

    def mark_shown(self, size: int) -> None:
        self._cabinet.put_pin(_SHOWN, encode(size))

    def left_over(self) -> int:
        """Entries that an interrupted pull has fetched; they are verified with the next one."""
        return self._cabinet.count_entries(ACCESS) - self.position().size
