"""Whether this process should be given more to do: while the database takes what is written, and nobody drains it."""

from __future__ import annotations

import asyncio
import time

from sqlalchemy import delete, insert

from relay.observe import DRAINING
from relay.pipeline.batch import Answer, Batch
from relay.pipeline.writer import Writer
from relay.protocol.header import Precedence
from relay.store.engine import unavailable
from relay.store.schema import setting

_FRESH, _PATIENCE = 1.0, 5.0  # seconds
_PROOF = "written at"  # the setting by which the database is asked whether it takes a write


class Pulse:
    """Asked by whoever decides where requests go."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._draining = False
        self._proven = -_FRESH  # when the database was last seen to take a write, on the monotonic clock
        self._proving: asyncio.Task[None] | None = None

    def drain(self) -> None:
        """No longer ready for more; what comes is served all the same."""
        self._draining = True
        DRAINING.set(1)

    async def ready(self) -> bool:
        """Whether more may come. Raises Unavailable where the database does not take what is written.

        Anybody may ask, so the database is asked once in `_FRESH` seconds, and who asks meanwhile is told the same.
        """
        if not self._draining and time.monotonic() - self._proven >= _FRESH:
            if self._proving is None or self._proving.done():
                self._proving = asyncio.create_task(self._prove())
            await asyncio.shield(self._proving)
        return not self._draining

    async def _prove(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                # A relay that turns ROUTINE away can commit: taken out, it would leave its load to the others.
                await self._writer.submit(_prove_writable, precedence=Precedence.FLASH)
        except TimeoutError as problem:
            raise unavailable() from problem
        self._proven = time.monotonic()


def _prove_writable(batch: Batch) -> Answer:
    # A value that was not there before: SQLite leaves the disk alone where a row is what it was.
    batch.connection.execute(delete(setting).where(setting.c.name == _PROOF))
    batch.connection.execute(insert(setting).values(name=_PROOF, value=str(batch.now_ms)))
    return lambda _committed: None
