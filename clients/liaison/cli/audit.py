"""The auditor's commands. Nothing is shown that was not verified first."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from typing import BinaryIO
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from liaison.audit import AuditPull
from liaison.export import FORMS
from liaison.report import audit_report

from .common import Session, json_option, pass_session, put, say


@click.group()
def audit() -> None:
    """Pull and verify the access log."""


@audit.command()
@click.option("--since-last", is_flag=True, help="Only what the last pull did not show.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write there, not to stdout."
)
@click.option("--format", "form", type=click.Choice(list(FORMS)), default="jsonl", show_default=True)
@click.option("--json", "form", flag_value="jsonl", help="The same as --format jsonl.")
@pass_session
def pull(session: Session, out: Path | None, *, since_last: bool, form: str) -> None:
    """Fetch new entries, verify them, then print them.

    jsonl and ocsf (API Activity) are one JSON object per line, syslog is one RFC 5424 message per line. ocsf leaves
    out what is out of the auditor's scope: such an entry has no time.
    """
    with session.client() as client:
        client.sync()
        audited = AuditPull(client)
        first = audited.count() if since_last else 0
        audited.pull()
        lines = FORMS[form](audited.entries(first), client)
        if out is None:
            sys.stdout.writelines(lines)
        else:
            with out.open("w", encoding="utf-8", newline="") as file:
                file.writelines(lines)
        say(f"{audited.count()} entries verified, {audited.count() - first} shown")


@audit.command()
@click.option("--checkpoint", multiple=True, type=click.File("rb"), metavar="FILE", help="A checkpoint of others.")
@json_option
@pass_session
def verify(session: Session, checkpoint: Sequence[BinaryIO], *, as_json: bool) -> None:
    """Fetch the whole log anew and verify every entry against the checkpoint and all earlier pulls."""
    with session.client() as client:
        client.sync()
        size = AuditPull(client).verify([file.read() for file in checkpoint])
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
        audited.pull()
        out.write_text(audit_report(client, list(audited.entries()), place, window), encoding="utf-8")
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
