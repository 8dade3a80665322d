"""Waking those who wait for mail in this process; what other processes accept is heard of in the same way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Self


class Bell:
    """Rung with the devices that have new mail. Belongs to the event loop of those who listen."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: dict[bytes, set[asyncio.Event]] = {}
        self.silent = False

    def ring(self, device_ids: Iterable[bytes]) -> None:
        for device_id in device_ids:
            for event in self._waiting.get(device_id, ()):
                event.set()

    def hear(self, device_ids: list[bytes]) -> None:
        """Ring as another process says, from any thread: for these devices, or for all if it names none."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits there any more
                self._loop.call_soon_threadsafe(lambda: self.ring(device_ids or list(self._waiting)))

    def ring_all(self) -> None:
        self.ring(list(self._waiting))

    def hang_up(self) -> None:
        """Nobody waits here any longer."""
        self.silent = True
        self.ring_all()

    def listen(self, device_id: bytes) -> Listener:
        return Listener(self, device_id)

    def add(self, device_id: bytes, event: asyncio.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._waiting.setdefault(device_id, set()).add(event)

    def remove(self, device_id: bytes, event: asyncio.Event) -> None:
        waiting = self._waiting.get(device_id, set())
        waiting.discard(event)
        if not waiting:
            self._waiting.pop(device_id, None)


class Listener:
    """`with bell.listen(device) as listener:` first, then look, then wait: nothing rung in between is missed."""

    def __init__(self, bell: Bell, device_id: bytes) -> None:
        self._bell, self._device_id, self._event = bell, device_id, asyncio.Event()

    def __enter__(self) -> Self:
        self._bell.add(self._device_id, self._event)
        return self

    def __exit__(self, *_: object) -> None:
        self._bell.remove(self._device_id, self._event)

    async def wait(self, seconds: float) -> None:
        """Until the bell rings or the time is over, whichever is first."""
        try:
            await asyncio.wait_for(self._event.wait(), seconds)
        except TimeoutError:
            return
        finally:
            self._event.clear()
