"""What this person has sent, as a table or as JSON: `track` without an id."""

from __future__ import annotations

from typing import Any

from liaison import render
from liaison.as_json import label_json
from liaison.client import Client
from liaison.sent import SentItem, sent_items
from relay.protocol.header import AddresseeKind

from .common import Session
from .saying import fail, put, say


def list_sent(session: Session, limit: int, *, as_json: bool) -> None:
    """The newest first; what stands in the way of asking the relay comes after what is known without it."""
    with session.client() as client:
        listed = sent_items(client, limit)
        if as_json:
            for item in listed.items:
                put(_sent_line(client, item))
        elif listed.items:
            columns = ("message", "precedence", "dtg", "to", "marking", "subject", "state")
            markings = [item.marking for item in listed.items]
            render.marked_table(render.page(session.color), markings, columns, map(_row, listed.items))
        else:
            say("nothing was sent from this device")
        _say_what_is_missing(client, listed.older, shown=len(listed.items))
    if listed.problem is not None:
        say("the relay was not asked about all of these: where no number is, there is only what this device knows")
        fail(listed.problem)


def _row(item: SentItem) -> list[str]:
    handling = item.core.handling
    return [
        item.core.message_id.hex()[:12],
        handling.precedence.name,
        render.dtg(handling.dtg),
        ", ".join(item.addressees),
        item.marking,
        item.subject,
        _words(item),
    ]


def _words(item: SentItem) -> str:
    opened = "" if item.opened is None else f", {item.opened} of {len(item.addressees)} opened"
    return item.state + opened + (f", {item.acknowledged} acknowledged" if item.acknowledged else "")


def _sent_line(client: Client, item: SentItem) -> dict[str, Any]:
    core = item.core
    return {
        "message_id": core.message_id.hex(),
        "to": core.addressed(AddresseeKind.ACTION),
        "info": core.addressed(AddresseeKind.INFO),
        "precedence": core.handling.precedence.name,
        "dtg": render.dtg(core.handling.dtg),
        "label": label_json(client.labels.label_of(core.label)),
        "marking": item.marking,
        "subject": item.subject,
        "expires": render.moment(core.expires),
        "state": item.state,
        "addressees": len(item.addressees),
        "opened": item.opened,
        "acknowledged": item.acknowledged,
    }


def _say_what_is_missing(client: Client, older: int, *, shown: int) -> None:
    if older:
        say(f"{older} more, all older: --limit {shown + older} lists them too")
    address = client.profile.pins.address
    if len(client.trust.directory.by_address.get(address, [])) > 1:
        say(f"what {address} sent from another device is not here: that device's profile lists it")
