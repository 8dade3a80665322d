"""Joins of several labels: what they keep, leave out and refuse; domination; successors."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_files import (
    MERIDIAN,
    NEED,
    NOW,
    acme,
    chosen,
    clearance,
    edited,
    label,
    may_read,
    meridian,
    nato,
    tidewater,
)
from relay.protocol.aggregate import NOBODY, dominates, effective_label, join
from relay.protocol.decision import Action, Sharing, decide
from relay.protocol.errors import Malformed, Refused
from relay.protocol.label import Category, Label, Succession, TagType
from relay.protocol.obligations import is_always_at_least
from relay.protocol.policy import validate

meridian_rows = st.tuples(
    st.sampled_from(["OPEN", "GUARDED", "BURIED"]), st.sets(st.sampled_from(["ASTER", "BIRCH", "GARDEN", "CEDAR"]))
)


@given(st.lists(meridian_rows, min_size=1, max_size=3), st.sets(st.sampled_from(["ASTER", "BIRCH", "GARDEN"])))
def test_groups_and_their_members_join_without_widening(several, held):
    policy = meridian()
    labels = [label(policy, rank, chosen(Release=sorted(release))) for rank, release in several]
    grant = clearance(policy, ["OPEN", "GUARDED", "OLDEN", "BURIED"], chosen(Release=sorted(held)))
    joined = join(policy, labels)
    assert joined is NOBODY or all(dominates(policy, joined, one) for one in labels)
    if joined is not NOBODY and may_read(policy, joined, grant):
        assert all(may_read(policy, one, grant) for one in labels)


def test_a_group_and_its_member_have_the_member_in_common():
    policy = meridian()
    wide, narrow = (label(policy, "GUARDED", {"Release": [name]}) for name in ("GARDEN", "ASTER"))
    assert join(policy, [wide, narrow]) == narrow
    assert join(policy, [wide, wide]) == wide
    assert dominates(policy, narrow, wide)
    assert not dominates(policy, wide, narrow)


def test_releases_without_a_common_reader_join_to_nobody():
    policy = acme()
    mock, phony = (label(policy, "CONFIDENTIAL", {"Releasable To": [name]}) for name in ("MOCK", "PHONY"))
    assert join(policy, [mock, phony]) is NOBODY


def kept_home(policy, name):
    return replace(policy, extensions=replace(policy.extensions, absent=((name, "owner_only"),)))


def test_a_label_that_stays_in_its_owners_office_keeps_there_what_it_is_joined_with():
    policy = kept_home(meridian(), "Release")
    home, aster, birch = (label(policy, "GUARDED", chosen(Release=release)) for release in ([], ["ASTER"], ["BIRCH"]))
    for labels in ([home, aster], [aster, home], [aster, birch], [home, aster, birch]):
        assert join(policy, labels) == home
    assert join(policy, [aster, aster]) == aster
    assert dominates(policy, home, aster)
    assert not dominates(policy, aster, home)


@given(st.lists(meridian_rows, min_size=1, max_size=3), st.sets(st.sampled_from(["ASTER", "BIRCH", "GARDEN"])))
def test_nobody_outside_the_office_may_read_a_join_who_may_not_read_all_that_went_in(several, held):
    policy = kept_home(meridian(), "Release")
    labels = [label(policy, rank, chosen(Release=sorted(release))) for rank, release in several]
    ranks = ["OPEN", "GUARDED", "OLDEN", "BURIED"]
    grant = clearance(policy, ranks, chosen(Release=sorted(held)))
    values = chosen(Release=["ASTER", "BIRCH", "GARDEN", "CEDAR"])
    outside = Sharing("ag", "MERIDIAN", "2.999.1", tuple(ranks), label(policy, "OPEN", values).categories, 0, NOW, True)

    def may_read(one):
        return "permissive" not in decide(Action.READ, one, grant, outside, NEED, policy, NOW).failing

    joined = join(policy, labels)
    assert all(dominates(policy, joined, one) and (may_read(one) or not may_read(joined)) for one in labels)


def test_informative_values_that_cannot_stand_together_are_left_out_of_a_join():
    policy = meridian()
    postal, floral = (label(policy, "OPEN", {"Desk": [name]}) for name in ("POSTAL", "FLORAL"))
    assert join(policy, [postal, postal]) == postal
    assert join(policy, [postal, floral]) == label(policy, "OPEN")
    assert is_always_at_least(policy, label(policy, "OPEN"), [postal, floral], [NOW], NOW)
    iris = label(policy, "GUARDED", {"Release": ["ASTER"], "Codeword": ["IRIS"]})
    assert join(policy, [postal, floral, iris]) == iris
    barred = [label(policy, "BURIED", {"Codeword": [name]}) for name in ("IRIS", "JADE")]
    assert join(policy, barred) == label(policy, "BURIED", {"Codeword": ["IRIS", "JADE"]})


def test_an_informative_value_that_the_policy_demands_stays_in_a_join():
    policy = replace(meridian(), extensions=replace(meridian().extensions, mandatory=("Desk",)))
    postal, iris = (
        label(policy, rank, chosen(Desk=["POSTAL"], **more))
        for rank, more in (("OPEN", {}), ("GUARDED", {"Release": ["ASTER"], "Codeword": ["IRIS"]}))
    )
    assert join(policy, [postal, iris]) == iris


CODEWORDS_IN_RELEASE = """<spif:securityCategoryTagSet name="Release" id="2.999.1.1">
<spif:securityCategoryTag name="Within" tagType="restrictive"><spif:tagCategory name="INNER" lacv="1"/>
</spif:securityCategoryTag>"""


def test_a_codeword_in_the_tag_set_of_a_release_is_no_release():
    policy = kept_home(edited(MERIDIAN, CODEWORDS_IN_RELEASE.split("\n", 1)[0], CODEWORDS_IN_RELEASE), "Release")
    inner = Category("Release", "2.999.1.1", TagType.RESTRICTIVE, ("INNER",))
    aster = Category("Release", "2.999.1.1", TagType.PERMISSIVE, ("ASTER",))
    bare, coded, gone = (Label(policy.ref, "OPEN", each) for each in ((), (inner,), (inner, aster)))
    grant = replace(clearance(policy, ["OPEN"]), categories=(inner, aster))
    outside = Sharing("ag", "MERIDIAN", "2.999.1", ("OPEN",), (inner,), 0, NOW, True)
    for one, failing in ((bare, ("permissive",)), (coded, ("permissive",)), (gone, ())):
        assert decide(Action.READ, one, grant, outside, NEED, policy, NOW).failing == failing
    assert join(policy, [bare, coded]) == join(policy, [coded, gone]) == coded
    assert dominates(policy, coded, gone)
    assert not dominates(policy, gone, coded)
    needed = replace(policy, extensions=replace(policy.extensions, absent=(("Release", "invalid"),)))
    assert [bool(validate(needed, one, NOW)) for one in (bare, coded, gone)] == [True, True, False]


def test_an_owners_release_stays_said_where_to_leave_it_out_would_narrow_it():
    one = label(nato(), "SECRET", {"Context": ["NATO"], "Releasable To": ["NATO", "SWE"]})
    (joined,) = join(nato(), [one]).categories
    assert joined.tag_name == "Context"
    assert join(kept_home(nato(), "Releasable To"), [one]) == one


def test_an_unlimited_label_does_not_lift_anothers_release():
    policy = acme()
    limited = label(policy, "CONFIDENTIAL", {"Releasable To": ["MOCK"]})
    joined = join(policy, [limited, label(policy, "PUBLIC")])
    assert joined.categories == limited.categories


def test_a_nato_message_with_a_released_portion_is_nato_as_a_whole():
    whole = label(nato(), "SECRET", {"Context": ["NATO"]})
    released = label(nato(), "RESTRICTED", {"Context": ["NATO", "Releasable"], "Releasable To": ["NATO", "SWE"]})
    assert join(nato(), [whole, released]) == whole
    assert dominates(nato(), whole, released)
    assert not dominates(nato(), released, whole)
    higher = replace(released, classification="TOP SECRET")
    assert not dominates(nato(), higher, whole)


def test_a_codeword_of_a_portion_must_be_in_the_banner():
    bare, marked = (
        label(nato(), "SECRET", {"Context": ["NATO"], **more}) for more in ({}, {"Additional Sensitivity": ["ATOMAL"]})
    )
    assert not dominates(nato(), bare, marked)
    assert dominates(nato(), marked, bare)


def test_a_join_takes_one_label_or_more_all_of_one_policy_and_known():
    policy = meridian()
    for labels, error in (
        ([], Malformed),
        ([label(policy, "HIDDEN")], Malformed),
        ([label(policy, "OPEN", {"Codeword": ["NOWHERE"]})], Malformed),
        ([label(policy, "OPEN"), label(tidewater(), "SHORE")], Refused),
    ):
        with pytest.raises(error):
            join(policy, labels)
    assert not dominates(policy, label(policy, "OPEN"), label(tidewater(), "SHORE"))
    assert not dominates(policy, label(policy, "OPEN"), label(policy, "HIDDEN"))
    stranger = replace(label(policy, "OPEN"), policy=replace(policy.ref, oid="2.999.8"))
    assert not dominates(policy, label(policy, "OPEN"), stranger)
    assert not dominates(policy, stranger, label(policy, "OPEN"))


def test_a_successor_counts_from_its_time_on():
    policy = meridian()
    last = label(policy, "OPEN")
    middle = label(policy, "GUARDED", {"Release": ["ASTER"]}, succession=Succession(20, last))
    first = label(policy, "BURIED", review=5, succession=Succession(10, middle))
    assert [effective_label(first, now).classification for now in (0, 9, 10, 19, 20)] == [
        "BURIED",
        "BURIED",
        "GUARDED",
        "GUARDED",
        "OPEN",
    ]
