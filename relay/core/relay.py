"""The relay itself: one method per thing a caller can want.

Verification that needs no database runs on worker threads (it releases the interpreter's lock), decisions and
changes run in the one writer, looks run on reading connections. Nobody is answered before what the answer
says is durable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TypeVar

from sqlalchemy import Connection, Engine, select

from relay.committer import Committer
from relay.logkeys import LogKeys
from relay.protocol.access import Judge
from relay.protocol.canonical import encode
from relay.protocol.directory import Device
from relay.protocol.entry import Change
from relay.protocol.errors import LiaisonError, Refused, Unauthenticated, Unavailable, Unknown
from relay.protocol.identity import Kind
from relay.protocol.parts import CHUNK
from relay.protocol.tiles import parse_tile_path
from relay.store import log as log_rows
from relay.store.engine import DATABASE_AWAY, unavailable
from relay.store.log import Log
from relay.store.schema import document
from relay.writer import Writer

from . import accept, acknowledge, audit, keyroom, open, reading, register, uploads  # noqa: A004 - the field's verb
from .bell import Bell
from .caller import Caller, Doorkeeper, Request, UnknownDevice
from .limits import MAX_WAIT
from .policies import PolicyShelf

T = TypeVar("T")
_POLL = 15.0  # seconds; how late mail can be noticed that another process accepted
_MAIL = frozenset({Kind.OFFICER, Kind.SYSTEM})


class Relay:
    """Everything a caller can want. Knows nothing of HTTP."""

    def __init__(
        self, writer: Engine, readers: Engine, keys: LogKeys, name: str, chunks: uploads.Chunks, quota: int
    ) -> None:
        self._readers = readers
        self._committer = Committer(writer, readers, keys, name)
        self._writer = Writer(self._committer)
        self._shelf = PolicyShelf(readers)
        self._chunks, self._quota = chunks, quota
        self._bell = Bell()
        self._doorkeeper = Doorkeeper(int(time.time()))
        self.name = name
        self.origins = self._committer.origins
        self.vkeys = keys.vkeys(tuple(self.origins.values()))

    def refuse_before(self, second: int) -> None:
        """Refuse requests signed before this second: those that an earlier process may have answered already."""
        self._doorkeeper = Doorkeeper(second)

    def start(self) -> None:
        self._writer.start()

    def close(self) -> None:
        """Commit what waits, then stop and let go of the database."""
        self._writer.close()
        self._committer.close()
        self._readers.dispose()

    # -- who calls ------------------------------------------------------------------------------------------------

    async def authenticate(self, request: Request) -> Caller:
        """The device that signed this request. One that is not known may have been enrolled by another process."""
        try:
            return self._doorkeeper.authenticate(request, self._committer.directory, int(time.time()))
        except UnknownDevice:
            await self._look(lambda _connection: None)
            return self._doorkeeper.authenticate(request, self._committer.directory, int(time.time()))

    def judge(self) -> Judge:
        """The relay's view, as of now."""
        directory = self._committer.directory
        return Judge(directory, lambda office, ref: self._shelf.policy_of(directory, office, ref))

    # -- messages -------------------------------------------------------------------------------------------------

    async def accept(self, caller: Caller, body: bytes, seen: int) -> bytes:
        """Accept a submission; the receipt, a LoggedEntry."""
        submitted = await asyncio.to_thread(
            accept.check_submission, self._committer.directory, caller, body, int(time.time())
        )
        receipt: bytes = await self._writer.submit(
            lambda batch: accept.accept(batch, self.judge(), caller, submitted, seen)
        )
        self._bell.ring(each.device_id for each in submitted.slots)
        return receipt

    async def inbox(self, caller: Caller, after: int, wait: float) -> bytes:
        """[cursor, [[cursor, message]...]] of what waits after a cursor; waits up to `wait` seconds for the first."""
        _require_mailbox(caller)
        deadline = time.monotonic() + min(wait, MAX_WAIT)
        with self._bell.listen(caller.device.device_id) as listener:
            while True:
                page = await self._look(partial(self._inbox_page, caller.device, after), caller)
                left = deadline - time.monotonic()
                if page.items or left <= 0:
                    return encode(page.fields())
                after = page.cursor
                await listener.wait(min(left, _POLL))

    async def check_mailbox(self, caller: Caller) -> None:
        """Raise Refused or Unauthenticated unless the caller may wait for mail."""
        _require_mailbox(caller)
        await self._look(lambda _connection: None, caller)

    async def new_mail(self, caller: Caller, after: int) -> AsyncIterator[reading.InboxPage]:
        """Pages of new mail as it comes, until the device may no longer act or the database is gone."""
        with self._bell.listen(caller.device.device_id) as listener:
            while True:
                try:
                    page = await self._look(partial(self._inbox_page, caller.device, after), caller)
                except LiaisonError:  # a stream that has begun can only end; asking again gets the reason
                    return
                after = page.cursor
                if page.items:
                    yield page
                else:
                    await listener.wait(_POLL)

    def _inbox_page(self, device: Device, after: int, connection: Connection) -> reading.InboxPage:
        return reading.inbox(connection, self.judge(), device, after, int(time.time()))

    async def open(self, caller: Caller, message_id: bytes, seen: int) -> bytes:
        """Release the caller's slot of this message: a Delivery."""
        delivery: bytes = await self._writer.submit(
            lambda batch: open.open_slot(batch, self.judge(), caller, message_id, seen)
        )
        return delivery

    async def part(self, caller: Caller, message_id: bytes, index: int, chunk: int | None) -> bytes:
        """A chunk of a sealed part; of one that came in a submission, without a number, all of it."""
        sealed, upload_id = await self._look(
            lambda connection: reading.sealed_part(connection, caller.device, message_id, index), caller
        )
        if upload_id is not None:
            sealed = await asyncio.to_thread(self._chunks.get, upload_id, chunk or 0)
        elif sealed is not None and chunk is not None:
            sealed = sealed[chunk * CHUNK : (chunk + 1) * CHUNK]
        if not sealed:
            raise open.not_available()
        return sealed

    async def begin_part(self, caller: Caller, body: bytes) -> bytes:
        """Begin an upload, or go on with one: the chunks that are missing."""
        _require_mailbox(caller)
        row = await self._writer.submit(lambda batch: uploads.begin(batch, caller, body, self._quota))
        return uploads.progress(await asyncio.to_thread(self._chunks.missing, row))

    async def take_chunk(self, caller: Caller, digest: bytes, chunk: int, sealed: bytes) -> None:
        """Keep a chunk of an upload of the caller's office; durable on return."""
        _require_mailbox(caller)
        row = await self._look(lambda connection: uploads.own(connection, caller.device.office, digest), caller)
        if row is None:
            raise Unknown("no such upload", hint="begin it again")
        if await asyncio.to_thread(self._chunks.take, row, chunk, sealed):
            await self._writer.submit(lambda batch: uploads.complete(batch, bytes(row.upload_id)))

    async def sweep(self) -> None:
        """Remove uploads that no message took up, and chunks of uploads that are no more."""
        stored = await asyncio.to_thread(self._chunks.stored)  # before the rows: an upload's row is there first
        await self._writer.submit(uploads.drop_orphans)
        for upload_id in stored - await self._look(uploads.known):
            await asyncio.to_thread(self._chunks.remove, upload_id)

    async def acknowledge(self, caller: Caller, message_id: bytes, body: bytes, seen: int) -> bytes:
        """Take a reader's signed receipt; the answer is its LoggedEntry."""
        _signed, stated = await asyncio.to_thread(acknowledge.check_receipt, caller, message_id, body)
        logged: bytes = await self._writer.submit(
            lambda batch: acknowledge.acknowledge(batch, caller, stated, body, seen)
        )
        return logged

    async def receipts(self, caller: Caller, message_id: bytes) -> bytes:
        return encode(
            await self._look(lambda connection: reading.receipts(connection, caller.device, message_id), caller)
        )

    # -- keys -----------------------------------------------------------------------------------------------------

    async def publish_keys(self, caller: Caller, body: bytes) -> bytes:
        _require_mailbox(caller)
        checked = await asyncio.to_thread(keyroom.check_batch, caller, body)
        stock: bytes = await self._writer.submit(lambda batch: keyroom.publish(batch, caller, *checked))
        return stock

    async def claim_keys(self, caller: Caller, body: bytes) -> bytes:
        _require_mailbox(caller)
        claimed: bytes = await self._writer.submit(lambda batch: keyroom.claim(batch, caller, body))
        return claimed

    async def stock(self, caller: Caller) -> bytes:
        _require_mailbox(caller)
        now = int(time.time())
        return encode(await self._look(lambda c: keyroom.stock_of(c, caller.device.device_id, now), caller))

    # -- directory ------------------------------------------------------------------------------------------------

    async def publish(self, caller: Caller, body: bytes) -> bytes:
        """Take a signed object into the directory."""
        if caller.device.kind is not Kind.AUTHORITY:
            raise Refused("only an office authority changes the directory", rules=("authority",))
        change, payload, files = await asyncio.to_thread(register.read_publication, body)
        done: bytes = await self._writer.submit(lambda b: register.publish(b, caller, change, payload, files))
        if change is Change.REVOCATION:
            self._bell.ring_all()  # who was revoked while waiting learns it now
        return done

    async def publish_roster(self, caller: Caller, body: bytes) -> bytes:
        """Take a community's roster from its manager."""
        _require_mailbox(caller)
        done: bytes = await self._writer.submit(lambda b: register.publish(b, caller, Change.ROSTER, body, []))
        return done

    async def directory(self, caller: Caller, first: int, count: int) -> bytes:
        """[checkpoint, [entry...]] of the directory log from `first` on, the checkpoint of all entries so far."""

        def look(connection: Connection) -> bytes:
            size = log_rows.sizes(connection)[Log.DIRECTORY]
            note = log_rows.checkpoint_at(connection, Log.DIRECTORY, size) or b""
            entries = reading.directory_entries(connection, first, max(0, min(count, size - first)))
            return encode([bytes(note), entries])

        return await self._look(look, caller)

    async def document(self, caller: Caller, digest: bytes) -> bytes:
        found = await self._look(
            lambda c: c.scalar(select(document.c.content).where(document.c.digest == digest)), caller
        )
        if found is None:
            raise open.not_available()
        return bytes(found)

    # -- logs -----------------------------------------------------------------------------------------------------

    async def checkpoint(self, log: Log) -> bytes:
        """The newest signed note of a log."""
        return await self._look(lambda connection: newest_checkpoint(connection, log))

    async def tile(self, log: Log, path: str) -> bytes:
        """A hash tile by its tlog-tiles path below the log's prefix."""
        wanted = parse_tile_path(path)
        if wanted.level == "entries":
            raise open.not_available()
        return await self._look(lambda connection: reading.tile(connection, log, wanted))

    async def directory_bundle(self, caller: Caller, path: str) -> bytes:
        wanted = parse_tile_path(path)
        return await self._look(lambda connection: reading.directory_bundle(connection, wanted), caller)

    async def consistency(self, log: Log, old: int, new: int) -> bytes:
        """Hashes that prove the tree of `new` entries to extend that of `old`."""
        return encode(await self._look(lambda connection: reading.consistency(connection, log, old, new)))

    async def audit(self, caller: Caller, first: int, count: int) -> bytes:
        if caller.device.kind is not Kind.AUDITOR:
            raise Refused("only an auditor reads the access log", rules=("auditor",))
        pulled: bytes = await self._writer.submit(lambda batch: audit.pull(batch, caller, first, count))
        return pulled

    async def ready(self) -> bool:
        """Whether the database answers."""
        return bool(await self._look(log_rows.sizes))

    async def _look(self, reader: Callable[[Connection], T], caller: Caller | None = None) -> T:
        """Read, with a directory that holds every change that was durable before: a revocation elsewhere holds here.

        Nothing is read for a `caller` who may no longer act.
        """

        def run() -> tuple[bool, T | None]:
            with self._readers.connect() as connection:
                if log_rows.sizes(connection)[Log.DIRECTORY] > self._committer.directory.size:
                    return False, None
                self._check_current(caller)
                return True, reader(connection)

        done, found = await _reading(run)
        if not done:
            await self._writer.submit(lambda _batch: lambda _committed: None)  # every batch begins by catching up
            done, found = await _reading(run)
        if not done:
            raise Unavailable("the directory is changing", hint="try again")
        return found  # type: ignore[return-value]  # None only where the reader itself returned it

    def _check_current(self, caller: Caller | None) -> None:
        if caller is not None and self._committer.directory.device(caller.device.device_id, int(time.time())) is None:
            raise Unauthenticated("this device is no longer valid, or revoked")


async def _reading(run: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(run)
    except DATABASE_AWAY as problem:
        raise unavailable() from problem


def newest_checkpoint(connection: Connection, log: Log) -> bytes:
    note = log_rows.checkpoint_at(connection, log, log_rows.sizes(connection)[log])
    if note is None:
        raise open.not_available()
    return bytes(note)


def _require_mailbox(caller: Caller) -> None:
    if caller.device.kind not in _MAIL:
        raise Refused(f"a device of kind {caller.device.kind} has no mailbox", rules=("kind",))
