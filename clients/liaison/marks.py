"""Portion marks in a body: which lines open a portion, and which only look as if they did.

The rules:
  - a mark is one of the policy's in round brackets at the start of a line. Before it stand only blanks, what cannot
    be seen, a bullet, and an outline's numbers and letters ("1.a. ", "(1)(a) "), which stay with the text;
  - in that place a mark in other brackets or behind other signs, capitals in round brackets that are no mark, and a
    mark of one small letter, which may be a list's, are refused: a mistyped mark must not leave its paragraph
    under the lower label of the one before;
  - in a body with marks so are any bracket of up to eight words, what begins as a mark does in a bracket that is
    longer or never closed, and a mark that lost its first bracket or stands in what resembles one (<S>, //S//);
  - in such a body so is a mark at the start of any sentence, and a second one behind the first;
  - a list's number or letter is text, as is every other bracket.
What opens a portion is read in the line as it is, what is refused in the line as the eye sees it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from functools import cache

from relay.protocol.errors import LiaisonError, Malformed
from relay.protocol.label import Label
from relay.protocol.marking_reader import MAX_TEXT, begins_as_mark, parse_portion_mark
from relay.protocol.policy import Policy

FEW = 8  # words
_OPEN, _CLOSE = r"(\[{", r")\]}"
_SIGN = rf"(?:[^\w{_OPEN}]|_)"
_COUNT = r"\d+(?:\.\d+)*\.?[a-z]?|[a-z]|[ivx]{1,7}"
_LETTER = r"(?:[A-Za-z]|[ivx]{1,7}|[IVX]{1,7})[.):]"
_INITIALS = r"[A-Z]\.\s*[A-Z]\.|[a-z]\.\s*[a-z]\."
# Atomic: no text has two readings as an outline, so time stays linear in its length.
_ITEM = rf"(?!{_INITIALS})(?>[(\[](?:{_COUNT})[)\]]|(?:No)?\d+[a-z]?(?![^\W_])[.):]?|{_LETTER})"
_BULLET = r"(?:[-*+•‣◦▪●○–—·]+\s*)?"  # noqa: RUF001 - dashes are bullets
_LIST = re.compile(rf"{_BULLET}(?:{_ITEM}\s*)*")
_OUTLINE = re.compile(rf"(?:{_SIGN}|{_ITEM})*")
# Behind these a short bracket is refused, too; what begins with a number is more often text: "12.05.2030 (Sunday)".
_FIRST = rf"\((?:{_COUNT})\)|\d{{1,3}}(?:\.\d{{1,3}})*[.):]?|{_LETTER}"
_DEEP = rf"(?!{_INITIALS})(?>\((?:{_COUNT})\)|\d{{1,3}}[a-z]?[.):]|{_LETTER})"
_SHORT_LIST = re.compile(rf"{_BULLET}(?:(?:{_FIRST})\s*)?")
_NUMBERED = re.compile(rf"{_SIGN}*(?:(?:{_FIRST}){_SIGN}*)?|{_SIGN}*(?:{_DEEP}{_SIGN}*)+")
_OPENING = re.compile(
    rf"(?P<before>{_OUTLINE.pattern})"
    rf"\((?P<mark>(?:[^()\[\]{{}}]|\([^()]*\)){{1,{MAX_TEXT}}})\)[ \t]*(?P<text>.*)",
    re.DOTALL,
)
_BRACKET = re.compile(
    rf"(?P<open>[{_OPEN}])(?:"
    rf"(?P<mark>(?:[^{_OPEN}{_CLOSE}]|[{_OPEN}][^{_OPEN}{_CLOSE}]*[{_CLOSE}]){{1,{MAX_TEXT}}})(?P<close>[{_CLOSE}])"
    rf"|(?=(?P<unclosed>[^{_OPEN}{_CLOSE}]{{0,{MAX_TEXT}}})))"
)
_BARRED = re.compile(rf"{_OUTLINE.pattern}[<|/\\](?P<mark>[^<>|/\\]{{1,{MAX_TEXT}}})[>\]|/\\]")
_WORD = re.compile(r"(?<![^\W\d_])(?!(?:[ivx]+|[IVX]+)(?![^\W_]))[^\W\d_]{3,}")
_SENTENCE_END = re.compile(r"[.:;!?](?!\w)|(?<!\S)[-–—]+(?!\S)")  # noqa: RUF001 - a dash ends a heading


class _Place(Enum):
    """Where in its line a bracket stands."""

    HEAD = auto()  # behind signs and an outline's numbers and letters only
    SENTENCE = auto()  # at the start of a sentence, behind no word of more than two letters
    INSIDE = auto()  # inside a sentence


@dataclass(frozen=True, slots=True)
class _Candidate:
    """What may be a mark. `open` is empty where the first bracket is missing, `close` where it is never closed."""

    place: _Place
    open: str
    mark: str
    close: str
    before: str = ""  # at the HEAD of a line

    @property
    def in_brackets(self) -> bool:
        return bool(self.open and self.close)

    @property
    def unclosed(self) -> bool:
        return not self.close


def paragraphs(policy: Policy, body: str, banner: Label, now: int) -> Iterator[tuple[Label, str]]:
    """The body cut at its portion marks; text before the first one carries the banner's label. Raises Malformed."""
    lines = [_opening(policy, line, now) for line in body.splitlines(keepends=True)]
    marked = any(opened is not None for opened, _ in lines)
    label, kept = banner, list[str]()
    for number, (opened, text) in enumerate(lines, 1):
        for each in _candidates(text):
            if _in_doubt(policy, each, now, marked=marked, opened=opened is not None):
                shown = f"{each.open}{each.mark.strip():.200}{each.close}"
                hint = "a mark stands first in its line, in round brackets and capitals, as the policy has it; "
                hint += "put a word before what is none"
                raise Malformed(
                    f"line {number}: {shown} is not a portion mark of {policy.name} where it stands", hint=hint
                )
        if opened is None:
            kept.append(text)
            continue
        if "".join(kept).strip() or label is banner:
            yield label, "".join(kept)
        label, kept = opened, [text]
    yield label, "".join(kept)


def _opening(policy: Policy, line: str, now: int) -> tuple[Label | None, str]:
    """The label of the portion that a line opens, or None, and the line without its mark."""
    found = _OPENING.match(line)
    if found is None or _is_small(found["mark"]):
        return None, line
    before = "".join(each for each in found["before"] if unicodedata.category(each) != "Cf").lstrip()
    label = _label(policy, found["mark"], now) if _LIST.fullmatch(before) else None
    return (None, line) if label is None else (label, before + found["text"])


def _in_doubt(policy: Policy, each: _Candidate, now: int, *, marked: bool, opened: bool) -> bool:
    """Whether it must be refused, in a body that has marks or none, on a line that `opened` a portion or did not."""
    at_head = each.place is _Place.HEAD
    if _label(policy, each.mark, now) is not None:
        return (at_head and each.in_brackets) or (marked and not _is_small(each.mark))
    if _is_count(each.mark) or not (at_head or each.unclosed):
        return False
    if each.in_brackets and not opened:
        capitals = each.open + each.close == "()" and each.mark == each.mark.upper()
        if capitals and _SHORT_LIST.fullmatch(each.before):
            return True
        if marked and len(each.mark.split()) <= FEW and _NUMBERED.fullmatch(each.before):
            return True
    return marked and begins_as_mark(policy, each.mark)


def _candidates(line: str) -> Iterator[_Candidate]:
    """What may be a mark in the line as it is seen: no bracket inside a sentence is."""
    seen, end, place = _seen(line), 0, _Place.HEAD
    for found in _BRACKET.finditer(seen):
        gap = seen[end : found.start()]
        if place is _Place.HEAD:
            yield from _without_first_bracket(gap)
        place, end = _behind(place, gap), found.end()
        if place is _Place.INSIDE:
            continue
        mark = found["mark"] or found["unclosed"]
        passed = not found["close"] or _is_count(mark)
        before = seen[: found.start()].lstrip() if place is _Place.HEAD and not passed else ""
        yield _Candidate(place, found["open"], mark, found["close"] or "", before)
        place = place if passed else _Place.SENTENCE
    if place is _Place.HEAD:
        yield from _without_first_bracket(seen[end:])


def _without_first_bracket(start: str) -> Iterator[_Candidate]:
    """Marks at a line's start that have only their last bracket, or bars in place of brackets."""
    barred = _BARRED.match(start)
    if barred is not None:
        yield _Candidate(_Place.SENTENCE, "|", barred["mark"], "|")
    for piece in re.split(rf"[{_CLOSE}]", start)[:-1]:
        yield _Candidate(_Place.SENTENCE, "", _OUTLINE.sub("", piece, count=1), ")")
        if _WORD.search(piece):
            return


def _behind(place: _Place, gap: str) -> _Place:
    """The place behind `gap`, text without an opening bracket that began at `place`."""
    if place is _Place.HEAD and _OUTLINE.fullmatch(gap):
        return place
    *ended, clause = _SENTENCE_END.split(gap)
    if _WORD.search(clause) or (place is _Place.INSIDE and not ended):
        return _Place.INSIDE
    return _Place.SENTENCE


def _seen(line: str) -> str:
    """The line as the eye sees it: nothing invisible, numerals as digits, other brackets as `[`, `<`, `>`, `]`."""
    return line if line.isascii() else unicodedata.normalize("NFKC", "".join(map(_shape, line)))


@cache
def _shape(character: str) -> str:
    kind = unicodedata.category(character)
    if kind == "Cf":
        return ""
    if not character.isascii() and kind == "Ps":
        return "[" if unicodedata.normalize("NFKC", character) in "([{" else "<"
    if not character.isascii() and kind == "Pe":
        return "]"
    return {"«": "<", "‹": "<", "»": ">", "›": ">"}.get(character, character)  # noqa: RUF001 - they look like these


def _is_small(mark: str) -> bool:
    return len(mark) == 1 and mark.islower()


def _is_count(mark: str) -> bool:
    return re.fullmatch(_COUNT, mark) is not None or not any(map(str.isalpha, mark))


def _label(policy: Policy, mark: str, now: int) -> Label | None:
    if not any(begins_as_mark(policy, each) for each in (mark, mark.strip()[1:-1])):
        return None  # what no mark begins as is not worth the search for what it nearly is
    try:
        return parse_portion_mark(policy, mark, now)
    except LiaisonError:
        return None
