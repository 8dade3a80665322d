"""The way in: a signed request becomes a caller, or a job that is committed under that caller's name.

The rules:
  - nothing that a request says is believed before its signature verifies, and no long body is read before that;
  - a device that is not known here may have been enrolled by another process: it is looked for once more after
    catching up;
  - a nonce is used once, by this process or, where several serve from one database, by any (nonces.py); where one
    serves, by the next one too.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from relay.pipeline.batch import Job
from relay.pipeline.writer import Writer
from relay.protocol.claim import Checking, settle
from relay.protocol.header import Precedence

from .caller import Caller, Doorkeeper, Request, UnknownDevice, recognise
from .nonces import once, use_up, used
from .readingroom import ReadingRoom

_LONG = 64 * 1024  # octets


class Door:
    """Where every signed request comes in. `shared` is whether other processes serve from the same database."""

    def __init__(self, writer: Writer, room: ReadingRoom, *, shared: bool) -> None:
        self._writer, self._room, self._shared = writer, room, shared
        self._doorkeeper = Doorkeeper(0 if shared else int(time.time()))

    async def await_own_second(self) -> None:
        """Where used nonces are this process's memory alone, begin a second that no earlier process has served in.

        A signature's time is in whole seconds; what was signed before this one is refused from now on. What was signed
        for later, and used already, is remembered.
        """
        if not self._shared:
            first = int(time.time()) + 1
            self._doorkeeper = Doorkeeper(first, await self._room.look(used))
            await asyncio.sleep(first - time.time())

    async def recognise(self, request: Request) -> None:
        """Raises Unauthenticated unless a device signed this that may act. Its nonce is as good as before.

        For before a long body is read; with its body the request is then authenticated as every other.
        """
        try:
            settle(self._recognise(request))
        except UnknownDevice:
            await self._writer.catch_up()
            settle(self._recognise(request))

    def _recognise(self, request: Request) -> Checking[Caller]:
        return recognise(request, self._writer.committer.directory, int(time.time()))

    async def authenticate(self, request: Request) -> Caller:
        """The device that signed this request, for one that changes nothing. Raises Unauthenticated, Unavailable.

        Whether another process has revoked it since is found out by the look for which it came.
        """
        try:
            caller = await self._identify(request)
        except UnknownDevice:
            await self._writer.catch_up()
            caller = await self._identify(request)
        if self._shared:
            await self._room.note(lambda connection: use_up(connection, caller))
        elif caller.early:
            look = once(caller, Job(lambda _batch: lambda _committed: None))
            await self._writer.submit(look.run, look.needs)
        return caller

    async def _identify(self, request: Request) -> Caller:
        check = self.check(request)
        if len(request.body) > _LONG:  # its digest would hold the others up
            return await asyncio.to_thread(settle, check)
        return settle(check)

    def check(self, request: Request) -> Checking[Caller]:
        """Who signed this request, up to the signatures that somebody else verifies."""
        return self._doorkeeper.authenticate(request, self._writer.committer.directory, int(time.time()))

    async def commit(
        self,
        request: Request,
        prepare: Callable[[Caller], Job | Checking[Job]],
        precedence: Precedence = Precedence.ROUTINE,
    ) -> bytes:
        """Authenticate on the checking thread, then commit the job that `prepare` makes for this caller: its answer."""

        def check() -> Checking[Job]:
            caller = yield from self.check(request)
            prepared = prepare(caller)
            job = prepared if isinstance(prepared, Job) else (yield from prepared)
            return once(caller, job) if self._shared or caller.early else job

        try:
            answer: bytes = await self._writer.check(check(), precedence)
        except UnknownDevice:
            await self._writer.catch_up(precedence)
            answer = await self._writer.check(check(), precedence)
        return answer
