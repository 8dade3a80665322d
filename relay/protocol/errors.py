"""Everything that can go wrong between two ends, as one small tree.

    LiaisonError
    ├── Malformed          bytes or text that are not the format they claim to be
    ├── Unverified         a signature, proof, binding or digest does not hold        (exit 5)
    ├── Refused            the rules say no; `rules` names every rule that did        (exit 6)
    ├── Unauthenticated    nobody we know signed this request, or no longer may       (exit 4)
    ├── Conflict           the same name stands for other bytes, or was used before
    ├── Unknown            there is no such thing, or none that the caller may hear of
    ├── TooLarge           over a stated limit
    ├── TooMany            over a rate or a quota; `retry_after` seconds and it may go   (exit 7)
    └── Unavailable        not now; trying again is safe                              (exit 7)

The message says what is wrong and where; `hint` says what to do about it. Both are for people.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class LiaisonError(Exception):
    """The root: `str(error)` is the message, `hint` the advice or the empty string."""

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class Malformed(LiaisonError):
    code = "malformed"


class Unverified(LiaisonError):
    code = "unverified"


class Refused(LiaisonError):
    code = "refused"

    def __init__(self, message: str, *, hint: str = "", rules: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint=hint)
        self.rules = rules


class Unauthenticated(LiaisonError):
    code = "unauthenticated"


class Conflict(LiaisonError):
    code = "conflict"


class Unknown(LiaisonError):
    code = "unknown"


class TooLarge(LiaisonError):
    code = "too-large"


class Unavailable(LiaisonError):
    code = "unavailable"


class TooMany(LiaisonError):
    code = "too-many"

    def __init__(self, message: str, *, hint: str = "", retry_after: int = 1) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


@contextmanager
def named(file: str) -> Iterator[None]:
    """What is wrong with what stands in a file says which file."""
    try:
        yield
    except LiaisonError as problem:
        problem.args = (f"{file}: {problem}",)
        raise
