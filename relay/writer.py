"""One thread that commits what many requests want, together.

Batches adapt to load by themselves: the thread takes whatever waits when the last commit is done. An idle
relay commits a lone request at once; a busy one shares each fsync among all that arrived meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from typing import Any

from relay.committer import Committer, Job, Outcome
from relay.observe import QUEUE
from relay.protocol.errors import Unavailable

_MAX_BATCH = 256
_Waiting = tuple[Job, asyncio.AbstractEventLoop, "asyncio.Future[Any]"]


class Writer:
    """Give it jobs from event loops; each future resolves after the commit that holds its job."""

    def __init__(self, committer: Committer) -> None:
        self.committer = committer
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="relay-writer", daemon=True)
        self._closed = False

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Commit what waits, then stop."""
        self._closed = True
        self._queue.put(None)
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    async def submit(self, job: Job) -> Any:
        """Run the job in the next batch; return its answer or raise its error."""
        if self._closed:
            raise Unavailable("the relay is shutting down", hint="try again in a moment")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        self._queue.put((job, loop, future))
        QUEUE.inc()
        return await future

    def _run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            last = self._take_waiting(batch)
            QUEUE.dec(len(batch))
            outcomes = self._commit([job for job, _loop, _future in batch])
            loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Outcome]]] = {}
            for (_job, loop, future), outcome in zip(batch, outcomes, strict=True):
                loops.setdefault(loop, []).append((future, outcome))
            for loop, pairs in loops.items():
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                    loop.call_soon_threadsafe(_resolve, pairs)
            if last:
                return

    def _commit(self, jobs: list[Job]) -> list[Outcome]:
        try:
            return self.committer.commit(jobs)
        except Exception as problem:  # noqa: BLE001 - the one writer must outlive whatever happens to a batch
            return [Outcome(error=problem) for _ in jobs]

    def _take_waiting(self, batch: list[_Waiting]) -> bool:
        while len(batch) < _MAX_BATCH:
            try:
                waiting = self._queue.get_nowait()
            except queue.Empty:
                return False
            if waiting is None:
                return True
            batch.append(waiting)
        return False


def _resolve(pairs: list[tuple[asyncio.Future[Any], Outcome]]) -> None:
    for future, outcome in pairs:
        if future.cancelled():
            continue
        if outcome.error is not None:
            future.set_exception(outcome.error)
        else:
            future.set_result(outcome.value)
