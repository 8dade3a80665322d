"""The operator's offices: who is admitted, and whose approval that takes."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from relay.program import CANCELLED, data_option, database_option, json_option, put, say, settings_of
from relay.protocol.approval import Approvers, Matter, read_approvers
from relay.protocol.armor import armor, dearmor
from relay.protocol.errors import Unverified
from relay.protocol.identity import Statement, parse_statement
from relay.protocol.words import are_words, words_for

_LIST = "RELAY APPROVERS"
approval_option = click.option(
    "--approval",
    "approvals",
    multiple=True,
    type=click.File("rb"),
    metavar="FILE",
    help="One person's approval; repeat for each.",
)


@click.group()
def office() -> None:
    """Admit, list and remove offices."""


@office.command("add")
@click.argument("statement", type=click.File("rb"))
@click.option("--words", help="What its security officer read out to you: with other words, it is not admitted.")
@click.option("--yes", is_flag=True, help="Answer every question with yes.")
@approval_option
@data_option
@database_option
@json_option
def office_add(statement: Any, approvals: Any, *, words: str | None, yes: bool, as_json: bool, **given: Any) -> None:
    """Admit the office whose authority made STATEMENT. Compare the words with its security officer first.

    Where `relay approvers` has a list, its people approve STATEMENT: liaison approve STATEMENT -o APPROVAL.
    """
    from relay.core.register import register_office  # noqa: PLC0415
    from relay.house import commit_alone  # noqa: PLC0415

    encoded = dearmor(statement.read(), "STATEMENT")
    stated, approved = parse_statement(encoded), [dearmor(file.read(), "APPROVAL") for file in approvals]
    _compare(stated, words, yes=yes)
    commit_alone(settings_of(**given), lambda batch: register_office(batch, encoded, approved))
    if as_json:
        put({"office": stated.office, "nation": stated.nation, "authority": stated.kid.hex(), "admitted": True})
    say(f"office {stated.office} ({stated.nation}) admitted")
    say(f"words to compare: {words_for([stated.kid])}")


def _compare(stated: Statement, words: str | None, *, yes: bool) -> None:
    """Let through what its security officer stated, as far as somebody can be asked; a script is told afterwards."""
    if words is not None and not are_words(words, [stated.kid]):
        raise Unverified(
            f"the authority of {stated.office} has other words than you were told: it is not admitted",
            hint="hear them again, as `liaison authority init` has them; the statement may have been swapped",
        )
    if words is None and not yes and sys.stdin.isatty():
        say(f"words of the authority of {stated.office} ({stated.nation}): {words_for([stated.kid])}")
        if not click.confirm("Did its security officer read out the same words to you?", err=True):
            say("cancelled")
            sys.exit(CANCELLED)


@office.command("list")
@data_option
@database_option
@json_option
def office_list(*, as_json: bool, **given: Any) -> None:
    """List the offices that are admitted."""
    from relay.house import reopen_relay  # noqa: PLC0415

    with closing(reopen_relay(settings_of(**given))) as relay:
        directory = relay.judge().directory
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


@click.group()
def approvers() -> None:
    """Whose approval the admission of an office takes: M of N named people of the offices here."""


@approvers.command("set")
@click.argument("file", required=False, type=click.File("rb"))
@click.option(
    "--person",
    "people",
    multiple=True,
    metavar="ADDR",
    help="Who approves, with the devices of today; repeat for each.",
)
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

    with closing(reopen_relay(settings_of(**given))) as relay:
        named = relay.judge().directory.approvers_of("")
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
