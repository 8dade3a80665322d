"""A relay's clock that has leapt ahead destroys nothing, until it is set or the operator vouches for it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import ExitStack, closing

import pytest

from processes import Serving, relay
from relay.core.clock import ClockAhead
from relay.core.retention import Sweep
from relay.store.log import Log, sizes
from retained import OPEN, later, on_both, rows_of, sent
from test_backup import log_many
from test_retention import key_rows
from test_sweep_processes import wait_until


def sweep(built, days: float, *, trust_clock: bool = False):
    with later(days):
        return asyncio.run(built.relay.sweeper.sweep(trust_clock=trust_clock))


def there(built, message_id: bytes) -> tuple[int, tuple[int, int, int], int]:
    """Rows of the message, key packages, entries of the access log."""
    with built.relay._readers.connect() as connection:
        return rows_of(built, message_id), key_rows(built), sizes(connection)[Log.ACCESS]


@pytest.fixture
def swept_offices(emptied_offices):
    """Swept just now."""
    sweep(emptied_offices, 0, trust_clock=True)
    return emptied_offices


@on_both
def test_a_clock_that_is_years_ahead_destroys_nothing(fresh_offices):
    message_id = sent(fresh_offices)
    before = there(fresh_offices, message_id)
    for _ in range(2):  # the first sweep there is goes by the newest checkpoint
        with pytest.raises(ClockAhead, match="3650 days ahead"):
            sweep(fresh_offices, 3650)
        assert there(fresh_offices, message_id) == before
        assert sweep(fresh_offices, 0) == (0, 0)
    assert there(fresh_offices, message_id) == before


@on_both
def test_what_is_committed_by_a_clock_that_is_ahead_does_not_bear_it_out(fresh_offices):
    message_id = sent(fresh_offices, OPEN)
    assert sweep(fresh_offices, 0) == (0, 0)
    with later(3650):
        asyncio.run(fresh_offices.relay._writer.submit(log_many))
    with pytest.raises(ClockAhead):
        sweep(fresh_offices, 3650)
    assert rows_of(fresh_offices, message_id)


@on_both
def test_the_operator_vouches_for_the_clock_once(fresh_offices):
    message_id = sent(fresh_offices, OPEN)
    with pytest.raises(ClockAhead):
        sweep(fresh_offices, 30)
    assert sweep(fresh_offices, 30, trust_clock=True).messages == 1
    assert rows_of(fresh_offices, message_id) == 0
    assert sweep(fresh_offices, 36.9).messages == 0
    with pytest.raises(ClockAhead):
        sweep(fresh_offices, 44)


def test_a_relay_that_sweeps_each_week_goes_on_by_itself_and_destroys_what_is_due(swept_offices):
    message_id = sent(swept_offices)
    assert [sweep(swept_offices, days).messages for days in (6, 12, 18, 24, 30, 36)] == [0, 0, 0, 0, 0, 1]
    assert rows_of(swept_offices, message_id) == 0


def test_a_clock_that_is_behind_is_believed_and_moves_nothing(swept_offices):
    sweep(swept_offices, 5)
    assert sweep(swept_offices, -3650) == (0, 0)
    assert sweep(swept_offices, 11) == (0, 0)


def test_a_time_that_was_vouched_for_wrongly_is_taken_back_in_the_same_way(swept_offices):
    message_id = sent(swept_offices)
    sweep(swept_offices, 20, trust_clock=True)
    sweep(swept_offices, 0, trust_clock=True)
    with pytest.raises(ClockAhead):
        sweep(swept_offices, 31.1)
    assert rows_of(swept_offices, message_id)


def test_a_clock_that_leaps_between_the_look_and_the_destruction_destroys_nothing(swept_offices, monkeypatch):
    message_id, looked = sent(swept_offices, OPEN), Sweep.next_job

    def leap(self, connection, judge, now):
        job = looked(self, connection, judge, now)
        leaping.enter_context(later(3650))
        return job

    monkeypatch.setattr(Sweep, "next_job", leap)
    with later(2.1), ExitStack() as leaping, pytest.raises(ClockAhead):
        asyncio.run(swept_offices.relay.sweeper.sweep())
    assert rows_of(swept_offices, message_id)


def slept(home, days: int) -> None:
    """As if nothing had swept for so long."""
    with closing(sqlite3.connect(home / "relay.sqlite")) as database, database:
        moved = database.execute(
            "UPDATE setting SET value = value - ? WHERE name = 'swept at' RETURNING value", (days * 86400,)
        )
        assert len(moved.fetchall()) == 1


def test_the_operator_is_told_and_says_on_the_command_line_that_the_clock_is_right(tmp_path, monkeypatch):
    home = tmp_path / "relay"
    monkeypatch.setenv("RELAY_SWEEP_EVERY", "0.3")
    with Serving(home) as serving:
        wait_until(lambda: relay("sweep", "--data", home, code=None).returncode == 0)
    slept(home, 30)
    with Serving(home) as serving:
        wait_until(lambda: '"event": "sweep failed", "error": "relay.core.clock.ClockAhead"' in serving.said())
        refused = relay("sweep", "--data", home, code=1)
        assert "30 days ahead of its last sweep; nothing was destroyed" in refused.stderr
        assert "relay sweep --trust-clock" in refused.stderr
        swept = relay("sweep", "--data", home, "--trust-clock", "--json")
        assert json.loads(swept.stdout) == {"v": 1, "messages": 0, "entries": 0}
        told = serving.said().count("sweep failed")
        relay("sweep", "--data", home)
        assert serving.said().count("sweep failed") == told
