"""A request's head comes whole, within its length and its time.

The parser keeps what it has of a head until the head ends, and uvicorn waits for that without end: whoever can reach
the port could fill the memory with one line, or hold connections with an octet now and then.

The rules:
  - what is fed is counted until the parser gets on: a head ended, a piece of a body came, or a request's end did;
  - over MAX_HEAD octets, and the connection is closed. A head that came in one piece is held against no limit: a piece
    is what one read takes, READ octets at the most;
  - from when a connection is made, and from the first octet that gets the parser nowhere, it has HEAD_WAIT seconds.
Trailers behind chunks count as a head does. How long a connection may idle between requests is uvicorn's to see to.

What is read goes into one buffer and is parsed from there: a loop that makes octets of each read copies every chunk of
a large part once more.
"""

from __future__ import annotations

import asyncio
import threading

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from relay.core.limits import HEAD_WAIT, MAX_HEAD

_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
READ = 256 * 1024


class _Buffer(threading.local):
    """One for all connections of an event loop, which runs in one thread: a read is parsed before the next is made."""

    def __init__(self) -> None:
        self.octets = memoryview(bytearray(READ))


_buffer = _Buffer()


class BoundedHeads(HttpToolsProtocol, asyncio.BufferedProtocol):
    """uvicorn's protocol, which lets nobody begin a request for ever."""

    _unread = 0  # octets since the parser last got on
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._late = self.loop.call_later(HEAD_WAIT, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._get_on()
        super().connection_lost(exc)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - as asyncio has it
        return _buffer.octets

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(_buffer.octets[:nbytes])  # type: ignore[arg-type]  # the parser takes whatever holds octets

    def data_received(self, data: bytes) -> None:
        self._unread += len(data)
        super().data_received(data)
        if self._unread:
            self._bound()

    def on_headers_complete(self) -> None:
        self._get_on()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._get_on()
        if not self.cycle.body:
            # its bytearray would copy a piece in, and out again; what is added to no octets stays as it is
            self.cycle.body = b""  # type: ignore[assignment]
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._get_on()
        super().on_message_complete()

    def _get_on(self) -> None:
        self._unread = 0
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _bound(self) -> None:
        if self.transport.is_closing():
            return
        if self._unread > MAX_HEAD:
            if self.cycle is None or self.cycle.response_complete:  # else it would stand in the middle of an answer
                self.transport.write(_TOO_LONG)
            self.transport.close()
        elif self._late is None:
            self._late = self.loop.call_later(HEAD_WAIT, self.transport.close)
