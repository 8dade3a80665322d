"""Routes that are busy: answered before the framework's own layers, by endpoints that take the request as it is.

FastAPI solves an endpoint's dependencies anew for every request, which costs as much processor time as verifying
the request's signature, and its layers around a route cost a third of that again. What such a route takes is declared
in its `openapi_extra`, and read here; errors are told by the handlers that the application has for them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, cast

from fastapi import FastAPI, Request, Response
from fastapi.routing import APIRoute
from starlette.types import Receive, Scope, Send

from relay.protocol.errors import Malformed
from relay.protocol.header import MAX_PORTIONS, Precedence
from relay.protocol.parts import MAX_PART, chunk_count

_ID = re.compile(r"[0-9a-f]{32}")
_NUMBER = re.compile(r"[0-9]{1,19}")
_MOST = 1 << 62
_CHUNKS = chunk_count(MAX_PART)
_Handler = Callable[[Request, Exception], Awaitable[Response]]

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


class Application(FastAPI):
    """FastAPI, in front of which the `busy` routes are answered; they are declared in it like all others.

    The endpoint of a busy route is an async function from Request to Response.
    """

    busy: Sequence[APIRoute] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._busy(scope) if scope["type"] == "http" else None
        if route is None:
            await super().__call__(scope, receive, send)
            return
        request = Request(scope, receive)
        try:
            response = await route.endpoint(request)
        except Exception as problem:  # noqa: BLE001 - as the framework's outermost layer does
            response = await self._told(request, problem)
        await response(scope, receive, send)

    def _busy(self, scope: Scope) -> APIRoute | None:
        """The route that is asked for, if it is one of those; the scope then names it as the framework would."""
        for route in self.busy:
            found = route.path_regex.match(scope["path"])
            if found and scope["method"] in (route.methods or ()):
                scope.update(app=self, route=route, path_params=found.groupdict())
                return route
        return None

    async def _told(self, request: Request, problem: Exception) -> Response:
        kind = next(kind for kind in type(problem).__mro__ if kind in self.exception_handlers)
        return await cast("_Handler", self.exception_handlers[kind])(request, problem)


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
