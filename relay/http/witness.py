"""Cosigning other logs' checkpoints: C2SP tlog-witness. Who asks is not asked; the log's signatures are."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from relay.protocol.witness import PATH, SIZE_TYPE, OldSize

from .asked import TheRelay, TheRequest
from .responses import answers, body

router = APIRouter(tags=["witness"])
_WHAT = "old size, consistency proof, checkpoint"
_SIZE: dict[int | str, dict[str, Any]] = {
    409: {"description": "Size of the last tree cosigned", "content": {SIZE_TYPE: {"schema": {"type": "string"}}}}
}


@router.post(
    PATH,
    responses={**answers(400, 401, 403, 404, 413, 422, media="text/plain", what="Cosignature lines"), **_SIZE},
    openapi_extra=body(_WHAT, "text/plain"),
)
async def add_checkpoint(relay: TheRelay, request: TheRequest) -> Response:
    """Cosign a checkpoint of a log that this relay witnesses, once its tree is remembered."""
    try:
        lines = await relay.cosign(request.body)
    except OldSize as refusal:
        return Response(f"{refusal.size}\n", 409, headers={"content-type": SIZE_TYPE})
    return Response(lines, media_type="text/plain; charset=utf-8")
