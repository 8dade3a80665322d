"""The operator's program. stdout is data, stderr is talk; exit codes as in `liaison`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from relay import __version__
from relay.program import OperatorProgram, json_option, put, say, settings_of
from relay.protocol.approval import Approvers, Matter, read_approvers
from relay.protocol.armor import armor, dearmor
from relay.protocol.errors import Unverified
from relay.protocol.identity import parse_statement
from relay.protocol.words import words_for

_LIST = "RELAY APPROVERS"
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)
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
    relay = reopen_relay(settings)
    vkeys = witness_keys(settings, relay.name).vkeys() if witness else relay.vkeys
    for kind, vkey in zip(("ed25519", "mldsa44") if witness else vkeys, vkeys, strict=True):
        line = f"witness {relay.name}-{kind} {vkey}" if witness else vkey
        if as_json:
            put({"relay": relay.name, "vkey": vkey, "line": line})
        else:
            click.echo(line)
    say(f"words to compare: {words_for(vkeys)}")


def _told(what: str, count: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\rrelay: {what}: {count}\x1b[K", err=True, nl=False)


checkpoint_option = click.option(
    "--checkpoint", "checkpoints", multiple=True, type=click.File("rb"), help="A signed checkpoint that others hold."
)


@main.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@data_option
@database_option
@json_option
def backup(file: Path, *, as_json: bool, **given: Any) -> None:
    """Write one state of the relay to FILE, large parts included, while it serves. Keep log-keys.json apart from it."""
    from relay.backup import write_backup  # noqa: PLC0415

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
    from relay.backup import restore_backup  # noqa: PLC0415

    notes = [each.read() for each in checkpoints]
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
    for fault in check_all(settings_of(**given), [each.read() for each in checkpoints], _told):
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


approval_option = click.option(
    "--approval", "approvals", multiple=True, type=click.File("rb"), metavar="FILE", help="One person's approval."
)


@main.group()
def office() -> None:
    """Admit, list and remove offices."""


@office.command("add")
@click.argument("statement", type=click.File("rb"))
@approval_option
@data_option
@database_option
@json_option
def office_add(statement: Any, approvals: Any, *, as_json: bool, **given: Any) -> None:
    """Admit the office whose authority made STATEMENT. Compare the words with its security officer first.

    Where `relay approvers` has a list, its people approve STATEMENT: liaison approve STATEMENT -o APPROVAL.
    """
    from relay.core.register import register_office  # noqa: PLC0415
    from relay.house import commit_alone  # noqa: PLC0415

    encoded = dearmor(statement.read(), "STATEMENT")
    stated, approved = parse_statement(encoded), [dearmor(file.read(), "APPROVAL") for file in approvals]
    commit_alone(settings_of(**given), lambda batch: register_office(batch, encoded, approved))
    if as_json:
        put({"office": stated.office, "nation": stated.nation, "authority": stated.kid.hex(), "admitted": True})
    say(f"office {stated.office} ({stated.nation}) admitted")
    say(f"words to compare: {words_for([stated.kid])}")


@office.command("list")
@data_option
@database_option
@json_option
def office_list(*, as_json: bool, **given: Any) -> None:
    """List the offices that are admitted."""
    from relay.house import reopen_relay  # noqa: PLC0415

    directory = reopen_relay(settings_of(**given)).judge().directory
    for statement in sorted(directory.offices.values(), key=lambda each: each.office):
        devices = [d for d in directory.devices.values() if d.office == statement.office and d.certificate is not None]
        if as_json:
            known = {"office": statement.office, "nation": statement.nation, "authority": statement.kid.hex()}
            put({**known, "devices": len(devices)})
        else:
            click.echo(
                f"{statement.office:<24}{statement.nation:<8}{len(devices):>4} devices  {words_for([statement.kid])}"
            )


@office.command("remove")
@click.argument("name", metavar="OFFICE")
@data_option
@database_option
@json_option
def office_remove(name: str, *, as_json: bool, **given: Any) -> None:
    """Remove OFFICE: none of its devices may act from here on."""
    from relay.core.register import remove_office  # noqa: PLC0415
    from relay.house import commit_alone  # noqa: PLC0415

    commit_alone(settings_of(**given), lambda batch: remove_office(batch, name))
    if as_json:
        put({"office": name, "removed": True})
    say(f"office {name} removed")


@main.group()
def approvers() -> None:
    """Whose approval the admission of an office takes: M of N named people of the offices here."""


@approvers.command("set")
@click.argument("file", required=False, type=click.File("rb"))
@click.option("--person", "people", multiple=True, metavar="ADDR", help="Who approves, with the devices of today.")
@click.option("--needed", type=int, metavar="M", help="How many of them an admission takes.")
@click.option("--ask", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Only write the list.")
@approval_option
@data_option
@database_option
@json_option
def approvers_set(
    file: Any, people: Any, needed: int | None, ask: Path | None, approvals: Any, *, as_json: bool, **given: Any
) -> None:
    """Name them. Once there is a list, changing it takes M of its own people: --ask, then FILE with approvals."""
    from relay.house import draft_approvers, set_approvers  # noqa: PLC0415

    if (file is None) is not bool(people and needed):
        raise click.UsageError("either FILE, or --person and --needed")
    settings = settings_of(**given)
    encoded = dearmor(file.read(), _LIST) if file is not None else draft_approvers(settings, people, needed or 0)
    if ask is not None:
        ask.write_text(armor(encoded, _LIST))
        if as_json:
            put({"ask": str(ask)})
        say(f"each approver runs: liaison approve {ask} -o APPROVAL")
        return
    set_approvers(settings, encoded, [dearmor(each.read(), "APPROVAL") for each in approvals])
    if as_json:
        put(_named(read_approvers(encoded)))
    say("the list is in force")


@approvers.command("list")
@data_option
@database_option
@json_option
def approvers_list(*, as_json: bool, **given: Any) -> None:
    """Show who they are."""
    from relay.house import reopen_relay  # noqa: PLC0415

    named = reopen_relay(settings_of(**given)).judge().directory.approvers_of("")
    if as_json:
        put(_named(named))
    elif named is not None:
        for address, device in named.people:
            click.echo(f"{address:<40}{device.hex()}")
    if named is None:
        say("nobody is named; the operator admits offices alone")
    elif not as_json:
        say(f"an admission takes {named.threshold(Matter.ADMISSION)} of them")


def _named(named: Approvers | None) -> dict[str, Any]:
    people = [{"address": address, "device": device.hex()} for address, device in (named.people if named else ())]
    return {
        "version": named.version if named else None,
        "needed": dict(named.needed) if named else {},
        "people": people,
    }


@main.command("sweep")
@data_option
@database_option
@json_option
def sweep_now(*, as_json: bool, **given: Any) -> None:
    """Destroy now what is due by the offices' policies; a relay that serves does so by itself."""
    from relay.house import sweep  # noqa: PLC0415

    swept = sweep(settings_of(**given))
    if as_json:
        put({"messages": swept.messages, "entries": swept.entries})
    say(f"{swept.messages} messages and the contents of {swept.entries} entries destroyed")


@main.command()
def demo() -> None:
    """The whole story in a temporary folder; exit 0 only if every claim held."""
    from relay.demo import run  # noqa: PLC0415

    sys.exit(run())
