"""HTTP and nothing but HTTP: the application, its dependencies, and what is answered to whom when it fails."""

from __future__ import annotations

import logging
import secrets

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from relay import __version__
from relay.core import Relay
from relay.core.limits import MAX_SUBMISSION
from relay.observe import tell, template
from relay.protocol.errors import LiaisonError, Malformed, Unauthenticated, Unknown
from relay.protocol.problem import MEDIA_TYPE, problem_of, retry_after, status_of
from relay.protocol.witness import MAX_ASKED
from relay.protocol.witness import PATH as ADD_CHECKPOINT

from . import alarms, audit, directory, keys, logs, messages, parts, status, witness
from .asked import peer
from .bare import Application
from .peers import Peers

CBOR = "application/cbor"
_LIMITS = {"/v1/messages": MAX_SUBMISSION, ADD_CHECKPOINT: MAX_ASKED}  # of a body; MAX_SMALL_BODY elsewhere


def problem(error: LiaisonError, status: int, reference: str = "") -> JSONResponse:
    """application/problem+json (RFC 9457)."""
    content = problem_of(error, status) | ({"reference": reference} if reference else {})
    pause = retry_after(error)
    headers = {"retry-after": str(pause)} if pause is not None else None
    return JSONResponse(content, status, headers=headers, media_type=MEDIA_TYPE)


async def refuse(request: Request, error: Exception) -> JSONResponse:
    """Domain errors, by the nearest ancestor in the table."""
    assert isinstance(error, LiaisonError)  # noqa: S101 - registered for this tree only
    if isinstance(error, Unauthenticated):
        request.app.state.peers.failed(peer(request))
    return problem(error, status_of(error))


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
