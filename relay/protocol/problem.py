"""An error as application/problem+json (RFC 9457): one table, for the relay's answers and a gateway's."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Final

from .errors import (
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

MEDIA_TYPE: Final = "application/problem+json"
STATUS: Final[dict[type[LiaisonError], int]] = {
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


def status_of(error: LiaisonError) -> int:
    """By the nearest ancestor in the table."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem_of(error: LiaisonError, status: int) -> dict[str, Any]:
    """The members of the JSON object."""
    members: dict[str, Any] = {
        "type": f"urn:liaison-relay:problem:{error.code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": str(error),
    }
    if error.hint:
        members["hint"] = error.hint
    if isinstance(error, Refused):
        members["rules"] = list(error.rules)
    return members


def retry_after(error: LiaisonError) -> int | None:
    """In how many seconds it may be tried again, where that is safe and may help."""
    if isinstance(error, TooMany):
        return error.retry_after
    return 1 if isinstance(error, Unavailable) else None
