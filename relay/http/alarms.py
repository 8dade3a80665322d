"""Alarms about the directory: raised by whoever finds what he did not do, read by his office."""

from __future__ import annotations

from fastapi import APIRouter, Response

from .asked import TheCaller, TheRelay, TheRequest, cbor
from .responses import Cursor, Seen, answers, body

router = APIRouter(prefix="/v1/alarms", tags=["alarms"])


@router.post(
    "",
    status_code=201,
    responses=answers(400, 401, 404, 413, 422, ok=201, what="The alarm entry with its proof"),
    openapi_extra=body("Alarm: Sign1 of the device or authority that raises it"),
)
async def post_alarm(relay: TheRelay, request: TheRequest, seen: Seen = 0) -> Response:
    """Log what the caller finds in the directory and did not expect; the same again is answered as the first time."""
    return cbor(await relay.raise_alarm(request, seen), 201)


@router.get("", responses=answers(400, 401, 403, what="[[index of the alarm entry, alarm]...]"))
async def alarms(relay: TheRelay, caller: TheCaller, after: Cursor = 0) -> Response:
    """Alarms of the caller's office, from the log entry `after` on, for its authority and security officers."""
    return cbor(await relay.room.alarms(caller, after))
