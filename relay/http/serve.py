"""Running the application under uvicorn until told to stop; what waits is committed before the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI
from sqlalchemy import make_url

from relay.house import open_relay
from relay.protocol.errors import LiaisonError
from relay.settings import Settings

from .app import create_app


def serve_forever(settings: Settings) -> None:
    """Bind, say where, serve. A line on stdout tells scripts that the relay is ready."""
    if settings.workers > 1 and make_url(settings.database_url).get_backend_name() == "sqlite":
        raise LiaisonError("SQLite serves one process", hint="use --workers 1, or PostgreSQL with --database")
    if settings.workers > 1:
        raise LiaisonError("several workers are not supported yet", hint="use --workers 1")
    relay = open_relay(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        relay.start()
        # The memory of used nonces is this process's own, and a signature's time is in whole seconds.
        first = int(time.time()) + 1
        relay.refuse_before(first)
        await asyncio.sleep(first - time.time())
        print(f"relay: serving on http://{settings.host}:{port} as {relay.name}", flush=True)  # noqa: T201
        sweeping = asyncio.create_task(relay.keep_swept(settings.sweep_every))
        yield
        sweeping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sweeping
        relay.close()

    listening = _bind(settings)
    port = listening.getsockname()[1]
    scheme, authorities = reached_as(settings, port)
    app = create_app(relay, scheme=scheme, authorities=authorities)
    app.router.lifespan_context = lifespan
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=10
    )
    uvicorn.Server(config).run(sockets=[listening])


def reached_as(settings: Settings, port: int) -> tuple[str | None, frozenset[str]]:
    """Scheme and authorities under which clients reach this relay. Raises LiaisonError where only a person can know."""
    if settings.public_url:
        scheme, _, authority = settings.public_url.rstrip("/").lower().partition("://")
        if not authority or "/" in authority:
            raise LiaisonError(f"{settings.public_url} is no address", hint="such as https://relay.example")
        return scheme, frozenset({authority})
    if settings.host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        raise LiaisonError("on all addresses, the relay cannot know its own", hint="give --public-url")
    names = {"127.0.0.1", "localhost", "[::1]"} if settings.host in _LOOPBACK else {settings.host.lower()}
    return None, frozenset(f"{name}:{port}" for name in names)


_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def _bind(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as problem:
        listening.close()
        where = f"{settings.host}:{settings.port}"
        raise LiaisonError(
            f"cannot bind {where}: {problem.strerror}", hint="is another relay running? try --port 0"
        ) from problem
    return listening
