"""The auditor's commands. Nothing is shown that was not verified first."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, TextIO

import click

from liaison.audit import AuditPull
from liaison.client import Client

from .common import Session, json_option, pass_session, put, say


@click.group()
def audit() -> None:
    """Pull and verify the access log."""


@audit.command()
@click.option("--since-last", is_flag=True, help="Only what the last pull did not show.")
@click.option(
    "--out", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Write there, not to stdout."
)
@click.option("--format", "form", type=click.Choice(["jsonl"]), default="jsonl", show_default=True)
@click.option("--json", "form", flag_value="jsonl", help="The same as --format jsonl.")
@pass_session
def pull(session: Session, out: Path | None, *, since_last: bool, form: str) -> None:  # noqa: ARG001 - one form so far
    """Fetch new entries, verify them, then print them: one JSON object per line."""
    with session.client() as client:
        client.sync()
        audited = AuditPull(client)
        first = audited.count() if since_last else 0
        audited.pull()
        if out is None:
            _write(client, audited, first, sys.stdout)
        else:
            with out.open("w") as file:
                _write(client, audited, first, file)
        say(f"{audited.count()} entries verified, {audited.count() - first} shown")


def _write(client: Client, audited: AuditPull, first: int, file: TextIO) -> None:
    file.writelines(json.dumps(entry.as_json(client)) + "\n" for entry in audited.entries(first))


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
