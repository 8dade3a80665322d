"""Many requests checked together: each up to its next signature, then all those signatures at once."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

from relay.protocol.claim import Checking, Claim

T = TypeVar("T")

# Checks of several requests: hands out all the claims that they wait for, goes on with the fault of each, and returns
# what each of them returned or raised, in order.
CheckingTogether = Generator[list[Claim], Sequence[str | None] | None, list[T | Exception]]


def in_place(make: Callable[[], T]) -> Checking[T]:
    """A check that depends on no claim, or verifies its own."""
    return make()
    yield  # what makes it a check


def check_together(checks: Sequence[Checking[T]], before: Callable[[], None] = lambda: None) -> CheckingTogether[T]:
    """One that fails does not disturb the others. `before` is called before each step of each of them."""
    ended: dict[int, T | Exception] = {}
    faults: dict[int, str | None] = dict.fromkeys(range(len(checks)))
    while faults:
        claims = dict[int, Claim]()
        for number, fault in faults.items():
            before()
            try:
                claims[number] = checks[number].send(fault)
            except StopIteration as end:
                ended[number] = end.value
            except Exception as problem:  # noqa: BLE001 - whatever it was, its caller is told and the others go on
                ended[number] = problem
        faults = dict(zip(claims, (yield list(claims.values())) or (), strict=True)) if claims else {}
    return [ended[number] for number in range(len(checks))]
