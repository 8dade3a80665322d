"""Composing a marking: what a label looks like to people, as its policy says.

A marking is policy phrase, classification phrase, then each tag's prefix, values and suffix in the policy's
order: "NATO SECRET Releasable to Finland, Sweden".

The rules:
  - a language falls back to its main language, then to the policy's default, for each phrase by itself;
  - a phrase for the page comes before one for the document; phrases for other places are not for a banner;
  - replacePolicy puts its phrase in place of the policy's name: the policy's own, else the classification's,
    else the first value's;
  - noNameDisplay hides the name; what is neither shown nor named cannot be parsed back, except for what the
    policy's extensions say a marking leaves unsaid;
  - a label that the policy does not know has no marking: an error, never a shorter marking.

Sources: Open XML SPIF 2.1 (markingData, markingQualifier), ADatP-4774 Tables 17 and 18.
"""

from __future__ import annotations

from collections.abc import Iterator

from .errors import Malformed
from .label import Label, fold, normalise
from .policy import Policy
from .policy_elements import Classification, Marking, Phrase, Tag, TagSet, Value

PAGE = frozenset({"pageTop", "pageBottom", "pageTopBottom"})
DOCUMENT = frozenset({"documentStart", "documentEnd", "firstLineOfText", "lastLineOfText"})
_ELSEWHERE = frozenset({"subject", "xHeader", "portionMarking", "inputTitle", "waterMark"})


def format_marking(policy: Policy, label: Label, lang: str | None = None) -> str:
    """The marking of `label` in `lang` (a tag such as "fr-CA"). Raises Malformed for an unknown name."""
    rank = known_rank(policy, label)
    chosen = list(chosen_values(policy, label))
    chain = languages(lang)
    words = [_policy_phrase(policy, rank, [value for _, _, values in chosen for value in values], chain)]
    if not any(_suppresses(value.marking, chain) for _, _, values in chosen for value in values):
        words.append(shown(rank.marking, rank.name, chain))
    for _, tag, values in chosen:
        names = [name for name in (shown(value.marking, value.name, chain) for value in values) if name]
        if names:
            joined = (qualifier(tag.marking, "separator", chain) or "/").join(names)
            words.append(qualifier(tag.marking, "prefix", chain) + joined + qualifier(tag.marking, "suffix", chain))
    line = (qualifier(policy.marking, "separator", chain) or " ").join(words)
    return normalise(qualifier(policy.marking, "prefix", chain) + line + qualifier(policy.marking, "suffix", chain))


def marking_color(policy: Policy, label: Label) -> str | None:
    """The colour that the policy gives the classification: a W3C name or #rrggbb."""
    return known_rank(policy, label).color


def chosen_values(policy: Policy, label: Label) -> Iterator[tuple[TagSet, Tag, list[Value]]]:
    """The label's values in the policy's order, by tag. Raises Malformed for one the policy does not know."""
    wanted = {(each.tag_set_oid, each.type): {fold(name): name for name in each.values} for each in label.categories}
    for tag_set in policy.tag_sets:
        for tag in tag_set.tags:
            names = wanted.get((tag_set.oid, tag.type), {})
            values = [value for value in tag.values if names.pop(fold(value.name), None) is not None]
            if values:
                yield tag_set, tag, values
    for (oid, _), names in wanted.items():
        if names:
            raise Malformed(f"{policy.name} has no value {min(names.values())!r} of tag set {oid}")


def languages(lang: str | None) -> tuple[str, ...]:
    """Where to look for a phrase: the language, its main language, the default."""
    wanted = (lang or "").strip().lower().replace("_", "-")
    return tuple(dict.fromkeys((wanted, wanted.partition("-")[0], "")))


def shown(marking: Marking, name: str, chain: tuple[str, ...]) -> str:
    """What stands for `name` in a banner; empty if it is hidden."""
    for phrase in _phrases(marking, chain):
        if "replacePolicy" in phrase.codes:
            return "" if "noNameDisplay" in phrase.codes else name
        text = None if "noMarkingDisplay" in phrase.codes else phrase.text
        return text or ("" if "noNameDisplay" in phrase.codes else name)
    return name


def _phrases(marking: Marking, chain: tuple[str, ...]) -> Iterator[Phrase]:
    for lang in chain:
        mine = [phrase for phrase in marking.phrases if phrase.lang == lang]
        yield from (phrase for phrase in mine if phrase.codes & PAGE or not phrase.codes & (DOCUMENT | _ELSEWHERE))
        yield from (phrase for phrase in mine if phrase.codes & DOCUMENT and not phrase.codes & PAGE)


def qualifier(marking: Marking, code: str, chain: tuple[str, ...]) -> str:
    """The prefix, suffix or separator in the first language that has one; empty if none has."""
    for lang in chain:
        for each in marking.qualifiers:
            if each.lang == lang and each.code == code:
                return each.text
    return ""


def replacement(marking: Marking, name: str, chain: tuple[str, ...]) -> str | None:
    """What this puts in place of the policy's name, or None."""
    for lang in chain:
        for phrase in marking.phrases:
            if phrase.lang == lang and "replacePolicy" in phrase.codes:
                return phrase.text or name
    return None


def _policy_phrase(policy: Policy, rank: Classification, values: list[Value], chain: tuple[str, ...]) -> str:
    for marking, name in (
        (policy.marking, policy.name),
        (rank.marking, rank.name),
        *((value.marking, value.name) for value in values),
    ):
        phrase = replacement(marking, name, chain)
        if phrase is not None:
            return phrase
    return policy.name


def _suppresses(marking: Marking, chain: tuple[str, ...]) -> bool:
    return any("suppressClassName" in phrase.codes for phrase in _phrases(marking, chain))


def known_rank(policy: Policy, label: Label) -> Classification:
    rank = policy.classification(label.classification)
    if rank is None or label.policy.oid != policy.oid:
        raise Malformed(f"{policy.name} has no classification {label.classification!r} of {label.policy.name}")
    return rank
