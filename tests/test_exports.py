"""The forms of the access log for other programs: whatever an entry holds, it stays one row and runs nowhere."""

from __future__ import annotations

import csv
import io
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from liaison.exports import COLUMNS, csv_heading, csv_line, json_line, syslog_line

_TEXT = st.text(max_size=20) | st.sampled_from(["=1+1", "@x", "-2", "\t=1", '"]', "a\\", "a\r\nb", "\x1b[2J"])
LINES = st.fixed_dictionaries(
    {name: _TEXT for name in COLUMNS if name not in {"index", "time", "rules", "event", "decision"}}
    | {
        "index": st.integers(0, 10**6),
        "time": st.just("2026-01-02T03:04:05.678Z"),
        "event": st.just("deny"),
        "decision": st.sampled_from(["permit", "deny"]),
        "rules": st.lists(_TEXT, max_size=3),
    }
)


@given(LINES)
def test_no_cell_of_the_csv_is_a_formula_and_an_entry_is_one_row(line):
    heading, row = csv.reader(io.StringIO(csv_heading() + csv_line(line), newline=""))
    assert tuple(heading) == COLUMNS
    for name, cell in zip(heading, row, strict=True):
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
        if name not in {"rules", "index"}:
            assert cell.removeprefix("'") == line[name].removeprefix("'")


_PARAMETER = re.compile(r'([a-z_]+)="((?:[^"\\\]]|\\.)*)"')


@given(LINES)
def test_a_syslog_entry_is_one_line_and_nothing_leaves_its_quotes(line):
    text = syslog_line(line)
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    start = "<108>1" if line["decision"] == "deny" else "<109>1"
    head = f"{start} 2026-01-02T03:04:05.678Z - liaison - deny [entry@32473 "
    assert text.startswith(head)
    inside = text[len(head) : -2]
    found = _PARAMETER.findall(inside)
    assert " ".join(f'{name}="{value}"' for name, value in found) == inside
    assert {name for name, _value in found} <= set(COLUMNS)


@given(LINES)
def test_json_lines_round_trip(line):
    text = json_line(line)
    assert text.count("\n") == 1
    assert json.loads(text) == line


def test_an_entry_out_of_scope_shows_its_hash_alone():
    hidden = {"v": 1, "index": 7, "event": None, "leaf_hash": "ab"}
    assert syslog_line(hidden) == '<109>1 - - liaison - hidden [entry@32473 index="7" leaf_hash="ab"]\n'
    assert csv_line(hidden) == '"7","","","","","","","","","ab"\r\n'
