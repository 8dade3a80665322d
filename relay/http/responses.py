"""What the OpenAPI document says of bodies and problems, from the one error table."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Header, Path, Query

from relay.core.limits import MAX_WAIT

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "hint": {"type": "string"},
        "reference": {"type": "string"},
        "rules": {"type": "array", "items": {"type": "string"}},
    },
}
SIGNED = {  # OpenAPI has no word for it
    "type": "apiKey",
    "in": "header",
    "name": "signature",
    "description": "HTTP Message Signature (RFC 9421) of the device's request key, with `signature-input` and, for a"
    " body, `content-digest`: SPEC.md, section 21; examples in tests/vectors/request.",
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}


def answers(
    *statuses: int, media: str = "application/cbor", ok: int = 200, what: str = ""
) -> dict[int | str, dict[str, Any]]:
    """`responses=` of a route that needs the writer or the database: its success, and a problem for each status."""
    found: dict[int | str, dict[str, Any]] = {ok: {"description": what or "Done", "content": {media: _BINARY}}}
    # Who is known has a rate; writer and database may be busy, away or about to stop.
    for status in (*statuses, *((429,) if 401 in statuses else ()), 503):
        found[status] = {
            "description": "Problem",
            "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return found


def body(what: str, media: str = "application/cbor") -> dict[str, Any]:
    """`openapi_extra=` of a route that takes signed bytes."""
    return {"requestBody": {"required": True, "description": what, "content": {media: _BINARY}}}


MessageId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="message id, 16 octets in hexadecimal")]
Digest = Annotated[str, Path(pattern="^[0-9a-f]{64}$", description="SHA-256 in hexadecimal")]
Seen = Annotated[int, Header(alias="relay-seen", ge=0, le=1 << 62, description="size of the access log last seen")]
Cursor = Annotated[int, Query(ge=0, le=1 << 62)]
Wait = Annotated[float, Query(ge=0, le=MAX_WAIT, description="seconds to wait for the first message")]
