"""The two logs as C2SP tlog-tiles. Checkpoints and hash tiles are public: hashes tell nothing without their entries."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from relay.protocol.errors import Unknown
from relay.store.log import Log

from .asked import TheCaller, TheRelay, cbor
from .responses import answers

router = APIRouter(prefix="/v1/log", tags=["logs"])
_FULL_TILE = "public, max-age=604800, immutable"
Newest = Annotated[bool, Query(description="the newest checkpoint, whether cosigned yet or not")]


class LogName(StrEnum):
    DIRECTORY = "directory"
    ACCESS = "access"

    @property
    def log(self) -> Log:
        return Log[self.name]


@router.get("/{log}/checkpoint", responses=answers(400, 404, media="text/plain"))
async def checkpoint(log: LogName, relay: TheRelay, *, newest: Newest = False) -> Response:
    """The newest checkpoint that the relay's witnesses have cosigned, if it has witnesses; else the newest."""
    return Response(await relay.checkpoint(log.log, newest=newest), media_type="text/plain; charset=utf-8")


@router.get("/{log}/consistency", responses=answers(400, 404, what="[hash...]"))
async def consistency(
    log: LogName,
    relay: TheRelay,
    old: Annotated[int, Query(ge=1, le=1 << 62)],
    new: Annotated[int, Query(ge=1, le=1 << 62)],
) -> Response:
    """Proof that the tree of `new` entries extends that of `old`."""
    return cbor(await relay.room.consistency(log.log, old, new))


@router.get("/directory/tile/entries/{path:path}", responses=answers(400, 401, 404, media="application/octet-stream"))
async def entries(path: str, relay: TheRelay, caller: TheCaller) -> Response:
    """An entry bundle of the directory log, for enrolled devices."""
    bundle = await relay.room.directory_bundle(caller, f"tile/entries/{path}")
    return Response(bundle, media_type="application/octet-stream")


@router.get("/{log}/tile/{level}/{path:path}", responses=answers(400, 401, 404, media="application/octet-stream"))
async def tile(
    log: LogName, level: Annotated[str, Path(pattern="^([0-9]{1,2}|entries)$")], path: str, relay: TheRelay
) -> Response:
    """A hash tile."""
    if level == "entries":
        raise Unknown("entries of this log are not public")
    found = await relay.room.tile(log.log, f"tile/{level}/{path}")
    full = len(found) == 256 * 32
    headers = {"cache-control": _FULL_TILE} if full else None
    return Response(found, media_type="application/octet-stream", headers=headers)
