"""Results of pure functions, kept for the next call: bounded by what they weigh together, not by their number.

What one party writes may be a thousand times as large in memory as what another does: a number of entries says little.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar, TypeVarTuple

Given = TypeVarTuple("Given")
R = TypeVar("R")


def remember(most: int, weigh: Callable[..., int]) -> Callable[[Callable[[*Given], R]], Callable[[*Given], R]]:
    """Keep what a function answers. `weigh(result, *arguments)`; beyond `most` in sum all is forgotten at once.

    One result may weigh more than `most`, and is then the only one that is kept.
    """

    def decorate(function: Callable[[*Given], R]) -> Callable[[*Given], R]:
        found: dict[object, R] = {}
        held = 0  # two threads may lose an addition between them: all is then forgotten a little later

        @wraps(function)
        def ask(*given: *Given) -> R:
            nonlocal held
            try:
                return found[given]
            except KeyError:
                pass
            result = function(*given)
            weight = weigh(result, *given)
            held += weight
            if held > most:
                found.clear()
                held = weight
            found[given] = result
            return result

        return ask

    return decorate
