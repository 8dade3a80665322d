"""The access log for auditors: contents for the offices in scope, hashes for all others, and every look logged."""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace

from sqlalchemy import select

from relay.pipeline.batch import Answer, Batch, Committed
from relay.protocol.canonical import encode
from relay.protocol.entry import Event
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Refused
from relay.protocol.identity import Kind
from relay.protocol.retention import EVERYONE
from relay.store import log as log_rows
from relay.store.log import Log
from relay.store.log_schema import log_head
from relay.store.schema import message

from .caller import Caller, current, entry_of
from .limits import AUDIT_PAGE
from .open import not_available
from .quota import Metered, Quota


def pull(batch: Batch, caller: Caller, first: int, count: int, quota: Quota) -> Answer:
    """Entries from `first` on, as [size, [[shown, content]...]]; `_shown` says what of each.

    The read is an entry itself, one for each other office that is read, and is committed before anything is shown; it
    is not part of its own answer.
    """
    scope = _scope(batch, caller)
    size = batch.connection.scalar(select(log_head.c.size).where(log_head.c.log == Log.ACCESS)) or 0
    count = max(0, min(count, AUDIT_PAGE, size - first))
    rows = log_rows.entries(batch.connection, Log.ACCESS, first, count) if count else []
    shown = [_shown(entry, leaf, scope & {office, concerns}) for _index, entry, leaf, office, concerns in rows]
    read = {each for _index, _entry, _leaf, office, concerns in rows for each in (office, concerns)}
    _log_look(batch, caller, quota, f"entries {first} to {first + len(shown)}", scope & read - {EVERYONE})
    answer = encode([size, shown])
    return lambda _committed: answer


def message_header(batch: Batch, caller: Caller, quota: Quota, message_id: bytes, look: str = "message") -> Answer:
    """[Message, Grants] of a message, to an auditor whose scope holds the originator's office; to others there is none.

    A look is an entry, also one that finds nothing.
    """
    scope = _scope(batch, caller)
    wanted = select(message.c.encoded, message.c.grants).where(message.c.message_id == message_id)
    row = batch.connection.execute(wanted).first()
    core = parse_message(bytes(row.encoded)).core if row is not None else None
    read = {core.office} & scope if core is not None else frozenset()
    _log_look(batch, caller, quota, look, read, message_id)

    def answer(_committed: Committed) -> bytes:
        if row is None or not read:
            raise not_available()
        return encode([bytes(row.encoded), bytes(row.grants)])

    return answer


def _scope(batch: Batch, caller: Caller) -> frozenset[str]:
    device = current(batch.directory, caller.device.device_id, batch.now)
    if device.kind is not Kind.AUDITOR:
        raise Refused("only an auditor reads the access log", rules=("auditor",))
    return batch.directory.audit_scope(device.device_id, batch.now) | {EVERYONE}


def _log_look(
    batch: Batch,
    caller: Caller,
    quota: Quota,
    detail: str,
    read: Collection[str],
    message_id: bytes | None = None,
) -> None:
    """One entry, or one for each office beside the auditor's own that is `read`: it has a right to know by whom.

    Each is charged: it is in the log for good.
    """
    look = entry_of(caller, Event.AUDIT, batch.now_ms, detail, message_id)
    others = sorted({*read} - {look.office}) or [""]
    quota.charge(batch, caller.device, Metered.LOOK, None, len(others))
    for office in others:
        batch.log(replace(look, salt=os.urandom(16), concerns=office))


def _shown(entry: bytes | None, leaf: bytes, in_scope: frozenset[str]) -> list[object]:
    """[True, entry] in scope, [False, leaf hash] out of it, [None, leaf hash] for everyone once erased."""
    if entry is None:
        return [None, bytes(leaf)]
    if in_scope:
        return [True, bytes(entry)]
    return [False, bytes(leaf)]
