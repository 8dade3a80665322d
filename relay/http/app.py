"""HTTP and nothing but HTTP: the application, its dependencies and the one table from error to status."""

from __future__ import annotations

import logging
import secrets
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from relay import __version__
from relay.core import Caller, Relay
from relay.core.caller import Request as SignedRequest
from relay.core.limits import MAX_SMALL_BODY, MAX_SUBMISSION, MAX_UNSIGNED
from relay.observe import tell, template
from relay.protocol.errors import (
    Conflict,
    LiaisonError,
    Malformed,
    Refused,
    TooLarge,
    TooMany,
    Unauthenticated,
    Unavailable,
    Unknown,
    Unverified,
)
from relay.protocol.witness import MAX_ASKED
from relay.protocol.witness import PATH as ADD_CHECKPOINT

from .bare import Application
from .peers import Peers

CBOR = "application/cbor"
_LIMITS = {"/v1/messages": MAX_SUBMISSION, ADD_CHECKPOINT: MAX_ASKED}  # of a body; MAX_SMALL_BODY elsewhere

STATUS: dict[type[LiaisonError], int] = {
    LiaisonError: 500,
    Malformed: 400,
    Unauthenticated: 401,
    Refused: 403,
    Unknown: 404,
    Conflict: 409,
    TooLarge: 413,
    TooMany: 429,
    Unverified: 422,
    Unavailable: 503,
}


def problem(error: LiaisonError, status: int, reference: str = "") -> JSONResponse:
    """application/problem+json (RFC 9457)."""
    content: dict[str, Any] = {
        "type": f"urn:liaison-relay:problem:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": str(error),
    }
    if error.hint:
        content["hint"] = error.hint
    if isinstance(error, Refused):
        content["rules"] = list(error.rules)
    headers = {"retry-after": "1"} if isinstance(error, Unavailable) else None
    if isinstance(error, TooMany):
        headers = {"retry-after": str(error.retry_after)}
    if reference:
        content["reference"] = reference
    return JSONResponse(content, status, headers=headers, media_type="application/problem+json")


async def refuse(request: Request, error: Exception) -> JSONResponse:
    """Domain errors, by the nearest ancestor in the table."""
    assert isinstance(error, LiaisonError)  # noqa: S101 - registered for this tree only
    if isinstance(error, Unauthenticated):
        request.app.state.peers.failed(_peer(request))
    return problem(error, next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS))


async def refuse_parameter(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this type only
    first = error.errors()[0]
    place = ".".join(str(step) for step in first["loc"])
    return problem(Malformed(f"{place}: {first['msg']}"), 400)


async def refuse_path(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this type only
    known = {404: Unknown("there is nothing here"), 405: Malformed("this method is not allowed here")}
    told = problem(known.get(error.status_code, LiaisonError(str(error.detail))), error.status_code)
    told.headers.update(error.headers or {})
    return told


async def refuse_half(_request: Request, _error: Exception) -> JSONResponse:
    """A caller who hung up in the middle of a request: an everyday thing, and nobody is there to read this."""
    return problem(Malformed("the body ended before its stated length"), 400)


async def refuse_unexpected(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours: the reason stands in our own log under the reference that the answer names."""
    reference = secrets.token_hex(8)
    tell(logging.ERROR, "unexpected", reference=reference, route=template(request.scope), error=error)
    told = LiaisonError("the relay could not do this; its operator has the reason", hint=f"reference {reference}")
    return problem(told, 500, reference)


async def the_relay(request: Request) -> Relay:
    relay: Relay = request.app.state.relay
    return relay


TheRelay = Annotated[Relay, Depends(the_relay)]


async def the_request(request: Request) -> SignedRequest:
    """What the relay verifies the caller by; nothing of it is believed yet. Raises Unauthenticated, TooLarge.

    A long body is held in memory only for a device that signed its digest.
    """
    if _check_length(request) > MAX_UNSIGNED:
        relay: Relay = request.app.state.relay
        await relay.door.recognise(_signed(request, b"", follows=True))
    return _signed(request, await request.body())


async def the_sender(relay: TheRelay, request: Request) -> Caller:
    """Who signed a request whose body is not read yet: who takes it holds it against the signed Content-Digest."""
    _check_length(request)
    follows = request.headers.get("content-length", "0") != "0"
    return await relay.door.authenticate(_signed(request, b"", follows=follows))


def _signed(request: Request, body: bytes, *, follows: bool = False) -> SignedRequest:
    headers, state = request.headers, request.app.state
    state.peers.check(_peer(request))
    authority = headers.get("host", "")
    allowed: frozenset[str] | None = state.authorities
    if allowed is not None and authority.lower() not in allowed:
        raise Unauthenticated("this relay does not answer under that name", hint="use the relay's own address")
    query = request.scope["query_string"].decode("latin-1")
    target = request.scope["path"] + (f"?{query}" if query else "")
    return SignedRequest(
        method=request.method,
        authority=authority,
        target_uri=f"{state.scheme or request.scope['scheme']}://{authority}{target}",
        body=body,
        content_type=_single(request, "content-type"),
        content_digest=_single(request, "content-digest"),
        signature_input=_single(request, "signature-input"),
        signature=_single(request, "signature"),
        follows=follows,
    )


TheRequest = Annotated[SignedRequest, Depends(the_request)]


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""


async def the_caller(relay: TheRelay, request: TheRequest) -> Caller:
    """Who signed this request, for those who only look; what changes something is authenticated with its checking."""
    return await relay.door.authenticate(request)


def _check_length(request: Request) -> int:
    """Before the body is read: its length is stated and within the limit. The server holds the sender to it."""
    if "transfer-encoding" in request.headers:
        raise Malformed("a body without a stated length", hint="send Content-Length, not chunks")
    limit = _LIMITS.get(request.scope["path"], MAX_SMALL_BODY)
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or len(stated) > 12 or int(stated) > limit:
        raise TooLarge(f"a body of {stated:.20} octets; the limit here is {limit}")
    return int(stated)


def _single(request: Request, name: str) -> str | None:
    """A header that may appear once. Two signatures would be two answers to "who is calling?"."""
    values = request.headers.getlist(name)
    if len(values) > 1:
        raise Unauthenticated(f"more than one {name} header")
    return values[0] if values else None


TheCaller = Annotated[Caller, Depends(the_caller)]
TheSender = Annotated[Caller, Depends(the_sender)]


def cbor(content: bytes, status: int = 200) -> Response:
    return Response(content, status, media_type=CBOR)


def create_app(
    relay: Relay, *, scheme: str | None = None, authorities: frozenset[str] | None = None, failures: int = 0
) -> Application:
    """The application in front of `relay`.

    A signed request names the authority it is for; it is accepted under `authorities` only (host:port, lower case),
    so that it is good at no other relay. `scheme` is what clients see, if a proxy stands in front. An address may fail
    authentication `failures` times a minute; 0 is no limit.
    """
    app = describe()
    app.state.relay = relay
    app.state.scheme, app.state.authorities = scheme, authorities
    app.state.peers = Peers(failures)
    return app


def describe() -> Application:
    """The routes and the tables, with no relay behind them: what the OpenAPI document is made from."""
    from . import alarms, audit, directory, keys, logs, messages, parts, status, witness  # noqa: PLC0415 - the routers import this module

    app = Application(
        title="Liaison Relay",
        version=__version__,
        summary="Secure message relay between liaison offices",
        description="A route that can answer 401 takes signed requests. Formats, signatures: relay/protocol/SPEC.md.",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # one spelling per path; a redirect would lead wherever the Host header says
        # Spans carry paths, and paths are metadata: nothing leaves this process by way of a global provider.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.add_exception_handler(LiaisonError, refuse)
    app.add_exception_handler(RequestValidationError, refuse_parameter)
    app.add_exception_handler(HTTPException, refuse_path)
    app.add_exception_handler(ClientDisconnect, refuse_half)
    app.add_exception_handler(Exception, refuse_unexpected)
    rooms = (messages, parts, keys, directory, logs, audit, alarms, witness, status)
    # One list: `include_router` looks through every room's own for each request.
    for router in (messages.busy, *(room.router for room in rooms)):
        app.router.routes.extend(router.routes)
    app.busy = [route for route in messages.busy.routes if isinstance(route, APIRoute)]
    return app
