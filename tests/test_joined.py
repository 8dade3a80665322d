"""Answers that leave in one write: what becomes of them where the connection does not outlive their turn."""

from __future__ import annotations

import asyncio

import pytest
import uvloop

from relay.http.joined import Joined


@pytest.mark.parametrize("runner", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_what_is_written_to_a_connection_that_is_lost_in_the_same_turn_is_dropped_without_a_fault(runner):
    faults = []

    async def run():
        loop, accepted = asyncio.get_running_loop(), asyncio.Queue()

        class Accepting(asyncio.Protocol):
            def connection_made(self, transport):
                accepted.put_nowait(transport)

        server = await loop.create_server(Accepting, "127.0.0.1", 0)
        loop.set_exception_handler(lambda _loop, context: faults.append(context))
        _reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        transport = await accepted.get()
        joined = Joined(transport, loop)
        transport.abort()  # as a reset does
        joined.write(b"head")
        await asyncio.sleep(0.05)
        joined.close()
        writer.close()
        server.close()

    runner(run())
    assert faults == []
