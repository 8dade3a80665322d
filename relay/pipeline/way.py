"""The way for the urgent: while one of them is not answered yet, the patient give way, and nobody starves.

The interpreter serves one thread at a time, so each of the patient's steps is one that an urgent request waits for. Who
gives way does so for `_PATIENCE` all in all, however many urgent ones come after one another.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

_PATIENCE = 0.05  # seconds


class Way:
    """Safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._urgent = 0
        self.is_free = threading.Event()
        self.is_free.set()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """For somebody urgent, until he is answered."""
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, more: int) -> None:
        with self._lock:
            self._urgent += more
            if self._urgent:
                self.is_free.clear()
            else:
                self.is_free.set()


class Patience:
    """How long one group of the patient gives way; it begins to run out when it is first needed."""

    def __init__(self, way: Way) -> None:
        self._way, self._until = way, 0.0

    def left(self) -> float:
        """Seconds for which to give way from now on; 0 if nobody urgent is there, or patience is at its end."""
        if self._way.is_free.is_set():
            return 0.0
        now = time.monotonic()
        self._until = self._until or now + _PATIENCE
        return max(0.0, self._until - now)

    def give_way(self) -> None:
        """Wait until the way is free or patience is at its end."""
        if left := self.left():
            self._way.is_free.wait(left)
