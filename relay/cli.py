"""The operator's program. stdout is data, stderr is talk; exit codes as in `liaison`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from relay import __version__
from relay.protocol.armor import dearmor
from relay.protocol.errors import LiaisonError, Refused, Unauthenticated, Unavailable, Unverified
from relay.protocol.identity import parse_statement
from relay.protocol.words import words_for
from relay.settings import Settings

EXIT: dict[type[LiaisonError], int] = {Unauthenticated: 4, Unverified: 5, Refused: 6, Unavailable: 7}


class OperatorProgram(click.Group):
    """Turns domain errors into a line, a hint and an exit code."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except LiaisonError as error:
            click.echo(f"relay: error: {error}", err=True)
            if error.hint:
                click.echo(f"relay: hint: {error.hint}", err=True)
            sys.exit(EXIT.get(type(error), 1))


def _settings(**given: Any) -> Settings:
    return Settings(**{name: value for name, value in given.items() if value is not None})


data_option = click.option("--data", type=click.Path(path_type=Path), help="Data folder.")
database_option = click.option("--database", metavar="URL", help="Database; default: SQLite in the data folder.")


@click.group(cls=OperatorProgram, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay")
def main() -> None:
    """Operate a Liaison Relay."""
    os.umask(0o077)  # what the relay writes is for its own account


@main.command()
@data_option
@click.option("--host", help="Address to bind; default 127.0.0.1.")
@click.option("--port", type=int, help="Port; default 8440, 0 for a free one.")
@database_option
@click.option("--workers", type=click.IntRange(1, 64), help="Processes; SQLite has one.")
@click.option("--public-url", help="The one address clients use, if a proxy stands in front.")
def serve(**given: Any) -> None:
    """Serve until interrupted."""
    from relay.http.serve import serve_forever  # noqa: PLC0415 - keeps `relay --help` quick

    serve_forever(_settings(**given))


@main.command()
@data_option
@database_option
@click.option("--name", help="Name of a new relay, the origin of its logs.")
def migrate(**given: Any) -> None:
    """Bring the database to this version's schema."""
    from relay.house import migrate as migrate_database  # noqa: PLC0415

    migrate_database(_settings(**given))
    click.echo("relay: the database is up to date", err=True)


@main.command()
@data_option
@database_option
def key(**given: Any) -> None:
    """Print the keys that sign this relay's logs, and the words by which offices compare them."""
    from relay.house import open_relay  # noqa: PLC0415

    relay = open_relay(_settings(**given))
    for vkey in relay.vkeys:
        click.echo(vkey)
    click.echo(f"relay: words to compare: {words_for(relay.vkeys)}", err=True)


@main.group()
def office() -> None:
    """Admit, list and remove offices."""


@office.command("add")
@click.argument("statement", type=click.File("rb"))
@data_option
@database_option
def office_add(statement: Any, **given: Any) -> None:
    """Admit the office whose authority made STATEMENT. Compare the words with its security officer first."""
    from relay.core.register import register_office  # noqa: PLC0415
    from relay.house import commit_alone  # noqa: PLC0415

    encoded = dearmor(statement.read(), "STATEMENT")
    stated = parse_statement(encoded)
    commit_alone(_settings(**given), lambda batch: register_office(batch, encoded))
    click.echo(f"relay: office {stated.office} ({stated.nation}) admitted", err=True)
    click.echo(f"relay: words to compare: {words_for([stated.kid])}", err=True)


@office.command("list")
@data_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
def office_list(*, as_json: bool, **given: Any) -> None:
    """List the offices that are admitted."""
    from relay.house import open_relay  # noqa: PLC0415

    directory = open_relay(_settings(**given)).judge().directory
    for statement in sorted(directory.offices.values(), key=lambda each: each.office):
        devices = [d for d in directory.devices.values() if d.office == statement.office and d.certificate is not None]
        if as_json:
            known = {
                "v": 1,
                "office": statement.office,
                "nation": statement.nation,
                "authority": statement.kid.hex(),
            }
            click.echo(json.dumps({**known, "devices": len(devices)}))
        else:
            click.echo(
                f"{statement.office:<24}{statement.nation:<8}{len(devices):>4} devices  {words_for([statement.kid])}"
            )


@office.command("remove")
@click.argument("name", metavar="OFFICE")
@data_option
@database_option
def office_remove(name: str, **given: Any) -> None:
    """Remove OFFICE: none of its devices may act from here on."""
    from relay.core.register import remove_office  # noqa: PLC0415
    from relay.house import commit_alone  # noqa: PLC0415

    commit_alone(_settings(**given), lambda batch: remove_office(batch, name))
    click.echo(f"relay: office {name} removed", err=True)


@main.command("sweep")
@data_option
@database_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def sweep_now(*, as_json: bool, **given: Any) -> None:
    """Destroy now what is due by the offices' policies; a relay that serves does so by itself."""
    from relay.house import sweep  # noqa: PLC0415

    swept = sweep(_settings(**given))
    if as_json:
        click.echo(json.dumps({"v": 1, "messages": swept.messages, "entries": swept.entries}))
    click.echo(f"relay: {swept.messages} messages and the contents of {swept.entries} entries destroyed", err=True)


@main.command()
def demo() -> None:
    """The whole story in a temporary folder; exit 0 only if every claim held."""
    from relay.demo import run  # noqa: PLC0415

    sys.exit(run())
