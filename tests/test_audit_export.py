"""What `audit pull` writes for other programs: nothing in the log can become a formula, a field or a line there."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from types import SimpleNamespace

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from acts import run, screen
from liaison.audit.export import FORMS, csv_cell, csv_row, syslog_value
from liaison.audit.pulled import PulledEntry
from relay.protocol.entry import AccessEntry, Event

JEAN = "jean.petit@lo-paris"
LABEL = "TEST SEALED RELEASABLE TO POL, FRA"
NASTY = st.text(st.sampled_from("=+-@\t\r\n\"\\]',; a\u202e\x1b\uff1d"), max_size=12) | st.text(max_size=20)
# RFC 5424, section 6, as one expression: header, one structured element, text.
PARAM = r'[!#-<>-\\^-~]{1,32}="(?:[^"\\\]\n]|\\["\\\]])*"'
MESSAGE = re.compile(
    rf"<(?P<pri>\d{{1,3}})>1 (?P<time>-|\d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{{3}}Z) - liaison-relay - (?P<event>[!-~]{{1,32}}) "
    rf"\[liaison@32473(?P<params>(?: {PARAM})*)\] (?P<text>[^\n]*)\n"
)
OCSF = Path(__file__).parent / "vectors" / "ocsf"
SCHEMA = jsonschema.Draft202012Validator(json.loads((OCSF / "api_activity-1.6.0.schema.json").read_text()))
SIBLINGS = json.loads((OCSF / "siblings-1.6.0.json").read_text())
OTHER = 99


def entry(event=Event.OPEN, **fields):
    given = {
        "time": 1_790_000_000_123, "salt": bytes(16), "device_id": b"d" * 16, "address": JEAN, "office": "lo-paris",
    } | fields  # fmt: skip
    return AccessEntry(event, **given)


def written(form, *entries, withheld=0, erased=0):
    pulled = [PulledEntry(index, bytes([index]) * 32, each) for index, each in enumerate(entries)]
    for more in range(withheld + erased):
        pulled.append(PulledEntry(len(pulled), b"h" * 32, None, is_erased=more >= withheld))
    client = SimpleNamespace(labels=SimpleNamespace(label_of=lambda label: label, marking=lambda label: label))
    return list(FORMS[form](pulled, client))


def values(line):
    """The structured fields of a syslog line, unescaped."""
    found = re.findall(r'([!-~]+?)="((?:[^"\\\]]|\\.)*)"', MESSAGE.fullmatch(line)["params"])
    return {name: re.sub(r"\\(.)", r"\1", value) for name, value in found}


@given(NASTY)
def test_no_cell_begins_a_formula_or_a_line(text):
    shown = csv_cell(text)
    assert not shown.startswith(tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20"))
    assert not set(shown) & set("\r\n\t\x1b\u202e")


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_is_marked_as_text(text):
    assert csv_cell(text).startswith("'")


@given(st.lists(NASTY, min_size=1, max_size=5))
def test_a_csv_record_reads_back_as_the_cells_that_were_written(cells):
    record = csv_row(cells)
    assert record.endswith("\r\n")
    assert record.count("\n") == 1
    assert list(csv.reader(io.StringIO(record, newline=""), strict=True)) == [[csv_cell(cell) for cell in cells]]


@given(NASTY)
def test_a_syslog_value_ends_where_it_should(text):
    assert re.fullmatch(r'(?:[^"\\\]\n]|\\["\\\]])*', syslog_value(text))


@given(NASTY, NASTY, NASTY)
def test_a_syslog_message_has_the_grammar_of_rfc_5424_whatever_the_entry_says(address, office, rule):
    (line,) = written("syslog", entry(Event.DENY, address=address, office=office, permitted=False, rules=(rule,)))
    assert MESSAGE.fullmatch(line)["pri"] == "108"
    assert values(line)["decision"] == "deny"
    assert set(values(line)) == {"index", "actor", "office", "decision", "rules", "leaf_hash"}


def check_ocsf(told):
    """The official schema: required attributes, types, enumerations, constraints, no attribute that it does not have.

    And what it says in words: the type is class and activity, a sibling is the caption, but of Other the source's word.
    """
    SCHEMA.validate(told)
    assert told["type_uid"] == told["class_uid"] * 100 + told["activity_id"]
    for name, known in SIBLINGS.items():
        said, number = told.get(known["sibling"]), told.get(name)
        assert said is None or number == OTHER or said == known["captions"][str(number)]


@pytest.mark.parametrize("permitted", [True, False])
@pytest.mark.parametrize("event", Event)
def test_every_event_is_an_api_activity_by_the_official_schema_of_ocsf(event, permitted):
    full = {"message_id": b"m" * 16, "label": "TEST OPEN", "request": b"r" * 16, "permitted": permitted}
    first, second, third = map(
        json.loads,
        written("ocsf", entry(event, **full, rules=("agreement",)), entry(event), entry(event, address="", office="")),
    )
    for told in (first, second, third):
        check_ocsf(told)
    told = first
    assert (told["metadata"]["version"], SCHEMA.schema["$id"].split("/")[-3]) == ("1.6.0", "1.6.0")
    assert told["time"] == 1_790_000_000_123
    assert told["actor"]["user"]["uid"] == JEAN
    assert told["api"]["operation"] == event.value


@pytest.mark.parametrize(
    "wrong",
    [
        {"category_uid": 3}, {"class_uid": 3001}, {"activity_id": 5}, {"severity_id": 7}, {"status_id": 3}, {"time": "now"},
        {"actor": {}}, {"api": {}}, {"metadata": {"version": "1.6.0"}}, {"src_endpoint": None}, {"office": "lo-paris"},
        {"activity_name": "open"}, {"type_uid": 600301},
    ],
    ids=str,
)  # fmt: skip
def test_the_schema_refuses_what_is_no_api_activity(wrong):
    (line,) = written("ocsf", entry())
    with pytest.raises((jsonschema.ValidationError, AssertionError)):
        check_ocsf(json.loads(line) | wrong)


def test_a_denial_is_a_failure_with_its_rules():
    (line,) = written("ocsf", entry(Event.DENY, permitted=False, rules=("classification", "agreement")))
    told = json.loads(line)
    assert (told["status_id"], told["severity_id"], told["status_detail"]) == (2, 3, "classification, agreement")


def test_what_the_relay_does_by_itself_has_an_actor_all_the_same():
    (line,) = written("ocsf", entry(Event.OPERATOR, address="", office=""))
    assert json.loads(line)["actor"] == {"app_name": "Liaison Relay"}


def test_an_entry_out_of_scope_is_its_hash_and_nothing_else():
    assert written("ocsf", withheld=2) == []
    (line,) = written("syslog", withheld=1)
    assert values(line) == {"index": "0", "leaf_hash": (b"h" * 32).hex()}
    head, row = csv.reader(written("csv", withheld=1))
    assert {name: cell for name, cell in zip(head, row, strict=True) if cell} == {
        "v": "1", "index": "0", "leaf_hash": (b"h" * 32).hex(),
    }  # fmt: skip


@pytest.mark.parametrize("state", ["opened", "acknowledged"])
def test_a_receipt_says_in_every_form_whether_the_message_was_opened_or_acknowledged(state):
    receipt = entry(Event.ACKNOWLEDGE, detail=state)
    assert json.loads(written("jsonl", receipt)[0])["detail"] == state
    assert [row["detail"] for row in csv.DictReader(written("csv", receipt))] == [state]
    assert values(written("syslog", receipt)[0])["detail"] == state
    assert json.loads(written("ocsf", receipt)[0])["status_detail"] == state


def test_an_entry_out_of_scope_has_every_key_of_the_line_and_no_value():
    shown, hidden, gone = map(json.loads, written("jsonl", entry(), withheld=1, erased=1))
    assert shown.keys() == hidden.keys() == gone.keys() - {"erased"}
    assert {name for name, value in hidden.items() if value is not None} == {"v", "index", "leaf_hash"}


def test_an_entry_that_was_erased_says_so_and_does_not_pass_for_one_out_of_scope():
    hidden, gone = map(json.loads, written("jsonl", withheld=1, erased=1))
    assert ("erased" in hidden, gone["erased"]) == (False, True)
    assert [row["erased"] for row in csv.DictReader(written("csv", withheld=1, erased=1))] == ["", "true"]
    hidden, gone = written("syslog", withheld=1, erased=1)
    assert MESSAGE.fullmatch(hidden)["text"] == "withheld: out of scope, known by its hash"
    assert MESSAGE.fullmatch(gone)["text"] == "erased: after its retention, known by its hash"
    assert values(gone) == {"index": "1", "leaf_hash": (b"h" * 32).hex(), "erased": "true"}
    record = "messages=1 entries=1 policies="
    (told,) = map(json.loads, written("ocsf", entry(Event.DESTROY, address="relay", detail=record), erased=1))
    check_ocsf(told)
    assert told["status_detail"] == record  # what has no time is named by what has one


def test_an_auditor_writes_every_form_from_what_was_verified(auditor, tmp_path):
    plain = [json.loads(line) for line in screen(auditor, "audit", "pull")]
    shown = [line for line in plain if line["event"] is not None]
    assert len(plain) > len(shown) > 5
    for form, read in (
        ("csv", lambda text: list(csv.DictReader(io.StringIO(text, newline="")))),
        ("syslog", lambda text: [MESSAGE.fullmatch(line) for line in text.splitlines(keepends=True)]),
        ("ocsf", lambda text: [json.loads(line) for line in text.splitlines()]),
    ):
        file = tmp_path / form
        assert run(auditor, "audit", "pull", "--format", form, "--out", str(file)).exit_code == 0
        found = read(file.read_bytes().decode())
        assert all(found)
        assert len(found) >= len(shown if form == "ocsf" else plain)
    for event in found:
        check_ocsf(event)
    opened = [event for event in found if event["api"]["operation"] == "open"]
    assert opened[-1]["unmapped"]["label"] == LABEL
    assert opened[-1]["time"] in [event["time"] for event in found]


def test_only_the_forms_that_there_are_can_be_asked_for(auditor):
    assert run(auditor, "audit", "pull", "--format", "xml").exit_code == 2
