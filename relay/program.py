"""What the commands of the operator's program have in common: options, output, and how they fail, as in `liaison`."""

from __future__ import annotations

import errno
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import click
from pydantic import ValidationError

from relay.protocol.errors import LiaisonError, Refused, TooMany, Unauthenticated, Unavailable, Unverified
from relay.settings import Settings

EXIT: dict[type[LiaisonError], int] = {Unauthenticated: 4, Unverified: 5, Refused: 6, TooMany: 7, Unavailable: 7}

CANCELLED, INTERRUPTED = 3, 130
data_option = click.option(
    "--data", type=click.Path(path_type=Path), help="Data folder; default: RELAY_DATA, or this account's own."
)
database_option = click.option("--database", metavar="URL", help="Database; default: SQLite in the data folder.")
json_option = click.option("--json", "as_json", is_flag=True, help="JSON, one object per line.")


class OperatorProgram(click.Group):
    """Turns domain errors into a line, a hint and an exit code; lists each command with its whole first sentence."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(500)) for name, each in sorted(self.commands.items())])

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except LiaisonError as error:
            _fail(error)
        except (KeyboardInterrupt, click.Abort):
            sys.exit(INTERRUPTED)
        except OSError as problem:
            if problem.errno == errno.EPIPE:  # click ends quietly
                raise
            with suppress(OSError):  # what could not be written is not tried again at the exit
                sys.stdout.close()
            why = problem.strerror or str(problem)
            _fail(LiaisonError(f"{problem.filename}: {why}" if problem.filename is not None else why))


def put(value: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    click.echo(json.dumps({"v": 1, **value}))


def say(text: str) -> None:
    """Talk, on stderr."""
    click.echo(f"relay: {text}", file=sys.stderr)  # with err, click sends UTF-8 to one that takes ASCII


def _fail(error: LiaisonError) -> NoReturn:
    say(f"error: {error}")
    if error.hint:
        say(f"hint: {error.hint}")
    sys.exit(EXIT.get(type(error), 1))


def settings_of(**given: Any) -> Settings:
    """The settings with what was given as flags. Raises LiaisonError naming the first that is wrong, and no value."""
    stated = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**stated)
    except ValidationError as problem:
        wrong = problem.errors(include_input=False)[0]  # what was given may be a secret
        name = str(wrong["loc"][0])
        where = f"--{name.replace('_', '-')}" if name in stated else f"RELAY_{name.upper()}"
        what = wrong["msg"].removeprefix("Value error, ")
        raise LiaisonError(
            f"{where}: {what}", hint="without it, the default holds; relay/settings.py says what it takes"
        ) from None
