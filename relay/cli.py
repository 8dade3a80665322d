"""The operator's program. stdout is data, stderr is talk; exit codes as in `liaison`."""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from relay import __version__
from relay.cli_offices import approvers, office
from relay.program import OperatorProgram, data_option, database_option, json_option, put, say, settings_of
from relay.protocol.errors import Unverified
from relay.protocol.words import words_for

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group(cls=OperatorProgram, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="relay")
def main() -> None:
    """Operate a Liaison Relay.

    What serve takes may stand in the environment too: RELAY_DATA, RELAY_DATABASE and so on. Exit codes are those of
    liaison --help.
    """
    os.umask(0o077)  # what the relay writes is for its own account
    if sys.stdin is None:  # closed by the caller: nobody is asked, and there is nothing to read
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 - as long as the program runs


main.add_command(office)
main.add_command(approvers)


@main.command()
@data_option
@click.option("--host", help="Address to bind; default 127.0.0.1.")
@click.option("--port", type=int, help="Port; default 8440, 0 for a free one.")
@database_option
@click.option("--workers", type=click.IntRange(1, 64), help="Processes; SQLite has one.")
@click.option("--public-url", help="The one address clients use, if a proxy stands in front.")
@click.option("--metrics-host", help="Address to bind for Prometheus; default 127.0.0.1.")
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Port for Prometheus; default: no metrics.")
@click.option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), help="Default info.")
@click.option("--witness-policy", type=_FILE, help="Who cosigns this relay's logs (C2SP tlog-policy, with URLs).")
@click.option("--witness-logs", type=_FILE, help="Keys of the logs that this relay cosigns, one a line.")
def serve(**given: Any) -> None:
    """Serve until interrupted."""
    from relay.http.serve import serve_forever  # noqa: PLC0415 - keeps `relay --help` quick

    serve_forever(settings_of(**given))


@main.command()
@data_option
@database_option
@click.option("--name", help="Name of a new relay, the origin of its logs.")
@json_option
def migrate(*, as_json: bool, **given: Any) -> None:
    """Bring the database to this version's schema."""
    from relay.house import migrate as migrate_database  # noqa: PLC0415

    migrate_database(settings_of(**given))
    if as_json:
        put({"migrated": True})
    say("the database is up to date")


@main.command()
@data_option
@database_option
@click.option("--witness", is_flag=True, help="The keys with which this relay cosigns other logs, as policy lines.")
@json_option
def key(*, witness: bool, as_json: bool, **given: Any) -> None:
    """Print the keys that sign this relay's logs, and the words by which offices compare them."""
    from relay.house import reopen_relay, witness_keys  # noqa: PLC0415

    settings = settings_of(**given)
    with closing(reopen_relay(settings)) as relay:
        name, vkeys = relay.name, witness_keys(settings, relay.name).vkeys() if witness else relay.vkeys
    for kind, vkey in zip(("ed25519", "mldsa44") if witness else vkeys, vkeys, strict=True):
        line = f"witness {name}-{kind} {vkey}" if witness else vkey
        if as_json:
            put({"relay": name, "vkey": vkey, "line": line})
        else:
            click.echo(line)
    say(f"words to compare: {words_for(vkeys)}")


def _told(what: str, count: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\rrelay: {what}: {count}\x1b[K", err=True, nl=False)


checkpoint_option = click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.File("rb"),
    metavar="FILE",
    help="A checkpoint that others hold; repeat for each.",
)


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@database_option
@json_option
def backup(file: Path, *, as_json: bool, **given: Any) -> None:
    """Write one state of the relay to FILE, or - for stdout, while it serves. Keep log-keys.json apart from it."""
    from relay.upkeep.backup import write_backup  # noqa: PLC0415

    if as_json and file == Path("-"):
        raise click.UsageError("standard output takes the backup or JSON, not both")
    for note in write_backup(settings_of(**given), file, _told):
        log, size = note.decode().split("\n", 2)[:2]
        if as_json:
            put({"log": log, "entries": int(size)})
        say(f"{log}: {size} entries")
    say("log-keys.json is not in the backup: keep it apart, it cannot be replaced")


@main.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@data_option
@database_option
@checkpoint_option
@click.option("--accept-loss", is_flag=True, help="Restore although others hold more, or nothing of others is given.")
@json_option
def restore(file: Path, *, checkpoints: Any, accept_loss: bool, as_json: bool, **given: Any) -> None:
    """Make an empty database what FILE holds, if its logs agree with what others hold of them. Wholly or not at all."""
    from relay.upkeep.backup import restore_backup  # noqa: PLC0415

    notes = [(each.name, each.read()) for each in checkpoints]
    lost = restore_backup(settings_of(**given), file, notes, _told, accept_loss=accept_loss)
    if as_json:
        put({"restored": True, "lost": lost})
    for each in lost:
        say(f"warning: {each}")
    say("restored; before serving, run: relay check")


@main.command()
@data_option
@database_option
@checkpoint_option
@json_option
def check(*, checkpoints: Any, as_json: bool, **given: Any) -> None:
    """Verify the whole database: logs, checkpoints, messages, releases. Prints each fault; exit 5 if there is one."""
    from relay.house import check_all  # noqa: PLC0415

    faults = 0
    notes = [(each.name, each.read()) for each in checkpoints]
    for fault in check_all(settings_of(**given), notes, _told):
        if as_json:
            put({"fault": str(fault)})
        else:
            click.echo(str(fault))
        faults += 1
    if as_json:
        put({"verified": not faults, "faults": faults})
    if faults:
        raise Unverified(f"faults: {faults}", hint="do not serve from this database before each is explained")
    say("the database holds together")


@main.command("sweep")
@data_option
@database_option
@click.option("--trust-clock", is_flag=True, help="Go by this machine's clock although the last sweep was long before.")
@json_option
def sweep_now(*, trust_clock: bool, as_json: bool, **given: Any) -> None:
    """Destroy now what is due by the offices' policies; a relay that serves does so by itself."""
    from relay.house import sweep  # noqa: PLC0415

    swept = sweep(settings_of(**given), trust_clock=trust_clock)
    if as_json:
        put({"messages": swept.messages, "entries": swept.entries})
    say(f"{swept.messages} messages and the contents of {swept.entries} entries destroyed")


@main.command()
@click.option("--stay", is_flag=True, help="Only the two offices and their people, to try things on, until Ctrl-C.")
def demo(*, stay: bool) -> None:
    """The whole story in a temporary folder; exit 0 only if every claim held."""
    from relay.demo import run  # noqa: PLC0415

    sys.exit(run(stay=stay))
