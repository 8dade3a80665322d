"""What an endpoint is given: the relay, and who asks; and the one form in which it answers."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request, Response

from relay.core import Caller, Relay
from relay.core.caller import Request as SignedRequest
from relay.core.limits import MAX_SMALL_BODY, MAX_SUBMISSION, MAX_UNSIGNED
from relay.protocol.errors import Malformed, TooLarge, Unauthenticated
from relay.protocol.witness import MAX_ASKED
from relay.protocol.witness import PATH as ADD_CHECKPOINT

CBOR = "application/cbor"
_LIMITS = {"/v1/messages": MAX_SUBMISSION, ADD_CHECKPOINT: MAX_ASKED}  # of a body; MAX_SMALL_BODY elsewhere


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
    state.peers.check(peer(request))
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


def peer(request: Request) -> str:
    """The address that asks; a proxy's word for it, where one stands in front."""
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
