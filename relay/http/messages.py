"""Messages: post, list, be told of, open, fetch parts, acknowledge."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from relay.core.reading import InboxPage, Listed
from relay.protocol.envelope import parse_message

from .asked import TheCaller, TheRelay, TheRequest, cbor, the_request
from .bare import (
    CHUNK,
    INDEX,
    MESSAGE_ID,
    PRECEDENCE,
    SEEN,
    chunk_of,
    index_of,
    message_id_of,
    precedence_of,
    seen_of,
)
from .responses import Cursor, MessageId, Seen, Wait, answers, body

OCTETS = "application/octet-stream"
router = APIRouter(prefix="/v1", tags=["messages"])
busy = APIRouter(prefix="/v1", tags=["messages"])


@busy.post(
    "/messages",
    status_code=201,
    responses=answers(400, 401, 403, 409, 413, 422, ok=201, what="Receipt: the accept entry with its proof"),
    openapi_extra={
        **body("Submission: [message, [slot...], [part or null...], [endorsement...]]"),
        "parameters": [SEEN, PRECEDENCE],
    },
)
async def post_message(request: Request) -> Response:
    """Accept a sealed message. The same bytes again get the same receipt."""
    relay, seen, precedence = request.app.state.relay, seen_of(request), precedence_of(request)
    return cbor(await relay.accept(await the_request(request), seen, precedence), 201)


@router.get("/inbox", responses=answers(400, 401, 403, what="[cursor, [[cursor, message]...]]"))
async def inbox(relay: TheRelay, caller: TheCaller, after: Cursor = 0, wait: Wait = 0.0) -> Response:
    """Messages after a cursor; with `wait`, a long poll."""
    return cbor(await relay.room.inbox(caller, after, wait))


async def the_reader(relay: TheRelay, caller: TheCaller) -> None:
    """Refuses whoever has no mailbox while it still can: a stream that has begun has said 200."""
    await relay.room.check_mailbox(caller)


@router.get(
    "/events",
    response_class=EventSourceResponse,
    dependencies=[Depends(the_reader)],
    responses={k: v for k, v in answers(400, 401, 403).items() if k != 200},
)
async def events(
    relay: TheRelay,
    caller: TheCaller,
    after: Cursor = 0,
    last_event_id: Annotated[int | None, Header(ge=0, le=1 << 62)] = None,
) -> AsyncIterator[ServerSentEvent]:
    """New mail as server-sent events; `Last-Event-ID` resumes. An event names the message, nothing of its content."""
    async for page in relay.room.new_mail(caller, after if last_event_id is None else last_event_id):
        for item, resume in resumable(page):
            message_id = parse_message(item.message).core.message_id
            told = {"v": 1, "message_id": message_id.hex(), "precedence": item.precedence.name}
            yield ServerSentEvent(raw_data=json.dumps(told), event="message", id=resume)


def resumable(page: InboxPage) -> Iterator[tuple[Listed, str | None]]:
    """The messages of a page, each with the cursor up to which nothing is missing once it is told, if it moves that.

    The urgent come before their turn: to resume after one of them would leave out what it overtook.
    """
    waiting, told = sorted(item.cursor for item in page.items), set[int]()
    for item in page.items:
        told.add(item.cursor)
        reached = None
        while waiting and waiting[0] in told and waiting[0] <= page.cursor:
            reached = waiting.pop(0)
        yield item, None if reached is None else str(reached)


@busy.post(
    "/messages/{message_id}/open",  # noqa: FAST003 - read from the request
    responses=answers(400, 401, 404, what="Delivery"),
    openapi_extra={"parameters": [MESSAGE_ID, SEEN, PRECEDENCE]},
)
async def open_message(request: Request) -> Response:
    """Release the caller's slot. What is not there and what is not for the caller give the same answer."""
    relay, message_id, seen = request.app.state.relay, message_id_of(request), seen_of(request)
    return cbor(await relay.open(await the_request(request), message_id, seen, precedence_of(request)))


@busy.get(
    "/messages/{message_id}/parts/{index}",  # noqa: FAST003 - read from the request
    responses=answers(400, 401, 404, media=OCTETS),
    openapi_extra={"parameters": [MESSAGE_ID, INDEX, CHUNK]},
)
async def part(request: Request) -> Response:
    """A sealed part, or one chunk of it, once the caller's slot has left. An uploaded part comes in chunks only."""
    relay, wanted = request.app.state.relay, (message_id_of(request), index_of(request), chunk_of(request))
    caller = await relay.door.authenticate(await the_request(request))
    return Response(await relay.room.part(caller, *wanted), media_type=OCTETS)


@busy.post(
    "/messages/{message_id}/receipts",  # noqa: FAST003 - read from the request
    status_code=201,
    responses=answers(400, 401, 404, 422, ok=201, what="The acknowledge entry with its proof"),
    openapi_extra={**body("Receipt: Sign1 of the reader's device"), "parameters": [MESSAGE_ID, SEEN]},
)
async def post_receipt(request: Request) -> Response:
    """Take a reader's signed word that the message was opened or acknowledged."""
    relay, message_id, seen = request.app.state.relay, message_id_of(request), seen_of(request)
    return cbor(await relay.acknowledge(await the_request(request), message_id, seen), 201)


@router.post(
    "/messages/{message_id}/holds",
    status_code=201,
    responses=answers(400, 401, 403, 404, 409, 422, ok=201, what="The hold entry with its proof"),
    openapi_extra=body("Hold: Sign1 of a security officer's device; with approvals [hold, [approval...]]"),
)
async def post_hold(message_id: MessageId, relay: TheRelay, request: TheRequest, seen: Seen = 0) -> Response:
    """Take a security officer's word to place or lift a legal hold; a second officer's makes it count."""
    return cbor(await relay.hold(request, bytes.fromhex(message_id), seen), 201)


@router.get("/holds", responses=answers(400, 401, 403, what="[checkpoint, [[entry, index, proof]...]]"))
async def holds(relay: TheRelay, caller: TheCaller, after: Cursor = 0) -> Response:
    """Words of the caller's office that hold messages, or wait, from log entry `after` on; for security officers."""
    return cbor(await relay.room.holds(caller, after))


@router.get(
    "/messages/{message_id}/receipts",
    responses=answers(400, 401, 404, what="[[device, state, receipt, index]...]"),
)
async def receipts(message_id: MessageId, relay: TheRelay, caller: TheCaller) -> Response:
    """For the sending device the readers' receipts so far; for a device that has opened the message, its own."""
    return cbor(await relay.room.receipts(caller, bytes.fromhex(message_id)))


@router.post(
    "/messages/{message_id}/recall",
    responses=answers(400, 401, 404, 422, what="Recalled: the recall entry, and what became of every slot"),
    openapi_extra=body("[Recall...]: Sign1 of the originator's device or of officers of its office"),
)
async def recall_message(message_id: MessageId, relay: TheRelay, request: TheRequest, seen: Seen = 0) -> Response:
    """Destroy the slots that nobody has opened; nothing of the message opens any more."""
    return cbor(await relay.recall(request, bytes.fromhex(message_id), seen))


@router.get(
    "/messages/{message_id}/evidence",
    responses=answers(400, 401, 404, what="[checkpoint, grants or null, [[entry, index, proof]...]]"),
)
async def evidence(message_id: MessageId, relay: TheRelay, caller: TheCaller) -> Response:
    """For the sending device the log entries of all that happened to its message, proven; for a reader, its own."""
    return cbor(await relay.room.evidence(caller, bytes.fromhex(message_id)))
