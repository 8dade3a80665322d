"""What every command shares: the passphrase, the profile, JSON, errors as a line, a hint and an exit code."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from liaison.home.passphrase import PassphraseSource
from liaison.waiting import Waiting
from relay.protocol.errors import LiaisonError, Malformed, Unauthenticated

from .saying import CANCELLED, INTERRUPTED, Cancelled, fail, once, say

if TYPE_CHECKING:
    from liaison.authority import Authority
    from liaison.client import Client
    from relay.protocol.directory import Directory

Command = TypeVar("Command", bound=Callable[..., Any])
Opened = TypeVar("Opened", "Client", "Authority")
Audiences = Mapping[str, Mapping[str, tuple[str, str]]]


@dataclass(slots=True)
class Session:
    """The options in front of the command."""

    passphrase: PassphraseSource
    no_input: bool
    color: str
    debug: bool
    as_json: bool = False  # of the command that is run

    @property
    def may_ask(self) -> bool:
        return not self.no_input and sys.stdin.isatty()

    def confirm(self, question: str) -> None:
        """Ask on the terminal; raise Cancelled for anything but yes."""
        if not self.may_ask:
            raise Cancelled(f"{question} - nobody to ask; give --yes to answer beforehand")
        if not click.confirm(question, err=True):
            raise Cancelled("cancelled")

    def founding(self, folder: Path, what: str) -> str:
        """The passphrase of a profile to be made, or of the one that is there: its file is written once more."""
        from liaison.home.profile import has_profile  # noqa: PLC0415

        if has_profile(folder):
            return self.passphrase.current()
        return self.passphrase.new(f"new passphrase for this {what}")

    def client(self) -> Client:
        """The device whose profile is LIAISON_HOME. Raises Unauthenticated, if it can before asking anything."""
        from liaison.client import Client  # noqa: PLC0415 - only commands that talk to a relay load the HTTP client
        from liaison.home.profile import AUTHORITY, home_folder, read_public  # noqa: PLC0415

        public = read_public(home_folder())
        if public["kind"] == AUTHORITY:
            raise Unauthenticated(
                f"{home_folder()} is the profile of {public['address']}, which neither sends nor reads",
                hint="set LIAISON_HOME to an officer's profile",
            )
        client = Client.open(passphrase=self.passphrase.current())
        asked = click.get_current_context(silent=True)
        self.as_json = bool(asked and asked.params.get("as_json"))
        client.tell = once(say)
        if sys.stderr.isatty() and not self.as_json:
            from liaison.render import meter  # noqa: PLC0415

            client.meter = meter
        return _warned(client)

    def authority(self) -> Authority:
        """The office authority whose profile is LIAISON_HOME. Raises Unauthenticated."""
        from liaison.authority import Authority  # noqa: PLC0415
        from liaison.home.profile import AUTHORITY, home_folder, read_public  # noqa: PLC0415

        public = read_public(home_folder())
        if public["kind"] != AUTHORITY:
            raise Unauthenticated(
                f"{home_folder()} is the profile of {public['address']}, not of an office's authority",
                hint="this is for the security officer: set LIAISON_HOME to the authority's profile",
            )
        return _warned(Authority.open(passphrase=self.passphrase.current()))

    def either(self) -> Client | Authority:
        """Whichever of the two LIAISON_HOME is, for what both may look at. Raises Unauthenticated."""
        from liaison.home.profile import AUTHORITY, home_folder, read_public  # noqa: PLC0415

        return self.authority() if read_public(home_folder())["kind"] == AUTHORITY else self.client()


def _warned(opened: Opened) -> Opened:
    """Say what nobody has looked into yet, and at once what this command finds."""
    said, look = set[str](), opened.trust.watch

    def say_new() -> None:
        for warning in opened.profile.cabinet.warnings():
            if warning.alarm_id not in said:
                said.add(warning.alarm_id)
                say(f"warning: {warning.text}")
                say(f"hint: ask your security officer; then: liaison status --resolve {warning.alarm_id}")

    def look_and_say(first: int, entries: list[bytes], directory: Directory) -> None:
        if look is not None:
            look(first, entries, directory)
        say_new()

    say_new()
    opened.trust.watch = look_and_say
    return opened


pass_session = click.make_pass_decorator(Session)
json_option: Callable[[Command], Command] = click.option(
    "--json", "as_json", is_flag=True, help="JSON, one object per line."
)
yes_option: Callable[[Command], Command] = click.option("--yes", is_flag=True, help="Answer every question with yes.")


class Commands(click.Group):
    """Commands, each listed with its whole first sentence, which click would cut short."""

    group_class = type

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(500)) for name, each in sorted(self.commands.items())])


class LiaisonProgram(click.Group):
    """Loads a command when it is called; turns domain errors into a line, a hint and an exit code."""

    def __init__(self, *given: Any, commands_by_audience: Audiences, **attributes: Any) -> None:
        super().__init__(*given, **attributes)
        self._audiences = commands_by_audience
        self._places = {name: place for each in commands_by_audience.values() for name, (place, _line) in each.items()}

    def list_commands(self, context: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(self._places)

    def get_command(self, context: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._places:
            if context.resilient_parsing:  # completion asks about half-typed words
                return None
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=self._places, ctx=context)
        found = import_module(f".{self._places[cmd_name]}", __package__)
        command: click.Command = getattr(found, cmd_name)
        return command

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        for audience, commands in self._audiences.items():
            with formatter.section(audience):
                formatter.write_dl([(f"{name:<10}", line) for name, (_place, line) in commands.items()])

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except LiaisonError as error:
            if context.params.get("debug"):
                raise
            if isinstance(error, Waiting):
                from .receipt import show_waiting  # noqa: PLC0415 - render's table is not loaded for every command

                show_waiting(error, as_json=context.obj.as_json)
            fail(error)
        except (Cancelled, click.Abort) as reason:
            say(str(reason) or "cancelled")
            sys.exit(CANCELLED)
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except UnicodeEncodeError as problem:
            if context.params.get("debug"):
                raise
            fail(Malformed(f"{problem.object!a:.60} cannot be written in {problem.encoding}"))
        except OSError as problem:
            if context.params.get("debug") or problem.errno == errno.EPIPE:  # click ends quietly
                raise
            with suppress(OSError):  # what could not be written is not tried again at the exit
                sys.stdout.close()
            why = problem.strerror or str(problem)
            fail(LiaisonError(f"{problem.filename}: {why}" if problem.filename is not None else why))


def text_in(file: Any) -> str:
    """What stands in a text file that click has opened. Raises Malformed."""
    try:
        text: str = file.read()
    except UnicodeDecodeError:
        raise Malformed(f"{file.name}: not UTF-8") from None
    return text


def check_label_file(label: str) -> None:
    """Raise LiaisonError if `label` is the name of a file that is not there, rather than read it as a marking."""
    if label.lower().endswith(".xml") and not Path(label).is_file():
        raise LiaisonError(f"{label}: no such file")
