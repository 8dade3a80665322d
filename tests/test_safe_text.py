from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liaison import render
from liaison.cli.saying import fail, say
from liaison.safe_text import distinct_file_name, for_one_line, for_terminal, safe_file_name
from relay.protocol.errors import Refused


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J\x1b[1;31mred", "\\x1b[2J\\x1b[1;31mred"),
        ("\x1b]52;c;aGk=\x07", "\\x1b]52;c;aGk=\\x07"),
        ("\x9b31m", "\\x9b31m"),
        ("NATO SECRET\rUNCLASSIFIED", "NATO SECRET\\x0dUNCLASSIFIED"),
        ("back\x08\x7f", "back\\x08\\x7f"),
        ("if \u202e} \u2066admin\u2069", "if \\u202e} \\u2066admin\\u2069"),
        ("\u2028next\u2029\x85", "\\u2028next\\u2029\\x85"),
        ("\U000e0041\ufeff\u200b", "\\U000e0041\\ufeff\\u200b"),
        ("\ud800", "\\ud800"),
    ],
)
def test_what_steers_a_terminal_is_shown_instead_of_sent(hostile: str, shown: str) -> None:
    assert for_terminal(hostile) == shown


@pytest.mark.parametrize(
    "text",
    ["Łódź\n\tçà", "\u0645\u06cc\u200c\u062e", "👩\u200d✈️", "C:\\temp", "\u05e9\u05dc", "\u0600\u0661"],
)
def test_ordinary_writing_passes_unchanged(text: str) -> None:
    assert for_terminal(text) == text


def test_a_windows_line_end_is_a_line_end() -> None:
    assert for_terminal("one\r\ntwo\r\r\n") == "one\ntwo\\x0d\n"


def test_a_subject_cannot_pretend_to_be_the_next_line() -> None:
    assert for_one_line("Subject\nNATO UNCLASSIFIED\tx") == "Subject\\nNATO UNCLASSIFIED\\tx"


EVIL = "x\x1b[2J\x1b]52;c;ZXZpbA==\x07\nNATO UNCLASSIFIED\u202egnp.exe"
SHOWN = "x\\x1b[2J\\x1b]52;c;ZXZpbA==\\x07\\nNATO UNCLASSIFIED\\u202egnp.exe"


def test_whatever_a_command_says_is_one_line_that_steers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"not verified: the sender speaks of another directory, {EVIL}")
    with pytest.raises(SystemExit):
        fail(Refused(EVIL, hint=EVIL, rules=(EVIL,)))
    said = ("not verified: the sender speaks of another directory, ", "error: ", "rules: ", "hint: ")
    assert capsys.readouterr().err.splitlines() == [f"liaison: {words}{SHOWN}" for words in said]


@pytest.mark.parametrize(("color", "style"), [("never", "{}"), ("always", "\x1b[1;37;42m{}\x1b[0m")])
def test_no_line_of_a_page_steers_anything_and_a_marking_keeps_its_colour(
    capsys: pytest.CaptureFixture[str], color: str, style: str
) -> None:
    out = render.page(color)
    render.banner(out, EVIL, "green")
    out.line(EVIL)
    render.fields(out, [("From", EVIL)])
    render.text(out, EVIL)
    marking = style.format(SHOWN)
    assert capsys.readouterr().out.splitlines() == [marking, SHOWN, f"From:  {SHOWN}", *SHOWN.split("\\n")]


def test_a_name_that_is_one_row_of_accents_is_cut_before_it_is_put_in_order() -> None:
    began = time.process_time()
    name = safe_file_name("e" + "\u0301\u0323" * 30_000 + ".pdf")
    assert time.process_time() - began < 0.5  # seconds; it took three
    assert len(name.encode()) <= 200
    assert name.endswith(".pdf")


@given(st.text(st.characters(codec=None)))
def test_no_text_whatever_brings_a_control_to_the_terminal(text: str) -> None:
    shown = for_terminal(text)
    assert not [c for c in shown if c not in "\n\t" and unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"}]
    assert not set(shown) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c")
    assert "\n" not in for_one_line(text)


@pytest.mark.parametrize(
    ("suggested", "kept"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "etc_passwd"),
        ("C:\\Users\\x.doc", "C__Users_x.doc"),
        ("-rf", "rf"),
        (".bashrc", "bashrc"),
        ("..", "attachment"),
        ("", "attachment"),
        (" . ", "attachment"),
        ("a\x00b\x1b[1m\u202egpj.exe", "a_b_[1m_gpj.exe"),
        ("Łódź 2.txt", "Łódź 2.txt"),
        ("e\u0301.txt", "é.txt"),
    ],
)
def test_a_suggested_name_becomes_one_file_name(suggested: str, kept: str) -> None:
    assert safe_file_name(suggested) == kept


@given(st.text(st.characters(codec=None), max_size=300))
def test_no_suggested_name_leaves_the_folder_or_overflows(suggested: str) -> None:
    name = safe_file_name(suggested)
    assert name
    assert name[0] not in ".-"
    assert not set(name) & set("/\\\0\n\r\x1b")
    assert len(name.encode()) <= 200
    assert safe_file_name(name) == name


def test_a_long_name_keeps_its_extension() -> None:
    assert safe_file_name("ż" * 300 + ".pdf") == "ż" * 98 + ".pdf"


def test_names_that_differ_in_case_only_are_kept_apart() -> None:
    assert distinct_file_name("Report.pdf", {"report.pdf", "REPORT-2.PDF"}) == "Report-3.pdf"
    assert distinct_file_name("Report.pdf", ()) == "Report.pdf"
    assert distinct_file_name("plain", {"plain"}) == "plain-2"
