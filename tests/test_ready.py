"""Readiness says whether the database takes what is written: not how many wait, and not oftener than once a second."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from relay.core.pulse import Pulse
from relay.pipeline.committer import Outcome
from relay.pipeline.writer import Writer
from relay.protocol.errors import Unavailable


class Taking:
    """A committer whose database takes every job, or none: what it was given."""

    def __init__(self, error=None) -> None:
        self.error, self.given = error, []

    def commit(self, jobs, _is_pressed, more):
        together = [*jobs, *more()]
        self.given += together
        return [Outcome(error=self.error) for _ in together]


async def asked(committer, *, waiting=0, times=1):
    """What so many who ask together are told, while so many ROUTINE jobs wait."""
    writer = Writer(committer)
    pulse = Pulse(writer)
    jobs = [asyncio.ensure_future(writer.submit(lambda _batch: None)) for _ in range(waiting)]
    await asyncio.sleep(0)
    asking = [asyncio.ensure_future(pulse.ready()) for _ in range(times)]
    await asyncio.sleep(0.05)
    writer.start()
    try:
        return await asyncio.wait_for(asyncio.gather(*asking, return_exceptions=True), 30)
    finally:
        await asyncio.to_thread(writer.close)
        for job in jobs:
            with suppress(Unavailable):
                await job


def test_a_relay_that_turns_routine_away_is_ready():
    assert asyncio.run(asked(Taking(), waiting=600)) == [True]


def test_who_asks_together_is_told_together():
    committer = Taking()
    assert asyncio.run(asked(committer, times=50)) == [True] * 50
    assert len(committer.given) == 1


@pytest.mark.parametrize("waiting", [0, 600])
def test_a_database_that_takes_nothing_is_told_to_all(waiting):
    told = asyncio.run(asked(Taking(Unavailable("the database is away")), waiting=waiting, times=3))
    assert [str(each) for each in told] == ["the database is away"] * 3
