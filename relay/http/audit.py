"""Entries of the access log, for auditors."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from .asked import TheRelay, TheRequest, cbor
from .responses import Cursor, MessageId, answers

router = APIRouter(prefix="/v1/audit", tags=["audit"])


@router.get("/entries", responses=answers(400, 401, 403, what="[size, [[in scope, entry or leaf hash]...]]"))
async def entries(
    relay: TheRelay, request: TheRequest, after: Cursor = 0, count: Annotated[int, Query(ge=1, le=1000)] = 1000
) -> Response:
    """Entries from number `after` on; those out of the caller's scope as hashes. The read is logged."""
    return cbor(await relay.audit(request, after, count))


@router.get("/messages/{message_id}", responses=answers(400, 401, 403, 404, what="[message, grants]"))
async def message(message_id: MessageId, relay: TheRelay, request: TheRequest) -> Response:
    """A message's signed header and the devices it was sealed to, in the originator's auditor's scope. Logged."""
    return cbor(await relay.audit_message(request, bytes.fromhex(message_id)))


@router.get(
    "/messages/{message_id}/evidence",
    responses=answers(400, 401, 403, 404, what="[header, [checkpoint, grants, [Proven...]], [receipt row...]]"),
)
async def evidence(message_id: MessageId, relay: TheRelay, request: TheRequest) -> Response:
    """What proves what became of a message, in the originator's auditor's scope. Logged."""
    return cbor(await relay.audit_evidence(request, bytes.fromhex(message_id)))
