"""A line in front of a thread: served by precedence, nobody starves, and it never grows without end.

The rules:
  - the highest precedence is served first, and within one whoever came first;
  - every `_TURN`th place goes to the lowest precedence that waits, so that a flood of FLASH delays ROUTINE and
    does not stop it;
  - a line has a length for each precedence, the longer the higher: under overload ROUTINE is turned away first,
    with a time to come back, and FLASH last.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from typing import Generic, TypeVar

from relay.protocol.errors import Unavailable
from relay.protocol.header import Precedence

T = TypeVar("T")
URGENT = Precedence.IMMEDIATE  # and above
_URGENT = [each for each in Precedence if each >= URGENT]
_TURN = 8
_LENGTH = {
    Precedence.DEFERRED: 256, Precedence.ROUTINE: 512, Precedence.PRIORITY: 1024,
    Precedence.IMMEDIATE: 2048, Precedence.FLASH: 4096, Precedence.OVERRIDE: 4096,
}  # fmt: skip


class Line(Generic[T]):
    """Put from any thread, take from any thread."""

    def __init__(self) -> None:
        self._places: dict[Precedence, deque[T]] = {each: deque() for each in sorted(Precedence, reverse=True)}
        self._changed = threading.Condition()
        self._waiting = 0
        self._served = 0
        self._ended = False

    def put(self, item: T, precedence: Precedence) -> None:
        """Raises Unavailable if too many wait already for one of this precedence to join."""
        if self._waiting >= _LENGTH[precedence]:
            raise Unavailable("the relay is overloaded", hint="nothing was lost; try again in a few seconds")
        self.put_together([(item, precedence)])

    def put_together(self, items: Sequence[tuple[T, Precedence]]) -> None:
        """So that one `take` finds all of them; whoever does this sees to the length of the line."""
        with self._changed:
            for item, precedence in items:
                self._places[precedence].append(item)
            self._waiting += len(items)
            self._changed.notify()

    def put_back(self, items: Sequence[tuple[T, Precedence]]) -> None:
        """To where they were taken from: the first to go next, in the same order."""
        with self._changed:
            for item, precedence in reversed(items):
                self._places[precedence].appendleft(item)
            self._waiting += len(items)

    def is_urgent(self) -> bool:
        """Whether somebody urgent waits. Asked from any thread, and good for a moment."""
        return any(map(self._places.__getitem__, _URGENT))

    def end(self) -> None:
        """Nobody joins any more: who waits is served, then `take` answers nothing."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def take(self, most: int, most_urgent: int, *, now: int = 0) -> list[T]:
        """Wait for the first, then take who waits; empty once the line has ended.

        At most `most`; while somebody urgent waits, no more than are urgent, and at most `most_urgent`: a short turn is
        soon over.
        With `now`, nobody is waited for, and nobody taken if fewer than that are there.
        """
        with self._changed:
            if now and self._waiting < now:
                return []
            self._changed.wait_for(lambda: self._waiting or self._ended)
            urgent = sum(len(self._places[each]) for each in _URGENT)
            return self._take(min(most_urgent, urgent) if urgent else min(most, self._waiting))

    def take_more(self, most: int) -> list[T]:
        """Who waits at this moment, at most so many; nobody while somebody urgent does."""
        with self._changed:
            return [] if self.is_urgent() else self._take(min(most, self._waiting))

    def _take(self, count: int) -> list[T]:
        taken = [self._next() for _ in range(count)]
        self._waiting -= count
        return taken

    def _next(self) -> T:
        self._served += 1
        order = self._places.values()
        return next(place for place in (reversed(order) if self._served % _TURN == 0 else order) if place).popleft()
