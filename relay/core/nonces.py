"""A request's nonce is used once, also where several processes serve from one database.

Each process remembers the nonces that it has seen (`Doorkeeper`). Between processes they meet in a table: a
request that changes something puts its nonce there in its own transaction, which the lock on the log heads sets
one after another; one that only looks does so before it looks. Of a request that failed nothing is kept, as
nothing was done. Where one process serves, only the nonces of requests that came early are there, for the next one.
"""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection, LargeBinary, bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError

from relay.pipeline.batch import Answer, Batch, Job, Lookup
from relay.protocol.errors import Unauthenticated
from relay.store.prepared import Prepared, given
from relay.store.schema import nonce

from .caller import Caller

_KEPT = 120  # seconds after its request is stale: a relay whose clock is late may still take it
_SIGNED = given(device_id=LargeBinary(), nonce=LargeBinary())
_USED: Lookup[tuple[bytes, bytes], int] = Lookup(
    Prepared(
        select(nonce.c.device_id, nonce.c.nonce, nonce.c.expires).select_from(
            _SIGNED.join(nonce, (nonce.c.device_id == _SIGNED.c.device_id) & (nonce.c.nonce == _SIGNED.c.nonce))
        )
    ),
    key=lambda row: row[:2],
    value=lambda row: row[2],
)
_USE = Prepared(insert(nonce))
_SWEEP = Prepared(delete(nonce).where(nonce.c.expires < bindparam("before")))


def once(caller: Caller, job: Job) -> Job:
    """The job, refused if this caller's nonce was used before, and using it up."""
    key = (caller.device.device_id, caller.nonce)

    def run(batch: Batch) -> Answer:
        if batch.find(_USED, key) is not None:
            raise _used()
        answer = job.run(batch)
        batch.note(_USED, key, caller.expires)
        batch.add(nonce, _row(caller))
        if caller.nonce[0] == 0:  # one request in 256 clears up after the others
            batch.stage(_SWEEP, {"before": batch.now - _KEPT})
        return answer

    return replace(job, run=run, needs=(*job.needs, (_USED, (key,))))


def use_up(connection: Connection, caller: Caller) -> None:
    """Use up the nonce of a request that only looks, at once. Raises Unauthenticated.

    A crash of the database may forget it: whoever caught the request could repeat the look, at another process, within
    its minute.
    """
    try:
        _USE.run(connection, [_row(caller)])
    except IntegrityError:
        raise _used() from None


def used(connection: Connection) -> dict[tuple[bytes, bytes], int]:
    """Every nonce that is in the table, and when its request expires."""
    rows = connection.execute(select(nonce.c.device_id, nonce.c.nonce, nonce.c.expires))
    return {(bytes(device_id), bytes(value)): expires for device_id, value, expires in rows}


def _row(caller: Caller) -> dict[str, object]:
    return {"device_id": caller.device.device_id, "nonce": caller.nonce, "expires": caller.expires}


def _used() -> Unauthenticated:
    return Unauthenticated("the request's nonce was used before", hint="sign it again with a new nonce")
