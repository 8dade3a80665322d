"""Portion marks wherever a hand may put them: each opens its portion or is refused, and honest text stays text."""

# ruff: noqa: RUF001 - what looks alike is what is tested

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from liaison.marks import paragraphs
from relay.protocol.errors import Malformed
from relay.protocol.marking import portion_mark
from relay.protocol.marking_reader import parse_marking
from relay.protocol.policy_extensions import parse_extensions
from relay.protocol.spif import read_spif
from world import TEST_SPIF

MARKS = b'portion_marks = { OPEN = "O", CLOSED = "C", SEALED = "S" }\nportion_prefixes = { "Releasable To" = "REL " }\n'
POLICY = read_spif(TEST_SPIF, parse_extensions(MARKS))[0]
BANNER = parse_marking(POLICY, "TEST SEALED", 0)


def cut(body):
    return [(portion_mark(POLICY, label), text) for label, text in paragraphs(POLICY, body, BANNER, 0)]


def refused(body):
    try:
        cut(body)
    except Malformed:
        return True
    return False


@pytest.mark.parametrize(
    "before",
    [
        "1. (a) ", "1.(a)", "(1)(a) ", "(1)(1)", "1) a) ", "1. a. ", "1.a. ", "3.a. ", "3a. ", "3a ", "A.1. ", "IV.2 ",
        "(iv)(a) ", "2.1(a) ", "1000. ", "(1.1) ", "(1.) ", "(1a) ", "[1] ", "1.1.1.1a ", "- 1. a) ", "0400 ",
        "xviii) ", "  1.\ta.\t", "\u200b1. \ufeff(a) ",
    ],
)  # fmt: skip
def test_a_mark_behind_an_outline_of_any_depth_opens_its_portion(before):
    kept = before.replace("\u200b", "").replace("\ufeff", "").lstrip()
    assert cut(f"(O) Fair weather.\n{before}(S) Agent X.\n")[1:] == [
        ("O", "Fair weather.\n"),
        ("S", f"{kept}Agent X.\n"),
    ]


@pytest.mark.parametrize(
    "line",
    [
        # behind what is no outline, or may be initials
        "1.A (S) x", "aa. (S) x", "1st. (S) x", "a (S) x", "{1} (S) x", "① (S) x", "⒈ (S) x", "Ⅳ. (S) x", "№1 (S) x",
        "1° (S) x", "§1 (S) x", "1․ (S) x", "U.S. (S) x", "1.a. [S] x", "(1)(a) {S} x", "3a. (s) x", "( (S) x",
        "[ ] {S} x", "(as was agreed with our friends on Friday last) (S) x", "<- (S) x", "| (S) | x |",
        # mistyped behind an outline
        "1.a. (Seald) x", "(1)(a) (SEALD) x", "3a. (S REL FRN) x", "1000. (S REL FRN) x", "1. a. (\u0405) x",
        # a bracket forgotten, or another sign in its place
        "(S text", "1.a. (S text", "(S REL FRA, POL text", "[S text", "(S( text", "(1. (S text", "S) text", "S REL FRA) text",
        "1) S) text", "(1) S] text", "<S> x", "«S» x", "‹S› x", "【S】 x", "〔S〕 x", "﹙S﹚ x", "❨S❩ x", "（S) x", "⦅S⦆ x",
        "S】 x", "|S| x", "//S// x", "1. //S// x", "\\S\\ x",
        # a mark that is not the first thing in its line
        "(O) (S) x", "(S) (O) x", "(O)(S REL FRA) x", "1. (O) 2. (S) x", "(O) [S] x", "(O) <S> x", "(O) (S x", "(O) S) x",
        "Fair weather. (S) Agent X.", "Agents: (S) X.", "Para 1. (S) x", "Background – (S) x", "Agent X. (S)",
        "Boats (two) are in. Now? (S REL FRA) Agent X.",
    ],
)  # fmt: skip
def test_what_may_be_a_mark_and_opens_nothing_is_refused_with_its_line(line):
    with pytest.raises(Malformed, match=r"^line 3: .* is not a portion mark") as told:
        cut(f"(O) Fair weather.\n\n{line} Tail.\n")
    assert told.value.hint


@pytest.mark.parametrize(
    "line",
    [
        "Boats are small (see annex S) there.", "We met (Sweden) two.", "The (U.S.) forces", "A boat (S) sails at ten.",
        "Annex A (S) says so.", "Take the boat(s) out.", "Points: (a) one; (c) two; (s) three.", "1. one", "2) two",
        "a. text", "a) text", "s) text", "(a) text", "(1) text", "(ii) text", "1.a. text", "3a. text", "(1)(a) text",
        "[1] a note", "12.05.2030 (Sunday) we sail.", "0400 (local) we sail.", "1. 40 (forty) men", "U.S. (Navy) forces",
        "e.g. (see annex) boats", "[x] done", "<see annex> x", "S/N 1234", "C/O Mr. X", "-> S", "S > 3", "“C” Company",
        "(as was agreed with our friends on Friday last) five", "3 < 4 and 5 > 2", "https://example.org/S/a", ":) (1)",
        "He left. (See the annex.) He came back.", "He left at 10:30 (local time). [1] He came back.",
    ],
)  # fmt: skip
@pytest.mark.parametrize("mark", ["(O) Fair.\n", "(O) "])
def test_honest_text_stays_text_behind_a_mark(line, mark):
    assert cut(f"{mark}{line}\n")[1:] == [("O", f"{mark[4:]}{line}\n")]


@pytest.mark.parametrize(
    "line",
    [
        "S) text", "(S text", "<S> x", "//S// x", "【S】 x", "aa. (S) x", "1.A (S) x", "U.S. (S) x", "Fair. (S) Agent.",
        "1.a. (NATO) x", "(see annex) x", "1.a. (see annex) x", "(Seald) x", "(O'Neill) x", "（北京） x",
    ],
)  # fmt: skip
def test_a_body_without_marks_is_text_under_the_messages_own_label(line):
    assert cut(line) == [("S", line)]


SEEN = " \t.,:;)]}>-*#§/|°'\"\u00a0"
SIGNS = st.tuples(st.sampled_from(SEEN), st.text(alphabet=SEEN + "\u200b\ufeff", max_size=2)).map("".join)
TOKENS = st.one_of(
    st.integers(0, 99999).map(str),
    st.from_regex(r"[a-z]{1,2}|[A-Z]{1,2}|[ivx]{1,6}|[IVX]{1,6}", fullmatch=True),
    st.sampled_from("①⑽⒈Ⅳⅳ"),
)
BRACKETED = st.tuples(st.sampled_from("([{（【<"), TOKENS, st.sampled_from(")]}）】>")).map("".join)
PREFIXES = st.lists(st.tuples(st.one_of(TOKENS, BRACKETED), SIGNS).map("".join), max_size=6).map("".join)


@settings(max_examples=500)
@given(PREFIXES, st.sampled_from(["(S)", "(S REL FRA)", "[S]", "(S", "（S）", "(TEST SEALED)"]))
def test_whatever_outline_stands_before_it_a_higher_mark_is_never_left_under_a_lower_one(prefix, mark):
    body = f"(O) Fair weather.\n{prefix}{mark} Agent X.\n"
    assert refused(body) or all("Agent X" not in text for shown, text in cut(body) if not shown.startswith("S"))


@pytest.mark.parametrize("part", ["(", "()", "(1)", "(a", "1.", "1.a.", "- _", "i", "a)", "<", "|", "…", ". (", "⑴"])
@pytest.mark.parametrize("tail", ["", "(S) x", "(x"])
def test_a_line_is_read_in_time_linear_in_its_length(part, tail):
    began = time.process_time()
    refused(f"(O) Fair.\n{part * (40_000 // len(part))}{tail}\n")
    assert time.process_time() - began < 8
