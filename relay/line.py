"""A line in front of a thread: served by precedence, nobody starves, and it never grows without end.

The rules:
  - the highest precedence is served first, and within one whoever came first;
  - every `_TURN`th place goes to the lowest precedence that waits, so that a flood of FLASH delays ROUTINE and
    does not stop it;
  - a line has a length for each precedence, the longer the higher: under overload ROUTINE is turned away first,
    with a time to come back, and FLASH last.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from relay.protocol.errors import Unavailable
from relay.protocol.header import Precedence

T = TypeVar("T")
_TURN = 8
_LENGTH = {
    Precedence.DEFERRED: 256, Precedence.ROUTINE: 512, Precedence.PRIORITY: 1024,
    Precedence.IMMEDIATE: 2048, Precedence.FLASH: 4096, Precedence.OVERRIDE: 4096,
}  # fmt: skip


class Line(Generic[T]):
    """Put from any thread, take from any thread."""

    def __init__(self) -> None:
        self._places: dict[Precedence, deque[T]] = {each: deque() for each in sorted(Precedence, reverse=True)}
        self._tickets: queue.SimpleQueue[bool] = queue.SimpleQueue()  # one for each that waits; False ends the line
        self._served = 0

    def __len__(self) -> int:
        return sum(map(len, self._places.values()))

    def put(self, item: T, precedence: Precedence) -> None:
        """Raises Unavailable if too many wait already for one of this precedence to join."""
        if len(self) >= _LENGTH[precedence]:
            raise Unavailable("the relay is overloaded", hint="nothing was lost; try again in a few seconds")
        self._places[precedence].append(item)
        self._tickets.put(True)

    def end(self) -> None:
        """Nobody joins any more: who waits is served, then `take` answers nothing, once."""
        self._tickets.put(False)

    def take(self, most: int, most_urgent: int) -> Sequence[T]:
        """Wait for the first, then take who waits; empty once the line has ended.

        At most `most`, and only `most_urgent` while somebody of IMMEDIATE or above waits: a short turn is soon over.
        """
        taken: list[T] = []
        while True:
            try:
                ticket = self._tickets.get(block=not taken)
            except queue.Empty:
                return taken
            if not ticket:
                if taken:
                    self.end()
                return taken
            if not taken and self._is_urgent():
                most = most_urgent
            taken.append(self._next())
            if len(taken) >= most:
                return taken

    def _is_urgent(self) -> bool:
        return any(self._places[each] for each in Precedence if each >= Precedence.IMMEDIATE)

    def _next(self) -> T:
        # There are at least as many in the places as tickets, but another taker may be quicker at one of them.
        while True:
            self._served += 1
            order = self._places.values()
            for place in reversed(order) if self._served % _TURN == 0 else order:
                try:
                    return place.popleft()
                except IndexError:
                    continue
