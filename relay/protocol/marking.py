"""Markings and portion marks, out of labels and back into labels.

Composing is in banner.py, reading in marking_reader.py. A portion mark needs both: the short form is used
only where it reads back as exactly the same label.
"""

from __future__ import annotations

from .banner import chosen_values, format_marking, known_rank, marking_color, qualifier, shown
from .label import Label, normalise
from .marking_reader import parse_marking, parse_portion_mark, reads_back
from .marking_words import portion_phrase
from .policy import Policy

__all__ = ["format_marking", "marking_color", "parse_marking", "parse_portion_mark", "portion_mark"]


def portion_mark(policy: Policy, label: Label) -> str:
    """The short form, without brackets, where it says exactly this label; else the full marking."""
    rank = known_rank(policy, label)
    short = portion_phrase(rank.marking) or dict(policy.extensions.portion_marks).get(rank.name)
    full = format_marking(policy, label)
    if short is None:
        return full
    words = [short]
    prefixes = dict(policy.extensions.portion_prefixes)
    for tag_set, tag, values in chosen_values(policy, label):
        names = [
            portion_phrase(value.marking) or value.name for value in values if shown(value.marking, value.name, ("",))
        ]
        if names:
            prefix = prefixes.get(tag_set.name, qualifier(tag.marking, "prefix", ("",)))
            joined = (qualifier(tag.marking, "separator", ("",)) or "/").join(names)
            words.append(prefix + joined + qualifier(tag.marking, "suffix", ("",)))
    mark = normalise(" ".join(words))
    return mark if reads_back(policy, mark, label) else full
