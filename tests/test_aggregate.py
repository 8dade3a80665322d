"""Bounds of several labels, and equivalent labels in another policy."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, combinations, product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_files import NOW, VECTORS, acme, clearance, label, meridian, nato, tidewater
from relay.protocol.aggregate import (
    NOBODY,
    clearance_gaps,
    dominates,
    effective_label,
    join,
    translate,
)
from relay.protocol.decision import SAME_OFFICE, Action, NeedToKnow, Sharing, decide
from relay.protocol.equivalence import Direction
from relay.protocol.errors import Malformed, Refused
from relay.protocol.label import Category, Label, Succession, TagType
from relay.protocol.obligations import is_always_at_least
from relay.protocol.policy import validate
from relay.protocol.spif import read_spif
from relay.protocol.spif_lint import lint_mapping

NEED = NeedToKnow("addressee", "anna.nowak@lo-warsaw")


def subsets(values):
    return [list(each) for each in chain.from_iterable(combinations(values, n) for n in range(len(values) + 1))]


def may_read(policy, one, grant):
    decision = decide(Action.READ, one, grant, SAME_OFFICE, NEED, policy, NOW)
    return not set(decision.failing) - {"label-valid"}  # a bound need not be a valid label


def chosen(**rows):
    return {name.replace("_", " "): values for name, values in rows.items() if values}


def test_the_join_of_acme_labels_bounds_them_for_every_clearance_without_gaps():
    policy = acme()
    every = [
        label(policy, rank, chosen(Releasable_To=release, Sensitive=codewords))
        for rank, release, codewords in product(
            ["PUBLIC", "CONFIDENTIAL", "INTERNAL"], subsets(["MOCK", "PHONY"]), subsets(["RED", "BLUE"])
        )
    ]
    labels = [each for each in every if validate(policy, each, NOW) == ()]
    assert len(labels) == 8
    grants = [
        clearance(policy, ranks, chosen(Releasable_To=release, Sensitive=codewords))
        for ranks, release, codewords in product(
            (["PUBLIC"], ["PUBLIC", "CONFIDENTIAL"], ["PUBLIC", "CONFIDENTIAL", "INTERNAL"]),
            subsets(["MOCK", "PHONY"]),
            subsets(["RED", "BLUE"]),
        )
    ]
    triples = over = 0
    for (left, right), grant in product(combinations(labels, 2), grants):
        both = may_read(policy, left, grant) and may_read(policy, right, grant)
        joined = join(policy, [left, right])
        permitted = joined is not NOBODY and may_read(policy, joined, grant)
        assert both or not permitted
        triples, over = triples + 1, over + (both and not permitted)
    assert (triples, over) == (1344, 8)  # the counts of reference/labels.md section 3.6


def test_a_clearance_with_a_gap_is_told_apart():
    policy = acme()
    assert clearance_gaps(policy, clearance(policy, ["PUBLIC", "CONFIDENTIAL"])) == ()
    (gap,) = clearance_gaps(policy, clearance(policy, ["PUBLIC", "INTERNAL"]))
    assert "CONFIDENTIAL" in gap.why


CONTEXTS = ["NATO", "KFOR", "EAPC", "Releasable"]
RELEASE = ["NATO", "SWE", "FIN", "KFOR"]
NATO_RANKS = ["UNCLASSIFIED", "RESTRICTED", "CONFIDENTIAL", "SECRET", "TOP SECRET"]
rows = st.tuples(
    st.sampled_from(range(5)),
    st.sets(st.sampled_from(CONTEXTS)),
    st.sets(st.sampled_from(RELEASE)),
    st.sets(st.sampled_from(["ATOMAL", "BOHEMIA"])),
    st.sets(st.sampled_from(["STAFF", "MEDICAL"])),
)


def nato_label(row):
    rank, context, release, codewords, office = row
    return label(
        nato(),
        NATO_RANKS[rank],
        chosen(
            Context=sorted(context),
            Releasable_To=sorted(release),
            Additional_Sensitivity=sorted(codewords),
            Administrative=sorted(office),
        ),
    )


def nato_clearance(row):
    rank, context, release, codewords, _ = row
    if "NATO" in context:
        release = release | {"NATO"}
    found = clearance(
        nato(),
        NATO_RANKS[: rank + 1],
        chosen(Context=sorted(context), Releasable_To=sorted(release), Additional_Sensitivity=sorted(codewords)),
    )
    assert clearance_gaps(nato(), found) == ()
    return found


@settings(max_examples=400)
@given(st.lists(rows, min_size=1, max_size=3), rows)
def test_the_join_of_nato_labels_bounds_them_for_every_clearance_without_gaps(several, held):
    labels, grant = [nato_label(row) for row in several], nato_clearance(held)
    joined = join(nato(), labels)
    if joined is NOBODY:
        return
    for one in labels:
        assert dominates(nato(), joined, one)
        assert may_read(nato(), one, grant) or not may_read(nato(), joined, grant)


@settings(max_examples=400)
@given(rows, rows, rows)
def test_who_may_read_a_dominating_label_may_read_the_dominated(one, other, held):
    high, low, grant = nato_label(one), nato_label(other), nato_clearance(held)
    if dominates(nato(), high, low):
        assert may_read(nato(), low, grant) or not may_read(nato(), high, grant)


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
    policy = kept_home(edited(SOURCE, CODEWORDS_IN_RELEASE.split("\n", 1)[0], CODEWORDS_IN_RELEASE), "Release")
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


def test_the_join_of_nato_labels_bounds_them_for_every_clearance_by_exhaustion_over_representatives():
    """Every valid label and every clearance over all ranks and three values of each tag set that decides.

    The rules treat the values of a tag set alike, group members and the owner NATO excepted, and these are among
    the values; so what holds for every combination of these holds for the policy's two hundred others.
    """
    policy = nato()
    rows_of = [
        (rank, set(context), set(release), set(codewords), set())
        for rank, context, release, codewords in product(
            range(5), subsets(CONTEXTS), subsets(["NATO", "SWE", "KFOR"]), subsets(["ATOMAL", "BOHEMIA"])
        )
    ]
    labels = [each for row in rows_of if validate(policy, each := nato_label(row), NOW) == ()]
    grants = list(dict.fromkeys(nato_clearance(row) for row in rows_of))
    readers: dict = {}

    def who_may_read(one):
        if one not in readers:
            readers[one] = sum(1 << place for place, grant in enumerate(grants) if may_read(policy, one, grant))
        return readers[one]

    pairs = 0
    for left, right in combinations(labels, 2):
        joined, pairs = join(policy, [left, right]), pairs + 1
        if joined is not NOBODY:
            assert who_may_read(joined) & ~(who_may_read(left) & who_may_read(right)) == 0, (left, right)
    assert (len(labels), len(grants), pairs) == (268, 1920, 35778)


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


def mapped(rank, rows, direction=Direction.ENCRYPT):
    return translate(label(meridian(), rank, rows), meridian(), tidewater(), direction)


def test_an_equivalent_label_is_the_tables():
    found = mapped("GUARDED", {"Release": ["ASTER", "BIRCH"], "Codeword": ["IRIS"], "Desk": ["POSTAL"]})
    assert found == label(tidewater(), "FLOOD", {"Harbours": ["NORTH", "SOUTH"], "Compartment": ["SALT"]})
    assert mapped("OPEN", {}) == label(tidewater(), "SHORE")


def test_what_the_table_demands_is_added():
    assert mapped("BURIED", {"Codeword": ["IRIS"]}) == label(tidewater(), "EBB", {"Compartment": ["DEPTH", "SALT"]})


@pytest.mark.parametrize(
    ("rank", "rows", "direction"),
    [
        ("GUARDED", {"Release": ["ASTER"]}, Direction.DECRYPT),  # this mapping is for the originator only
        ("GUARDED", {"Release": ["ASTER", "DAHLIA"]}, Direction.ENCRYPT),  # one value has no equivalent
        ("OPEN", {"Codeword": ["LOTUS"]}, Direction.ENCRYPT),  # a codeword has none
        ("BURIED", {"Codeword": ["IRIS", "KALE"]}, Direction.ENCRYPT),  # a codeword would be discarded
        ("OPEN", {"Desk": ["FLORAL"]}, Direction.ENCRYPT),  # not even an informative value is dropped in silence
        ("GUARDED", {}, Direction.ENCRYPT),  # not valid at home
    ],
)
def test_without_a_complete_mapping_there_is_no_equivalent_label(rank, rows, direction):
    with pytest.raises(Refused):
        mapped(rank, rows, direction)


def test_there_is_no_equivalent_without_an_equivalence_of_the_policies():
    with pytest.raises(Refused):
        translate(label(tidewater(), "SHORE"), tidewater(), meridian(), Direction.ENCRYPT)


SOURCE = (VECTORS / "label" / "meridian.spif.xml").read_text()
TARGET = (VECTORS / "label" / "tidewater.spif.xml").read_text()
OPEN_MAPPING = '<spif:equivalentClassification policyRef="TIDEWATER" lacv="10" applied="both"/>'
ASTER_MAPPING = (
    '<spif:equivalentSecCategoryTag policyRef="TIDEWATER" tagSetId="2.999.2.1" tagType="permissive" lacv="1" '
    'applied="both"/>'
)
DEMAND = (
    '<spif:equivalentPolicy name="TIDEWATER" id="2.999.2"><spif:requiredCategory operation="%s">%s'
    "</spif:requiredCategory></spif:equivalentPolicy>"
)
HARBOUR = '<spif:categoryGroup tagSetRef="Harbours" tagType="permissive" lacv="%d"/>'
NO_DEMAND = '<spif:equivalentPolicy name="TIDEWATER" id="2.999.2"/>'


def edited(text, old, new):
    assert old in text
    return read_spif(text.replace(old, new, 1).encode())[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (ASTER_MAPPING, ASTER_MAPPING.replace("2.999.2.1", "2.999.2.2").replace("permissive", "restrictive")),
        (ASTER_MAPPING, ASTER_MAPPING + ASTER_MAPPING.replace('lacv="1"', 'lacv="3"')),
        (ASTER_MAPPING, ASTER_MAPPING.replace('lacv="1"', 'lacv="77"')),
        (ASTER_MAPPING, ASTER_MAPPING.replace("2.999.2.1", "2.999.2.9")),
        (ASTER_MAPPING, ASTER_MAPPING.replace("TIDEWATER", "ELSEWHERE")),
        (ASTER_MAPPING, ASTER_MAPPING.replace("both", "decrypt")),
        (ASTER_MAPPING, ASTER_MAPPING.replace("/>", ' action="discard"/>')),
        (OPEN_MAPPING, OPEN_MAPPING + OPEN_MAPPING.replace("10", "20")),
        (OPEN_MAPPING, OPEN_MAPPING.replace("10", "99")),
        (OPEN_MAPPING, ""),
        (NO_DEMAND, DEMAND % ("all", HARBOUR % 3)),  # would add to the readers
        (NO_DEMAND, DEMAND % ("all", HARBOUR % 9)),  # names what the target does not have
    ],
    ids=str,
)
def test_a_table_with_a_doubt_gives_no_label(old, new):
    one = label(meridian(), "OPEN", {"Release": ["ASTER"]})
    assert translate(one, meridian(), tidewater(), Direction.ENCRYPT).classification == "SHORE"
    source = edited(SOURCE, old, new)
    with pytest.raises(Refused):
        translate(label(source, "OPEN", {"Release": ["ASTER"]}), source, tidewater(), Direction.ENCRYPT)


def test_a_demanded_release_limits_a_label_that_had_none_and_a_choice_is_left_to_people():
    source = edited(SOURCE, NO_DEMAND, DEMAND % ("all", HARBOUR % 3))
    found = translate(label(source, "OPEN"), source, tidewater(), Direction.ENCRYPT)
    assert found == label(tidewater(), "SHORE", {"Harbours": ["EAST"]})
    source = edited(SOURCE, NO_DEMAND, DEMAND % ("oneOrMore", HARBOUR % 2 + HARBOUR % 3))
    with pytest.raises(Refused, match="choice"):
        translate(label(source, "OPEN"), source, tidewater(), Direction.ENCRYPT)


END_OF_RELEASE = """      </spif:securityCategoryTag>
    </spif:securityCategoryTagSet>
    <spif:securityCategoryTagSet name="Codeword\""""
OF_RELEASE = (
    '<spif:equivalentSecurityCategoryTagSet policyRef="TIDEWATER"><spif:requiredCategory operation="all">'
    '<spif:categoryGroup tagSetRef="Compartment" tagType="restrictive" lacv="7"/></spif:requiredCategory>'
    "</spif:equivalentSecurityCategoryTagSet>"
)


def after_the_tag(demand):
    return END_OF_RELEASE.replace("</spif:securityCategoryTag>", "</spif:securityCategoryTag>" + demand, 1)


def test_what_the_table_demands_beside_a_tag_set_is_added_where_the_label_has_that_tag_set():
    source = edited(SOURCE, END_OF_RELEASE, after_the_tag(OF_RELEASE))
    for rows, expected in (
        ({}, {}),
        ({"Release": ["ASTER"]}, {"Harbours": ["NORTH"], "Compartment": ["DEPTH"]}),
    ):
        found = translate(label(source, "OPEN", rows), source, tidewater(), Direction.ENCRYPT)
        assert found == label(tidewater(), "SHORE", expected)


def test_a_demand_of_every_value_of_a_tag_set_that_the_target_does_not_have_gives_no_label():
    everything = OF_RELEASE.replace('"Compartment"', '"Ballast"').replace(' lacv="7"', ' all="true"')
    source = edited(SOURCE, END_OF_RELEASE, after_the_tag(everything))
    with pytest.raises(Refused, match="does not have"):
        translate(label(source, "OPEN", {"Release": ["ASTER"]}), source, tidewater(), Direction.ENCRYPT)


def test_a_release_name_of_two_values_with_two_equivalents_is_not_a_choice_of_either():
    aster = f'<spif:tagCategory name="ASTER" lacv="1">\n          {ASTER_MAPPING}'
    for lacv in ("1", "3"):
        other = ASTER_MAPPING.replace('lacv="1"', f'lacv="{lacv}"')
        second = f'<spif:tagCategory name="ASTER" lacv="11">{other}</spif:tagCategory>'
        source = edited(SOURCE, aster, second + aster)
        one = label(source, "OPEN", {"Release": ["ASTER"]})
        if lacv == "1":
            found = translate(one, source, tidewater(), Direction.ENCRYPT)
            assert found == label(tidewater(), "SHORE", {"Harbours": ["NORTH"]})
            continue
        with pytest.raises(Refused, match="ASTER has several equivalents"):
            translate(one, source, tidewater(), Direction.ENCRYPT)


def test_two_releases_that_a_reader_needs_do_not_become_one_of_which_either_will_do():
    table = ASTER_MAPPING.replace('lacv="1"', 'lacv="3"')
    tags = f"""<spif:securityCategoryTagSet name="Circle" id="2.999.1.77"><spif:securityCategoryTag name="Circle"
        tagType="permissive"><spif:tagCategory name="CYBER" lacv="1">{table}</spif:tagCategory>
        </spif:securityCategoryTag></spif:securityCategoryTagSet></spif:securityCategoryTagSets>"""
    source = edited(SOURCE, "</spif:securityCategoryTagSets>", tags)
    for rows, harbours in (({"Release": ["ASTER"]}, ["NORTH"]), ({"Circle": ["CYBER"]}, ["EAST"])):
        found = translate(label(source, "OPEN", rows), source, tidewater(), Direction.ENCRYPT)
        assert found == label(tidewater(), "SHORE", {"Harbours": harbours})
    both = label(source, "OPEN", {"Release": ["ASTER"], "Circle": ["CYBER"]})
    with pytest.raises(Refused, match="widen release"):
        translate(both, source, tidewater(), Direction.ENCRYPT)
    assert [found.rule for found in lint_mapping(source, tidewater())] == ["mapping-unites"]


def test_a_label_that_is_not_valid_in_the_target_is_not_given():
    obsolete = edited(TARGET, 'name="SHORE"', 'name="SHORE" obsolete="true"')
    with pytest.raises(Refused, match="obsolete"):
        translate(label(meridian(), "OPEN"), meridian(), obsolete, Direction.ENCRYPT)


LEVELS = {"OPEN": "SHORE", "GUARDED": "FLOOD", "BURIED": "EBB"}
VALUES = {"ASTER": "NORTH", "BIRCH": "SOUTH", "IRIS": "SALT"}


@given(
    st.sampled_from(sorted(LEVELS)),
    st.sets(st.sampled_from(["ASTER", "BIRCH", "DAHLIA", "GARDEN"])),
    st.sets(st.sampled_from(["IRIS", "KALE", "LOTUS"])),
    st.sampled_from(Direction),
    st.sampled_from([["SHORE"], ["SHORE", "FLOOD"], ["SHORE", "FLOOD", "EBB"]]),
    st.sets(st.sampled_from(["NORTH", "SOUTH", "EAST"])),
    st.sets(st.sampled_from(["SALT", "SAND", "DEPTH"])),
)
def test_a_mapping_never_permits_more_than_its_table(rank, release, codewords, direction, ranks, harbours, held):
    try:
        found = mapped(rank, chosen(Release=sorted(release), Codeword=sorted(codewords)), direction)
    except Refused:
        return
    grant = clearance(tidewater(), ranks, chosen(Harbours=sorted(harbours), Compartment=sorted(held)))
    if may_read(tidewater(), found, grant):
        assert LEVELS[rank] in ranks
        assert not release or {VALUES[each] for each in release} & harbours
        assert {VALUES[each] for each in codewords} <= held
        assert rank != "BURIED" or "DEPTH" in held
