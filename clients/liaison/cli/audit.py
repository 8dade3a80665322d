"""The auditor's commands. Nothing is shown that was not verified first."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Any, BinaryIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from liaison import render
from liaison.audit.export import FORMS
from liaison.audit.pull import AuditPull
from liaison.audit.report import audit_report
from liaison.durations import seconds_of
from liaison.exposure import exposure as find_exposure
from liaison.safe_text import for_one_line
from liaison.tracking import audited_chain

from .common import Commands, Session, json_option, pass_session
from .delivery import whole
from .saying import put, say


@click.group(cls=Commands)
def audit() -> None:
    """Pull and verify the access log."""


@audit.command()
@click.option("--since-last", is_flag=True, help="Only what the last pull did not show.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default="-",
    metavar="FILE",
    help="Write there, not to stdout.",
)
@click.option(
    "--format", "form", type=click.Choice(list(FORMS)), default="jsonl", show_default=True, help="Of each entry."
)
@click.option("--json", "form", flag_value="jsonl", help="The same as --format jsonl.")
@pass_session
def pull(session: Session, out: Path, *, since_last: bool, form: str) -> None:
    """Fetch new entries, verify them, then print them.

    jsonl and ocsf (API Activity) are one JSON object per line, syslog is one RFC 5424 message per line. ocsf leaves
    out what is out of the auditor's scope or was erased after its retention: such an entry has no time.
    """
    with session.client() as client:
        client.sync()
        audited = AuditPull(client)
        first = audited.shown() if since_last else 0
        _pull(audited)
        size = audited.count()
        lines = FORMS[form](audited.entries(first), client)
        with whole(out) as file:
            file.writelines(lines)
        audited.mark_shown(size)
        say(f"{size} entries verified, {size - first} shown")


def _pull(audited: AuditPull) -> None:
    if left_over := audited.left_over():
        say(f"an earlier pull was interrupted: its {left_over} entries are checked again, and it goes on after them")
    audited.pull()


@audit.command()
@click.option("--checkpoint", multiple=True, type=click.File("rb"), metavar="FILE", help="A checkpoint of others.")
@json_option
@pass_session
def verify(session: Session, checkpoint: Sequence[BinaryIO], *, as_json: bool) -> None:
    """Fetch the whole log anew and verify every entry against the checkpoint and all earlier pulls."""
    with session.client() as client:
        client.sync()
        size = AuditPull(client).verify([(file.name, file.read()) for file in checkpoint])
        if as_json:
            put({"verified": True, "entries": size, "directory_entries": client.trust.tree.size})
        else:
            say(f"{size} entries of the access log and {client.trust.tree.size} of the directory log hold")


@audit.command()
@click.option(
    "-o",
    "out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.html",
    required=True,
    help="Write there.",
)
@click.option("--hours", default="07-19", show_default=True, metavar="HH-HH", help="Hours of work, on every day.")
@click.option("--zone", default="UTC", show_default=True, metavar="ZONE", help="Zone of days and hours: Europe/Paris.")
@json_option
@pass_session
def report(session: Session, out: Path, *, hours: str, zone: str, as_json: bool) -> None:
    """Fetch new entries, verify them, then write a report over all of them: one HTML page without a script."""
    window, place = _hours(hours), _zone(zone)
    with session.client() as client:
        client.sync()
        audited = AuditPull(client)
        _pull(audited)
        page = audit_report(client, audited.entries(), audited.position().root, place, window, int(time.time()))
        with whole(out) as file:
            file.write(page)
        if as_json:
            put({"report": str(out), "entries": audited.count()})
        else:
            say(f"{audited.count()} entries verified, report in {out}")


def _hours(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d\d?)-(\d\d?)", text)
    first, after = (int(found[1]), int(found[2])) if found else (0, 0)
    if not first < after <= 24:
        raise click.BadParameter(f"{text}: expected two hours of one day, such as 07-19", param_hint="--hours")
    return first, after


def _zone(name: str) -> tzinfo:
    try:
        return UTC if name == "UTC" else ZoneInfo(name)  # the default must not need a time zone database
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise click.BadParameter(f"{name}: no such time zone here", param_hint="--zone") from None


@audit.command()
@click.argument("message_id", metavar="ID")
@click.option("--within", metavar="T", help="What was due in 4h or 2d; else at the message's expiry.")
@json_option
@pass_session
def exposure(session: Session, message_id: str, within: str | None, *, as_json: bool) -> None:
    """Who held a key to which portions of a message, and when; who never did. Pulls and verifies first.

    ID is all 32 digits: an auditor has no inbox to complete it from.
    """
    message_id = message_id.lower()
    if len(message_id) != 32 or any(digit not in "0123456789abcdef" for digit in message_id):
        raise click.UsageError("an auditor has no inbox to complete it from: give all 32 digits of the message id")
    due = seconds_of(within, "--within") if within is not None else None
    with session.client() as client:
        client.sync()
        audited = AuditPull(client)
        _pull(audited)
        found = find_exposure(client, audited.entries(), bytes.fromhex(message_id))
        told, devices = found.as_json(), client.trust.directory.devices
        for row in told["never"]:
            row["address"] = devices[bytes.fromhex(row["device"])].address
        told["evidence"] = [row.as_json() for row in audited_chain(client, found, due)]
        size = audited.count()
    if as_json:
        put(told)
        return
    out = render.page(session.color)
    for row in told["held"]:
        out.line(f"held     {row['address']} {row['device'][:12]} portions {_numbers(row)} {_when(row)}")
    for row in told["never"]:
        out.line(f"never    {row['address']} {row['device'][:12]} portions {_numbers(row)}")
    for row in told["recalls"]:
        out.line(for_one_line(f"{row['kind']:<8} {row['by']} {_when(row)}: {row['reason']}"))
    for row in told["evidence"]:
        rank = f"{row['rank']:>2}{'+' if row['positive'] else '-'}"
        out.line(for_one_line(f"{rank} {row['evidence']} {row['address']} {row['reason']}"))
    say(f"from {size} verified entries")
    if not told["complete"]:
        say("not complete: the originator's office is not in your scope, so others may have held keys")


def _numbers(row: dict[str, Any]) -> str:
    return ",".join(map(str, row["portions"]))


def _when(row: dict[str, Any]) -> str:
    return f"entry {row['index']} {row['time']}"
