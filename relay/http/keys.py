"""Key packages: publish, claim, count."""

from __future__ import annotations

from fastapi import APIRouter, Response

from .asked import TheCaller, TheRelay, TheRequest, cbor
from .responses import answers, body

router = APIRouter(prefix="/v1/keys", tags=["keys"])


@router.post(
    "",
    responses=answers(400, 401, 403, 413, 422, what="[one-time keys in stock, end of the last-resort key]"),
    openapi_extra=body("[KeyBatch, [KeyPackage...]]"),
)
async def publish(relay: TheRelay, request: TheRequest) -> Response:
    """Stock a signed batch of key packages."""
    return cbor(await relay.publish_keys(request))


@router.post(
    "/claim",
    responses=answers(400, 401, 403, 413, what="[[device, package or null, batch or null]...]"),
    openapi_extra=body("[device_id...]"),
)
async def claim(relay: TheRelay, request: TheRequest) -> Response:
    """Take one key package for each device, for the caller alone."""
    return cbor(await relay.claim_keys(request))


@router.get("/stock", responses=answers(401, 403, what="[one-time keys in stock, end of the last-resort key]"))
async def stock(relay: TheRelay, caller: TheCaller) -> Response:
    """What the caller has in stock."""
    return cbor(await relay.room.stock(caller))
