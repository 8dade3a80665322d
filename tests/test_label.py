"""Labels and clearances: their one byte form, their XML, and what makes them valid."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from policy_files import NOW, VECTORS, acme, categories, clearance, label, meridian, nato, shared
from relay.protocol import canonical
from relay.protocol.canonical import LAST_SECOND
from relay.protocol.errors import LiaisonError, Malformed, TooLarge
from relay.protocol.label import (
    Category,
    Clearance,
    Label,
    PolicyRef,
    Succession,
    TagType,
    clearance_bytes,
    label_bytes,
    parse_clearance,
    parse_label,
)
from relay.protocol.label_json import label_ocl_json, read_label_ocl_json
from relay.protocol.label_xml import (
    binding_data_object,
    clearance_claim,
    read_clearance_xml,
    read_label_xml,
    write_clearance_xml,
    write_label_xml,
)
from relay.protocol.policy import validate

CASES = json.loads((VECTORS / "label" / "labels.json").read_text())["vectors"]
REF = PolicyRef("MERIDIAN", "2.999.1", 7, bytes(32))
OID = "2.999.1.1"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_4774_document_is_malformed_invalid_or_valid_as_its_vector_says(case):
    policy = meridian()
    if case["expect"] == "malformed":
        with pytest.raises(Malformed):
            read_label_xml(case["xml"].encode(), policy)
        return
    findings = validate(policy, read_label_xml(case["xml"].encode(), policy), NOW)
    if case["expect"] == "valid":
        assert findings == ()
    else:
        assert case["rule"] in {finding.rule for finding in findings}


def test_reading_pins_the_policy_and_spells_names_its_way():
    policy = meridian()
    case = next(case for case in CASES if case["name"] == "case and white space")
    read = read_label_xml(case["xml"].encode(), policy)
    assert read.policy == policy.ref
    assert read.classification == "GUARDED"
    assert read.categories == categories(policy, {"Release": ["ASTER"]})


names = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=12)
rows = st.builds(
    lambda number, name, kind, values: Category(name, f"1.2.{number}", kind, tuple(values)),
    st.integers(0, 9),
    names,
    st.sampled_from(TagType),
    st.lists(names, min_size=1, max_size=4),
)
category_lists = st.lists(rows, max_size=4, unique_by=lambda row: (row.tag_set_oid, row.type)).map(tuple)
moments = st.one_of(st.none(), st.integers(0, LAST_SECOND))
labels = st.builds(
    Label,
    st.builds(PolicyRef, names, st.just("1.2.3"), st.integers(0, 1 << 31), st.binary(min_size=32, max_size=32)),
    names,
    category_lists,
    st.one_of(st.none(), names),
    st.one_of(st.none(), names),
    moments,
    moments,
)


@given(labels, labels, st.integers(0, LAST_SECOND))
def test_a_label_survives_its_byte_form(one, successor, at):
    with_successor = replace(one, succession=Succession(at, successor))
    for each in (one, with_successor):
        assert parse_label(label_bytes(each)) == each


@given(category_lists.filter(bool), st.integers(0, 100), st.integers(0, 100))
def test_a_clearance_survives_its_byte_form(held, start, length):
    one = Clearance("P", "1.2", ("A", "B", "A"), held, start, start + length)
    assert one.classifications == ("A", "B")
    assert parse_clearance(clearance_bytes(one)) == one


@given(labels, st.data())
def test_no_other_bytes_are_that_label(one, data):
    encoded = bytearray(label_bytes(one))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        read = parse_label(bytes(encoded))
    except Malformed:
        return
    assert read != one
    assert label_bytes(read) == bytes(encoded)


def test_order_and_repetition_make_no_other_label():
    one = Category("Release", OID, TagType.PERMISSIVE, ("B", "A", "B"))
    two = Category("Desk", "2.999.1.3", TagType.INFORMATIVE, ("X",))
    assert Label(REF, "OPEN", (one, two)) == Label(REF, "OPEN", (two, replace(one, values=("A", "B"))))


ROW = ["Release", OID, 2, ["ASTER"]]
FIELDS = {1: ["MERIDIAN", "2.999.1", 7, bytes(32)], 2: "OPEN", 3: [ROW]}


@pytest.mark.parametrize(
    "fields",
    [
        {**FIELDS, 1: ["", "2.999.1", 7, bytes(32)]},
        {**FIELDS, 1: ["MERIDIAN", "2.999.", 7, bytes(32)]},
        {**FIELDS, 1: ["MERIDIAN", "2.999.1", -1, bytes(32)]},
        {**FIELDS, 1: ["MERIDIAN", "2.999.1", 7, bytes(31)]},
        {**FIELDS, 1: ["MERIDIAN", "2.999.1", 7]},
        {**FIELDS, 2: ""},
        {**FIELDS, 2: " OPEN"},
        {**FIELDS, 2: "O\x1bPEN"},
        {**FIELDS, 2: 1},
        {**FIELDS, 3: [[*ROW[:3], []]]},
        {**FIELDS, 3: [[*ROW[:3], ["B", "A"]]]},
        {**FIELDS, 3: [[*ROW[:3], ["A", "A"]]]},
        {**FIELDS, 3: [[*ROW[:2], 4, ["A"]]]},
        {**FIELDS, 3: [[*ROW[:2], True, ["A"]]]},
        {**FIELDS, 3: [ROW, ROW]},
        {**FIELDS, 3: [["Z", "2.999.9", 2, ["A"]], ROW]},
        {**FIELDS, 3: {}},
        {**FIELDS, 4: None},
        {**FIELDS, 6: -1},
        {**FIELDS, 6: True},
        {**FIELDS, 8: [1]},
        {**FIELDS, 8: [1, b"x"]},
        {**FIELDS, 9: 1},
        {1: FIELDS[1], 2: "OPEN"},
    ],
    ids=repr,
)
def test_a_byte_form_that_breaks_a_rule_is_malformed(fields):
    parse_label(canonical.encode(FIELDS))
    with pytest.raises(Malformed):
        parse_label(canonical.encode(fields))


def test_an_endless_chain_of_successors_is_malformed():
    encoded = canonical.encode(FIELDS)
    for _ in range(4):
        encoded = canonical.encode({**FIELDS, 8: [1, encoded]})
        parse_label(encoded)
    with pytest.raises(Malformed):
        parse_label(canonical.encode({**FIELDS, 8: [1, encoded]}))


def test_a_label_with_too_many_successors_cannot_be_made():
    one = label(meridian(), "OPEN")
    for _ in range(4):
        one = label(meridian(), "OPEN", succession=Succession(1, one))
    with pytest.raises(Malformed):
        label(meridian(), "OPEN", succession=Succession(1, one))


def test_a_tag_set_under_another_name_is_invalid():
    policy = meridian()
    alias = Category("Desk", OID, TagType.PERMISSIVE, ("ASTER",))
    found = validate(policy, Label(policy.ref, "OPEN", (alias,)), NOW)
    assert [finding.rule for finding in found] == ["tag"]


def test_a_category_without_a_value_cannot_be_made():
    with pytest.raises(Malformed):
        Category("Release", OID, TagType.PERMISSIVE, ())


def test_a_clearance_that_ends_before_it_starts_cannot_be_made():
    with pytest.raises(Malformed):
        Clearance("P", "1.2", ("A",), (), 2, 1)


RANKS = {"OPEN": {}, "GUARDED": {"Release": ["ASTER", "BIRCH"]}, "BURIED": {"Codeword": ["LOTUS", "IRIS"]}}


@settings(max_examples=60)
@given(st.sampled_from(sorted(RANKS)), st.integers(0, 1 << 33), moments, st.one_of(st.none(), names))
def test_a_label_survives_4774_xml(rank, created, review, originator):
    policy = meridian()
    review = None if review is None else review % (1 << 36)
    later = label(policy, "OPEN", created=created)
    one = label(
        policy,
        rank,
        RANKS[rank],
        created=created,
        review=review,
        originator=originator,
        succession=Succession(created, later),
    )
    written = write_label_xml(one)
    assert read_label_xml(written, policy) == one
    assert read_label_xml(written.replace(b"originatorC", b"C"), policy) == one


@pytest.mark.parametrize(("kind", "hint"), [(b"alternative", "translation"), (b"metadata", "label of a label")])
def test_of_the_three_kinds_of_4774_only_the_originators_is_a_label(kind, hint):
    written = write_label_xml(label(meridian(), "OPEN", created=1))
    with pytest.raises(Malformed, match="root element") as caught:
        read_label_xml(written.replace(b"originatorC", kind + b"C"), meridian())
    assert hint in caught.value.hint


def test_a_label_without_its_creation_time_is_not_written_as_4774():
    with pytest.raises(Malformed):
        write_label_xml(label(meridian(), "OPEN"))


def test_a_clearance_survives_4774_xml_and_its_claim():
    policy = meridian()
    held = clearance(policy, ["OPEN", "GUARDED"], {"Codeword": ["IRIS"], "Release": ["BIRCH", "ASTER"]}, 5, 9)
    written = write_clearance_xml(held)
    assert read_clearance_xml(written, policy, not_before=5, not_after=9) == held
    claim = clearance_claim(held)
    assert urlsafe_b64decode(claim + "=" * (-len(claim) % 4)) == written
    assert "=" not in claim


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            "<s4774:Classification>OPEN</s4774:Classification>",
            "<s4774:Classification>OPER</s4774:Classification>",
        ),
        ("<s4774:Classification>OPEN</s4774:Classification>", ""),
        (">IRIS<", ">NOWHERE<"),
        ('Type="RESTRICTIVE"', 'Type="PERMISSIVE"'),
        ('URI="urn:oid:2.999.1"', 'URI="urn:oid:2.999.5"'),
        ("urn:oid:2.999.1.2", "urn:oid:2.999.1.1"),
        ("sclr:ClassificationList", "sclr:ClassificationSet"),
        ("<s4774:Category ", "<s4774:Secret/><s4774:Category "),
    ],
)
def test_a_clearance_that_the_policy_does_not_know_is_refused(old, new):
    policy = meridian()
    written = write_clearance_xml(clearance(policy, ["OPEN"], {"Codeword": ["IRIS"]})).decode()
    changed = written.replace(old, new)
    assert changed != written
    with pytest.raises(Malformed):
        read_clearance_xml(changed.encode(), policy, not_before=0, not_after=1)


def test_the_json_of_5636_has_its_letters_and_names():
    one = label(meridian(), "GUARDED", {"Release": ["ASTER"], "Codeword": ["IRIS"]}, created=0)
    assert json.loads(label_ocl_json(one)) == {
        "context": {"@base": "urn:nato:stanag:5636:A:1:elements:json"},
        "ocl": {
            "pol": "urn:oid:2.999.1",
            "cls": "GUARDED",
            "catl": [
                {"name": "Release", "type": "P", "vals": ["ASTER"]},
                {"name": "Codeword", "type": "R", "vals": ["IRIS"]},
            ],
            "dcr": "1970-01-01T00:00:00Z",
        },
    }


@given(st.sampled_from(sorted(RANKS)), st.integers(0, 1 << 33), st.data())
def test_a_label_survives_the_json_of_5636_and_the_xml_of_4774_alike(rank, created, data):
    policy = meridian()
    chosen = {
        tag_set: data.draw(st.lists(st.sampled_from(values), min_size=1, unique=True))
        for tag_set, values in (("Release", ["ASTER", "BRYONY"]), ("Codeword", ["IRIS", "LOTUS"]))
        if data.draw(st.booleans())
    }
    one = label(policy, rank, chosen, created=created)
    assert read_label_ocl_json(label_ocl_json(one), policy) == one
    assert read_label_xml(write_label_xml(one), policy) == one


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"pol":"urn:oid:2.999.1"', '"pol":"urn:oid:2.999.2"'),
        ('"type":"R"', '"type":"X"'),
        ('"vals":["IRIS"]', '"vals":[]'),
        ('"vals":["IRIS"]', '"vals":["IRIS","IRIS"]'),
        ('"vals":["IRIS"]', '"vals":[7]'),
        ('"name":"Codeword"', '"name":"Watchword"'),
        ('"cls":"GUARDED"', '"cls":null'),
        ('"cls":"GUARDED"', '"cls":"GUARDED","cls":"OPEN"'),
        ('"cls":"GUARDED"', '"cls":"GUARDED","note":""'),
        ('"@base":"urn:nato:stanag:5636:A:1:elements:json"', '"@base":"urn:else"'),
        ('"dcr":"1970-01-01T00:00:00Z"', '"dcr":"yesterday"'),
    ],
)
def test_json_that_is_not_exactly_a_5636_label_is_malformed(old, new):
    written = label_ocl_json(label(meridian(), "GUARDED", {"Codeword": ["IRIS"]}, created=0)).decode()
    assert old in written
    with pytest.raises(Malformed):
        read_label_ocl_json(written.replace(old, new).encode(), meridian())


def test_a_binding_names_its_data_and_holds_the_label():
    one = label(meridian(), "GUARDED", {"Release": ["ASTER"]}, created=0)
    root = etree.fromstring(binding_data_object(one, "./map.png", "image/png"))
    spaces = {"mb": "urn:nato:stanag:4778:bindinginformation:1:0"}
    (reference,) = root.findall(".//mb:MetadataBinding/mb:DataReference", spaces)
    assert reference.get("URI") == "./map.png"
    (metadata,) = root.findall(".//mb:MetadataBinding/mb:Metadata", spaces)
    assert read_label_xml(etree.tostring(metadata[0]), meridian()) == one


RELEASE_XML = b"""<slab:originatorConfidentialityLabel
 xmlns:slab="urn:nato:stanag:4774:confidentialitymetadatalabel:1:0" ReviewDateTime="2001-12-17T09:30:47Z">
 <slab:ConfidentialityInformation><slab:PolicyIdentifier>nato</slab:PolicyIdentifier>
 <slab:Classification>restricted</slab:Classification>
 <slab:Category TagName="Releasable To" Type="PERMISSIVE"><slab:GenericValue>SWE</slab:GenericValue>
 <slab:GenericValue>FIN</slab:GenericValue></slab:Category>%s</slab:ConfidentialityInformation>
 <slab:CreationDateTime>2015-01-01T09:00:00.25+02:00</slab:CreationDateTime>
 </slab:originatorConfidentialityLabel>"""
CONTEXT = b"""<slab:Category TagName="Context" Type="PERMISSIVE"><slab:GenericValue>NATO</slab:GenericValue>
 <slab:GenericValue>Releasable</slab:GenericValue></slab:Category>"""


def test_a_nato_label_without_context_is_invalid_and_with_it_valid():
    without = read_label_xml(RELEASE_XML % b"", nato())
    assert {finding.rule for finding in validate(nato(), without, NOW)} == {"mandatory-tag", "companion"}
    complete = read_label_xml(RELEASE_XML % CONTEXT, nato())
    assert validate(nato(), complete, NOW) == ()
    assert complete.classification == "RESTRICTED"
    assert complete.created == 1420095600


def test_a_required_category_of_the_acme_policy_must_be_there():
    bare = label(acme(), "CONFIDENTIAL")
    assert [finding.rule for finding in validate(acme(), bare, NOW)] == ["required-category"]


def test_a_bomb_of_entities_is_refused_before_it_is_read():
    bomb = b'<!DOCTYPE l [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]><l>&b;</l>'
    for xml in (bomb, b"\xef\xbb\xbf" + bomb, bomb.decode().encode("utf-16"), b" " * (5 << 20)):
        with pytest.raises(LiaisonError):
            read_label_xml(xml, meridian())


def test_a_deep_document_is_refused():
    xml = next(case["xml"] for case in CASES if case["name"] == "a foreign extension")
    for depth, error in ((20, None), (60, TooLarge)):
        note = '<x:Note xmlns:x="urn:x">' * depth + "</x:Note>" * depth
        deep = xml.replace('<x:Note xmlns:x="urn:x">n</x:Note>', note).encode()
        if error is None:
            read_label_xml(deep, meridian())
        else:
            with pytest.raises(error):
                read_label_xml(deep, meridian())


def test_the_real_files_are_read_from_the_place_named_by_the_environment():
    assert shared("nato-policy.xml").startswith(b"<?xml")
