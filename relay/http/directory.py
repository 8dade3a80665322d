"""The directory: read it, add to it, fetch the policy files that it names."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from .asked import TheCaller, TheRelay, TheRequest, cbor
from .responses import Cursor, Digest, answers, body

router = APIRouter(prefix="/v1", tags=["directory"])


@router.get("/directory", responses=answers(400, 401, what="[checkpoint, [entry...]]"))
async def directory(
    relay: TheRelay, caller: TheCaller, after: Cursor = 0, count: Annotated[int, Query(ge=1, le=1000)] = 1000
) -> Response:
    """Entries of the directory log from number `after` on, and the newest checkpoint."""
    return cbor(await relay.room.directory(caller, after, count))


@router.post(
    "/directory",
    status_code=201,
    responses=answers(400, 401, 403, 404, 409, 413, 422, ok=201, what="[index, size]"),
    openapi_extra=body("[change, signed object, [document...]], with approvals a fourth: [approval...]"),
)
async def publish(relay: TheRelay, request: TheRequest) -> Response:
    """An office authority publishes what it has signed: see the changes of SPEC.md, 20."""
    return cbor(await relay.publish(request), 201)


@router.post(
    "/rosters",
    status_code=201,
    responses=answers(400, 401, 403, 404, 409, 413, 422, ok=201, what="[index, size]"),
    openapi_extra=body("Roster: Sign1 of the community's manager"),
)
async def publish_roster(relay: TheRelay, request: TheRequest) -> Response:
    """A community's manager says who belongs to it."""
    return cbor(await relay.publish_roster(request), 201)


@router.get("/documents/{digest}", responses=answers(400, 401, 404, media="application/octet-stream"))
async def document(digest: Digest, relay: TheRelay, caller: TheCaller) -> Response:
    """A policy file by its digest."""
    return Response(await relay.room.document(caller, bytes.fromhex(digest)), media_type="application/octet-stream")
