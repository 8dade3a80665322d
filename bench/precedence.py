"""How long a FLASH takes while nobody else asks for anything, and while 64 clients post ROUTINE without a pause.

The FLASH client states its precedence in the request, as the client library does.
"""

from __future__ import annotations

import asyncio
from statistics import median
from typing import Any

import uvloop

from relay.protocol.header import Precedence

from .figures import quantile
from .generator import drive, new_load
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
    urgent = world.letters(flashes, precedence=Precedence.FLASH)
    others = world.letters(routine) if routine else []
    port = world.server.port
    flash = new_load([(world.post(letter),) for letter in urgent], (201,))
    load = new_load([(world.post(letter),) for letter in others], (201,))

    async def both() -> None:
        busy = asyncio.create_task(drive(load, port, 64)) if others else None
        await asyncio.sleep(0.1)
        flashing = asyncio.create_task(drive(flash, port, 1, PAUSE))
        if busy is None:
            await flashing
            return
        await asyncio.wait({busy, flashing}, return_when=asyncio.FIRST_COMPLETED)  # what comes after is not loaded
        seen = len(flash.latencies)
        await asyncio.gather(busy, flashing)
        del flash.latencies[max(seen, 1) :]

    uvloop.run(both())
    return sorted(flash.latencies)
