"""How a command talks: lines on stderr, JSON on stdout, an error as a line, a hint and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any, NoReturn

import click

from liaison.safe_text import for_one_line
from relay.protocol.errors import LiaisonError, Refused, TooMany, Unauthenticated, Unavailable, Unverified

DONE, FAILED, USAGE, CANCELLED, REFUSED, INTERRUPTED = 0, 1, 2, 3, 6, 130
_EXIT: dict[type[LiaisonError], int] = {
    Unauthenticated: 4,
    Unverified: 5,
    Refused: REFUSED,
    TooMany: 7,
    Unavailable: 7,
}
EXIT_CODES = """\b
Exit codes:
  0    done
  1    failed
  2    wrong usage
  3    cancelled
  4    not enrolled or not authenticated
  5    verification failed: a signature, a proof or a binding does not hold
  6    refused by policy
  7    the relay cannot be reached, or was asked too often; trying again is safe, unless a message is said to wait
  130  interrupted
"""


class Cancelled(Exception):
    """The person at the terminal said no."""


def fail(error: LiaisonError) -> NoReturn:
    """Print the error and end with its exit code."""
    say(f"error: {error}")
    if isinstance(error, Refused) and error.rules:
        say(f"rules: {', '.join(error.rules)}")
    if error.hint:
        say(f"hint: {error.hint}")
    sys.exit(next((_EXIT[kind] for kind in type(error).__mro__ if kind in _EXIT), FAILED))


def say(text: str) -> None:
    """Talk, on stderr, in one line: whoever's words are in it, none of them acts on the terminal."""
    click.echo(f"liaison: {for_one_line(text)}", file=sys.stderr)  # with err, click sends UTF-8 to one that takes ASCII


def put(value: dict[str, Any]) -> None:
    """One JSON object on stdout; ASCII, so that nothing in a message can act on a terminal."""
    click.echo(json.dumps({"v": 1, **value}))


def once(speak: Callable[[str], None]) -> Callable[[str], None]:
    """A command may ask the relay about the same message several times."""
    said = set[str]()

    def speak_if_new(text: str) -> None:
        if text not in said:
            said.add(text)
            speak(for_one_line(text))

    return speak_if_new
