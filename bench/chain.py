"""One message through the real client library, step by step: seal, accept, push, open and unseal, acknowledge.

Two devices at a relay of their own, one message at a time, nobody else there. The reader listens on the event stream;
the push counts from the posting of the message to the reader being told. The client's steps hold its own work too:
reading the directory, verifying, its store on the disk. Sealing is told from posting by the time in the transport.
"""

from __future__ import annotations

import queue
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .figures import middle
from .parts import ANNA, JEAN, started
from .processes import end

LABEL = "TEST SEALED RELEASABLE TO FRA, POL"


def measure(rounds: int) -> dict[str, Any]:
    """Median milliseconds by step."""
    with tempfile.TemporaryDirectory() as folder:
        process, world = started(Path(folder))
        try:
            return {"ms": _rounds(world.clients[ANNA], world.clients[JEAN], rounds)}
        finally:
            world.close()
            end(process)


def _rounds(anna: Any, jean: Any, rounds: int) -> dict[str, float]:
    told: queue.SimpleQueue[float] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(jean.transport, told), daemon=True).start()
    time.sleep(0.3)
    taken = [_once(anna, jean, told) for _ in range(rounds + 1)]
    return middle(taken[1:])  # the first one warms both


def _listen(transport: Any, told: queue.SimpleQueue[float]) -> None:
    try:
        for _event in transport.events(0):
            told.put(time.perf_counter())
    except Exception:  # noqa: BLE001 - the relay has ended, and with it the measurement
        return


def _once(anna: Any, jean: Any, told: queue.SimpleQueue[float]) -> dict[str, float]:
    spent: dict[str, tuple[float, float]] = {}
    post = anna.transport.post

    def timed_post(path: str, *given: Any, **named: Any) -> bytes:
        began = time.perf_counter()
        answer: bytes = post(path, *given, **named)
        spent[path.rpartition("/")[2]] = (began, time.perf_counter())
        return answer

    anna.transport.post = timed_post
    began = time.perf_counter()
    plan = anna.plan([JEAN], label=LABEL, body="x" * 4096)
    planned = time.perf_counter()
    sent = anna.release(plan).message_id
    anna.transport.post = post
    asked, accepted = spent["messages"]
    claim = spent.get("claim", (0.0, 0.0))
    notified = told.get(timeout=20)
    opening = _timed(lambda: jean.read(sent))
    acknowledging = _timed(lambda: jean.acknowledge(sent))
    return {
        "plan": (planned - began) * 1e3,
        "claim keys": (claim[1] - claim[0]) * 1e3,
        "seal and keep": (asked - planned - (claim[1] - claim[0])) * 1e3,
        "accept": (accepted - asked) * 1e3,
        "post to push": (notified - asked) * 1e3,
        "open, unseal, keep, tell": opening * 1e3,
        "acknowledge": acknowledging * 1e3,
    }


def _timed(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began
