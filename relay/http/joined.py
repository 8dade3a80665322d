"""An answer's head and body leave together.

uvicorn writes one after the other, and each write is a packet of its own: twice the way through the system, and a
reader who is woken for a head. What is written in one turn of the event loop goes out at its end, in one write.
"""

from __future__ import annotations

import asyncio
from typing import Any

from .heads import BoundedHeads


class JoiningProtocol(BoundedHeads):
    """uvicorn's protocol on a transport that joins."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(Joined(transport, self.loop))  # type: ignore[arg-type]  # a transport in all but name


class Joined:
    """A transport whose writes are joined; whatever else is asked of it, the real one does."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, octets: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(octets)

    def close(self) -> None:
        """What was written still goes out, as with every transport."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        written, self._written = self._written, []
        if written and not self._transport.is_closing():  # it may have been lost since, and then has no reader
            self._transport.writelines(written)
