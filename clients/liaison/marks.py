"""Portion marks in a body: which lines open a portion, and which only look as if they did.

The rules:
  - a mark is one of the policy's in round brackets at the start of a line. Before it stand only blanks, what cannot
    be seen, and a list's bullet, number or letter, which stay with the text;
  - in that place a mark in other brackets or behind other signs, capitals in round brackets that are no mark, and a
    mark of one small letter, which may be a list's, are refused: a mistyped mark must not leave its paragraph
    under the lower label of the one before;
  - in a body with marks so is any bracket of up to eight words, and a longer one that begins as a mark does;
  - a list's number or letter is text, as is every other bracket.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from relay.protocol.errors import LiaisonError, Malformed
from relay.protocol.label import Label
from relay.protocol.marking_reader import MAX_TEXT, begins_as_mark, parse_portion_mark
from relay.protocol.policy import Policy

FEW = 8  # words
_OPEN, _CLOSE = r"(\[{（［｛", r")\]}）］｝"  # noqa: RUF001 - the full-width ones look the same
_COUNT = r"\d{1,3}|[a-z]|[ivx]{1,5}"
_ITEM = rf"\((?:{_COUNT})\)|\d{{1,3}}(?:\.\d{{1,3}})*[.):]?|(?:[A-Za-z]|[ivx]{{1,5}}|[IVX]{{1,5}})[.):]"
_SIGNS = rf"[^\w{_OPEN}{_CLOSE}]*(?:_[^\w{_OPEN}{_CLOSE}]*)*"
_LIST = re.compile(rf"(?:[-*+•‣◦▪●○–—·]+\s*)?(?:(?:{_ITEM})\s*)?")  # noqa: RUF001 - dashes are bullets
_BRACKET = re.compile(
    rf"(?P<before>{_SIGNS}(?:(?:{_ITEM}){_SIGNS})?)"
    rf"(?P<open>[{_OPEN}])(?P<mark>(?:[^{_OPEN}{_CLOSE}]|\([^()]*\)){{1,{MAX_TEXT}}})(?P<close>[{_CLOSE}])"
    r"[ \t]*(?P<text>.*)",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class _Bracket:
    """A bracket in a mark's place. Without a label it is refused: `always`, or only in a body with marks."""

    shown: str
    text: str
    label: Label | None
    always: bool


def paragraphs(policy: Policy, body: str, banner: Label, now: int) -> Iterator[tuple[Label, str]]:
    """The body cut at its portion marks; text before the first one carries the banner's label. Raises Malformed."""
    lines = body.splitlines(keepends=True)
    brackets = {place: found for place, line in enumerate(lines) if (found := _bracket(policy, line, now)) is not None}
    marked = any(each.label is not None for each in brackets.values())
    label, kept = banner, list[str]()
    for place, line in enumerate(lines):
        found = brackets.get(place)
        if found is not None and found.label is not None:
            if "".join(kept).strip() or label is banner:
                yield label, "".join(kept)
            label, kept = found.label, [found.text]
        elif found is not None and (marked or found.always):
            hint = "a mark stands first in its line, in capitals, as the policy has it; put a word before what is none"
            raise Malformed(f"line {place + 1}: {found.shown:.200} is not a portion mark of {policy.name}", hint=hint)
        else:
            kept.append(line)
    yield label, "".join(kept)


def _bracket(policy: Policy, line: str, now: int) -> _Bracket | None:
    """None for a line that neither opens a portion nor is in doubt."""
    match = _BRACKET.match(line)
    if match is None:
        return None
    mark, label = match["mark"], _label(policy, match["mark"], now)
    before = "".join(each for each in match["before"] if unicodedata.category(each) != "Cf").lstrip()
    in_place = match["open"] + match["close"] == "()" and _LIST.fullmatch(before) is not None
    shown = before + match["open"] + mark + match["close"]
    if label is not None:
        opens = in_place and not (len(mark) == 1 and mark.islower())
        return _Bracket(shown, before + match["text"], label if opens else None, always=True)
    if re.fullmatch(_COUNT, mark) or not any(map(str.isalpha, mark)):
        return None
    always = in_place and mark == mark.upper()
    in_doubt = always or len(mark.split()) <= FEW or begins_as_mark(policy, mark)
    return _Bracket(shown, line, None, always) if in_doubt else None


def _label(policy: Policy, mark: str, now: int) -> Label | None:
    try:
        return parse_portion_mark(policy, mark, now)
    except LiaisonError:
        return None
