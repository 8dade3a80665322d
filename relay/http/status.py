"""What anyone may know: that the relay lives, its name, and the keys that sign its logs."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from relay import __version__
from relay.protocol.errors import Unavailable

from .asked import TheRelay
from .responses import answers

router = APIRouter(tags=["status"])


@router.get("/health")
async def health() -> dict[str, Any]:
    """The process answers."""
    return {"v": 1, "status": "ok"}


@router.get("/ready", responses={503: answers()[503]})
async def ready(relay: TheRelay) -> dict[str, Any]:
    """The database takes what is written, and the relay is not about to stop."""
    if not await relay.pulse.ready():
        raise Unavailable("the relay is about to stop", hint="another one may be serving")
    return {"v": 1, "status": "ready"}


@router.get("/v1/relay")
async def about(relay: TheRelay) -> dict[str, Any]:
    """`name`, the `origins` of its logs (`directory`, `access`), and the `keys` that sign their checkpoints."""
    return {
        "v": 1,
        "version": __version__,
        "name": relay.name,
        "origins": {log.name.lower(): origin for log, origin in relay.origins.items()},
        "keys": list(relay.vkeys),
    }
