"""What callers look at and nobody changes by looking: mail, parts, receipts, stock, the directory, the logs.

Looks run on reading connections and on threads. Each sees a directory that holds every change that was durable before
it began, and nothing is read for a caller who may no longer act.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from typing import TypeVar
from weakref import WeakValueDictionary

from sqlalchemy import Connection, Engine, func, select

from relay.protocol.access import Judge
from relay.protocol.canonical import encode
from relay.protocol.directory import Device, Directory
from relay.protocol.errors import LiaisonError, Unavailable, Unknown
from relay.protocol.parts import CHUNK
from relay.protocol.tiles import parse_tile_path
from relay.store import log as log_rows
from relay.store.engine import DATABASE_AWAY, unavailable, with_reader
from relay.store.log import Log
from relay.store.schema import document, message

from . import alarm, hold, keyroom, open, reading, uploads  # noqa: A004 - the field's verb
from .bell import Bell
from .caller import Caller, current, require_mailbox
from .limits import MAX_WAIT

T = TypeVar("T")
_POLL = 15.0  # seconds; how late mail can be noticed that another process accepted


class ReadingRoom:
    """Every look. `directory` and `judge` are the relay's as of now; `catch_up` takes in what others have changed."""

    def __init__(
        self,
        readers: Engine,
        directory: Callable[[], Directory],
        judge: Callable[[], Judge],
        catch_up: Callable[[], Awaitable[None]],
        bell: Bell,
        chunks: uploads.Chunks,
    ) -> None:
        self._readers, self._directory, self._judge = readers, directory, judge
        self._catch_up, self._bell, self._chunks = catch_up, bell, chunks
        self._turns = WeakValueDictionary[bytes, asyncio.Lock]()  # of devices that are reading

    async def inbox(self, caller: Caller, after: int, wait: float) -> bytes:
        """[cursor, [[cursor, message]...]] of what waits after a cursor; waits up to `wait` seconds for the first."""
        require_mailbox(caller)
        deadline = time.monotonic() + min(wait, MAX_WAIT)
        with self._bell.listen(caller.device.device_id) as listener:
            while True:
                page = await self.look(partial(self._inbox_page, caller.device, after), caller)
                left, is_end = deadline - time.monotonic(), page.cursor == after
                if page.items or (is_end and (left <= 0 or self._bell.silent)):
                    return encode(page.fields())
                after = page.cursor
                if is_end:
                    await listener.wait(min(left, _POLL))

    async def check_mailbox(self, caller: Caller) -> None:
        """Raise Refused or Unauthenticated unless the caller may wait for mail."""
        require_mailbox(caller)
        await self.look(lambda _connection: None, caller)

    async def new_mail(self, caller: Caller, after: int) -> AsyncIterator[reading.InboxPage]:
        """Pages of new mail as it comes, each once, until the device may no longer act or the database is gone."""
        ahead = set[int]()  # what was urgent enough to be told of before its turn
        with self._bell.listen(caller.device.device_id) as listener:
            while True:
                try:
                    page = await self.look(partial(self._inbox_page, caller.device, after), caller)
                except LiaisonError:  # a stream that has begun can only end; asking again gets the reason
                    return
                is_end, after = page.cursor == after, page.cursor
                fresh = [item for item in page.items if item.cursor not in ahead]
                ahead = {number for number in ahead.union(item.cursor for item in fresh) if number > after}
                if fresh:
                    yield reading.InboxPage(after, fresh)
                elif not is_end:
                    continue
                elif self._bell.silent:  # the reader comes back with the last id it saw
                    return
                else:
                    await listener.wait(_POLL)

    def _inbox_page(self, device: Device, after: int, connection: Connection) -> reading.InboxPage:
        return reading.inbox(connection, self._judge(), device, after, int(time.time()))

    async def part(self, caller: Caller, message_id: bytes, index: int, chunk: int | None) -> bytes:
        """A chunk of a sealed part; of one that came in a submission, without a number, all of it."""
        sealed, upload_id = await self.look(
            lambda connection: reading.sealed_part(connection, caller.device, message_id, index), caller
        )
        if upload_id is not None:
            sealed = await asyncio.to_thread(self._chunks.get, upload_id, chunk or 0)
        elif sealed is not None and chunk is not None:
            sealed = sealed[chunk * CHUNK : (chunk + 1) * CHUNK]
        if not sealed:
            raise open.not_available()
        return sealed

    async def receipts(self, caller: Caller, message_id: bytes) -> bytes:
        return encode(
            await self.look(lambda connection: reading.receipts(connection, caller.device, message_id), caller)
        )

    async def evidence(self, caller: Caller, message_id: bytes) -> bytes:
        return encode(
            await self.look(lambda connection: reading.evidence(connection, caller.device, message_id), caller)
        )

    async def alarms(self, caller: Caller, after: int) -> bytes:
        return await self.look(lambda connection: alarm.alarms_of(connection, caller, after), caller)

    async def holds(self, caller: Caller, after: int) -> bytes:
        return await self.look(lambda connection: hold.holds_of(connection, caller, after), caller)

    async def stock(self, caller: Caller) -> bytes:
        require_mailbox(caller)
        now = int(time.time())
        return encode(await self.look(lambda c: keyroom.stock_of(c, caller.device.device_id, now), caller))

    async def directory(self, caller: Caller, first: int, count: int) -> bytes:
        """[checkpoint, [entry...]] of the directory log from `first` on, the checkpoint of all entries so far."""

        def look(connection: Connection) -> bytes:
            size = log_rows.sizes(connection)[Log.DIRECTORY]
            note = log_rows.checkpoint_at(connection, Log.DIRECTORY, size) or b""
            entries = reading.directory_entries(connection, first, max(0, min(count, size - first)))
            return encode([bytes(note), entries])

        return await self.look(look, caller)

    async def document(self, caller: Caller, digest: bytes) -> bytes:
        """The content of a published file with this digest. Raises Unknown."""
        found = await self.look(
            lambda c: c.scalar(select(document.c.content).where(document.c.digest == digest)), caller
        )
        if found is None:
            raise Unknown("there is no document with this digest")
        return bytes(found)

    async def tile(self, log: Log, path: str) -> bytes:
        """A hash tile by its tlog-tiles path below the log's prefix."""
        wanted = parse_tile_path(path)
        if wanted.level == "entries":
            raise Unknown("entries of this log are not public")
        return await self.look(lambda connection: reading.tile(connection, log, wanted))

    async def directory_bundle(self, caller: Caller, path: str) -> bytes:
        wanted = parse_tile_path(path)
        return await self.look(lambda connection: reading.directory_bundle(connection, wanted), caller)

    async def consistency(self, log: Log, old: int, new: int) -> bytes:
        """Hashes that prove the tree of `new` entries to extend that of `old`."""
        return encode(await self.look(lambda connection: reading.consistency(connection, log, old, new)))

    def count_messages(self) -> int:
        return with_reader(
            self._readers, lambda connection: connection.scalar(select(func.count()).select_from(message)) or 0
        )

    async def look(self, reader: Callable[[Connection], T], caller: Caller | None = None) -> T:
        """Read, with a directory that holds every change that was durable before: a revocation elsewhere holds here.

        Nothing is read for a `caller` who may no longer act, and for a device one thing at a time: who asks for much
        at once waits for himself.
        """

        def find(connection: Connection) -> tuple[bool, T | None]:
            directory = self._directory()
            if log_rows.sizes(connection)[Log.DIRECTORY] > directory.size:
                return False, None
            if caller is not None:
                current(directory, caller.device.device_id, int(time.time()))
            found = reader(connection)
            # A commit that failed meanwhile has left a directory that knows nobody: nothing is passed over for that.
            return self._directory() is directory, found

        async with self._turn(caller):
            done, found = await reading_database(lambda: with_reader(self._readers, find))
            if not done:
                await self._catch_up()
                done, found = await reading_database(lambda: with_reader(self._readers, find))
        if not done:
            raise Unavailable("the directory is changing", hint="try again")
        return found  # type: ignore[return-value]  # None only where the reader itself returned it

    def _turn(self, caller: Caller | None) -> AbstractAsyncContextManager[None]:
        return nullcontext() if caller is None else self._turns.setdefault(caller.device.device_id, asyncio.Lock())

    async def note(self, write: Callable[[Connection], None]) -> None:
        """Write what may be lost in a crash, whatever the directory says by now. Raises Unavailable."""
        await reading_database(lambda: with_reader(self._readers, write))


async def reading_database(run: Callable[[], T]) -> T:
    """What `run` finds, in a thread. Raises Unavailable."""
    try:
        return await asyncio.to_thread(run)
    except DATABASE_AWAY as problem:
        raise unavailable() from problem


def newest_checkpoint(connection: Connection, log: Log) -> bytes:
    note = log_rows.checkpoint_at(connection, log, log_rows.sizes(connection)[log])
    if note is None:
        raise Unknown("the log has no checkpoint yet")
    return bytes(note)
