"""Markings: composed as the policy says, and read back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from policy_files import NOW, acme, label, meridian, nato
from relay.protocol.errors import Malformed
from relay.protocol.label import Label, TagType
from relay.protocol.marking import (
    format_marking,
    marking_color,
    parse_marking,
    parse_portion_mark,
    portion_mark,
)
from relay.protocol.marking_reader import _with
from relay.protocol.policy import validate

RELEASED = {"Context": ["NATO", "Releasable"]}

# The markings that ADatP-4774 Tables 17 and 18 give, as far as the public policy file can compose them.
TABLE_17 = [
    (
        "UNCLASSIFIED",
        {**RELEASED, "Releasable To": ["NATO", "ISAF", "KFOR", "RESOLUTE SUPPORT"]},
        "NATO UNCLASSIFIED Releasable to ISAF, KFOR, RESOLUTE SUPPORT",
        "NATO SANS CLASSIFICATION Communicable a ISAF, KFOR, RESOLUTE SUPPORT",
    ),
    ("UNCLASSIFIED", {"Context": ["NATO"]}, "NATO UNCLASSIFIED", "NATO SANS CLASSIFICATION"),
    (
        "UNCLASSIFIED",
        {"Context": ["NATO"], "Administrative": ["STAFF"]},
        "NATO UNCLASSIFIED - STAFF",
        "NATO SANS CLASSIFICATION - STAFF",
    ),
    (
        "RESTRICTED",
        {**RELEASED, "Releasable To": ["NATO", "JPN", "CHE", "UKR"]},
        "NATO RESTRICTED Releasable to Japan, Switzerland, Ukraine",
        "NATO DIFFUSION RESTREINTE Communicable a Japon, Suisse, Ukraine",
    ),
    (
        "CONFIDENTIAL",
        {"Context": ["KFOR"], "Only": ["NATO", "IRL", "SWE", "UKR"]},
        "NATO/KFOR CONFIDENTIAL Ireland, Sweden, Ukraine, NATO ONLY",
        "NATO/KFOR CONFIDENTIEL Irlande, Suède, Ukraine, NATO SEULEMENT",
    ),
    ("TOP SECRET", {"Context": ["NATO"]}, "COSMIC TOP SECRET", "COSMIC TRES SECRET"),
    (
        "TOP SECRET",
        {"Context": ["NATO"], "Additional Sensitivity": ["BOHEMIA", "ATOMAL"]},
        "COSMIC TOP SECRET ATOMAL BOHEMIA",
        "COSMIC TRES SECRET ATOMAL BOHEMIA",
    ),
]


@pytest.mark.parametrize(("rank", "chosen", "english", "french"), TABLE_17, ids=[row[2] for row in TABLE_17])
def test_nato_markings_are_those_of_the_standard_and_read_back(rank, chosen, english, french):
    one = label(nato(), rank, chosen)
    assert validate(nato(), one, NOW) == ()
    assert format_marking(nato(), one) == english
    assert format_marking(nato(), one, "en-GB") == english
    assert format_marking(nato(), one, "fr-CA") == french
    assert parse_marking(nato(), english, NOW) == one
    assert parse_marking(nato(), french, NOW) == one
    assert parse_marking(nato(), f"  {english.lower().replace(' ', '   ')} ", NOW) == one


def test_a_marking_that_names_every_nation_is_read_back():
    def released_to(*nations):
        return label(nato(), "RESTRICTED", {"Context": ["NATO", "Releasable"], "Releasable To": ["NATO", *nations]})

    (tag,) = nato().tag_set("Releasable To").tags
    nations = [each.name for each in tag.values if each.name != "NATO"]
    one = released_to(*(each for each in nations if not validate(nato(), released_to(each), NOW)))
    assert max(len(each.values) for each in one.categories) > 70
    assert parse_marking(nato(), format_marking(nato(), one), NOW) == one


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("NATO SECRET RELEASABLE TO SWE", "NATO SECRET Releasable to Sweden"),
        ("nato secret releasable to fin / Sweden", "NATO SECRET Releasable to Finland, Sweden"),
        ("NATO SECRET RELEASABLE TO NATO, SWE", "NATO SECRET Releasable to Sweden"),
        ("NATO SECRET Communicable a Suède", "NATO SECRET Releasable to Sweden"),
        ("NATO SECRET Releasable to SWE ATOMAL", "NATO SECRET ATOMAL Releasable to Sweden"),
    ],
)
def test_people_may_write_names_and_phrases_in_any_language_and_order(text, same):
    assert format_marking(nato(), parse_marking(nato(), text, NOW)) == same


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", ""),
        ("SECRET", "begins with"),
        ("NATO", "missing"),
        ("EU SECRET", "begins with"),
        ("NATO SECRETS", "secret"),
        ("NATO SECRET RELEASABLE TO SWEE", "swe"),
        ("NATO SECRET RELEASABLE TO", ""),
        ("NATO SECRET RELEASABLE TO SWE,", ""),
        ("NATO SECRET SWE", ""),
        ("NATO SECRET RELEASABLE TO SWE RELEASABLE TO FIN", ""),
        ("NATO SECRET NATO SECRET", ""),
        ("NATO SECRET KFOR", ""),
        ("NATO UNCLASSIFIED ATOMAL", "excluded at UNCLASSIFIED"),
        ("NATO SECRET RELEASABLE TO ISAF", "excluded at SECRET"),
        ("NATO/UKRAINE SECRET", "obsolete"),
        ("COSMIC SECRET", ""),
        ("NATO SECRET\x00", ""),
        ("NATO SECRET " + "ATOMAL " * 500, ""),
    ],
)
def test_what_is_not_a_valid_marking_is_refused_with_a_hint(text, hint):
    with pytest.raises(Malformed) as caught:
        parse_marking(nato(), text, NOW)
    assert hint in caught.value.hint


def test_a_label_from_a_marking_carries_the_originator_and_time_it_was_given():
    one = parse_marking(nato(), "NATO SECRET", NOW, originator="anna@lo-a", created=NOW)
    assert (one.originator, one.created, one.policy) == ("anna@lo-a", NOW, nato().ref)


def test_the_acme_policy_marks_as_it_is_written():
    one = label(acme(), "CONFIDENTIAL", {"Releasable To": ["PHONY", "MOCK"]})
    assert format_marking(acme(), one) == "ACME CONFIDENTIAL REL TO MOCK,PHONY"
    assert format_marking(acme(), one, "fr") == "ACME CONFIDENTIEL REL TO MOQUER,FAUX"
    assert parse_marking(acme(), "ACME confidentiel REL TO faux, moquer", NOW) == one
    with pytest.raises(Malformed) as caught:
        parse_marking(acme(), "ACME CONFIDENTIAL", NOW)
    assert "Releasable To" in caught.value.hint


@pytest.mark.parametrize(
    ("mark", "full"),
    [
        ("NU", "NATO UNCLASSIFIED"),
        ("NS", "NATO SECRET"),
        ("CTS ATOMAL", "COSMIC TOP SECRET ATOMAL"),
        ("NR REL SWE", "NATO RESTRICTED Releasable to Sweden"),
        ("NC REL FIN, SWE", "NATO CONFIDENTIAL Releasable to Finland, Sweden"),
    ],
)
def test_a_portion_mark_is_short_and_says_the_same(mark, full):
    one = parse_portion_mark(nato(), f"({mark})", NOW)
    assert format_marking(nato(), one) == full
    assert portion_mark(nato(), one) == mark
    assert parse_portion_mark(nato(), full, NOW) == one


def test_where_the_short_form_would_say_less_the_portion_carries_the_full_marking():
    kfor = label(nato(), "SECRET", {"Context": ["KFOR"]})
    assert portion_mark(nato(), kfor) == "NATO/KFOR SECRET"
    narrow = label(nato(), "SECRET", {**RELEASED, "Releasable To": ["SWE"]})
    assert portion_mark(nato(), narrow) == "NATO SECRET Releasable to Sweden"


def test_a_short_form_is_for_portions_only():
    with pytest.raises(Malformed):
        parse_marking(nato(), "NS", NOW)


def test_the_policys_own_portion_marks_are_used():
    one = label(meridian(), "GUARDED", {"Release": ["ASTER"]})
    assert portion_mark(meridian(), one) == "G FOR ASTER"
    assert parse_portion_mark(meridian(), "(g for aster)", NOW) == one
    assert format_marking(meridian(), one) == "MERIDIAN GUARDED FOR Aster"
    assert format_marking(meridian(), one, "fr") == "MERIDIAN GARDÉ POUR Aster"
    assert portion_mark(acme(), label(acme(), "PUBLIC")) == "ACME PUBLIC"


def test_the_colour_is_the_policys():
    assert marking_color(meridian(), label(meridian(), "OPEN")) == "green"
    assert marking_color(nato(), label(nato(), "SECRET")) is None


def test_a_label_that_the_policy_does_not_know_has_no_marking():
    policy = meridian()
    for bad in (
        label(policy, "HIDDEN"),
        label(policy, "OPEN", {"Codeword": ["LOTUS", "NOWHERE"]}),
        Label(replace(policy.ref, oid="2.999.8"), "OPEN"),
    ):
        with pytest.raises(Malformed):
            format_marking(policy, bad)


def with_a_desk_named_lotus(kind):
    """MERIDIAN with the codeword LOTUS and a desk LOTUS, neither with a prefix to tell them apart."""
    policy = meridian()
    desk = policy.tag_set("Desk")
    (tag,) = desk.tags
    values = tuple(replace(each, name="LOTUS") if each.name == "FLORAL" else each for each in tag.values)
    bare = replace(tag, type=kind, values=values, marking=replace(tag.marking, qualifiers=()))
    twin = replace(desk, tags=(bare,))
    return replace(policy, tag_sets=tuple(twin if each is desk else each for each in policy.tag_sets))


def test_of_two_readings_the_one_that_bounds_the_other_is_taken():
    one = parse_marking(with_a_desk_named_lotus(TagType.INFORMATIVE), "MERIDIAN OPEN LOTUS", NOW)
    assert [category.tag_name for category in one.categories] == ["Codeword"]


def test_two_readings_without_a_bound_are_refused():
    with pytest.raises(Malformed, match="ambiguous"):
        parse_marking(with_a_desk_named_lotus(TagType.RESTRICTIVE), "MERIDIAN OPEN LOTUS", NOW)


MERIDIAN_LABELS = st.builds(
    lambda rank, release, codewords, desk: label(
        meridian(),
        rank,
        {
            name: sorted(values)
            for name, values in (("Release", release), ("Codeword", codewords), ("Desk", desk))
            if values
        },
    ),
    st.sampled_from(["OPEN", "GUARDED", "BURIED"]),
    st.sets(st.sampled_from(["ASTER", "BIRCH", "DAHLIA", "GARDEN"])),
    st.sets(st.sampled_from(["IRIS", "JADE", "KALE", "LOTUS"]), max_size=2),
    st.sets(st.sampled_from(["POSTAL", "FLORAL"]), max_size=1),
)


@settings(max_examples=150)
@given(MERIDIAN_LABELS, st.sampled_from([None, "fr", "de"]))
def test_every_valid_label_of_a_policy_that_hides_nothing_survives_its_marking(one, lang):
    policy = meridian()
    assume(validate(policy, one, NOW) == ())
    assert parse_marking(policy, format_marking(policy, one, lang), NOW) == one
    assert parse_portion_mark(policy, portion_mark(policy, one), NOW) == one


@settings(max_examples=60)
@given(st.data())
def test_every_nato_label_as_table_17_writes_them_survives_its_marking(data):
    policy = nato()
    rank = data.draw(st.sampled_from(["UNCLASSIFIED", "RESTRICTED", "CONFIDENTIAL", "SECRET", "TOP SECRET"]))
    chosen = {"Context": ["NATO"]}
    codewords = data.draw(st.sets(st.sampled_from(["ATOMAL", "CRYPTO", "SIOP", "BOHEMIA"])))
    if codewords:
        chosen["Additional Sensitivity"] = sorted(codewords)
    nations = [value.name for value in policy.tag_set("Releasable To").tags[0].values]
    released = data.draw(st.sets(st.sampled_from(nations), max_size=6))
    if released - {"NATO"}:
        chosen |= {"Context": ["NATO", "Releasable"], "Releasable To": sorted(released | {"NATO"})}
    one = label(policy, rank, chosen)
    assume(validate(policy, one, NOW) == ())
    lang = data.draw(st.sampled_from([None, "fr"]))
    assert parse_marking(policy, format_marking(policy, one, lang), NOW) == one
    assert parse_portion_mark(policy, portion_mark(policy, one), NOW) == one


@settings(max_examples=200)
@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text):
    for read in (parse_marking, parse_portion_mark):
        try:
            assert validate(meridian(), read(meridian(), "MERIDIAN " + text, NOW), NOW) == ()
        except Malformed:
            continue


def test_a_value_that_a_tag_set_does_not_have_completes_no_marking():
    policy = meridian()
    with pytest.raises(Malformed, match="Codeword has no value 'IRISS'"):
        _with(label(policy, "GUARDED"), policy.tag_set("Codeword"), "IRISS")
