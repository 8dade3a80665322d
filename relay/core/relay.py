"""The relay itself: one method per thing a caller can want.

Verification that needs no database runs on worker threads (it releases the interpreter's lock), decisions and
changes run in the one writer, looks run on reading connections. Nobody is answered before what the answer
says is durable.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, select

from relay.batch import Job
from relay.committer import Committer
from relay.logkeys import LogKeys
from relay.protocol.access import Judge
from relay.protocol.canonical import encode
from relay.protocol.directory import Device
from relay.protocol.entry import Change
from relay.protocol.errors import LiaisonError, Refused, Unauthenticated, Unavailable
from relay.protocol.header import Precedence
from relay.protocol.identity import Kind
from relay.protocol.tiles import parse_tile_path
from relay.store import log as log_rows
from relay.store.engine import DATABASE_AWAY, forget_erased, unavailable
from relay.store.log import Log
from relay.store.schema import document
from relay.writer import Writer

from . import accept, acknowledge, audit, hold, keyroom, open, reading, register  # noqa: A004 - the field's verb
from .bell import Bell
from .caller import Caller, Doorkeeper, Request, UnknownDevice
from .limits import MAX_WAIT
from .policies import PolicyShelf
from .retention import Sweep, Swept

T = TypeVar("T")
_log = logging.getLogger(__name__)
_POLL = 15.0  # seconds; how late mail can be noticed that another process accepted
_MAIL = frozenset({Kind.OFFICER, Kind.SYSTEM})


class Relay:
    """Everything a caller can want. Knows nothing of HTTP."""

    def __init__(self, writer: Engine, readers: Engine, keys: LogKeys, name: str) -> None:
        self._readers = readers
        self._committer = Committer(writer, readers, keys, name)
        self._writer = Writer(self._committer)
        self._shelf = PolicyShelf(readers)
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
            await self._catch_up()
            return self._doorkeeper.authenticate(request, self._committer.directory, int(time.time()))

    async def _commit(
        self, request: Request, prepare: Callable[[Caller], Job], precedence: Precedence = Precedence.ROUTINE
    ) -> Any:
        """Authenticate on the checking thread, then commit the job that `prepare` makes for this caller."""

        def checked() -> Job:
            return prepare(self._doorkeeper.authenticate(request, self._committer.directory, int(time.time())))

        try:
            return await self._writer.check(checked, precedence)
        except UnknownDevice:
            await self._catch_up()
            return await self._writer.check(checked, precedence)

    async def _catch_up(self) -> None:
        """Take in what other processes have changed: every batch begins with that."""
        await self._writer.submit(lambda _batch: lambda _committed: None)

    def judge(self) -> Judge:
        """The relay's view, as of now."""
        directory = self._committer.directory
        return Judge(directory, lambda office, ref: self._shelf.policy_of(directory, office, ref))

    # -- messages -------------------------------------------------------------------------------------------------

    async def accept(self, request: Request, seen: int, precedence: Precedence) -> bytes:
        """Accept a submission; the receipt, a LoggedEntry. `precedence` is what the sender says the message has."""
        readers: list[bytes] = []

        def prepare(caller: Caller) -> Job:
            submitted = accept.check_submission(
                self._committer.directory, caller, request.body, int(time.time()), precedence
            )
            readers.extend(each.device_id for each in submitted.slots)
            return Job(
                lambda batch: accept.accept(batch, self.judge(), caller, submitted, seen), accept.needs(submitted)
            )

        receipt: bytes = await self._commit(request, prepare, precedence)
        self._bell.ring(readers)
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

    async def open(self, request: Request, message_id: bytes, seen: int, precedence: Precedence) -> bytes:
        """Release the caller's slot of this message: a Delivery."""

        def prepare(caller: Caller) -> Job:
            return Job(
                lambda batch: open.open_slot(batch, self.judge(), caller, message_id, seen),
                ((open.ROWS, ((message_id, caller.device.device_id),)),),
            )

        delivery: bytes = await self._commit(request, prepare, precedence)
        return delivery

    async def part(self, caller: Caller, message_id: bytes, index: int) -> bytes:
        return await self._look(
            lambda connection: reading.sealed_part(connection, caller.device, message_id, index), caller
        )

    async def acknowledge(self, request: Request, message_id: bytes, seen: int) -> bytes:
        """Take a reader's signed receipt; the answer is its LoggedEntry."""

        def prepare(caller: Caller) -> Job:
            stated = acknowledge.check_receipt(caller, message_id, request.body)
            return Job(
                lambda batch: acknowledge.acknowledge(batch, caller, stated, request.body, seen),
                acknowledge.needs(stated),
            )

        logged: bytes = await self._commit(request, prepare)
        return logged

    async def receipts(self, caller: Caller, message_id: bytes) -> bytes:
        return encode(
            await self._look(lambda connection: reading.receipts(connection, caller.device, message_id), caller)
        )

    async def hold(self, request: Request, message_id: bytes, seen: int) -> bytes:
        """Take a security officer's word for or against a legal hold; the answer is its LoggedEntry."""

        def prepare(caller: Caller) -> Job:
            stated = hold.check_hold(caller, message_id, request.body, int(time.time()))
            return Job(lambda batch: hold.state_hold(batch, caller, stated, request.body, seen))

        logged: bytes = await self._commit(request, prepare)
        return logged

    async def sweep(self) -> Swept:
        """Destroy what is due, a little at a time and behind all traffic."""
        sweep, messages, entries = Sweep(), 0, 0
        while (job := await self._look(lambda c: sweep.next_job(c, self.judge(), int(time.time())))) is not None:
            run = partial(lambda destroy, batch: destroy(batch, self.judge()), job)
            swept: Swept = await self._writer.submit(run, precedence=Precedence.DEFERRED)
            messages, entries = messages + swept.messages, entries + swept.entries
        await _reading(lambda: forget_erased(self._readers))
        return Swept(messages, entries)

    async def keep_swept(self, every: float) -> None:
        """Sweep every so many seconds, for ever; what fails is said, and tried again the next time."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.sweep()
            except Exception:  # noqa: BLE001 - whatever it was, keeping too long is the safe side, and the next turn comes
                _log.exception("the sweep of what is due did not end")

    # -- keys -----------------------------------------------------------------------------------------------------

    async def publish_keys(self, request: Request) -> bytes:
        def prepare(caller: Caller) -> Job:
            _require_mailbox(caller)
            checked = keyroom.check_batch(caller, request.body)
            return Job(lambda batch: keyroom.publish(batch, caller, *checked))

        stock: bytes = await self._commit(request, prepare)
        return stock

    async def claim_keys(self, request: Request) -> bytes:
        def prepare(caller: Caller) -> Job:
            _require_mailbox(caller)
            return Job(lambda batch: keyroom.claim(batch, caller, request.body))

        claimed: bytes = await self._commit(request, prepare)
        return claimed

    async def stock(self, caller: Caller) -> bytes:
        _require_mailbox(caller)
        now = int(time.time())
        return encode(await self._look(lambda c: keyroom.stock_of(c, caller.device.device_id, now), caller))

    # -- directory ------------------------------------------------------------------------------------------------

    async def publish(self, request: Request) -> bytes:
        """Take a signed object into the directory."""

        def prepare(caller: Caller) -> Job:
            if caller.device.kind is not Kind.AUTHORITY:
                raise Refused("only an office authority changes the directory", rules=("authority",))
            change, payload, files = register.read_publication(request.body)
            revoked.append(change is Change.REVOCATION)
            return Job(lambda batch: register.publish(batch, caller, change, payload, files))

        revoked: list[bool] = []
        done: bytes = await self._commit(request, prepare)
        if any(revoked):
            self._bell.ring_all()  # who was revoked while waiting learns it now
        return done

    async def publish_roster(self, request: Request) -> bytes:
        """Take a community's roster from its manager."""

        def prepare(caller: Caller) -> Job:
            _require_mailbox(caller)
            return Job(lambda batch: register.publish(batch, caller, Change.ROSTER, request.body, []))

        done: bytes = await self._commit(request, prepare)
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

    async def audit(self, request: Request, first: int, count: int) -> bytes:
        def prepare(caller: Caller) -> Job:
            if caller.device.kind is not Kind.AUDITOR:
                raise Refused("only an auditor reads the access log", rules=("auditor",))
            return Job(lambda batch: audit.pull(batch, caller, first, count))

        pulled: bytes = await self._commit(request, prepare)
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
            await self._catch_up()
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
