"""The access log for auditors: contents for the offices in scope, hashes for all others, and every look logged."""

from __future__ import annotations

import os

from sqlalchemy import select

from relay.batch import Answer, Batch
from relay.protocol.canonical import encode
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.errors import Refused, Unauthenticated
from relay.protocol.identity import Kind
from relay.protocol.retention import EVERYONE
from relay.store import log as log_rows
from relay.store.log import Log
from relay.store.schema import log_head

from .caller import Caller
from .limits import AUDIT_PAGE


def pull(batch: Batch, caller: Caller, first: int, count: int) -> Answer:
    """Entries from `first` on, as [size, [[shown, content]...]]; `_shown` says what of each.

    The read is an entry itself and is committed before anything is shown; it is not part of its own answer.
    """
    device = batch.directory.device(caller.device.device_id, batch.now)
    if device is None:
        raise Unauthenticated("this device is no longer valid, or revoked")
    if device.kind is not Kind.AUDITOR or device.certificate is None:
        raise Refused("only an auditor reads the access log", rules=("auditor",))
    size = batch.connection.scalar(select(log_head.c.size).where(log_head.c.log == Log.ACCESS)) or 0
    count = max(0, min(count, AUDIT_PAGE, size - first))
    scope = frozenset({device.office, *device.certificate.scope, EVERYONE})
    rows = log_rows.entries(batch.connection, Log.ACCESS, first, count) if count else []
    shown = [_shown(entry, leaf, scope & {office, concerns}) for _index, entry, leaf, office, concerns in rows]
    batch.log(
        AccessEntry(
            event=Event.AUDIT,
            time=batch.now_ms,
            salt=os.urandom(16),
            device_id=device.device_id,
            address=device.address,
            office=device.office,
            request=caller.nonce,
            detail=f"entries {first} to {first + len(shown)}",
        )
    )
    answer = encode([size, shown])
    return lambda _committed: answer


def _shown(entry: bytes | None, leaf: bytes, in_scope: frozenset[str]) -> list[object]:
    """[True, entry] in scope, [False, leaf hash] out of it, [None, leaf hash] for everyone once erased."""
    if entry is None:
        return [None, bytes(leaf)]
    if in_scope:
        return [True, bytes(entry)]
    return [False, bytes(leaf)]
