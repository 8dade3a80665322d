"""Reading policies: completely, or not at all."""

from __future__ import annotations

import re
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from policy_files import NOW, VECTORS, acme, label, meridian, nato, shared, tidewater
from relay.protocol.errors import LiaisonError, Malformed, TooLarge
from relay.protocol.label import TagType
from relay.protocol.policy import is_at_or_above, parse_extensions, validate
from relay.protocol.policy_elements import ClassEquivalence
from relay.protocol.spif import MAX_SPIF, read_spif
from relay.protocol.spif_lint import lint_mapping

SPEC = Path(__file__).parents[1] / "relay" / "protocol" / "SPEC.md"
SOURCE = (VECTORS / "label" / "meridian.spif.xml").read_text()


def changed(old, new, count=1):
    assert old in SOURCE
    return SOURCE.replace(old, new, count).encode()


def test_every_construct_comes_through():
    policy = meridian()
    assert (policy.name, policy.oid, policy.version) == ("MERIDIAN", "2.999.1", 7)
    assert policy.digest == sha256(SOURCE.encode()).digest()
    assert policy.ref.digest == policy.digest
    assert {each.name: each.hierarchy for each in policy.classifications} == {
        "OPEN": 1,
        "GUARDED": 5,
        "BURIED": 9,
        "OLDEN": 7,
    }
    codeword = policy.tag_set("codeword").tags[0]
    assert (codeword.type, codeword.max_selection) == (TagType.RESTRICTIVE, 2)
    assert policy.tag_set("Desk").tags[0].max_selection == 1
    iris, jade, kale, _ = codeword.values
    assert iris.excluded_classes == {"open"}
    assert iris.excluded[0].lacv == "2"
    assert jade.required_class == "BURIED"
    assert kale.required[0].operation == "onlyOne"
    assert kale.equivalences[0].discard
    birch = policy.tag_set("Release").tags[0].values[1]
    assert birch.lacv == "2"
    assert policy.memberships == (("GARDEN", ("ASTER",)),)


def test_the_hierarchy_ranks_and_the_lacv_does_not():
    policy = meridian()
    assert is_at_or_above(policy, "BURIED", "OLDEN")
    assert not is_at_or_above(policy, "GUARDED", "OLDEN")
    assert not is_at_or_above(policy, "BURIED", None)


def test_the_fictitious_policy_gives_the_warnings_it_was_written_to_give():
    _, findings = read_spif(SOURCE.encode())
    assert {finding.rule for finding in findings} == {"mapping-discards", "free-text", "no-release-tag"}


def test_the_public_nato_policy_is_read_whole():
    policy, findings = read_spif(shared("nato-policy.xml"))
    assert findings == ()
    assert policy.version == 79
    sizes = {each.name: sum(len(tag.values) for tag in each.tags) for each in policy.tag_sets}
    assert sizes == {
        "Additional Sensitivity": 9,
        "Releasable To": 90,
        "Only": 90,
        "Administrative": 5,
        "Context": 11,
    }
    assert nato().extensions.mandatory == ("Context",)


def test_a_mapping_in_no_namespace_is_reported_and_is_no_mapping():
    policy, findings = read_spif(shared("ACME-SPIF-example.xml"))
    assert [finding.rule for finding in findings].count("namespace") == 2
    assert all("line" in finding.why for finding in findings if finding.rule == "namespace")
    assert not any(value.equivalences for value in policy.tag_set("Releasable To").tags[0].values)
    assert acme().classification("confidential").required[0].operation == "oneOrMore"


def test_a_policy_of_schema_version_1_is_refused_with_the_reason():
    with pytest.raises(Malformed, match=r"schema version '1\.0' at line 2") as caught:
        read_spif(shared("NATO-SPIF-example.xml"))
    assert "2.1" in caught.value.hint


GUARDED = '<spif:securityClassification name="GUARDED" lacv="2" hierarchy="5"'
LOTUS = '<spif:tagCategory name="LOTUS" lacv="4"/>'


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('schemaVersion="2.1"', 'schemaVersion="3.0"'),
        ('schemaVersion="2.1" ', ""),
        ('version="7"', 'version="seven"'),
        ('"http://www.xmlspif.org/spif"', '"http://www.xmslpif.org/spif"'),
        ('<spif:securityPolicyId name="MERIDIAN" id="2.999.1"/>', ""),
        ('name="MERIDIAN"', 'name=""'),
        ('id="2.999.1"', 'id="2.999.x"'),
        (GUARDED, GUARDED.replace("GUARDED", "open")),
        (GUARDED, GUARDED.replace('lacv="2"', 'lacv="01"')),
        (GUARDED, GUARDED.replace('hierarchy="5"', 'hierarchy="9"')),
        (GUARDED, GUARDED.replace('hierarchy="5"', 'hierarchy="high"')),
        (GUARDED, GUARDED.replace('hierarchy="5"', 'hierarchy="--1"')),
        ('version="7"', 'version="7" notBefore="0001-01-01T00:00:00+14:00"'),
        ('version="7"', 'version="7" notAfter="9999-12-31T23:59:59-14:00"'),
        (GUARDED, GUARDED.replace('lacv="2" ', "")),
        (GUARDED, GUARDED + ' clearanceNeeded="yes"'),
        ('operation="oneOrMore"', 'operation="some"'),
        ('operation="oneOrMore"', ""),
        ('enumType="permissive" lacv="2"', 'enumType="permissive" lacv="22"'),
        ('tagSetRef="Release"', 'tagSetRef="Nothing"'),
        (
            'tagSetRef="Release" tagType="enumerated" enumType="permissive"',
            'tagSetRef="Release" tagType="restrictive"',
        ),
        ('name="Codeword" tagType="restrictive"', 'name="Codeword" tagType="notApplicable"'),
        ('name="Codeword" tagType="restrictive"', 'name="Codeword" tagType="enumerated"'),
        (
            'name="Codeword" tagType="restrictive"',
            'name="Codeword" tagType="restrictive" enumType="permissive"',
        ),
        ('maxSelection="2"', 'maxSelection="few"'),
        ('maxSelection="2"', 'maxSelection="2" minSelection="3"'),
        ('requiredClass="BURIED"', 'requiredClass="BURROW"'),
        ('requiredClass="BURIED"', 'requiredClas="BURIED"'),
        ("<spif:excludedClass>OPEN</spif:excludedClass>", "<spif:excludedClass>OPER</spif:excludedClass>"),
        ("<spif:excludedClass>OPEN</spif:excludedClass>", "<spif:excludedClass/>"),
        ("<spif:excludedClass>OPEN</spif:excludedClass>", "<excludedClass>OPEN</excludedClass>"),
        ("<spif:excludedClass>OPEN</spif:excludedClass>", "<spif:forbiddenClass>OPEN</spif:forbiddenClass>"),
        (LOTUS, '<spif:tagCategory name="lotus" lacv="4"/><spif:tagCategory name="LOTUS" lacv="5"/>'),
        (LOTUS, '<spif:tagCategory name="LOTUS" lacv="3"/>'),
        (LOTUS, '<spif:tagCategory name="LOTUS" lacv="4" obsolete="perhaps"/>'),
        (LOTUS, '<spif:tagCategory name="LOTUS" lacv="4" notAfter="tomorrow"/>'),
        (LOTUS, '<spif:tagCategory name="LOTUS" lacv="4"><x:y xmlns:x="urn:x"/></spif:tagCategory>'),
        ('applied="encrypt"', 'applied="sometimes"'),
        ('action="discard"', 'action="ignore"'),
        ("<spif:code>replacePolicy</spif:code>", "<spif:code>blink</spif:code>"),
        ('qualifierCode="suffix"', 'qualifierCode="infix"'),
        ('markingCode="pageTop"', 'markingCode="pageFlop"'),
        (
            '<spif:securityCategoryTagSet name="Desk" id="2.999.1.3">',
            '<spif:securityCategoryTagSet name="desk" id="2.999.1.2">',
        ),
        (
            '<spif:securityCategoryTagSet name="Desk" id="2.999.1.3">',
            '<spif:securityCategoryTagSet name="release" id="2.999.1.3">',
        ),
        ("<spif:extensions>", "<spif:excludedClass>OPEN</spif:excludedClass><spif:extensions>"),
        ("<spif:extensions>", "<requiredCategory/><spif:extensions>"),
        ("</spif:SPIF>", ""),
        ('<?xml version="1.0" encoding="UTF-8"?>', '<?xml version="1.0" encoding="UTF-16"?>'),
        ("<spif:SPIF ", "<!DOCTYPE SPIF SYSTEM 'file:///etc/hostname'><spif:SPIF "),
    ],
)
def test_a_policy_with_a_fault_where_labels_are_constrained_is_refused(old, new):
    with pytest.raises(Malformed):
        read_spif(changed(old, new))


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ('<spif:equivalentPolicy name="TIDEWATER"', '<spif:equivalentPolicy name="TIDEWATERS"', "mapping"),
        (LOTUS, '<spif:tagCategory name="LOTUS&#10;" lacv="4"/>', "white-space"),
        (LOTUS, LOTUS + '<spif:tagCategory name="LOTUS" lacv="5"/>', "duplicate-name"),
        (
            LOTUS,
            (
                '<spif:tagCategory name="LOTUS" lacv="4" requiredClass="OPEN">'
                "<spif:excludedClass>OPEN</spif:excludedClass></spif:tagCategory>"
            ),
            "contradiction",
        ),
        (
            LOTUS,
            '<spif:tagCategory name="LOTUS" lacv="4">'
            + "".join(
                f"<spif:excludedClass>{rank}</spif:excludedClass>" for rank in ("OPEN", "GUARDED", "BURIED", "OLDEN")
            )
            + "</spif:tagCategory>",
            "contradiction",
        ),
        (' nspif:lacv="3" nspif:obsolete="true"', ' nspif:lacv="3"', "group-member"),
        ('nspif:name="ASTER" nspif:lacv="1"', 'nspif:name="DAHLIA" nspif:lacv="4"', "group-member"),
        ('color="red"', 'color="GREEN"', "color"),
        ("<spif:extensions>", "<spif:extensions/><spif:novelty/><spif:extensions>", "unknown-element"),
        ('keyIdentifier="00"', 'keyIdentifier="00" mood="calm"', "unknown-attribute"),
        ("<spif:equivalentPolicies>", "<spif:equivalentPolicies>stray", "stray-text"),
    ],
)
def test_what_the_authority_should_look_at_is_a_finding(old, new, rule):
    _, findings = read_spif(changed(old, new))
    assert rule in {finding.rule for finding in findings}


def test_of_two_values_of_one_name_the_constraints_of_both_hold():
    policy, _ = read_spif(
        changed(
            LOTUS,
            LOTUS
            + '<spif:tagCategory name="LOTUS" lacv="5"><spif:excludedClass>OPEN</spif:excludedClass></spif:tagCategory>',
        )
    )
    found = validate(policy, label(policy, "OPEN", {"Codeword": ["LOTUS"]}), NOW)
    assert [finding.rule for finding in found] == ["excluded-class"]


def test_two_permissive_tags_in_one_tag_set_are_refused_since_their_values_would_be_one_choice():
    tag = '<spif:securityCategoryTag name="Codeword" tagType="'
    added = '<spif:securityCategoryTag name="%s" tagType="permissive"><spif:tagCategory name="%s" lacv="%d"/></spif:securityCategoryTag>'
    one, two = added % ("Nations", "SWE", 1), added % ("Bodies", "NAVY", 2)
    read_spif(changed(tag, one + tag))
    with pytest.raises(Malformed, match="2 permissive tags: Nations, Bodies") as caught:
        read_spif(changed(tag, one + two + tag))
    assert "a tag set of its own" in caught.value.hint


def test_a_least_number_of_values_counts_for_labels_without_the_tag_too():
    policy, _ = read_spif(changed('maxSelection="2"', 'minSelection="1"'))
    for chosen, rules in (({}, ["selection"]), ({"Codeword": ["LOTUS"]}, [])):
        found = validate(policy, label(policy, "OPEN", chosen), NOW)
        assert [finding.rule for finding in found] == rules


def test_a_standards_prose_holds_beside_the_extensions_of_a_policy():
    extensions = parse_extensions(b"retention = 60\nportion_marks = { SECRET = 'S' }")
    policy, _ = read_spif(shared("nato-policy.xml"), extensions)
    assert policy.extensions.retention == ((None, 60),)
    assert policy.extensions.mandatory == ("Context",)
    assert policy.extensions.portion_marks == (("SECRET", "S"),)


def test_the_specification_names_every_key_of_the_extensions_file():
    with pytest.raises(Malformed) as told:
        parse_extensions(b"nothing = 1")
    known = told.value.hint.removeprefix("known: ").split(", ")
    rows = [line for line in SPEC.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    named = {name for line in rows for name in re.findall(r"`(\w+)`", line.split("|")[1])}
    assert len(known) > 10
    assert set(known) <= named


@pytest.mark.parametrize("name", ["Top Secret", "COSMIC TOP SECRET"])
def test_a_standards_prose_holds_however_a_classification_is_spelled(name):
    source = shared("nato-policy.xml")
    for old in (b'securityClassification name="TOP SECRET"', b"<spif:excludedClass>TOP SECRET<"):
        source = source.replace(old, old.replace(b"TOP SECRET", name.encode()))
    policy, findings = read_spif(source)
    found = validate(policy, label(policy, "SECRET"), NOW)
    assert [finding.rule for finding in found] == ["mandatory-tag"]
    marks = dict(policy.extensions.portion_marks)
    assert (marks["SECRET"], marks.get(name)) == ("NS", "CTS" if name == "Top Secret" else None)
    assert ("standard-extensions" in {finding.rule for finding in findings}) == (name != "Top Secret")


def test_a_policy_without_the_tag_sets_of_its_standards_prose_is_refused():
    with pytest.raises(Malformed, match="no tag set 'Context'"):
        read_spif(changed('id="2.999.1"', 'id="1.3.26.1.3.1"'))


def test_every_prefix_and_every_flipped_byte_of_a_policy_is_refused_or_read_never_a_crash():
    source = SOURCE.encode()
    for place in range(0, len(source), 97):
        for bad in (source[:place], source[:place] + bytes([source[place] ^ 0x20]) + source[place + 1 :]):
            try:
                read_spif(bad)
            except LiaisonError:
                continue


def test_a_mapping_that_lowers_is_found():
    assert lint_mapping(meridian(), tidewater()) == ()
    lowered, _ = read_spif(changed('policyRef="TIDEWATER" lacv="30"', 'policyRef="TIDEWATER" lacv="10"'))
    assert [finding.rule for finding in lint_mapping(lowered, tidewater())] == ["mapping-lowers"]


def test_a_mapping_there_and_back_that_arrives_lower_is_found():
    back = ClassEquivalence("MERIDIAN", "1", "both", ())
    ranks = tuple(
        replace(each, equivalences=(back,)) if each.name == "EBB" else each for each in tidewater().classifications
    )
    found = lint_mapping(meridian(), replace(tidewater(), classifications=ranks))
    assert [finding.why for finding in found] == ["BURIED comes back from EBB as OPEN"]


def test_only_one_counts_names_and_not_the_values_that_one_name_stands_for():
    only_one = '<spif:requiredCategory operation="onlyOne">'
    lotus = "".join(
        f'<spif:categoryGroup tagSetRef="Codeword" tagType="restrictive" lacv="{each}"/>' for each in (4, 5)
    )
    spif = SOURCE.replace(LOTUS, f'{LOTUS}<spif:tagCategory name="LOTUS" lacv="5"/>').replace('tion="2"', 'tion="3"')
    policy = read_spif(spif.replace(only_one, only_one + lotus).encode())[0]

    def rules(*codewords):
        one = label(policy, "GUARDED", {"Release": ["ASTER"], "Codeword": codewords})
        return [finding.rule for finding in validate(policy, one, NOW)]

    assert rules("KALE", "LOTUS") == []
    assert rules("KALE") == rules("IRIS", "KALE", "LOTUS") == ["required-category"]


def test_a_file_that_would_fill_the_memory_of_everybody_who_reads_its_labels_is_refused():
    room = MAX_SPIF - len(SOURCE.encode())
    assert read_spif(SOURCE.encode() + b" " * room)[0].name == "MERIDIAN"
    with pytest.raises(TooLarge, match="the limit is"):
        read_spif(SOURCE.encode() + b" " * (room + 1))
