"""The load: requests rendered beforehand, written to as many connections as there are clients.

A unit of work is a few requests that follow each other on one connection; a client takes the next unit when its
last one is done. An answer with another status than the expected one ends the run: a benchmark counts no refusals.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import uvloop

from .figures import Measured

Unit = tuple[bytes, ...]
LONGEST = 240  # seconds that one round may take; a benchmark that hangs says so


class Unexpected(Exception):
    """An answer that the benchmark did not ask for."""


@dataclass(slots=True)
class Load:
    """What the clients share."""

    units: Iterator[Unit]
    statuses: tuple[int, ...]
    latencies: list[float] = field(default_factory=list)
    steps: list[list[float]] = field(default_factory=list)  # seconds of each request, by its place in the unit
    bodies: list[list[bytes]] | None = None  # answers, by place in the unit, if they are kept


class Line(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, load: Load, over: asyncio.Future[None], pause: float = 0.0) -> None:
        self._load, self._over, self._pause = load, over, pause
        self._unit: Unit = ()
        self._place = 0
        self._began = self._asked = 0.0
        self._buffer = bytearray()
        self._wanted = -1  # octets of the whole answer, once its head is read
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._next_unit()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._wanted < 0 and (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            self._read_head(end + 4)
        if self._wanted == 0 and self._buffer.endswith(b"\r\n0\r\n\r\n"):
            self._wanted = len(self._buffer)
        if 0 < self._wanted <= len(self._buffer):
            self._answered()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.done():
            self._over.set_exception(exc or Unexpected("the connection was closed"))

    def _read_head(self, end: int) -> None:
        head = bytes(self._buffer[:end]).lower()
        _, found, rest = head.partition(b"content-length:")
        self._wanted = end + int(rest.partition(b"\r\n")[0]) if found else 0  # 0: in chunks

    def _answered(self) -> None:
        now, load = time.perf_counter(), self._load
        status = int(self._buffer[9:12])
        if status != load.statuses[self._place]:
            self._over.set_exception(Unexpected(f"{status}: {bytes(self._buffer[:600])!r}"))
            self._close()
            return
        load.steps[self._place].append(now - self._asked)
        if load.bodies is not None:
            load.bodies[self._place].append(bytes(self._buffer).partition(b"\r\n\r\n")[2])
        self._buffer.clear()
        self._wanted = -1
        self._place += 1
        if self._place < len(self._unit):
            self._ask(now)
            return
        load.latencies.append(now - self._began)
        if self._pause:
            asyncio.get_running_loop().call_later(self._pause, self._next_unit)
        else:
            self._next_unit()

    def _next_unit(self) -> None:
        unit = next(self._load.units, None)
        if unit is None:
            if not self._over.done():
                self._over.set_result(None)
            self._close()
            return
        self._unit, self._place = unit, 0
        self._began = time.perf_counter()
        self._ask(self._began)

    def _ask(self, now: float) -> None:
        assert self._transport is not None
        self._asked = now
        self._transport.write(self._unit[self._place])

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def new_load(units: Iterable[Unit], statuses: Sequence[int], *, keep: bool = False) -> Load:
    places = range(len(statuses))
    return Load(iter(units), tuple(statuses), [], [[] for _ in places], [[] for _ in places] if keep else None)


async def drive(load: Load, port: int, clients: int, pause: float = 0.0) -> None:
    """Let `clients` connections do all units of a load."""
    loop = asyncio.get_running_loop()
    ends = [loop.create_future() for _ in range(clients)]
    for end in ends:
        await loop.create_connection(lambda end=end: Line(load, end, pause), "127.0.0.1", port)
    async with asyncio.timeout(LONGEST):
        await asyncio.gather(*ends)


def run(
    units: Iterable[Unit],
    statuses: Sequence[int],
    port: int,
    clients: int,
    *,
    meter: Callable[[], tuple[float, float]] = lambda: (0.0, 0.0),
    keep: bool = False,
) -> tuple[Measured, Load]:
    """One round. `meter` reads the processor seconds of (server, database) so far."""
    load = new_load(units, statuses, keep=keep)
    gc.collect()
    gc.disable()
    try:
        server, database = meter()
        own, began = time.process_time(), time.perf_counter()
        uvloop.run(drive(load, port, clients))
        seconds, own = time.perf_counter() - began, time.process_time() - own
        server_after, database_after = meter()
    finally:
        gc.enable()
    latencies = tuple(sorted(load.latencies))
    measured = Measured(len(latencies), seconds, latencies, own, server_after - server, database_after - database)
    return measured, load
