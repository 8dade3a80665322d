"""Every spelling that a policy gives to its parts, in every language, prepared for reading markings."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile

from .banner import qualifier, replacement, shown
from .label import fold
from .policy import Key, Policy
from .policy_elements import Marking, Tag, TagSet

Choice = tuple[str, Key, str]  # tag set name, (tag set oid, type), value name


@dataclass(frozen=True, slots=True)
class Segment:
    """One tag in a marking: what may stand before, between and after its values, and their spellings by first word."""

    tag: int
    prefixes: tuple[str, ...]
    separators: tuple[str, ...]
    suffixes: tuple[str, ...]
    spellings: Mapping[str, tuple[tuple[str, Choice], ...]]


@dataclass(frozen=True, slots=True)
class Head:
    """A spelling of the policy, or if `complete` of policy and classification together, and what it says."""

    text: str
    classification: str | None
    choice: Choice | None
    complete: bool = False


@dataclass(frozen=True, slots=True)
class Vocabulary:
    before: tuple[str, ...]
    between: tuple[str, ...]
    after: tuple[str, ...]
    heads: tuple[Head, ...]
    portion_heads: tuple[Head, ...]
    ranks: tuple[tuple[str, str], ...]
    segments: tuple[Segment, ...]


@lru_cache(maxsize=32)
def vocabulary(policy: Policy) -> Vocabulary:
    """Every spelling that the policy has for its name, classifications and categories, in every language."""
    heads = [Head(spelled(policy.name), None, None)]
    heads += [Head(text, None, None) for text in _replacements(policy.marking, policy.name)]
    ranks: dict[tuple[str, str], None] = {}
    marks = dict(policy.extensions.portion_marks)
    portion = []
    for rank in policy.classifications:
        complete = any(not shown(rank.marking, rank.name, (lang, "")) for lang in _languages(rank.marking))
        heads += [
            Head(text, rank.name, None, complete=each)
            for text in _replacements(rank.marking, rank.name)
            for each in {False, complete}
        ]
        for spelling in _spellings(rank.marking, rank.name):
            ranks[spelling, rank.name] = None
        shorts = [portion_phrase(rank.marking), marks.get(rank.name)]
        portion += [Head(spelled(short), rank.name, None, complete=True) for short in shorts if short is not None]
    segments: list[Segment] = []
    for tag_set in policy.tag_sets:
        for tag in tag_set.tags:
            for value in tag.values:
                choice = (tag_set.name, (tag_set.oid, tag.type), value.name)
                heads += [Head(text, None, choice) for text in _replacements(value.marking, value.name)]
            segments.append(_segment(policy, tag_set, tag, len(segments)))
    return Vocabulary(
        before=_qualifiers(policy.marking, "prefix"),
        between=tuple(sorted({*_qualifiers(policy.marking, "separator"), ""})),
        after=_qualifiers(policy.marking, "suffix"),
        heads=tuple(dict.fromkeys(heads)),
        portion_heads=tuple(dict.fromkeys(portion)),
        ranks=tuple(ranks),
        segments=tuple(segment for segment in segments if segment.spellings),
    )


def _segment(policy: Policy, tag_set: TagSet, tag: Tag, number: int) -> Segment:
    prefixes, suffixes = _qualifiers(tag.marking, "prefix"), _qualifiers(tag.marking, "suffix")
    short = dict(policy.extensions.portion_prefixes).get(tag_set.name)
    if short is not None and any(prefixes):
        prefixes = (*prefixes, spelled(short))
    spellings: dict[tuple[str, Choice], None] = {}
    for value in tag.values:
        choice = (tag_set.name, (tag_set.oid, tag.type), value.name)
        hidden = all(not shown(value.marking, value.name, (lang, "")) for lang in _languages(value.marking))
        if not hidden:
            spellings.update({(each, choice): None for each in _spellings(value.marking, value.name)})
        elif any(prefixes) or any(suffixes):
            spellings[spelled(value.name), choice] = None
    return Segment(
        tag=number,
        prefixes=prefixes,
        separators=tuple(sorted({*_qualifiers(tag.marking, "separator"), ",", "/"})),
        suffixes=suffixes,
        spellings=_by_first_word(spellings),
    )


def spelled(text: str) -> str:
    """The form in which markings are compared: folded, and one code point for a letter and its accents."""
    return unicodedata.normalize("NFC", fold(unicodedata.normalize("NFC", text)))


def first_word(text: str) -> str:
    """The letters and digits with which `text` begins, perhaps none: a spelling stands only where its own does."""
    return "".join(takewhile(str.isalnum, text))


def _by_first_word(spellings: Iterable[tuple[str, Choice]]) -> dict[str, tuple[tuple[str, Choice], ...]]:
    found: dict[str, list[tuple[str, Choice]]] = {}
    for spelling, choice in spellings:
        found.setdefault(first_word(spelling), []).append((spelling, choice))
    return {word: tuple(rows) for word, rows in found.items()}


def _languages(marking: Marking) -> tuple[str, ...]:
    """The default and its own: in every other language it shows what it shows by default."""
    phrases, qualifiers = (each.lang for each in marking.phrases), (each.lang for each in marking.qualifiers)
    return tuple(sorted({"", *phrases, *qualifiers}))


def _replacements(marking: Marking, name: str) -> list[str]:
    found = [replacement(marking, name, (lang,)) for lang in _languages(marking)]
    return [spelled(text) for text in dict.fromkeys(found) if text is not None]


def _spellings(marking: Marking, name: str) -> list[str]:
    """The name and every phrase that a banner may show for it, in every language."""
    texts = [name, *(shown(marking, name, (lang, "")) for lang in _languages(marking))]
    return [spelled(text) for text in dict.fromkeys(texts) if text]


def _qualifiers(marking: Marking, code: str) -> tuple[str, ...]:
    """What a banner may put there, in every language: nothing, where it has none and the default has none."""
    texts = {spelled(qualifier(marking, code, (lang, ""))) for lang in _languages(marking)}
    return tuple(sorted(texts))


def portion_phrase(marking: Marking) -> str | None:
    """The phrase for portions in the default language, or None."""
    texts = [phrase.text for phrase in marking.phrases if "portionMarking" in phrase.codes and not phrase.lang]
    return texts[0] if texts else None
