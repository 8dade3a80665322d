"""What programs are told: the JSON that `--json` prints and a gateway answers, less the version in front."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.protocol.envelope import parse_message
from relay.protocol.header import AddresseeKind, Core
from relay.protocol.label import Category, Label

from . import render
from .portions import PortionKind

if TYPE_CHECKING:  # offline commands, which have labels to tell of, load no HTTP client
    from .client import Client
    from .inbox import InboxItem
    from .record import Record
    from .release import Verdict
    from .waiting import Sent

_TEXT = (PortionKind.BODY, PortionKind.PARAGRAPH)  # the other kinds hold files or signed objects


def label_json(label: Label | None) -> dict[str, Any] | None:
    """A label: policy, classification, categories."""
    if label is None:
        return None
    return {
        "policy": label.policy.name,
        "classification": label.classification,
        "categories": category_json(label.categories),
    }


def category_json(categories: Sequence[Category]) -> list[dict[str, Any]]:
    """Categories of a label or of an agreement."""
    return [{"tag": c.tag_name, "type": c.type.name, "values": list(c.values)} for c in categories]


def sent_json(sent: Sent) -> dict[str, Any]:
    """The receipt of what has just been sent."""
    return _receipt(sent.message_id, sent.dtg, sent.released_to, refused_json(sent.refused), waits=sent.waits)


def kept_sent_json(record: Record, *, waits: bool) -> dict[str, Any]:
    """The same receipt, of what was sent before, from its sender's own copy."""
    core = record.message.core
    refused = [{"address": address, "rules": list(rules)} for address, rules in record.refused]
    return _receipt(core.message_id, core.handling.dtg, core.reached, refused, waits=waits)


def _receipt(
    message_id: bytes, dtg: int, released_to: Iterable[str], refused: list[dict[str, Any]], *, waits: bool
) -> dict[str, Any]:
    return {
        "message_id": message_id.hex(),
        "dtg": render.dtg(dtg),
        "released_to": list(released_to),
        "refused": refused,
        **({"state": "waiting"} if waits else {}),
    }


def refused_json(verdicts: Iterable[Verdict]) -> list[dict[str, Any]]:
    return [{"address": v.addressee.address, "rules": list(v.rules)} for v in verdicts]


def inbox_json(client: Client, item: InboxItem) -> dict[str, Any]:
    core = item.message.core
    label = client.labels.label_of(core.label)
    line = {
        "message_id": item.message_id.hex(),
        "from": core.sender,
        "precedence": item.precedence.name,
        "dtg": render.dtg(core.handling.dtg),
        "label": label_json(label),
        "marking": item.marking,
        "state": item.state,
    }
    return line | ({"problem": item.problem} if item.problem else {})


def message_json(client: Client, record: Record, saved: Mapping[int, Path]) -> dict[str, Any]:
    """A message that was opened; `saved` says where attachments are now."""
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
        elif content is None or content.kind in _TEXT:
            portions.append({**row, "text": content.text if content is not None else None, "withheld": content is None})
        else:
            portions.append({**row, "text": None, "withheld": False, "kind": content.kind.name.lower()})
    head = record.portions.get(0)
    return {
        "message_id": core.message_id.hex(),
        "from": core.sender,
        "marking": client.labels.marking(client.labels.heading(core)),
        "equivalent": equivalent(client, core),
        "subject": head.name if head is not None else None,
        "precedence": client.precedence_of(record).name,
        "dtg": render.dtg(core.handling.dtg),
        **_handling_json(record, core),
        "portions": portions,
        "attachments": attachments,
    }


def _handling_json(record: Record, core: Core) -> dict[str, Any]:
    handling, supersedes = core.handling, core.handling.supersedes
    return {
        "action_precedence": handling.precedence.name,
        "info_precedence": handling.info_precedence.name,
        "to": core.addressed(AddresseeKind.ACTION),
        "info": core.addressed(AddresseeKind.INFO),
        "exempted": core.addressed(AddresseeKind.EXEMPTED),
        "expires": render.moment(core.expires),
        "type": handling.message_type,
        "references": [reference.hex() for reference in handling.references],
        "released_by": list(record.released_by),
        "originator_controlled": handling.originator_controlled,
        "purpose": handling.purpose or None,
        "passed_on": [parse_message(each).core.sender for each in core.passed_on],
        "replaces": {"message_ref": supersedes[0].hex(), "reason": supersedes[1]} if supersedes else None,
        "require_ack": handling.require_ack,
        "protection": "one-time" if record.one_time else "last-resort",
    }


def equivalent(client: Client, core: Core) -> str | None:
    """The message's marking in a policy of ours by the tables agreed today, where the originator's is none of ours."""
    label, office = client.labels.label_of(core.label), client.profile.statement.office
    if label is None or client.labels.policy_for(label) is not None:
        return None
    translated = client.judge.translations(core.office, office, core.label, int(time.time()))
    markings = {client.labels.marking(client.labels.label_of(each)) for each in translated}
    return " / ".join(sorted(markings)) or None


def acknowledged_json(message_id: bytes, at: int) -> dict[str, Any]:
    """Once it is acknowledged; `at` is the time of the log entry in ms."""
    return {"message_id": message_id.hex(), "state": "handled", "time": render.moment(at // 1000)}
