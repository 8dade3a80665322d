"""The relay itself: one method per thing that a caller can want done. What one only looks at is the reading room's.

A request is authenticated and checked in the writer's checking threads, decided and committed by its one committing
thread. Nobody is answered before what the answer says is durable.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from sqlalchemy import Connection, Engine

from relay.logkeys import LogKeys
from relay.pipeline.batch import Answer, Batch, Job, checkpoint_size
from relay.pipeline.checking import in_place
from relay.pipeline.committer import Committer
from relay.pipeline.cores import bulk_threads
from relay.pipeline.writer import Writer
from relay.protocol.access import Judge
from relay.protocol.canonical import encode
from relay.protocol.claim import Checking
from relay.protocol.entry import Change
from relay.protocol.errors import Refused, Unknown, Unverified
from relay.protocol.header import Precedence
from relay.protocol.identity import Kind
from relay.protocol.witness_policy import WitnessPolicy
from relay.store import witness as witness_rows
from relay.store.engine import is_shared
from relay.store.log import Log
from relay.store.mail import Ear

from . import accept, acknowledge, alarm, audit, hold, keyroom, open, reading, recall, register, uploads  # noqa: A004 - the field's verb
from .bell import Bell
from .caller import Caller, Request, require_mailbox
from .clock import SweepClock
from .door import Door
from .policies import PolicyShelf
from .pulse import Pulse
from .quota import Quota
from .readingroom import ReadingRoom, newest_checkpoint
from .submission import check_submission
from .sweeper import Sweeper
from .witness import WitnessDesk

_CHUNKS_AT_ONCE = 4  # each hashed and brought to the disk


class Relay:
    """Everything a caller can want. Knows nothing of HTTP."""

    def __init__(
        self, writer: Engine, readers: Engine, keys: LogKeys, name: str, chunks: uploads.Chunks, quota: Quota
    ) -> None:
        shared = is_shared(readers)
        self._readers = readers
        self._committer = Committer(writer, readers, keys, name)
        self._writer = Writer(self._committer)
        self._shelf = PolicyShelf(readers)
        self._chunks, self._bulk = chunks, bulk_threads(_CHUNKS_AT_ONCE)
        self._bell = Bell()
        self._quota = quota
        self._ear = Ear(readers, self._bell.hear) if shared else None
        self.room = ReadingRoom(
            readers, lambda: self._committer.directory, self.judge, self._writer.catch_up, self._bell, chunks
        )
        self.door = Door(self._writer, self.room, shared=shared)
        self.origins = self._committer.origins
        clock = SweepClock(keys, self.origins[Log.ACCESS])
        self.sweeper = Sweeper(readers, self._writer, self.room, self.judge, chunks, clock)
        self.pulse = Pulse(self._writer)
        self.name = name
        self.vkeys = keys.vkeys(tuple(self.origins.values()))
        self.witness_desk = WitnessDesk()  # whose checkpoints we cosign
        self.witness_policy: WitnessPolicy | None = None  # who cosigns ours

    def start(self) -> None:
        """Begin to commit, and to listen for mail that other processes accept."""
        self._writer.start()
        if self._ear is not None:
            self._ear.start()

    def hang_up(self) -> None:
        """End every wait for mail with what there is; who waited asks again, elsewhere or later."""
        self._bell.hang_up()

    def close(self) -> None:
        """Commit what waits, then stop and let go of the database."""
        self._writer.close()
        if self._ear is not None:
            self._ear.stop()
        self._bulk.shutdown()
        self._committer.close()
        self._readers.dispose()

    def judge(self) -> Judge:
        """The relay's view, as of now."""
        return Judge(self._committer.directory, self._shelf.read)

    # -- messages -------------------------------------------------------------------------------------------------

    async def accept(self, request: Request, seen: int, precedence: Precedence) -> bytes:
        """Accept a submission; the receipt, a LoggedEntry. `precedence` is what the sender says the message has."""
        readers: list[bytes] = []

        def prepare(caller: Caller) -> Checking[Job]:
            submitted = yield from check_submission(
                self._committer.directory, caller, request.body, int(time.time()), precedence
            )
            readers.extend(each.device_id for each in submitted.slots)
            return Job(
                lambda batch: accept.accept(batch, self.judge(), caller, submitted, seen, self._quota),
                accept.needs(submitted),
            )

        receipt = await self.door.commit(request, prepare, precedence)
        self._bell.ring(readers)
        return receipt

    async def open(self, request: Request, message_id: bytes, seen: int, precedence: Precedence) -> bytes:
        """Release the caller's slot of this message: a Delivery."""

        def prepare(caller: Caller) -> Job:
            return Job(
                lambda batch: open.open_slot(batch, self.judge(), caller, message_id, seen, self._quota, precedence),
                ((open.ROWS, ((message_id, caller.device.device_id),)),),
            )

        return await self.door.commit(request, prepare, precedence)

    async def begin_part(self, caller: Caller, body: bytes) -> bytes:
        """Begin an upload, or go on with one: the chunks that are missing."""
        require_mailbox(caller)
        row = await self._writer.submit(lambda batch: uploads.begin(batch, caller, body, self._quota.office_octets))
        return uploads.progress(await asyncio.to_thread(self._chunks.missing, row))

    async def take_chunk(
        self, caller: Caller, digest: bytes, chunk: int, pieces: Sequence[bytes], stated: str | None
    ) -> None:
        """Keep a chunk of an upload of the caller's office, if it has the digest that was signed; durable on return."""
        require_mailbox(caller)
        row = await self.room.look(lambda connection: uploads.own(connection, caller.device.office, digest), caller)
        if row is None:
            raise Unknown("no such upload", hint="begin it again")
        upload_id = bytes(row.upload_id)
        try:
            loop = asyncio.get_running_loop()
            whole = await loop.run_in_executor(self._bulk, self._chunks.take, row, chunk, pieces, stated)
        except Unverified:
            if await self._writer.submit(lambda batch: uploads.spoil(batch, upload_id)):
                await asyncio.to_thread(self._chunks.remove, upload_id)
            raise
        if whole:
            await self._writer.submit(lambda batch: uploads.complete(batch, upload_id))

    async def acknowledge(self, request: Request, message_id: bytes, seen: int) -> bytes:
        """Take a reader's signed receipt; the answer is its LoggedEntry."""

        def prepare(caller: Caller) -> Checking[Job]:
            stated = yield from acknowledge.check_receipt(caller, message_id, request.body)
            return Job(
                lambda batch: acknowledge.acknowledge(batch, caller, stated, request.body, seen),
                acknowledge.needs(stated),
            )

        return await self.door.commit(request, prepare)

    async def recall(self, request: Request, message_id: bytes, seen: int) -> bytes:
        """Take a message back from all who have not opened it; the answer says who has: a Recalled."""

        def prepare(caller: Caller) -> Checking[Job]:
            directory, now = self._committer.directory, int(time.time())
            signed = yield from recall.check_recalls(directory, caller, message_id, request.body, now)
            return Job(lambda batch: recall.recall(batch, caller, signed, request.body, seen, self._quota))

        return await self.door.commit(request, prepare, Precedence.FLASH)

    async def hold(self, request: Request, message_id: bytes, seen: int) -> bytes:
        """Take a security officer's word for or against a legal hold; the answer is its LoggedEntry."""

        def prepare(caller: Caller) -> Checking[Job]:
            signed = yield from hold.check_hold(caller, message_id, request.body, int(time.time()))
            return Job(lambda batch: hold.state_hold(batch, caller, signed, seen, self._quota))

        return await self.door.commit(request, prepare)

    # -- keys -----------------------------------------------------------------------------------------------------

    async def publish_keys(self, request: Request) -> bytes:
        def prepare(caller: Caller) -> Checking[Job]:
            require_mailbox(caller)
            checked = yield from keyroom.check_batch(caller, request.body, int(time.time()))
            return Job(lambda batch: keyroom.publish(batch, caller, self._quota, *checked))

        return await self.door.commit(request, prepare)

    async def claim_keys(self, request: Request) -> bytes:
        def prepare(caller: Caller) -> Job:
            require_mailbox(caller)
            return Job(lambda batch: keyroom.claim(batch, caller, request.body, self._quota))

        return await self.door.commit(request, prepare)

    # -- directory ------------------------------------------------------------------------------------------------

    async def publish(self, request: Request) -> bytes:
        """Take a signed object into the directory."""

        def prepare(caller: Caller) -> Job:
            if caller.device.kind is not Kind.AUTHORITY:
                raise Refused("only an office authority changes the directory", rules=("authority",))
            asked = register.read_publication(request.body)
            revoked.append(asked.change is Change.REVOCATION)
            return Job(lambda batch: register.publish(batch, caller, asked, self._shelf, self._quota))

        revoked: list[bool] = []
        done = await self.door.commit(request, prepare)
        if any(revoked):
            self._bell.ring_all()  # who was revoked while waiting learns it now
        return done

    async def publish_roster(self, request: Request) -> bytes:
        """Take a community's roster from its manager."""

        def prepare(caller: Caller) -> Job:
            require_mailbox(caller)
            asked = register.Publication(Change.ROSTER, request.body)
            return Job(lambda batch: register.publish(batch, caller, asked, self._shelf, self._quota))

        return await self.door.commit(request, prepare)

    # -- logs -----------------------------------------------------------------------------------------------------

    async def checkpoint(self, log: Log, *, newest: bool = False) -> bytes:
        """The newest signed note of a log that our witnesses have cosigned, or the `newest` there is."""

        def look(connection: Connection) -> bytes:
            wanted = None if newest or self.witness_policy is None else witness_rows.cosigned_note(connection, log)
            return newest_checkpoint(connection, log) if wanted is None else bytes(wanted)

        return await self.room.look(look)

    async def keep_cosigned(self, log: Log, note: bytes) -> None:
        """Serve this checkpoint of ours, which its witnesses have cosigned, from now on."""

        def run(batch: Batch) -> Answer:
            held = witness_rows.cosigned_note(batch.connection, log)
            if held is None or checkpoint_size(held) <= checkpoint_size(note):  # another process may ask too
                witness_rows.put_cosigned(batch.connection, log, note)
            return lambda _committed: None

        await self._writer.submit(run, precedence=Precedence.DEFERRED)

    async def cosign(self, body: bytes) -> str:
        """Our cosignatures on another log's checkpoint (C2SP tlog-witness)."""
        lines: str = await self._writer.check(in_place(lambda: self.witness_desk.job(body)), Precedence.DEFERRED)
        return lines

    async def audit(self, request: Request, first: int, count: int) -> bytes:
        def prepare(caller: Caller) -> Job:
            if caller.device.kind is not Kind.AUDITOR:
                raise Refused("only an auditor reads the access log", rules=("auditor",))
            return Job(lambda batch: audit.pull(batch, caller, first, count, self._quota))

        return await self.door.commit(request, prepare)

    async def audit_message(self, request: Request, message_id: bytes) -> bytes:
        """The header of a message and to which devices it was sealed, for an auditor of its originator's office."""
        return await self.door.commit(
            request, lambda caller: Job(lambda batch: audit.message_header(batch, caller, self._quota, message_id))
        )

    async def audit_evidence(self, request: Request, message_id: bytes) -> bytes:
        """What proves what became of a message, for an auditor of its originator's office: the look is logged first."""
        header = await self.door.commit(
            request,
            lambda caller: Job(lambda batch: audit.message_header(batch, caller, self._quota, message_id, "evidence")),
        )
        found, given = await self.room.look(
            lambda connection: (
                reading.evidence_of(connection, message_id),
                reading.receipts_of(connection, message_id),
            )
        )
        return encode([header, found, given])

    async def raise_alarm(self, request: Request, seen: int) -> bytes:
        """Log an alarm about the directory; the answer is its LoggedEntry."""

        def prepare(caller: Caller) -> Job:
            stated = alarm.check_alarm(caller, request.body, int(time.time()))
            return Job(lambda batch: alarm.raise_alarm(batch, caller, stated, request.body, seen, self._quota))

        return await self.door.commit(request, prepare)
