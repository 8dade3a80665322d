"""Messages that came: inbox, read, ack."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from liaison import render
from liaison.client import Client
from liaison.inbox import InboxItem
from liaison.labels import LabelReader
from liaison.meter import Meter
from liaison.portions import PortionContent, PortionKind
from liaison.record import IN, Record
from liaison.safe_text import distinct_file_name, for_one_line, safe_file_name
from liaison.sealed import save
from relay.protocol.envelope import parse_message
from relay.protocol.errors import Malformed, TooMany, Unavailable
from relay.protocol.header import AddresseeKind, Core
from relay.protocol.label import Label

from .common import Session, json_option, label_json, pass_session, put, say

RECONNECT_SECONDS = 5


@click.command()
@click.option("--follow", is_flag=True, help="Keep listing new messages as they come.")
@click.option("--state", type=click.Choice(["unread", "open", "handled"]), help="Only these.")
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
    items = sorted(items, key=lambda item: (-item.message.core.handling.precedence, item.message.core.created))
    for item in items:
        if item.problem:
            say(f"{item.message_id.hex()}: not verified: {item.problem}")
    if as_json:
        for item in items:
            put(_inbox_line(client, item))
        return
    if not items:
        return
    out = render.page(session.color)
    marking = " / ".join(dict.fromkeys(item.marking for item in items))
    render.banner(out, marking, None)
    columns = ("message", "precedence", "dtg", "from", "marking", "state")
    rows = [
        [
            item.message_id.hex()[:12],
            item.message.core.handling.precedence.name,
            render.dtg(item.message.core.handling.dtg),
            item.message.core.sender if not item.problem else f"NOT VERIFIED {item.message.core.sender}",
            item.marking,
            item.state,
        ]
        for item in items
    ]
    render.table(out, columns, rows)
    render.banner(out, marking, None)


def _inbox_line(client: Client, item: InboxItem) -> dict[str, Any]:
    core = item.message.core
    label = client.labels.label_of(core.label)
    line = {
        "message_id": item.message_id.hex(),
        "from": core.sender,
        "precedence": core.handling.precedence.name,
        "dtg": render.dtg(core.handling.dtg),
        "label": label_json(label),
        "marking": item.marking,
        "state": item.state,
    }
    return line | ({"problem": item.problem} if item.problem else {})


@click.command()
@click.argument("message_id", metavar="ID")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Save attachments there.")
@json_option
@pass_session
def read(session: Session, message_id: str, out: Path | None, *, as_json: bool) -> None:
    """Open a message, or show again one opened before."""
    with session.client() as client:
        record = client.read(client.find(message_id))
        saved = _save(record, out, client.meter) if out is not None else {}
        if as_json:
            put(_message_json(client, record, saved))
        else:
            _show_message(session, client, record, saved)


def _save(record: Record, folder: Path, meter: Meter) -> dict[int, Path]:
    """Attachments in the folder, under harmless names, never over an existing file."""
    folder.mkdir(parents=True, exist_ok=True)
    taken, saved = {path.name for path in folder.iterdir()}, {}
    for index, portion in record.portions.items():
        if portion.kind is PortionKind.ATTACHMENT:
            name = distinct_file_name(safe_file_name(portion.name), taken)
            taken.add(name)
            save(portion, folder / name, meter)
            saved[index] = folder / name
    return saved


def _message_json(client: Client, record: Record, saved: dict[int, Path]) -> dict[str, Any]:
    core = record.message.core
    portions, attachments = [], []
    for index, portion in enumerate(core.portions):
        content = record.portions.get(index)
        label = client.labels.label_of(portion.label)
        if content is None and label is not None and client.labels.withholds_silently(label):
            continue
        row = {"index": index, "label": label_json(label), "marking": client.labels.marking(label)}
        if content is not None and content.kind is PortionKind.ATTACHMENT:
            path = str(saved[index]) if index in saved else None
            attachments.append({**row, "name": content.name, "size": content.size, "saved": path})
        else:
            text = content.text if content is not None else None
            portions.append({**row, "text": text, "withheld": content is None})
    head = record.portions.get(0)
    return {
        "message_id": core.message_id.hex(),
        "from": core.sender,
        "marking": client.labels.marking(client.labels.heading(core)),
        "equivalent": _equivalent(client, core),
        "subject": head.name if head is not None else None,
        "precedence": core.handling.precedence.name,
        "dtg": render.dtg(core.handling.dtg),
        "portions": portions,
        "attachments": attachments,
    }


def _show_message(session: Session, client: Client, record: Record, saved: dict[int, Path]) -> None:
    out, core = render.page(session.color), record.message.core
    label = client.labels.heading(core)
    marking, color = client.labels.marking(label), client.labels.color(label) if label is not None else None
    render.banner(out, marking, color)
    head = record.portions.get(0)
    rows = [
        ("Equivalent", _equivalent(client, core) or ""),
        ("Message", core.message_id.hex()),
        ("From", core.sender),
        ("To", render.addressees(core, AddresseeKind.ACTION)),
        ("Info", render.addressees(core, AddresseeKind.INFO)),
        ("Precedence", core.handling.precedence.name),
        ("DTG", render.dtg(core.handling.dtg)),
        ("Type", core.handling.message_type.upper() if core.handling.message_type != "operation" else ""),
        ("Expires", render.moment(core.expires)),
        ("References", ", ".join(reference.hex()[:12] for reference in core.handling.references)),
        ("Released by", ", ".join(record.released_by)),
        (
            "Originator",
            "controlled: passed on only with the originator's consent" if core.handling.originator_controlled else "",
        ),
        ("Passed on", ", ".join(parse_message(each).core.sender for each in core.passed_on)),
        (
            "Replaces",
            f"{core.handling.supersedes[0].hex()[:12]}: {core.handling.supersedes[1]}"
            if core.handling.supersedes
            else "",
        ),
        ("Protection", "" if record.one_time else "last-resort key: no forward secrecy until it is rotated"),
        ("Subject", head.name if head is not None else _withheld(client, LabelReader.label_of(core.portions[0].label))),
    ]
    render.fields(out, rows)
    for index, portion in enumerate(core.portions):
        show_portion(out, client, index, record.portions.get(index), client.labels.label_of(portion.label), saved)
    if core.handling.require_ack and record.direction == IN and record.state != "handled":
        say(f"the originator asks for an acknowledgement: liaison ack {core.message_id.hex()[:12]}")
    render.banner(out, marking, color)


def _equivalent(client: Client, core: Core) -> str | None:
    """The message's marking in a policy of ours by the tables agreed today, where the originator's is none of ours."""
    label, office = client.labels.label_of(core.label), client.profile.statement.office
    if label is None or client.labels.policy_for(label) is not None:
        return None
    translated = client.judge.translations(core.office, office, core.label, int(time.time()))
    markings = {client.labels.marking(client.labels.label_of(each)) for each in translated}
    return " / ".join(sorted(markings)) or None


def _withheld(client: Client, label: Label | None) -> str:
    """What stands in a withheld portion's place; empty where its policy says that nothing does."""
    if label is None:
        return "[withheld: no readable label]"
    return "" if client.labels.withholds_silently(label) else f"[withheld: {client.labels.portion_mark(label)}]"


def show_portion(
    out: Any, client: Client, index: int, content: PortionContent | None, label: Any, saved: dict[int, Path]
) -> None:
    mark = client.labels.portion_mark(label) if label is not None else "no readable label"
    if content is None:
        if withheld := _withheld(client, label):
            render.text(out, f"\n{withheld}")
    elif content.kind is PortionKind.ATTACHMENT:
        where = f", saved as {saved[index]}" if index in saved else "; save with --out DIR"
        named = for_one_line(content.name) or "without a name"
        render.text(out, f"\n({mark}) attachment {named}, {render.size(content.size)}{where}")
    elif content.kind is PortionKind.DRAFT:
        render.text(out, "\na sealed draft: liaison release")
    elif content.kind is PortionKind.CONSENT_REQUEST:
        render.text(out, "\na request for consent: liaison consent give")
    elif content.kind is PortionKind.CONSENT:
        render.text(out, "\nthe originator's signed consent, kept for: liaison forward")
    elif content.kind is PortionKind.PARAGRAPH:
        render.text(out, f"\n({mark}) {content.text}")
    else:
        render.text(out, f"\n{content.text}")


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
            put({"message_id": found.hex(), "state": "handled", "time": render.moment(at // 1000)})
        else:
            say(f"acknowledged {found.hex()[:12]} at {render.moment(at // 1000)}")
        if note is not None:
            core = client.read(found).message.core
            label = client.labels.label_of(core.label)
            if label is None:
                raise Malformed("the message has no readable label to answer under")
            client.send([core.sender], label=label, body=note, subject="Acknowledged", references=[found])
