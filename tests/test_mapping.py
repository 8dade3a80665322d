"""Equivalent labels in another policy: the table's, complete, and never one that permits more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_files import MERIDIAN, VECTORS, chosen, clearance, edited, label, may_read, meridian, tidewater
from relay.protocol.aggregate import translate
from relay.protocol.equivalence import Direction
from relay.protocol.errors import Refused
from relay.protocol.spif_lint import lint_mapping


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
    source = edited(MERIDIAN, old, new)
    with pytest.raises(Refused):
        translate(label(source, "OPEN", {"Release": ["ASTER"]}), source, tidewater(), Direction.ENCRYPT)


def test_a_demanded_release_limits_a_label_that_had_none_and_a_choice_is_left_to_people():
    source = edited(MERIDIAN, NO_DEMAND, DEMAND % ("all", HARBOUR % 3))
    found = translate(label(source, "OPEN"), source, tidewater(), Direction.ENCRYPT)
    assert found == label(tidewater(), "SHORE", {"Harbours": ["EAST"]})
    source = edited(MERIDIAN, NO_DEMAND, DEMAND % ("oneOrMore", HARBOUR % 2 + HARBOUR % 3))
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
    source = edited(MERIDIAN, END_OF_RELEASE, after_the_tag(OF_RELEASE))
    for rows, expected in (
        ({}, {}),
        ({"Release": ["ASTER"]}, {"Harbours": ["NORTH"], "Compartment": ["DEPTH"]}),
    ):
        found = translate(label(source, "OPEN", rows), source, tidewater(), Direction.ENCRYPT)
        assert found == label(tidewater(), "SHORE", expected)


def test_a_demand_of_every_value_of_a_tag_set_that_the_target_does_not_have_gives_no_label():
    everything = OF_RELEASE.replace('"Compartment"', '"Ballast"').replace(' lacv="7"', ' all="true"')
    source = edited(MERIDIAN, END_OF_RELEASE, after_the_tag(everything))
    with pytest.raises(Refused, match="does not have"):
        translate(label(source, "OPEN", {"Release": ["ASTER"]}), source, tidewater(), Direction.ENCRYPT)


def test_a_release_name_of_two_values_with_two_equivalents_is_not_a_choice_of_either():
    aster = f'<spif:tagCategory name="ASTER" lacv="1">\n          {ASTER_MAPPING}'
    for lacv in ("1", "3"):
        other = ASTER_MAPPING.replace('lacv="1"', f'lacv="{lacv}"')
        second = f'<spif:tagCategory name="ASTER" lacv="11">{other}</spif:tagCategory>'
        source = edited(MERIDIAN, aster, second + aster)
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
    source = edited(MERIDIAN, "</spif:securityCategoryTagSets>", tags)
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
