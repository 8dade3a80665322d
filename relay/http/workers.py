"""Several processes that serve one address from one database, and one that keeps them alive.

The rules:
  - the parent binds and opens nothing else: each worker has its own connections, threads and metrics port;
  - a worker that ends unasked is replaced, after a pause, so that a fault at start does not spin;
  - told to stop, the parent tells all and waits for all; it exits 0 if they all did;
  - a worker whose parent is gone, however it went, stops as if told to: nobody would replace or stop it any more.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

from relay.observe import log_as_json, tell
from relay.settings import Settings

Serve = Callable[[Settings, socket.socket, int], None]
_PAUSE = 1.0  # seconds before a worker that ended is replaced
_LOOK = 0.2  # seconds until the word to stop is heeded
_SPAWN = multiprocessing.get_context("spawn")  # nothing of the parent's threads and connections comes along


def supervise(settings: Settings, listening: socket.socket, serve: Serve) -> None:
    """Run `serve(settings, listening, number)` in each worker until told to stop; then exit."""
    log_as_json(settings.log_level)
    workers = [_start(settings, listening, serve, number) for number in range(settings.workers)]
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, stop)
    while not stopping:
        wait([worker.sentinel for worker in workers], timeout=_LOOK)
        for number, worker in enumerate(workers):
            if not stopping and worker.exitcode is not None:
                tell(logging.ERROR, "worker-ended", worker=number, reason=worker.exitcode)
                time.sleep(_PAUSE)
                workers[number] = _start(settings, listening, serve, number)
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join()
    # One that was still starting ends by the signal itself: it had nothing to finish.
    sys.exit(0 if all(worker.exitcode in {0, -signal.SIGTERM} for worker in workers) else 1)


def _start(settings: Settings, listening: socket.socket, serve: Serve, number: int) -> BaseProcess:
    worker = _SPAWN.Process(target=_work, args=(settings, listening, serve, number), name=f"relay-worker-{number}")
    worker.start()
    return worker


def _work(settings: Settings, listening: socket.socket, serve: Serve, number: int) -> None:
    threading.Thread(target=_end_with_parent, name="relay-orphan", daemon=True).start()
    serve(settings, listening, number)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - a worker is started by one
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
