"""Large parts on their way in, before the submission that names them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response

from relay.protocol.parts import MAX_PART, chunk_count

from .asked import TheCaller, TheRelay, TheSender, cbor
from .responses import Digest, answers, body

router = APIRouter(prefix="/v1/parts", tags=["parts"])


@router.post(
    "",
    responses=answers(400, 401, 403, 413, what="[chunk still missing...]; empty once the part is complete"),
    openapi_extra=body("[SHA-256 of the sealed part, its length]"),
)
async def begin_part(request: Request, relay: TheRelay, caller: TheCaller) -> Response:
    """Begin to upload a large part, or learn where an upload of the caller's office stopped."""
    return cbor(await relay.begin_part(caller, await request.body()))


@router.put(
    "/{digest}/{chunk}",
    responses=answers(400, 401, 403, 404, 413, 422, what="Empty: the chunk is durable"),
    openapi_extra=body("One chunk of the sealed part"),
)
async def put_chunk(
    digest: Digest,
    chunk: Annotated[int, Path(ge=0, lt=chunk_count(MAX_PART))],
    request: Request,
    relay: TheRelay,
    caller: TheSender,
) -> Response:
    """One chunk; the last one is answered once the digest of all of them was seen to hold."""
    pieces = [piece async for piece in request.stream()]
    await relay.take_chunk(caller, bytes.fromhex(digest), chunk, pieces, request.headers.get("content-digest"))
    return cbor(b"")
