"""What a relay does by itself, with no caller behind it: destroy what is due, and look after parts and partitions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from relay.observe import tell
from relay.pipeline.batch import Answer, Batch
from relay.pipeline.writer import Writer
from relay.protocol.access import Judge
from relay.protocol.header import Precedence
from relay.store.engine import forget_erased
from relay.store.partitions import Widths, tend

from . import keyroom, uploads
from .clock import SweepClock
from .outlook import Outlook
from .readingroom import ReadingRoom, reading_database
from .retention import Sweep, Swept


class Sweeper:
    """One for each relay. `widths` are those of the partitions that it makes."""

    def __init__(
        self,
        readers: Engine,
        writer: Writer,
        room: ReadingRoom,
        judge: Callable[[], Judge],
        chunks: uploads.Chunks,
        clock: SweepClock,
    ) -> None:
        self._readers, self._writer, self._room, self._judge, self._chunks = readers, writer, room, judge, chunks
        self._clock = clock
        self._outlook = Outlook()
        self.widths = Widths(28, 1 << 24)

    async def sweep(self, *, trust_clock: bool = False) -> Swept:
        """Destroy what is due and forget keys that have ended, a little at a time and behind all traffic.

        Raises ClockAhead, before anything was done, unless the operator says that the clock is to be trusted.
        """
        await self._writer.submit(partial(self._begin, trust_clock=trust_clock), precedence=Precedence.DEFERRED)
        sweep, messages, entries = Sweep(self._outlook), 0, 0
        while (job := await self._room.look(lambda c: sweep.next_job(c, self._judge(), int(time.time())))) is not None:
            swept: Swept = await self._destroy(partial(lambda destroy, batch: destroy(batch, self._judge()), job))
            messages, entries = messages + swept.messages, entries + swept.entries
        while await self._destroy(keyroom.drop_ended):
            pass
        await reading_database(lambda: forget_erased(self._readers))
        await asyncio.to_thread(tend_partitions, self._readers, self.widths)
        await self._sweep_parts()  # last: where they lie may be away for long
        return Swept(messages, entries)

    def _begin(self, batch: Batch, *, trust_clock: bool) -> Answer:
        (self._clock.vouch if trust_clock else self._clock.believe)(batch)
        return lambda _committed: None

    async def _destroy(self, job: Callable[[Batch], Answer]) -> Any:
        def run(batch: Batch) -> Answer:
            self._clock.believe(batch)
            return job(batch)

        return await self._writer.submit(run, precedence=Precedence.DEFERRED)

    async def _sweep_parts(self) -> None:
        """End uploads that no message took up, and remove the chunks of those that have ended. Nothing else is ours."""
        stored = await asyncio.to_thread(self._chunks.stored)
        await self._destroy(uploads.drop_orphans)
        ended = await self._room.look(uploads.ended)
        for upload_id in ended.keys() & stored:
            await asyncio.to_thread(self._chunks.remove, upload_id)
        gone = {upload_id: since for upload_id, since in ended.items() if upload_id not in stored}
        await self._writer.submit(lambda batch: uploads.forget(batch, gone))


def tend_partitions(engine: Engine, widths: Widths) -> None:
    """What cannot be done now is told, and done the next time: nothing is refused for want of a partition."""
    try:
        if not tend(engine, int(time.time()) // 86400, widths):
            tell(logging.WARNING, "partitions not tended", reason="a reader is in the way")
    except DBAPIError as problem:  # such as a role that owns no tables: then `relay migrate` has to do it
        tell(logging.ERROR, "partitions not tended", error=problem)
