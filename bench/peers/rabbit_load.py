"""The load on RabbitMQ, by the interpreter that has its client: port, work, how many, clients; the password on stdin.

A connection and a channel for each client. What it prints is what was measured; the clock runs when all are connected.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from typing import Any

import aio_pika
import uvloop

PAYLOAD = os.urandom(4096)


async def measure(url: str, work: str, count: int, clients: int) -> dict[str, Any]:
    name, left, latencies = f"bench-{os.urandom(4).hex()}", iter(range(count)), list[float]()
    lines = [await aio_pika.connect(url) for _ in range(clients)]
    channels = [await line.channel(publisher_confirms=True) for line in lines]
    queues = [
        await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum"}) for channel in channels
    ]

    async def client(channel: Any, queue: Any) -> None:
        for _ in left:
            began = time.perf_counter()
            message = aio_pika.Message(PAYLOAD, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
            await channel.default_exchange.publish(message, routing_key=name, mandatory=True)
            if work == "send+fetch":
                # What was confirmed may be another's by now, or not yet be handed out.
                while (got := await queue.get(fail=False)) is None:
                    pass
                await got.ack()
            latencies.append(time.perf_counter() - began)

    own, began = time.process_time(), time.perf_counter()
    await asyncio.gather(*(client(*each) for each in zip(channels, queues, strict=True)))
    found = {"seconds": time.perf_counter() - began, "own": time.process_time() - own, "latencies": latencies}
    await queues[0].delete(if_unused=False, if_empty=False)
    for line in lines:
        await line.close()
    return found


async def main() -> None:
    port, work, count, clients = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    url = f"amqp://bench:{sys.stdin.read()}@127.0.0.1:{port}/"
    if work == "ready":
        await (await aio_pika.connect(url)).close()
        return
    async with asyncio.timeout(230):
        print(json.dumps(await measure(url, work, count, clients)))


uvloop.run(main())
