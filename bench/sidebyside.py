"""Everybody in turn: relay, floor and peers do a round each, then the next; so a slow minute meets all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import generator
from .figures import Measured, middle
from .floor import Floor
from .server import Server
from .world import Letter, World

STEPS = {"accept": 201, "open": 200, "part": 200, "acknowledge": 201}
WORKS = ("accept", "accept+open", "accept+open+part", "accept+open+acknowledge")


class RelaySubject:
    """A relay as it is measured: letters are sealed, and requests signed, before the clock runs."""

    works = WORKS

    def __init__(self, world: World, size: int = 4096) -> None:
        self.world, self._size = world, size

    def measure(self, work: str, count: int, clients: int) -> Measured:
        letters = self.world.letters(count, self._size)
        return deliver(self.world, letters, work, clients)[0]


def deliver(world: World, letters: Sequence[Letter], work: str, clients: int) -> tuple[Measured, generator.Load]:
    """One round over these letters."""
    server: Server = world.server
    ask = {"accept": world.post, "open": world.open, "acknowledge": world.acknowledge}
    steps, seen = work.split("+"), server.log_size()
    units = [
        tuple(world.part(letter) if step == "part" else ask[step](letter, seen) for step in steps) for letter in letters
    ]
    return generator.run(units, [STEPS[step] for step in steps], server.port, clients, meter=server.meter)


class FloorSubject:
    """The bare driver, with letters of a world that has been built anyway."""

    works = ("accept", "accept+open", "accept+open+acknowledge")

    def __init__(self, floor: Floor, world: World) -> None:
        self._floor, self._world = floor, world

    def measure(self, work: str, count: int, clients: int) -> Measured:
        return self._floor.measure(work, self._world.letters(count), clients)


def compare(subjects: dict[str, Any], clients: Sequence[int], rounds: int, count: int) -> dict[str, Any]:
    """Medians by subject, work and number of clients."""
    found: dict[str, Any] = {name: {} for name in subjects}
    for number in clients:
        taken: dict[tuple[str, str], list[dict[str, float]]] = {}
        for turn in range(rounds):
            for name, subject in subjects.items():
                for work in subject.works:
                    share = getattr(subject, "share", 1.0)  # of the usual number, for whoever is much slower
                    longer = 0.25 if number == 1 else max(1, number / 16)  # many clients need time to get into step
                    units = max(number, int(count * share * longer), 8)
                    figures = subject.measure(work, units, number).figures()
                    taken.setdefault((name, work), []).append(figures)
                    print(f"  {turn + 1}/{rounds} {name}: {work}, {number}: {figures['rate']:.0f}/s", flush=True)
        for (name, work), each in taken.items():
            found[name].setdefault(work, {})[str(number)] = middle(each)
    return found
