"""Large parts before their message: begun, filled chunk by chunk, complete once their digest holds, bound by a message.

The rules:
  - an upload is an office's: to every other one it is not there. Any device of the office may go on with it;
  - its length is stated first and held against the limit and the office's quota;
  - it is complete when all its chunks are durable and together have the digest under which it was begun; if they have
    another, it is no more, and who begins again begins another one: no chunk changes or goes while its upload is there;
  - what no message has taken up ORPHAN_AFTER its last beginning is ended, what one points to never; its row, nobody's
    from then on, says that its chunks are to go, and goes ORPHAN_AFTER that, when none lies there any more;
  - chunks go only by such a row: without one they may be those of another database, or of a newer state of this one.
`relay/store/blobs.py` has the crash states.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, bindparam, case, delete, func, select, update

from relay.pipeline.batch import Answer, Batch, Lookup
from relay.protocol.canonical import encode, expect, expect_bytes, read_array
from relay.protocol.errors import Malformed, TooLarge, Unknown, Unverified
from relay.protocol.header import Core
from relay.protocol.httpsig import verify_body
from relay.protocol.parts import MAX_INLINE, MAX_PART, chunk_count, chunk_length, joined_digest
from relay.store.blobs import Blobs
from relay.store.prepared import Prepared
from relay.store.schema import part, upload

from .caller import Caller, current

ORPHAN_AFTER = 48 * 3600
_NOBODYS = ""  # office of an upload that has ended
_TAKEN_UP = select(part.c.upload_id).where(part.c.upload_id == upload.c.upload_id).exists()
_OWN = select(upload).where(upload.c.office == bindparam("office"), upload.c.digest == bindparam("digest"))
# A part that would have gone in its submission counts like the longest of these: there are only so many within a quota.
_COUNTED = case((upload.c.length < MAX_INLINE, MAX_INLINE), else_=upload.c.length)
_USED = select(func.sum(_COUNTED)).where(upload.c.office == bindparam("office"))
_BOUND: Lookup[bytes, bool] = Lookup(
    Prepared(select(part.c.upload_id).where(part.c.upload_id.in_(bindparam("keys", expanding=True)))),
    key=lambda row: row[0],
    value=lambda _row: True,
)


def begin(batch: Batch, caller: Caller, body: bytes, quota: int) -> Answer:
    """[digest, length]: begin an upload, or go on with one. The answer is the upload's row."""
    digest, length = read_array(body, 2, "upload")
    expect_bytes(digest, 32, "upload: digest")
    if expect(length, int, "upload: length") <= 0:
        raise Malformed("upload: of no length")
    current(batch.directory, caller.device.device_id, batch.now)
    batch.flush()
    found = own(batch.connection, caller.device.office, digest)
    if found is None:
        _check_room(batch.connection, caller.device.office, length, quota)
        row = {
            "upload_id": os.urandom(16), "office": caller.device.office, "digest": digest, "length": length,
            "device_id": caller.device.device_id, "begun": batch.now, "complete": False,
        }  # fmt: skip
        batch.add(upload, row)
        batch.flush()
        found = own(batch.connection, caller.device.office, digest)
    elif found.length != length:
        raise Malformed("upload: begun before with another length")
    else:
        again = update(upload).where(upload.c.upload_id == found.upload_id).values(begun=batch.now)
        batch.connection.execute(again)
    return lambda _committed: found


def own(connection: Connection, office: str, digest: bytes) -> Row[Any] | None:
    """The upload of this digest by this office."""
    return connection.execute(_OWN, {"office": office, "digest": digest}).one_or_none()


def _check_room(connection: Connection, office: str, length: int, quota: int) -> None:
    if length > MAX_PART:
        raise TooLarge(f"a part of {length} octets; the limit is {MAX_PART}")
    used = int(connection.scalar(_USED, {"office": office}) or 0) if quota else 0
    if quota and used + max(length, MAX_INLINE) > quota:
        raise TooLarge(
            f"{office} has {used} octets of large parts here; {length} more exceed its quota of {quota}",
            hint="ask the relay's operator",
        )


def uploaded(batch: Batch, core: Core, parts: tuple[bytes | None, ...]) -> dict[int, bytes]:
    """The uploads that stand for the parts that a submission leaves out, by portion. Raises Malformed."""
    found = {}
    for index in (index for index, sealed in enumerate(parts) if sealed is None):
        portion = core.portions[index]
        row = own(batch.connection, core.office, portion.digest)
        if row is None or not row.complete or row.length != portion.length:
            raise Malformed(f"submission: part {index} was not uploaded before", hint="upload it, then post again")
        upload_id = bytes(row.upload_id)
        if batch.find(_BOUND, upload_id):
            raise Malformed(f"submission: part {index} belongs to another message")
        found[index] = upload_id
    if len(set(found.values())) != len(found):
        raise Malformed("submission: one upload for two parts")
    return found


def bind(batch: Batch, uploaded: dict[int, bytes]) -> None:
    """Let no other message of this batch take these uploads."""
    for upload_id in uploaded.values():
        batch.note(_BOUND, upload_id, True)


def complete(batch: Batch, upload_id: bytes) -> Answer:
    """All chunks are durable and have the digest. Raises Unknown if one under way at that time had spoiled it."""
    there = update(upload).where(upload.c.upload_id == upload_id, upload.c.office != _NOBODYS)
    if not batch.connection.execute(there.values(complete=True)).rowcount:
        raise Unknown("no such upload any more", hint="begin it again")
    return lambda _committed: None


def spoil(batch: Batch, upload_id: bytes) -> Answer:
    """All chunks are durable and have another digest. Whether this ended it: then nobody reaches them any more."""
    spoiled = _end(batch, upload.c.upload_id == upload_id, ~upload.c.complete)
    return lambda _committed: spoiled


def drop_orphans(batch: Batch) -> Answer:
    """End uploads that no message has taken up in time."""
    _end(batch, upload.c.begun < batch.now - ORPHAN_AFTER)
    return lambda _committed: None


def _end(batch: Batch, *which: ColumnElement[bool]) -> bool:
    batch.flush()
    ended = update(upload).where(upload.c.office != _NOBODYS, ~_TAKEN_UP, *which)
    # The digest gives way to the same part, begun again.
    gone = ended.values(office=_NOBODYS, digest=upload.c.upload_id, begun=batch.now)
    return batch.connection.execute(gone).rowcount > 0


def ended(connection: Connection) -> dict[bytes, int]:
    """Uploads whose chunks are to go, and since when."""
    rows = connection.execute(select(upload.c.upload_id, upload.c.begun).where(upload.c.office == _NOBODYS, ~_TAKEN_UP))
    return {bytes(upload_id): since for upload_id, since in rows}


def forget(batch: Batch, gone: dict[bytes, int]) -> Answer:
    """Drop the rows of those that have no chunks and for so long that none is under way any more."""
    row = delete(upload).where(upload.c.upload_id == bindparam("gone"), upload.c.office == _NOBODYS)
    if old := [{"gone": upload_id} for upload_id, since in gone.items() if since < batch.now - ORPHAN_AFTER]:
        batch.connection.execute(row, old)
    return lambda _committed: None


@dataclass(slots=True)
class _Running:
    """The digests of an upload's chunks that came by here, so that they are not read again to be hashed."""

    digests: dict[int, bytes] = field(default_factory=dict)
    arriving: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)


class Chunks:
    """The chunks of all uploads. Safe to call from any thread; `_running` saves time and nothing depends on it.

    What it remembers stays true, whoever else serves: `put` never replaces, and a spoiled upload is not gone on with.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._running: dict[bytes, _Running] = {}

    def missing(self, row: Row[Any]) -> list[int]:
        """What is still to come; of an upload whose digest was not yet seen to hold, at least the last chunk."""
        if row.complete:
            return []
        count = chunk_count(row.length)
        return sorted(set(range(count)) - self._blobs.chunks(bytes(row.upload_id))) or [count - 1]

    def take(self, row: Row[Any], chunk: int, pieces: Sequence[bytes], stated: str | None) -> bool:
        """Keep a chunk; whether it was the last and the digest holds. Raises Malformed, Unauthenticated.

        Unverified if the digest does not hold: then the upload is to be given up.
        """
        count, upload_id, length = chunk_count(row.length), bytes(row.upload_id), sum(map(len, pieces))
        if chunk >= count or length != chunk_length(row.length, chunk):
            raise Malformed(f"upload: chunk {chunk} of {length} octets does not belong to it")
        digest = _digest(pieces)
        verify_body(stated, digest)
        if row.complete:
            return False
        running = self._running.setdefault(upload_id, _Running())
        with running.lock:
            running.arriving.add(chunk)
        kept = False
        try:
            kept = self._blobs.put(upload_id, chunk, pieces)
        finally:
            with running.lock:
                running.arriving.discard(chunk)
                if kept:
                    running.digests[chunk] = digest
        with running.lock:
            if not self._is_whole(upload_id, running, count):
                return False
            self._running.pop(upload_id, None)
            if joined_digest([running.digests[each] for each in range(count)]) != bytes(row.digest):
                raise Unverified("upload: its chunks together have another digest", hint="upload it again")
        return True

    def _is_whole(self, upload_id: bytes, running: _Running, count: int) -> bool:
        """Whether every chunk is there, all digests known; who brings another one asks again when it is durable."""
        for chunk in range(count):
            if chunk in running.digests:
                continue
            stored = None if chunk in running.arriving else self._blobs.get(upload_id, chunk)
            if stored is None:
                return False
            running.digests[chunk] = _digest([stored])
        return True

    def get(self, upload_id: bytes, chunk: int) -> bytes | None:
        return self._blobs.get(upload_id, chunk)

    def stored(self) -> set[bytes]:
        return self._blobs.uploads()

    def remove(self, upload_id: bytes) -> None:
        self._running.pop(upload_id, None)
        self._blobs.remove(upload_id)


def _digest(pieces: Sequence[bytes]) -> bytes:
    hashed = hashlib.sha256()
    for piece in pieces:
        hashed.update(piece)
    return hashed.digest()


def progress(missing: list[int]) -> bytes:
    """What the uploader is told: the numbers of the chunks that are missing."""
    return encode(missing)
