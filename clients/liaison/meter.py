"""How far something is that takes its time. `render.meter` shows it; a program may show it in its own way, or not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

Advance = Callable[[int], None]


class Meter(Protocol):
    """What it is, and how much of it there is; then how many more are done. Octets, or the devices of `counted`."""

    def __call__(self, what: str, total: int, *, counted: str = "") -> AbstractContextManager[Advance]: ...


@contextmanager
def no_meter(what: str, total: int, *, counted: str = "") -> Iterator[Advance]:  # noqa: ARG001 - a Meter's names
    yield lambda _done: None
