"""The evidence package: written by the originator, a reader or an auditor, verified by anyone, offline."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import click

from liaison import render
from liaison.as_json import label_json
from liaison.evidence.sealed_to import READER
from liaison.evidence.shown import header_rows, marking_of
from liaison.evidence.verify import Evidence, verify_evidence
from relay.protocol.armor import dearmor
from relay.protocol.entry import Event
from relay.protocol.errors import TooLarge
from relay.protocol.identity import parse_statement

from .common import Commands, Session, json_option, pass_session
from .delivery import deliver
from .saying import put, say

_MAX_FILE = 64 * 1024 * 1024


class _VerifyOrId(Commands):
    """`evidence verify FILE`, and `evidence ID`: whatever is no command's name is a message id."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["export", *args])


@click.group(cls=_VerifyOrId, context_settings={"ignore_unknown_options": True})
def evidence() -> None:
    """Everything that proves what became of a message, in one file: liaison evidence ID -o FILE.zip."""


@evidence.command()
@click.argument("message_id", metavar="ID")
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="FILE", help="The package."
)
@click.option("--hash-only", is_flag=True, help="Only the message's hash, not its header.")
@json_option
@pass_session
def export(session: Session, message_id: str, out: Path, *, hash_only: bool, as_json: bool) -> None:
    """Write the package of a message that you sent or opened, or that an auditor's scope holds (all digits of its id).

    A reader's shows that it was accepted, sealed to you and opened by you, and your receipts: nothing of other readers.
    """
    from liaison.evidence.collect import collect  # noqa: PLC0415 - verifying loads no HTTP client

    with session.client() as client:
        message_id = message_id.lower()
        whole = len(message_id) == 32 and set(message_id) <= set("0123456789abcdef")
        wanted = bytes.fromhex(message_id) if whole else client.find(message_id)
        octets = collect(client, wanted, hash_only=hash_only)
    deliver(out, octets, "evidence package")
    if as_json:
        _put(verify_evidence(octets))
    else:
        say(f"{out}: {len(octets)} octets, verified")


@evidence.command()
@click.argument("file", type=click.File("rb"), metavar="FILE|-")
@click.option(
    "--relay-key", multiple=True, metavar="VKEY", help="A verifier key of the relay that you trust; all of them."
)
@click.option(
    "--authority",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    metavar="STATEMENT",
    help="An office's statement that you trust; all of them.",
)
@json_option
def verify(file: BinaryIO, relay_key: tuple[str, ...], authority: tuple[Path, ...], *, as_json: bool) -> None:
    """Verify a package: no network, no profile. Says what it had to take on the package's word."""
    octets = file.read(_MAX_FILE + 1)
    if len(octets) > _MAX_FILE:
        raise TooLarge(f"{file.name} has more than {_MAX_FILE} octets")
    kids = [parse_statement(dearmor(path.read_bytes(), "STATEMENT")).kid for path in authority]
    found = verify_evidence(octets, relay_key, kids)
    if as_json:
        _put(found)
        return
    told = found.as_json()
    out, marking = render.page("never"), marking_of(found)
    render.banner(out, marking, None)
    render.fields(out, header_rows(found))
    for event in told["events"]:
        at = render.moment(event["time"] // 1000)
        what = f"receipt: {event['detail']}" if event["event"] == Event.ACKNOWLEDGE else event["event"]
        out.line(f"entry {event['index']} {at} {what} {event['address']}")
    render.banner(out, marking, None)
    if told["shown_by"] == READER:
        say(f"shown by its reader {told['exporter']}: to whom else it was sealed, who opened it, recalls: not in here")
    for each in told["assumed"]:
        say(f"on the package's word: {each}")
    say(f"message {told['message_id']}: every signature and proof holds")


def _put(found: Evidence) -> None:
    dtg = render.dtg(found.message.core.handling.dtg) if found.message is not None else None
    put({**found.as_json(), "label": label_json(found.label), "marking": marking_of(found), "dtg": dtg})
