"""One message on the screen, as JSON, and its attachments in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from liaison import render
from liaison.as_json import equivalent
from liaison.client import Client
from liaison.labels import LabelReader
from liaison.meter import Meter
from liaison.portions import PortionContent, PortionKind
from liaison.record import IN, Record
from liaison.safe_text import distinct_file_name, for_one_line, safe_file_name
from liaison.sealed import save
from relay.protocol.envelope import parse_message
from relay.protocol.header import AddresseeKind, Core
from relay.protocol.label import Label

from .common import Session
from .saying import say


def save_attachments(record: Record, folder: Path, meter: Meter) -> dict[int, Path]:
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


def show_message(
    session: Session, client: Client, record: Record, saved: dict[int, Path], *, from_whom: str = "From"
) -> None:
    """All that a reader sees of it, between two lines with the marking."""
    out, core = render.page(session.color), record.message.core
    label = client.labels.heading(core)
    marking, color = client.labels.marking(label), client.labels.color(label) if label is not None else None
    render.banner(out, marking, color)
    render.fields(out, _header_rows(client, record, core, from_whom))
    for index, portion in enumerate(core.portions):
        label = client.labels.label_of(portion.label)
        _show_portion(out, client, core, record.portions.get(index), label, saved.get(index))
    if core.handling.require_ack and record.direction == IN and record.state != "handled":
        say(f"the originator asks for an acknowledgement: liaison ack {core.message_id.hex()[:12]}")
    render.banner(out, marking, color)


def _header_rows(client: Client, record: Record, core: Core, from_whom: str) -> list[tuple[str, str]]:
    """What stands above the text; a row without a value is not shown."""
    handling, supersedes, head = core.handling, core.handling.supersedes, record.portions.get(0)
    consent = "controlled: passed on only with the originator's consent"
    last_resort = "last-resort key: no forward secrecy until it is rotated"
    return [
        ("Equivalent", equivalent(client, core) or ""),
        ("Message", core.message_id.hex()),
        (from_whom, core.sender),
        ("To", render.addressees(core, AddresseeKind.ACTION)),
        ("Info", render.addressees(core, AddresseeKind.INFO)),
        ("Exempted", render.addressees(core, AddresseeKind.EXEMPTED)),
        ("Precedence", _precedence(client, record)),
        ("DTG", render.dtg(handling.dtg)),
        ("Type", handling.message_type.upper() if handling.message_type != "operation" else ""),
        ("Expires", render.moment(core.expires)),
        ("References", ", ".join(reference.hex()[:12] for reference in handling.references)),
        ("Released by", ", ".join(record.released_by)),
        ("Originator", consent if handling.originator_controlled else ""),
        ("Purpose", handling.purpose),
        ("Passed on", ", ".join(parse_message(each).core.sender for each in core.passed_on)),
        ("Replaces", f"{supersedes[0].hex()[:12]}: {supersedes[1]}" if supersedes else ""),
        ("Acknowledge", "asked for" if handling.require_ack and record.direction != IN else ""),
        ("Protection", "" if record.one_time else last_resort),
        ("Subject", head.name if head is not None else _withheld(client, LabelReader.label_of(core.portions[0].label))),
    ]


def _precedence(client: Client, record: Record) -> str:
    """For this reader; of a message with both, both."""
    core = record.message.core
    handling, has_info = core.handling, any(each.kind is AddresseeKind.INFO for each in core.addressees)
    own, stated, informed = client.precedence_of(record), handling.precedence, handling.info_precedence
    both = f" (for action {stated.name}, for information {informed.name})"
    return own.name + (both if has_info and stated is not informed else "")


def _withheld(client: Client, label: Label | None) -> str:
    """What stands in a withheld portion's place; empty where its policy says that nothing does."""
    if label is None:
        return "[withheld: no readable label]"
    return "" if client.labels.withholds_silently(label) else f"[withheld: {client.labels.portion_mark(label)}]"


def _show_portion(
    out: Any, client: Client, core: Core, content: PortionContent | None, label: Any, saved: Path | None
) -> None:
    mark = client.labels.portion_mark(label) if label is not None else "no readable label"
    if content is None:
        if withheld := _withheld(client, label):
            render.text(out, f"\n{withheld}")
    elif content.kind is PortionKind.ATTACHMENT:
        where = "; save with --out DIR" if saved is None else f", saved as {saved}"
        named = for_one_line(content.name) or "without a name"
        render.text(out, f"\n({mark}) attachment {named}, {render.size(content.size)}{where}")
    elif content.kind is PortionKind.DRAFT:
        render.text(out, f"\na sealed draft: liaison release {core.message_id.hex()[:12]}")
    elif content.kind is PortionKind.CONSENT_REQUEST:
        render.text(out, f"\na request for consent: liaison consent give {core.message_id.hex()[:12]}")
    elif content.kind is PortionKind.CONSENT:
        render.text(out, "\nthe originator's signed consent, kept from now on: liaison forward")
    elif content.kind is PortionKind.PARAGRAPH:
        render.text(out, f"\n({mark}) {content.text}")
    else:
        render.text(out, f"\n{content.text}")
