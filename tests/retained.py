"""What the tests of retention and of legal hold have in common: two offices with periods, and a clock set forward.

The relay's clock is set forward for the sweep alone; everything else is real.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select

import relay.core.door
import relay.core.relay
import relay.core.sweeper
import relay.pipeline.committer
from databases import BOTH
from liaison.audit.pull import AuditPull
from relay.core.retention import Swept
from relay.house import check_all
from relay.protocol.identity import Kind
from relay.store.schema import hold, message, part, receipt, slot
from world import TEST_SPIF, clearance, world

DAY = 86400
ANNA, JEAN, AUDITOR = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "audit@lo-warsaw"
EWA, OLA, LUC = "ewa.lis@lo-warsaw", "ola.zak@lo-warsaw", "luc.bas@lo-paris"
SEALED, OPEN = "TEST SEALED RELEASABLE TO FRA, POL", "TEST OPEN RELEASABLE TO FRA, POL"
FULL = [clearance(nations=["FRA", "POL"])]
PERIODS = b"retention = { OPEN = 86400 }\nentry_retention = { SEALED = 8640000, OPEN = 172800 }\n"


@contextmanager
def two_offices_with_periods(folder, database=None):
    with world(folder, database=database) as built:
        built.office("lo-warsaw", "POL", policy=None).publish_policy(TEST_SPIF, PERIODS)
        built.office("lo-paris", "FRA", policy=None).publish_policy(TEST_SPIF, PERIODS)
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=FULL)
        built.device(JEAN, clearances=FULL)
        built.grant_audit("lo-paris", built.device(AUDITOR, clearances=[], kind=Kind.AUDITOR, scope=["lo-paris"]))
        yield built


on_both = pytest.mark.parametrize("fresh_offices", BOTH, indirect=True)


def officers(built):
    """Two security officers in Warsaw, one in Paris."""
    return [
        built.clients[each] if each in built.clients else built.device(each, clearances=[], roles=["security"])
        for each in (EWA, OLA, LUC)
    ]


@contextmanager
def later(days: float):
    """The relay's clock, and nobody else's, so many days on."""
    clock = SimpleNamespace(
        time=lambda: time.time() + days * DAY,
        time_ns=lambda: time.time_ns() + int(days * DAY * 1e9),
        monotonic=time.monotonic,
        perf_counter=time.perf_counter,
    )
    with pytest.MonkeyPatch.context() as patch:
        for module in (relay.pipeline.committer, relay.core.door, relay.core.relay, relay.core.sweeper):
            patch.setattr(module, "time", clock)
        yield


def sweep(built, days: float) -> Swept:
    """So many days on, by a clock that somebody vouched for."""
    with later(days):
        return asyncio.run(built.relay.sweeper.sweep(trust_clock=True))


def sent(built, label=SEALED) -> bytes:
    """A message that expires in a day, opened and acknowledged."""
    message_id = built.clients[ANNA].send([JEAN], label=label, body="Ferry at dawn.", expires_in=DAY).message_id
    built.clients[JEAN].acknowledge(message_id)
    return message_id


def rows_of(built, message_id: bytes) -> int:
    with built.relay._readers.connect() as connection:
        return sum(
            connection.scalar(select(func.count()).where(table.c.message_id == message_id)) or 0
            for table in (message, part, slot, receipt, hold)
        )


def entries_of(built, message_id: bytes) -> list[int]:
    pull = AuditPull(built.clients[AUDITOR])
    pull.pull()
    return [each.index for each in pull.entries() if each.entry is not None and each.entry.message_id == message_id]


def check(built) -> list:
    return list(check_all(built.settings, [], lambda *_: None))
