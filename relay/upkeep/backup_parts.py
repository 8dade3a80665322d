"""Large parts in a backup: a record for each chunk, after the database's rows.

    chunk   = ["chunk", upload, number, octets]

The rules:
  - only what a message has taken up is in the file: an upload on its way begins again elsewhere;
  - a chunk that is missing spoils the backup: what it would restore could not be read;
  - restored chunks are durable before the rows that point to them, and gone again if the restore fails;
  - where chunks of the same upload lie, nothing is restored: a database that serves may need them, and the restored one
    would remove them when it destroys their message.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, select

from relay.protocol.canonical import expect, expect_bytes
from relay.protocol.errors import Conflict, Malformed, Unverified
from relay.protocol.parts import chunk_count
from relay.store.blobs import Blobs
from relay.store.schema import part, upload

from .logwalk import Progress

CHUNK_RECORD: Final = "chunk"
TAKEN_UP: Final = upload.c.upload_id.in_(select(part.c.upload_id).where(part.c.upload_id.is_not(None)))


def chunk_records(connection: Connection, blobs: Blobs, progress: Progress) -> Iterator[list[Any]]:
    """Every chunk of every upload that a message points to, one in memory at a time. Raises Unverified."""
    done = 0
    taken_up = select(upload.c.upload_id, upload.c.length).where(TAKEN_UP).order_by(upload.c.upload_id)
    for upload_id, length in connection.execute(taken_up):
        for number in range(chunk_count(length)):
            sealed = blobs.get(bytes(upload_id), number)
            if sealed is None:
                raise Unverified(
                    f"chunk {number} of {bytes(upload_id).hex()} is missing",
                    hint="if its message was destroyed meanwhile, back up again; else relay check names the message",
                )
            yield [CHUNK_RECORD, bytes(upload_id), number, sealed]
            done += 1
            progress("chunks of large parts", done)


@dataclass(slots=True)
class Unpacking:
    """Chunks on their way back into a store."""

    blobs: Blobs
    fresh: set[bytes] = field(default_factory=set)  # uploads of which nothing was there

    def put(self, record: list[Any]) -> None:
        """Keep one chunk, durably. Raises Conflict where chunks of its upload lie already."""
        if len(record) != 4:
            raise Malformed("backup: a chunk of another form")
        upload_id, number = expect_bytes(record[1], 16, "backup: upload"), expect(record[2], int, "backup: chunk")
        sealed = expect(record[3], bytes, "backup: chunk")
        lies_there = upload_id not in self.fresh and bool(self.blobs.chunks(upload_id))
        if lies_there or not self.blobs.put(upload_id, number, [sealed]):
            self.fresh.discard(upload_id)  # somebody else's as well: not undone
            raise Conflict(
                f"chunks of {upload_id.hex()} lie where large parts are restored to",
                hint="a restore needs an empty place: move away what no database needs, or name another in RELAY_PARTS",
            )
        self.fresh.add(upload_id)

    def undo(self) -> None:
        for upload_id in self.fresh:
            self.blobs.remove(upload_id)


@contextmanager
def unpacking(blobs: Blobs) -> Iterator[Unpacking]:
    """Restored chunks stay if all goes well, and only then."""
    restored = Unpacking(blobs)
    try:
        yield restored
    except BaseException:
        restored.undo()
        raise
