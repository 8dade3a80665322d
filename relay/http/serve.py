"""Running the application under uvicorn until told to stop; what waits is committed before the end."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from sqlalchemy import make_url

from relay.core import Relay
from relay.cosigning import Cosigning
from relay.house import open_relay
from relay.observe import SWEPT, Watched, check_ports, going_on, log_as_json, serve_metrics, tell
from relay.pipeline.cores import keep_to_one
from relay.protocol.errors import LiaisonError
from relay.settings import Settings, host_and_port

from .app import create_app
from .joined import JoiningProtocol
from .workers import supervise

_YOUNG = 5_000  # new objects until a collection looks for cycles among them: a batch under way has thousands, and none


def serve_forever(settings: Settings) -> None:
    """Bind, say where, serve. A line on stdout tells scripts that the relay is ready."""
    if make_url(settings.database_url).get_backend_name() == "sqlite":
        if settings.workers > 1:
            raise LiaisonError("SQLite serves one process", hint="use --workers 1, or PostgreSQL with --database")
        _be_alone(settings.data)
    listening = _bind(settings)
    if settings.workers == 1:
        serve(settings, listening, 0)
    else:
        open_relay(settings).close()  # what is wrong with the settings is said once, and here
        if settings.metrics_port is not None:
            check_ports(settings.metrics_host, settings.metrics_port, settings.workers)
        supervise(settings, listening, serve)


def _be_alone(data: Path) -> None:
    """Hold the data folder for as long as this process lives: what one relay accepts wakes nobody who waits at another.

    Raises LiaisonError if a relay serves from it.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(data, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise LiaisonError(
            f"another relay serves from {data}", hint="SQLite serves one process; several need PostgreSQL"
        ) from None


def serve(settings: Settings, listening: socket.socket, worker: int) -> None:
    """Serve in this process until told to stop, as worker number so and so."""
    os.umask(0o077)
    log_as_json(settings.log_level)
    if settings.one_core:
        # Its inode: the same number in all workers of this relay, another one in another relay's.
        keep_to_one(os.fstat(listening.fileno()).st_ino + worker)
    relay, port = open_relay(settings), listening.getsockname()[1]
    scheme, authorities = reached_as(settings, port)
    app = create_app(relay, scheme=scheme, authorities=authorities, failures=settings.quota_failures)
    app.router.lifespan_context = _lifespan(relay, settings, port, worker)
    config = uvicorn.Config(
        Watched(app),
        log_config=None,
        access_log=False,
        server_header=False,
        http=JoiningProtocol,
        ws="none",
        forwarded_allow_ips=settings.proxies,
        timeout_graceful_shutdown=settings.drain_seconds,
    )
    if settings.metrics_port is not None:
        serve_metrics(settings.metrics_host, settings.metrics_port + worker, relay.room.count_messages)
    # uvicorn raises the signal again once it has stopped; a relay that was told to stop, and did, has not failed.
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: sys.exit(0))
    DrainingServer(config, relay, settings.drain_notice).run(sockets=[listening])


def _lifespan(
    relay: Relay, settings: Settings, port: int, worker: int
) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """What is done before the first request and after the last. One worker says where the relay serves, and cosigns."""
    cosigning = Cosigning(relay, relay.witness_policy) if relay.witness_policy is not None and worker == 0 else None

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        relay.start()
        await relay.door.await_own_second()
        _spare_the_collector()
        if worker == 0:
            print(f"relay: serving on http://{settings.host}:{port} as {relay.name}", flush=True)  # noqa: T201
        tell(logging.INFO, "serving", worker=worker)
        sweeping = asyncio.create_task(_sweep(relay, settings.sweep_every))
        if cosigning is not None:
            cosigning.start()
        yield
        sweeping.cancel()
        if cosigning is not None:
            cosigning.close()
        relay.close()

    return lifespan


def _spare_the_collector() -> None:
    """What is here now stays: else a full collection walks it every other second, and for 0.1 s nobody is answered."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


class DrainingServer(uvicorn.Server):
    """Told to stop, it says so, ends who only waits, finishes what it has begun, and then lets the relay close."""

    def __init__(self, config: uvicorn.Config, relay: Relay, notice: float) -> None:
        super().__init__(config)
        self._relay, self._notice = relay, notice

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        tell(logging.INFO, "draining")
        self._relay.pulse.drain()
        await asyncio.sleep(self._notice)
        self._relay.hang_up()
        await super().shutdown(sockets)
        tell(logging.INFO, "stopped", reason="told to")


async def _sweep(relay: Relay, every: float) -> None:
    """Now and every so many seconds, as long as the relay serves; what fails now is done the next time."""
    while True:
        with going_on("sweep failed"):
            await relay.sweeper.sweep()
            SWEPT.set_to_current_time()
        await asyncio.sleep(every)


def reached_as(settings: Settings, port: int) -> tuple[str | None, frozenset[str]]:
    """Scheme and authorities under which clients reach this relay. Raises LiaisonError where only a person can know."""
    if settings.public_url:
        scheme, _, authority = settings.public_url.partition("://")
        return scheme, frozenset({authority})
    if settings.host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        raise LiaisonError("on all addresses, the relay cannot know its own", hint="give --public-url")
    own = f"[{settings.host}]" if ":" in settings.host else settings.host
    names = {"127.0.0.1", "localhost", "[::1]"} if settings.host in _LOOPBACK else {own.lower()}
    return None, frozenset(host_and_port("http", name, port) for name in names)


_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def _bind(settings: Settings) -> socket.socket:
    """The address from the settings, or the socket that systemd holds from one relay to the next (sd_listen_fds(3))."""
    if (os.environ.get("LISTEN_PID"), os.environ.get("LISTEN_FDS")) == (str(os.getpid()), "1"):
        return socket.socket(fileno=3)
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
        listening.listen(2048)
    except OSError as problem:
        listening.close()
        where = f"{settings.host}:{settings.port}"
        is_taken = problem.errno in {errno.EADDRINUSE, errno.EACCES}
        hint = "is another relay running? try --port 0" if is_taken else "is --host an address of this machine?"
        raise LiaisonError(f"cannot bind {where}: {problem.strerror}", hint=hint) from problem
    return listening
