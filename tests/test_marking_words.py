"""What a policy sets around and between the words of its markings, in any language, is read back as it is written."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from policy_files import HERE, NOW, acme, label, meridian, tidewater
from relay.protocol.label import Category, Label
from relay.protocol.marking import format_marking, parse_marking, parse_portion_mark, portion_mark
from relay.protocol.policy import validate
from relay.protocol.policy_elements import Marking, Phrase, Qualifier
from relay.protocol.spif import read_spif
from test_marking import MERIDIAN_LABELS
from world import TEST_SPIF

AT_HAND = {
    "tidewater": tidewater,
    "acme": acme,
    "test": lambda: read_spif(TEST_SPIF)[0],
    "bench": lambda: read_spif((HERE.parent / "bench" / "policy.xml").read_bytes())[0],
}


def qualifiers(**texts):
    """Qualifiers from texts by language: prefix={"": "FOR ", "fr": "POUR "}."""
    return tuple(Qualifier(lang, code, text) for code, each in texts.items() for lang, text in each.items())


def qualified(policy, whole, tags):
    """`policy` with these qualifiers of its own, and these of its tags, in order."""
    rest = iter(tags)
    tag_sets = tuple(
        replace(
            tag_set,
            tags=tuple(replace(tag, marking=replace(tag.marking, qualifiers=next(rest))) for tag in tag_set.tags),
        )
        for tag_set in policy.tag_sets
    )
    return replace(policy, marking=replace(policy.marking, qualifiers=whole), tag_sets=tag_sets)


def in_languages(*texts):
    return st.dictionaries(st.sampled_from(["", "fr", "de"]), st.sampled_from(texts))


WHOLE = st.builds(
    qualifiers,
    prefix=in_languages("[ ", "*** ", "UNE "),
    separator=in_languages("//", " // ", "/", " - ", ",", " ET "),
    suffix=in_languages(" ]", " ***", ".", " FIN"),
)
TAG = st.builds(
    qualifiers,
    prefix=in_languages("FOR ", "POUR ", "REL:", "- "),
    separator=in_languages("/", "//", ", ", " & ", " ET ", ";"),
    suffix=in_languages(" ONLY", " SEULEMENT", "!"),
)


@settings(max_examples=200)
@given(MERIDIAN_LABELS, WHOLE, st.lists(TAG, min_size=3, max_size=3), st.sampled_from([None, "fr", "de", "fr-CA"]))
def test_a_label_survives_its_marking_whatever_its_policy_sets_between_the_words(one, whole, tags, lang):
    assume(validate(meridian(), one, NOW) == ())
    policy = qualified(meridian(), whole, tags)
    assert parse_marking(policy, format_marking(policy, one, lang), NOW) == one
    assert parse_portion_mark(policy, portion_mark(policy, one), NOW) == one


RELEASED = {"Release": ["ASTER", "BIRCH"], "Codeword": ["LOTUS"]}


TAGS = [tag_set.name for tag_set in meridian().tag_sets for _ in tag_set.tags]


@pytest.mark.parametrize("between", ["//", " // ", " "])
def test_a_policys_own_separator_is_read_and_so_is_a_blank(between):
    release = qualifiers(prefix={"": "REL TO "}, separator={"": "/"})
    tags = [release if name == "Release" else () for name in TAGS]
    policy = qualified(meridian(), qualifiers(separator={"": "//"}), tags)
    one = label(policy, "GUARDED", RELEASED)
    written = format_marking(policy, one)
    assert "//" in written
    assert parse_marking(policy, written.replace("//", between), NOW) == one


def test_a_prefix_of_one_language_is_left_out_in_the_others_and_read_in_all():
    policy = qualified(meridian(), (), [qualifiers(prefix={"fr": "POUR "}) for _ in TAGS])
    one = label(policy, "OPEN", RELEASED)
    for lang in (None, "fr"):
        assert parse_marking(policy, format_marking(policy, one, lang), NOW) == one


def test_a_name_in_decomposed_letters_is_read_in_either_form():
    policy = replace(meridian(), name=unicodedata.normalize("NFD", "MÉRIDIEN"), marking=Marking())
    one = label(policy, "OPEN")
    for form in ("NFC", "NFD"):
        assert parse_marking(policy, unicodedata.normalize(form, format_marking(policy, one)), NOW) == one


def test_a_phrase_for_policy_and_classification_together_needs_no_name_beside_it():
    phrase = Phrase("", "DEEPEST", frozenset({"pageTop", "replacePolicy", "noNameDisplay"}))
    ranks = [
        replace(each, marking=Marking((phrase,))) if each.name == "BURIED" else each
        for each in meridian().classifications
    ]
    policy = replace(meridian(), marking=Marking(), classifications=tuple(ranks))
    one = label(policy, "BURIED", {"Release": ["ASTER"]})
    assert format_marking(policy, one).startswith("DEEPEST FOR")
    assert parse_marking(policy, format_marking(policy, one), NOW) == one


@pytest.mark.parametrize("name", ["tidewater", "acme", "test", "bench"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.filter_too_much])
@given(st.data())
def test_every_valid_label_of_every_policy_at_hand_survives_its_marking(name, data):
    policy = AT_HAND[name]()
    chosen = {
        (tag_set.name, tag_set.oid, tag.type): data.draw(
            st.sets(st.sampled_from([each.name for each in tag.values]), max_size=3)
        )
        for tag_set in policy.tag_sets
        for tag in tag_set.tags
    }
    rank = data.draw(st.sampled_from([each.name for each in policy.classifications]))
    one = Label(policy.ref, rank, tuple(Category(*key, tuple(values)) for key, values in chosen.items() if values))
    assume(validate(policy, one, NOW) == ())
    assert parse_marking(policy, format_marking(policy, one, data.draw(st.sampled_from([None, "fr"]))), NOW) == one
    assert parse_portion_mark(policy, portion_mark(policy, one), NOW) == one
