"""Reading a marking back into a label.

The rules:
  - case, white space and language do not matter; values are read by name or by phrase;
  - all readings of the text are found, those that are not valid labels are dropped. If several remain, one
    that bounds all others is taken, else the text is ambiguous and refused;
  - what a marking leaves unsaid is supplied only where the policy's extensions say so (companions, owners),
    and a mandatory tag only by a value that would not have shown;
  - text that is not understood is refused with the place and the nearest known words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from difflib import get_close_matches

from .aggregate import dominates
from .banner import format_marking
from .errors import LiaisonError, Malformed
from .label import Category, Label, TagType, fold
from .marking_words import Choice, Head, Segment, Vocabulary, first_word, spelled, vocabulary
from .policy import Finding, Policy, static_findings, validate
from .policy_elements import TagSet

MAX_TEXT = 1000
MAX_STEPS = 20_000


@dataclass(slots=True)
class Cursor:
    """The text being read, how far any reading came, and how many steps it took."""

    text: str
    furthest: int = 0
    steps: int = 0

    def eat(self, position: int, literal: str) -> int | None:
        """The position behind `literal` and following blanks, or None if it does not stand there."""
        self.steps += 1
        if self.steps > MAX_STEPS:
            raise Malformed("marking: too many readings")
        end = position + len(literal)
        if not self.text.startswith(literal, position):
            return None
        if literal and literal[-1].isalnum() and self.text[end : end + 1].isalnum():
            return None
        while self.text[end : end + 1] == " ":
            end += 1
        self.furthest = max(self.furthest, end)
        return end

    def eat_any(self, position: int, literals: Iterable[str]) -> Iterator[int]:
        """Every position behind one of `literals`."""
        return (end for each in literals if (end := self.eat(position, each)) is not None)


@dataclass(frozen=True, slots=True)
class Reading:
    classification: str
    choices: frozenset[Choice] = field(default_factory=frozenset)


def parse_marking(
    policy: Policy, text: str, now: int, *, originator: str | None = None, created: int | None = None
) -> Label:
    """The label that `text` marks, valid at `now`. Raises Malformed with a hint."""
    return _parse(policy, text, now, (originator, created), portion=False)


def parse_portion_mark(
    policy: Policy, text: str, now: int, *, originator: str | None = None, created: int | None = None
) -> Label:
    """The label of a portion mark, with or without its brackets: the short form or a full marking."""
    bare = text.strip()
    if bare.startswith("(") and bare.endswith(")"):
        bare = bare[1:-1]
    return _parse(policy, bare, now, (originator, created), portion=True)


def begins_as_mark(policy: Policy, text: str) -> bool:
    """Whether `text` begins as a marking or portion mark of this policy does, whatever follows."""
    words, cursor = vocabulary(policy), Cursor(spelled(text))
    heads = [head.text for head in (*words.heads, *words.portion_heads)]
    return any(True for start in cursor.eat_any(0, words.before) for _ in cursor.eat_any(start, heads))


def reads_back(policy: Policy, mark: str, label: Label) -> bool:
    """Whether a portion mark says exactly this label's classification and categories."""
    try:
        labels = [_label(policy, reading) for reading in _readings(policy, mark, portion=True)]
    except LiaisonError:
        return False
    supplied = [each for one in labels for each in _supplied(policy, one)]
    found = _narrowest(policy, [each for each in supplied if not static_findings(policy, each)])
    return found is not None and (fold(found.classification), found.categories) == (
        fold(label.classification),
        label.categories,
    )


def _parse(policy: Policy, text: str, now: int, origin: tuple[str | None, int | None], *, portion: bool) -> Label:
    readings = _readings(policy, text, portion=portion)
    valid: list[Label] = []
    findings: tuple[Finding, ...] = ()
    for reading in readings:
        for candidate in _supplied(policy, _label(policy, reading)):
            problems = validate(policy, candidate, now)
            findings = findings or problems
            if not problems:
                valid.append(candidate)
    if not valid:
        why = "; ".join(finding.why for finding in findings)
        raise Malformed(f"marking {text!r:.200} is not a valid label of {policy.name}", hint=why)
    label = _narrowest(policy, valid)
    if label is None:
        markings = sorted({format_marking(policy, each) for each in valid})
        raise Malformed(f"marking {text!r:.200} is ambiguous", hint=f"it could be: {' | '.join(markings[:4])}")
    originator, created = origin
    return Label(label.policy, label.classification, label.categories, originator=originator, created=created)


def _narrowest(policy: Policy, labels: Iterable[Label]) -> Label | None:
    distinct = list(dict.fromkeys(labels))
    for label in distinct:
        if all(dominates(policy, label, other) for other in distinct):
            others = [each for each in distinct if each is not label and dominates(policy, each, label)]
            return None if others else label
    return None


def _readings(policy: Policy, text: str, *, portion: bool) -> list[Reading]:
    folded = spelled(text)
    if not folded or len(folded) > MAX_TEXT:
        raise Malformed("marking: empty or too long")
    words = vocabulary(policy)
    cursor = Cursor(folded)
    found = list(dict.fromkeys(_read(words, cursor, portion=portion)))
    if not found:
        raise _not_understood(policy, words, cursor)
    return found


def _not_understood(policy: Policy, words: Vocabulary, cursor: Cursor) -> Malformed:
    rest = cursor.text[cursor.furthest :]
    if not rest:
        return Malformed(f"marking {cursor.text!r:.200} ends too early", hint="a classification or a value is missing")
    known = sorted(set(_literals(words)))
    near = [
        *get_close_matches(rest.split(",")[0].split("/")[0].strip(), known, n=3, cutoff=0.6),
        *get_close_matches(rest.split()[0], known, n=3, cutoff=0.6),
    ]
    hint = f"near: {', '.join(dict.fromkeys(near))}" if near and cursor.furthest else ""
    hint = hint or f"a marking of this policy begins with {' or '.join(_beginnings(words))}"
    return Malformed(f"marking {cursor.text!r:.200}: {rest!r:.80} is not understood by {policy.name}", hint=hint)


def _beginnings(words: Vocabulary) -> list[str]:
    return list(dict.fromkeys(head.text.upper() for head in words.heads))[:3]


def _literals(words: Vocabulary) -> Iterator[str]:
    yield from (head.text for head in words.heads)
    yield from (spelling for spelling, _ in words.ranks)
    for segment in words.segments:
        yield from (spelling for rows in segment.spellings.values() for spelling, _ in rows)
        yield from (each for each in segment.prefixes if each)


def _read(words: Vocabulary, cursor: Cursor, *, portion: bool) -> Iterator[Reading]:
    for head in (*words.heads, *(words.portion_heads if portion else ())):
        for start in cursor.eat_any(0, words.before):
            for after in cursor.eat_any(start, (head.text,)):
                for position, rank in _read_rank(words, cursor, after, head):
                    said = Reading(rank, frozenset({head.choice} if head.choice else ()))
                    yield from _read_tags(words, cursor, position, 0, said)


def _read_rank(words: Vocabulary, cursor: Cursor, position: int, head: Head) -> Iterator[tuple[int, str]]:
    """The classification that stands behind `head`, or that it says itself, and where it ends."""
    if head.complete and head.classification is not None:
        yield position, head.classification
        return
    for start in cursor.eat_any(position, words.between):
        for spelling, name in words.ranks:
            if head.classification in {None, name}:
                yield from ((end, name) for end in cursor.eat_any(start, (spelling,)))


def _read_tags(words: Vocabulary, cursor: Cursor, position: int, used: int, reading: Reading) -> Iterator[Reading]:
    if len(cursor.text) in cursor.eat_any(position, words.after):
        yield reading
    for start in cursor.eat_any(position, words.between):
        for segment in words.segments:
            if used & (1 << segment.tag):
                continue
            for inside in cursor.eat_any(start, segment.prefixes):
                for after, choices in _read_values(segment, cursor, inside):
                    further = Reading(reading.classification, reading.choices | choices)
                    yield from _read_tags(words, cursor, after, used | (1 << segment.tag), further)


def _read_values(segment: Segment, cursor: Cursor, position: int) -> Iterator[tuple[int, frozenset[Choice]]]:
    """Every list of values that stands at `position`: where it ends, and what it says."""
    begun: list[tuple[int, frozenset[Choice]]] = [(position, frozenset())]
    while begun:
        position, chosen = begun.pop()
        for spelling, choice in segment.spellings.get(first_word(cursor.text[position:]), ()):
            after = cursor.eat(position, spelling)
            if after is None:
                continue
            choices = chosen | {choice}
            yield from ((end, choices) for end in cursor.eat_any(after, segment.suffixes))
            following = cursor.eat_any(after, segment.separators)
            begun += [(start, choices) for start in following if start < len(cursor.text)]


def _label(policy: Policy, reading: Reading) -> Label:
    chosen: dict[tuple[str, str, TagType], set[str]] = {}
    for name, (oid, kind), value in reading.choices:
        chosen.setdefault((name, oid, kind), set()).add(value)
    categories = tuple(Category(*key, tuple(values)) for key, values in chosen.items())
    return Label(policy.ref, reading.classification, categories)


def _supplied(policy: Policy, label: Label) -> Iterator[Label]:
    """`label` with what the marking leaves unsaid, in every way that leaves the marking as it is."""
    labels = [label]
    for name in policy.extensions.mandatory:
        tag_set = policy.tag_set(name)
        if tag_set is not None and all(each.tag_set_oid != tag_set.oid for each in label.categories):
            same = format_marking(policy, label)
            options = [_with(each, tag_set, value) for each in labels for value in _value_names(tag_set)]
            labels = [each for each in options if format_marking(policy, each) == same]
    for each in labels:
        yield _with_companions(policy, each)


def _with_companions(policy: Policy, label: Label) -> Label:
    for pair in policy.extensions.companions:
        partner = policy.tag_set(pair.partner_set)
        if partner is not None and _holds(label, pair.tag_set, None):
            label = _with(label, partner, pair.partner_value)
    for owner in policy.extensions.owners:
        tag_set = policy.tag_set(owner.tag_set)
        released = tag_set is not None and _holds(label, owner.tag_set, None)
        if tag_set is not None and released and _holds(label, owner.owner_set, owner.owner_value):
            label = _with(label, tag_set, owner.value)
    return label


def _holds(label: Label, tag_set: str, value: str | None) -> bool:
    return any(
        fold(each.tag_name) == fold(tag_set) and (value is None or fold(value) in {fold(name) for name in each.values})
        for each in label.categories
    )


def _value_names(tag_set: TagSet) -> list[str]:
    return [value.name for tag in tag_set.tags for value in tag.values]


def _with(label: Label, tag_set: TagSet, value: str) -> Label:
    named = ((tag, each.name) for tag in tag_set.tags for each in tag.values if fold(each.name) == fold(value))
    tag, name = next(named, (None, ""))
    if tag is None:
        raise Malformed(f"{tag_set.name} has no value {value!r}")
    rest, values = [], {name}
    for each in label.categories:
        if (each.tag_set_oid, each.type) == (tag_set.oid, tag.type):
            values |= set(each.values)
        else:
            rest.append(each)
    added = Category(tag_set.name, tag_set.oid, tag.type, tuple(values))
    return Label(label.policy, label.classification, (*rest, added))
