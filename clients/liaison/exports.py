"""The verified access log in the forms of other programs: JSON Lines, CSV, RFC 5424.

Each takes the line of `PulledEntry.as_json`, which only exists once its entry has been verified, and gives a line.
A cell of the CSV that a spreadsheet would take for a formula is led by an apostrophe.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

Line = Mapping[str, Any]

COLUMNS = (
    "index", "time", "event", "actor", "office", "message_id", "label", "decision", "rules", "leaf_hash",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # OWASP: full width too
_AUDIT_FACILITY, _NOTICE, _WARNING = 13, 5, 4
_ENTERPRISE = 32473  # RFC 5612: for documentation; the product has no number of its own


def json_line(line: Line) -> str:
    return json.dumps(line) + "\n"


def csv_line(line: Line) -> str:
    """A row; every cell quoted, as RFC 4180."""
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerow(
        _harmless(_text(line.get(column))) for column in COLUMNS
    )
    return out.getvalue()


def csv_heading() -> str:
    return ",".join(f'"{column}"' for column in COLUMNS) + "\r\n"


def syslog_line(line: Line) -> str:
    """One message of RFC 5424, everything in structured data; facility 13 (log audit), a denial is a warning."""
    severity = _WARNING if line.get("decision") == "deny" else _NOTICE
    given = ((name, _text(line.get(name))) for name in COLUMNS)
    parameters = " ".join(f'{name}="{_escaped(value)}"' for name, value in given if value)
    time, event = line.get("time") or "-", line.get("event") or "hidden"
    return f"<{8 * _AUDIT_FACILITY + severity}>1 {time} - liaison - {event} [entry@{_ENTERPRISE} {parameters}]\n"


def _text(value: object) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _harmless(cell: str) -> str:
    return f"'{cell}" if cell.startswith(_FORMULA) else cell


def _escaped(value: str) -> str:
    """RFC 5424 6.3.3; and control characters by their code point, so that one entry stays one line."""
    value = value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in value)


FORMS: dict[str, tuple[Callable[[], str], Callable[[Line], str]]] = {
    "jsonl": (str, json_line),
    "csv": (csv_heading, csv_line),
    "syslog": (str, syslog_line),
}
