"""Many jobs at once for a relay: submissions of many clients, and entries that cost nothing to make."""

from __future__ import annotations

import asyncio
import os
import threading

import httpx2

from forge import signed_headers
from relay.protocol.entry import AccessEntry, Event


def post_all(world, anna, batches) -> list[list[httpx2.Response]]:
    """Each batch by a client of its own, all clients at once."""

    async def one(bodies, go):
        async with httpx2.AsyncClient(timeout=60) as client:
            await go.wait()
            return [
                await client.post(
                    world.url + "/v1/messages", content=body, headers=signed_headers(anna, "POST", "/v1/messages", body)
                )
                for body in bodies
            ]

    async def everyone():
        go = asyncio.Event()
        waiting = [asyncio.create_task(one(bodies, go)) for bodies in batches]
        go.set()
        return await asyncio.gather(*waiting)

    return asyncio.run(everyone())


def cheap_entry(detail: str = "") -> AccessEntry:
    return AccessEntry(Event.OPERATOR, 1, os.urandom(16), bytes(16), "operator", "", detail=detail)


def log_one(batch):
    index = batch.log(cheap_entry())
    return lambda committed: committed.prove(index)


def together(relay, jobs):
    """All jobs in one batch: the writer is held up until they wait behind each other."""
    held, go = threading.Event(), threading.Event()

    def hold_up(_batch):
        held.set()
        go.wait(20)
        return lambda _committed: None

    async def submit():
        first = asyncio.create_task(relay._writer.submit(hold_up))
        await asyncio.to_thread(held.wait, 20)
        rest = [asyncio.create_task(relay._writer.submit(job)) for job in jobs]
        await asyncio.sleep(0)
        go.set()
        await first
        return await asyncio.gather(*rest, return_exceptions=True)

    return asyncio.run(submit())
