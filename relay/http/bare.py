"""Routes that are busy: the endpoint takes the request as it is and reads the few fields that it wants itself.

FastAPI solves an endpoint's dependencies anew for every request, which costs as much processor time as verifying
the request's signature. What such a route takes is declared in its `openapi_extra`, and read here.
"""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from relay.protocol.errors import Malformed
from relay.protocol.header import MAX_PORTIONS, Precedence
from relay.protocol.parts import MAX_PART, chunk_count

_ID = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"[0-9]{1,19}")
_MOST = 1 << 62
_CHUNKS = chunk_count(MAX_PART)

MESSAGE_ID: Final[dict[str, Any]] = {
    "name": "message_id", "in": "path", "required": True,
    "description": "message id, 16 octets in hexadecimal",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}  # fmt: skip
INDEX: Final[dict[str, Any]] = {
    "name": "index", "in": "path", "required": True,
    "description": "number of the portion",
    "schema": {"type": "integer", "minimum": 0, "exclusiveMaximum": MAX_PORTIONS},
}  # fmt: skip
CHUNK: Final[dict[str, Any]] = {
    "name": "chunk", "in": "query", "required": False,
    "description": "number of the chunk, of 4 MiB each; without it, all of a part that came in its submission",
    "schema": {"type": "integer", "minimum": 0, "exclusiveMaximum": _CHUNKS},
}  # fmt: skip
SEEN: Final[dict[str, Any]] = {
    "name": "relay-seen", "in": "header", "required": False,
    "description": "size of the access log last seen",
    "schema": {"type": "integer", "minimum": 0, "maximum": _MOST, "default": 0},
}  # fmt: skip
PRECEDENCE: Final[dict[str, Any]] = {
    "name": "relay-precedence", "in": "header", "required": False,
    "description": "the message's precedence: whoever has more is served first",
    "schema": {"type": "string", "enum": [each.name for each in Precedence], "default": Precedence.ROUTINE.name},
}  # fmt: skip


class BareRoute(APIRoute):
    """`endpoint` is an async function from Request to Response."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)

        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            response = await self.endpoint(Request(scope, receive))
            await response(scope, receive, send)

        self.app = answer


def message_id_of(request: Request) -> bytes:
    """The message that the path names. Raises Malformed."""
    stated = request.path_params["message_id"]
    if not _ID.fullmatch(stated):
        raise Malformed("path.message_id: not 32 hexadecimal digits in lower case")
    return bytes.fromhex(stated)


def seen_of(request: Request) -> int:
    """The size of the access log that the caller has seen; 0 for none. Raises Malformed."""
    stated = request.headers.get("relay-seen", "0")
    if not _NUMBER.fullmatch(stated) or int(stated) > _MOST:
        raise Malformed("header.relay-seen: not the size of a log")
    return int(stated)


def index_of(request: Request) -> int:
    """The portion that the path names. Raises Malformed."""
    return _below(MAX_PORTIONS, request.path_params["index"], "path.index")


def chunk_of(request: Request) -> int | None:
    """The chunk that is asked for; None for all of the part. Raises Malformed."""
    stated = request.query_params.get("chunk")
    return None if stated is None else _below(_CHUNKS, stated, "query.chunk")


def _below(limit: int, stated: str, place: str) -> int:
    if not _NUMBER.fullmatch(stated) or int(stated) >= limit:
        raise Malformed(f"{place}: not a number below {limit}")
    return int(stated)


def precedence_of(request: Request) -> Precedence:
    """The precedence that the caller claims. Raises Malformed."""
    stated = request.headers.get("relay-precedence", Precedence.ROUTINE.name)
    if stated not in Precedence.__members__:
        raise Malformed(f"header.relay-precedence: {stated!r:.20} is none of {', '.join(Precedence.__members__)}")
    return Precedence[stated]
