"""Messages that came: inbox, read, ack."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import click

from liaison import render
from liaison.as_json import acknowledged_json, inbox_json, message_json
from liaison.client import Client
from liaison.inbox import STATES, InboxItem, urgent_first
from relay.protocol.errors import Malformed, TooMany, Unavailable

from .common import Session, json_option, pass_session
from .message import save_attachments, show_message
from .saying import put, say

RECONNECT_SECONDS = 5


@click.command()
@click.option("--follow", is_flag=True, help="Keep listing new messages as they come.")
@click.option("--state", type=click.Choice(STATES), help="Only these.")
@json_option
@pass_session
def inbox(session: Session, state: str | None, *, follow: bool, as_json: bool) -> None:
    """What is there to read, most urgent first."""
    with session.client() as client:
        shown: set[bytes] = set()
        _show_new(session, client, shown, state, as_json=as_json)
        cursor = 0
        while follow:
            try:
                for event in client.transport.events(cursor):
                    if bytes.fromhex(event["message_id"]) not in shown:
                        _show_new(session, client, shown, state, as_json=as_json)
                    cursor = event["cursor"]  # what could not be listed is told of again
            except (Unavailable, TooMany) as problem:
                say(f"{problem}; trying again in {RECONNECT_SECONDS} s")
            time.sleep(RECONNECT_SECONDS)


def _show_new(session: Session, client: Client, shown: set[bytes], state: str | None, *, as_json: bool) -> None:
    items = [item for item in client.inbox() if item.message_id not in shown]
    shown |= {item.message_id for item in items}
    _show_inbox(session, client, [item for item in items if state in {None, item.state}], as_json=as_json)
    sys.stdout.flush()


def _show_inbox(session: Session, client: Client, items: Sequence[InboxItem], *, as_json: bool) -> None:
    items = urgent_first(items)
    for item in items:
        if item.problem:
            say(f"{item.message_id.hex()}: not verified: {item.problem}")
    if as_json:
        for item in items:
            put(inbox_json(client, item))
        return
    if not items:
        return
    columns = ("message", "precedence", "dtg", "from", "marking", "state")
    rows = [
        [
            item.message_id.hex()[:12],
            item.precedence.name,
            render.dtg(item.message.core.handling.dtg),
            item.message.core.sender if not item.problem else f"NOT VERIFIED {item.message.core.sender}",
            item.marking,
            item.state,
        ]
        for item in items
    ]
    render.marked_table(render.page(session.color), [item.marking for item in items], columns, rows)


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Save attachments there.")
@json_option
@pass_session
def read(session: Session, message_id: str, out: Path | None, *, as_json: bool) -> None:
    """Open a message, or show again one opened before."""
    with session.client() as client:
        record = client.read(client.find(message_id))
        saved = save_attachments(record, out, client.meter) if out is not None else {}
        if as_json:
            put(message_json(client, record, saved))
        else:
            show_message(session, client, record, saved)


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--note", metavar="TEXT", help="Send this along, sealed, as a message of its own.")
@json_option
@pass_session
def ack(session: Session, message_id: str, note: str | None, *, as_json: bool) -> None:
    """Tell the originator, signed, that you have taken the message in."""
    with session.client() as client:
        found = client.find(message_id)
        at = client.acknowledge(found)
        if as_json:
            put(acknowledged_json(found, at))
        else:
            say(f"acknowledged {found.hex()[:12]} at {render.moment(at // 1000)}")
        if note is not None:
            core = client.read(found).message.core
            label = client.labels.label_of(core.label)
            if label is None:
                raise Malformed("the message has no readable label to answer under")
            client.send([core.sender], label=label, body=note, subject="Acknowledged", references=[found])
