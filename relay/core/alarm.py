"""Alarms about the directory: taken from whoever raises them, logged once for each fact, told to the office.

The relay does not judge the finding, only that there is such an entry: whom it accuses may be the relay's own operator.
"""

from __future__ import annotations

import hashlib

from sqlalchemy import Connection, select

from relay.pipeline.batch import Answer, Batch
from relay.protocol.alarm import ALARM, Alarm, hears_alarms, read_alarm
from relay.protocol.canonical import encode
from relay.protocol.cose import parse_sign1, verify_sign1
from relay.protocol.dating import CLOCKS_APART
from relay.protocol.entry import Event
from relay.protocol.errors import Malformed, Refused, Unauthenticated, Unknown
from relay.store import log as log_rows
from relay.store.log import Log
from relay.store.schema import alarm

from .accept import earlier_receipt
from .caller import Caller, current, entry_of
from .quota import Metered, Quota

PAGE = 100


def check_alarm(caller: Caller, body: bytes, now: int) -> Alarm:
    """A statement by the caller whose signature holds. Runs on any thread."""
    signed = parse_sign1(body, ALARM)
    stated = read_alarm(signed)
    if stated.device_id != caller.device.device_id:
        raise Unauthenticated("the alarm is not signed by the device that posts it")
    if abs(stated.at - now) > CLOCKS_APART:
        raise Malformed("alarm: signed at another time than now", hint="check the clock")
    verify_sign1(signed, caller.device.signature_public)
    return stated


def raise_alarm(batch: Batch, caller: Caller, stated: Alarm, encoded: bytes, seen: int, quota: Quota) -> Answer:
    """Log the alarm, or answer as when this device first raised one about that entry."""
    device = current(batch.directory, caller.device.device_id, batch.now)
    if stated.index >= batch.directory.size:  # before it is asked for: beyond, no database need have such a number
        quota.charge(batch, device, Metered.ALARM, None)
        raise _unknown(stated)
    batch.flush()
    known = select(alarm.c.entry).where(alarm.c.device_id == device.device_id, alarm.c.directory_index == stated.index)
    if (earlier := batch.connection.scalar(known)) is not None:
        return earlier_receipt(batch, earlier, seen)
    quota.charge(batch, device, Metered.ALARM, None)
    found = log_rows.entry(batch.connection, Log.DIRECTORY, stated.index)
    if found is None or hashlib.sha256(found).digest() != stated.digest:
        raise _unknown(stated)
    index = batch.log(entry_of(caller, Event.ALARM, batch.now_ms, stated.detail))
    row = {"device_id": device.device_id, "directory_index": stated.index, "office": device.office}
    batch.add(alarm, {**row, "encoded": encoded, "entry": index})
    return lambda committed: committed.prove(index, seen).encoded()


def _unknown(stated: Alarm) -> Unknown:
    return Unknown(f"the directory log has another entry {stated.index}, or none")


def alarms_of(connection: Connection, caller: Caller, after: int) -> bytes:
    """[[index of its entry, << Alarm >>]...] of the caller's office, from entry `after` on."""
    if not hears_alarms(caller.device):
        raise Refused("an office's alarms are for its authority and its security officers", rules=("security",))
    wanted = select(alarm.c.entry, alarm.c.encoded).where(
        alarm.c.office == caller.device.office, alarm.c.entry >= after
    )
    rows = connection.execute(wanted.order_by(alarm.c.entry).limit(PAGE))
    return encode([[row.entry, bytes(row.encoded)] for row in rows])
