"""The auditor's commands. Nothing is shown that was not verified first."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import click

from liaison import render
from liaison.audit import AuditPull, PulledEntry
from liaison.client import Client
from liaison.exports import FORMS
from liaison.exposure import exposure as find_exposure
from liaison.safe_text import for_one_line
from liaison.tracking import audited_chain

from .common import Session, json_option, pass_session, put, say, seconds_of


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
    """Fetch new entries, verify them, then print them: a line each."""
    with session.client() as client:
        client.sync()
        audited = AuditPull(client)
        first = audited.count() if since_last else 0
        audited.pull()
        if out is None:
            _write(client, audited.entries(first), form, sys.stdout)
        else:
            with out.open("w", encoding="utf-8", newline="") as file:
                _write(client, audited.entries(first), form, file)
        say(f"{audited.count()} entries verified, {audited.count() - first} shown")


def _write(client: Client, entries: Iterable[PulledEntry], form: str, file: TextIO) -> None:
    heading, line = FORMS[form]
    file.write(heading())
    file.writelines(line(entry.as_json(client)) for entry in entries)


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
@click.argument("message_id", metavar="ID")
@click.option("--within", metavar="T", help="What was due in 4h or 2d; else at the message's expiry.")
@json_option
@pass_session
def exposure(session: Session, message_id: str, within: str | None, *, as_json: bool) -> None:
    """Who held a key to which portions of a message, and when; who never did. Pulls and verifies first."""
    if len(message_id) != 32 or any(digit not in "0123456789abcdef" for digit in message_id):
        raise click.UsageError("an auditor has no inbox to complete it from: give all 32 digits of the message id")
    due = seconds_of(within, "--within") if within is not None else None
    with session.client() as client:
        client.sync()
        audited = AuditPull(client)
        audited.pull()
        found = find_exposure(client, audited.entries(), bytes.fromhex(message_id))
        told, devices = found.as_json(), client.trust.directory.devices
        for row in told["never"]:
            row["address"] = devices[bytes.fromhex(row["device"])].address
        told["evidence"] = [row.as_json() for row in audited_chain(client, found, due)]
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
    say(f"from {audited.count()} verified entries")
    if not told["complete"]:
        say("not complete: the originator's office is not in your scope, so others may have held keys")


def _numbers(row: dict[str, Any]) -> str:
    return ",".join(map(str, row["portions"]))


def _when(row: dict[str, Any]) -> str:
    return f"entry {row['index']} {row['time']}"
