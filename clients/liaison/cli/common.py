"""What every command shares: the passphrase, the profile, JSON, errors as a line, a hint and an exit code."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn, TypeVar

import click

from liaison.passphrase import PassphraseSource
from liaison.safe_text import for_one_line
from relay.protocol.errors import LiaisonError, Refused, Unauthenticated, Unavailable, Unverified

DONE, FAILED, USAGE, CANCELLED = 0, 1, 2, 3
_EXIT: dict[type[LiaisonError], int] = {Unauthenticated: 4, Unverified: 5, Refused: 6, Unavailable: 7}
EXIT_CODES = """\b
Exit codes:
  0    done
  1    failed
  2    wrong usage
  3    cancelled
  4    not enrolled or not authenticated
  5    verification failed: a signature, a proof or a binding does not hold
  6    refused by policy
  7    the relay cannot be reached; trying again is safe
  130  interrupted
"""

Command = TypeVar("Command", bound=Callable[..., Any])


class Cancelled(Exception):  # noqa: N818 - not an error of the program
    """The person at the terminal said no."""


@dataclass(slots=True)
class Session:
    """The options in front of the command."""

    passphrase: PassphraseSource
    no_input: bool
    color: str
    debug: bool

    def confirm(self, question: str) -> None:
        """Ask on the terminal; raise Cancelled for anything but yes."""
        if self.no_input or not sys.stdin.isatty():
            raise Cancelled(f"{question} - nobody to ask; give --yes to answer beforehand")
        if not click.confirm(question, err=True):
            raise Cancelled("cancelled")


pass_session = click.make_pass_decorator(Session)
json_option: Callable[[Command], Command] = click.option("--json", "as_json", is_flag=True, help="JSON, one object per line.")
yes_option: Callable[[Command], Command] = click.option("--yes", is_flag=True, help="Answer every question with yes.")


class LiaisonProgram(click.Group):
    """Turns domain errors into a line, a hint and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except LiaisonError as error:
            if context.params.get("debug"):
                raise
            fail(error)
        except Cancelled as reason:
            say(str(reason))
            sys.exit(CANCELLED)
        except OSError as problem:
            if context.params.get("debug") or problem.filename is None:
                raise
            fail(LiaisonError(f"{problem.filename}: {problem.strerror}"))


def fail(error: LiaisonError) -> NoReturn:
    """Print the error and end with its exit code. A relay's words are shown with control characters escaped."""
    say(f"error: {for_one_line(str(error))}")
    if isinstance(error, Refused) and error.rules:
        say(f"rules: {for_one_line(', '.join(error.rules))}")
    if error.hint:
        say(f"hint: {for_one_line(error.hint)}")
    sys.exit(next((_EXIT[kind] for kind in type(error).__mro__ if kind in _EXIT), FAILED))


def say(text: str) -> None:
    """Talk, on stderr."""
    click.echo(f"liaison: {text}", err=True)


def put(value: dict[str, Any]) -> None:
    """One JSON object on stdout; ASCII, so that nothing in a message can act on a terminal."""
    click.echo(json.dumps({"v": 1, **value}))


required = partial(click.option, required=True)
