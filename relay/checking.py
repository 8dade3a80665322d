"""Many requests checked together: each up to its next signature, then all those signatures at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from relay.protocol.claim import Checking, Claim

T = TypeVar("T")


def in_place(make: Callable[[], T]) -> Checking[T]:
    """A check that depends on no claim, or verifies its own."""
    return make()
    yield  # what makes it a check


def check_together(
    checks: Sequence[Checking[T]], faults_of: Callable[[Sequence[Claim]], Sequence[str | None]]
) -> list[T | Exception]:
    """What each check returned or raised, in order. One that fails does not disturb the others."""
    ended: dict[int, T | Exception] = {}
    faults: dict[int, str | None] = dict.fromkeys(range(len(checks)))
    while faults:
        claims = dict[int, Claim]()
        for number, fault in faults.items():
            try:
                claims[number] = checks[number].send(fault)
            except StopIteration as end:
                ended[number] = end.value
            except Exception as problem:  # noqa: BLE001 - whatever it was, its caller is told and the others go on
                ended[number] = problem
        faults = dict(zip(claims, faults_of(list(claims.values())), strict=True))
    return [ended[number] for number in range(len(checks))]
