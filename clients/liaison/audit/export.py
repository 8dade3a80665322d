"""Verified entries in the forms that other programs read: JSON lines, CSV, syslog (RFC 5424), OCSF.

The rules:
  - an exporter writes what it is given, and is given verified entries only;
  - text from the log cannot act where it is read: no control characters, no formulas, no forged fields or lines;
  - an entry out of scope is its index and its hash; one that was erased after its retention says so besides. OCSF has
    no event without a time: there both are left out, and the event that erased them names those that it erased;
  - an `acknowledge` is a receipt of either kind: its detail says whether the message was opened or acknowledged.

Sources: RFC 4180; OWASP, CSV Injection; RFC 5424, section 6; OCSF 1.6.0, API Activity (class 6003).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from liaison.client import Client
from liaison.safe_text import for_one_line
from relay.protocol.entry import AccessEntry, Event

from .pulled import PulledEntry, markings

PRODUCT = "Liaison Relay"
COLUMNS = (
    "v", "index", "time", "event", "actor", "office", "message_id", "label", "decision", "rules", "leaf_hash", "erased",
    "detail",
)  # fmt: skip

# A spreadsheet takes these, and their full-width forms, for the beginning of a formula.
_FORMULA = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20")

# 32473 is the number that RFC 5612 reserves for examples: it stands in until the operator registers one with IANA.
STRUCTURE = "liaison@32473"
_AUDIT_FACILITY = 13 * 8
_NOTICED, _INFORMED = 4, 6  # severities: warning for what was denied, informational for the rest
_VERB = {"permit": "permitted", "deny": "denied"}

_CREATE, _READ, _UPDATE, _DELETE, _OTHER = 1, 2, 3, 4, 99
_CAPTION = {_CREATE: "Create", _READ: "Read", _UPDATE: "Update", _DELETE: "Delete"}  # of Other, OCSF wants our own word
_ACTIVITY = {
    Event.ACCEPT: _CREATE,
    Event.REFUSE: _CREATE,
    Event.OPEN: _READ,
    Event.DENY: _READ,
    Event.AUDIT: _READ,
    Event.ACKNOWLEDGE: _UPDATE,
    Event.CLAIM: _UPDATE,
    Event.DIRECTORY: _UPDATE,
    Event.RECALL: _DELETE,
    Event.EXPIRE: _DELETE,
}


def jsonl(entries: Iterable[PulledEntry], client: Client) -> Iterator[str]:
    marking = markings(client)
    for entry in entries:
        yield json.dumps(entry.as_json(marking)) + "\n"


def csv_rows(entries: Iterable[PulledEntry], client: Client) -> Iterator[str]:
    marking = markings(client)
    yield csv_row(COLUMNS)
    for entry in entries:
        line = entry.as_json(marking)
        yield csv_row([_text(line.get(column)) for column in COLUMNS])


def csv_row(cells: Iterable[str]) -> str:
    """A record. Every cell is quoted: a program that also cuts at semicolons finds no new cell inside one."""
    row = io.StringIO()
    csv.writer(row, quoting=csv.QUOTE_ALL).writerow([csv_cell(cell) for cell in cells])
    return row.getvalue()


def csv_cell(text: str) -> str:
    """The text as one line that no spreadsheet takes for a formula."""
    return ("'" if text.startswith(_FORMULA) else "") + for_one_line(text)


def syslog(entries: Iterable[PulledEntry], client: Client) -> Iterator[str]:
    """One message a line, ended by a line feed: facility 13 (log audit), structured fields, a short text."""
    marking = markings(client)
    for entry in entries:
        line = entry.as_json(marking)
        denied = line["decision"] == "deny"
        priority = _AUDIT_FACILITY + (_NOTICED if denied else _INFORMED)
        event = line["event"] or ("erased" if entry.is_erased else "withheld")
        fields = " ".join(
            f'{name}="{syslog_value(_text(line[name]))}"'
            for name in COLUMNS
            if line.get(name) is not None and name not in {"v", "time", "event"}
        )
        unseen = "after its retention" if entry.is_erased else "out of scope"
        verb = _VERB.get(line["decision"], f"{unseen}, known by its hash")
        head = f"<{priority}>1 {line['time'] or '-'} - liaison-relay - {event}"
        yield f"{head} [{STRUCTURE} {fields}] {event}: {verb}\n"


def syslog_value(text: str) -> str:
    """A PARAM-VALUE: on one line, with the three characters that RFC 5424 names behind a backslash."""
    shown = for_one_line(text)
    return shown.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def ocsf(entries: Iterable[PulledEntry], client: Client) -> Iterator[str]:
    marking = markings(client)
    for pulled in entries:
        if pulled.entry is not None:
            yield json.dumps(_api_activity(pulled, pulled.entry, pulled.as_json(marking))) + "\n"


def _api_activity(pulled: PulledEntry, entry: AccessEntry, line: dict[str, Any]) -> dict[str, Any]:
    activity = _ACTIVITY.get(entry.event, _OTHER)
    event: dict[str, Any] = {
        "category_uid": 6,
        "class_uid": 6003,
        "activity_id": activity,
        "activity_name": _CAPTION.get(activity, entry.event.value),
        "type_uid": 600300 + activity,
        "time": entry.time,
        "severity_id": 4 if entry.event is Event.ALARM else 1 if entry.permitted else 3,  # high, informational, medium
        "status_id": 1 if entry.permitted else 2,
        "metadata": {
            "version": "1.6.0",
            "product": {"name": PRODUCT, "vendor_name": PRODUCT},
            "uid": pulled.leaf_hash.hex(),
            "sequence": pulled.index,
            "original_time": line["time"],
            "log_name": "access",
        },
        "actor": _actor(entry),
        "api": {"operation": entry.event.value},
        "src_endpoint": {"uid": entry.device_id.hex(), "type_id": 0},
        "unmapped": {name: line[name] for name in ("label", "decision", "rules")} | {"concerns": entry.concerns},
    }
    if entry.request is not None:
        event["api"]["request"] = {"uid": entry.request.hex()}
    if entry.rules:
        event["status_detail"] = ", ".join(entry.rules)
    elif entry.event in {Event.DESTROY, Event.ACKNOWLEDGE}:
        event["status_detail"] = entry.detail
    if entry.message_id is not None:
        event["resources"] = [{"type": "message", "uid": entry.message_id.hex()}]
    return event


def _actor(entry: AccessEntry) -> dict[str, Any]:
    """Who it was; what the relay does by itself has no address, and an actor needs a name."""
    if not entry.address:
        return {"app_name": PRODUCT}
    return {"user": {"uid": entry.address, "name": entry.address, "org": {"name": entry.office or entry.address}}}


def _text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return "" if value is None else "true" if value is True else str(value)


FORMS: dict[str, Callable[[Iterable[PulledEntry], Client], Iterator[str]]] = {
    "jsonl": jsonl,
    "csv": csv_rows,
    "syslog": syslog,
    "ocsf": ocsf,
}
