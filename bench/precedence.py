"""How long a FLASH takes while nobody else asks for anything, and while 64 clients post ROUTINE without a pause.

The FLASH client states its precedence in the request, as the client library does.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from itertools import takewhile
from multiprocessing import get_context
from statistics import median
from typing import Any

import uvloop

from relay.protocol.header import Precedence

from .figures import quantile
from .generator import Unexpected, Unit, drive, new_load
from .world import World

PAUSE = 0.02  # seconds between one FLASH and the next


def measure(world: World, rounds: int, flashes: int, routine: int) -> dict[str, Any]:
    """Milliseconds of FLASH, idle and beside ROUTINE, and their ratio."""
    taken: dict[str, list[float]] = {"idle_p50": [], "idle_p99": [], "loaded_p50": [], "loaded_p99": []}
    for _ in range(rounds):
        for name, beside in (("idle", 0), ("loaded", routine)):
            latencies = _round(world, flashes, beside)
            taken[f"{name}_p50"].append(quantile(latencies, 0.5) * 1e3)
            taken[f"{name}_p99"].append(quantile(latencies, 0.99) * 1e3)
    found: dict[str, Any] = {name: median(each) for name, each in taken.items()}
    ratio = found["loaded_p99"] / found["idle_p99"]
    return {**found, "claims": [("FLASH p99 beside saturating ROUTINE / idle", ratio, 2.0, False)]}


def _round(world: World, flashes: int, routine: int) -> list[float]:
    urgent = [(world.post(letter),) for letter in world.letters(flashes, precedence=Precedence.FLASH)]
    if not routine:
        return _flash(urgent, world.server.port)
    others = new_load([(world.post(letter),) for letter in world.letters(routine)], (201,))
    # In a process of its own, or a FLASH would be timed with what the load's own loop makes it wait.
    load = get_context("fork").Process(target=lambda: uvloop.run(drive(others, world.server.port, 64)), daemon=True)
    load.start()
    time.sleep(0.1)
    latencies = _flash(takewhile(lambda _unit: load.is_alive(), urgent), world.server.port)
    load.join()
    if load.exitcode:
        raise Unexpected("the load beside FLASH failed")
    return latencies


def _flash(units: Iterable[Unit], port: int) -> list[float]:
    flash = new_load(units, (201,))
    uvloop.run(drive(flash, port, 1, PAUSE))
    return sorted(flash.latencies)
