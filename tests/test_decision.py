"""The access decision: vectors by outcome, and the properties that every decision keeps."""

from __future__ import annotations

import json
import timeit
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_files import NOW, POLICIES, VECTORS, categories, clearance, label, meridian
from relay.protocol.decision import (
    RULES,
    SAME_OFFICE,
    Action,
    Handling,
    NeedToKnow,
    Sharing,
    decide,
)
from relay.protocol.label import Category, Clearance, Label, PolicyRef, Succession, TagType
from relay.protocol.policy import PolicyExtensions

CASES = json.loads((VECTORS / "decision" / "decisions.json").read_text())["vectors"]
NEED = NeedToKnow("addressee", "anna.nowak@lo-warsaw")
RANKS = ["OPEN", "GUARDED", "BURIED"]
RELEASE = ["ASTER", "BIRCH", "GARDEN"]
CODEWORDS = ["IRIS", "LOTUS"]


def build_label(case, policy):
    wanted = case["label"]
    if wanted is None:
        return None
    rows = list(categories(policy, wanted["categories"]))
    for name, (kind, values) in wanted.get("retyped", {}).items():
        rows.append(Category(name, policy.tag_set(name).oid, TagType[kind], tuple(values)))
    pin = {"name": policy.name, "oid": policy.oid, "version": policy.version, "digest": policy.digest.hex()}
    pin |= case.get("pin", {})
    ref = PolicyRef(pin["name"], pin["oid"], pin["version"], bytes.fromhex(pin["digest"]))
    later = wanted.get("successor")
    succession = later and Succession(later["at"], label(policy, later["classification"], later["categories"]))
    return Label(ref, wanted["classification"], tuple(rows), review=wanted.get("review"), succession=succession)


def build_clearance(case, policy):
    held = case["clearance"]
    if held is None:
        return None
    under = POLICIES[held["policy"]]() if "policy" in held else policy
    return clearance(under, held["classifications"], held["categories"], held["not_before"], held["not_after"])


def build_agreement(case, policy):
    terms = case["agreement"]
    if terms is None or terms == "same office":
        return SAME_OFFICE if terms else None
    return Sharing(
        terms["id"],
        policy.name,
        terms["policy_oid"],
        tuple(terms["classifications"]),
        categories(policy, terms["categories"]),
        terms["not_before"],
        terms["not_after"],
        terms["in_force"],
    )


def run(case):
    policy = POLICIES[case["policy"] or "meridian"]()
    action = Action(case["action"]) if case["action"] in list(Action) else case["action"]
    need = case["need_to_know"] and NeedToKnow(**case["need_to_know"])
    return decide(
        action,
        build_label(case, policy),
        build_clearance(case, policy),
        build_agreement(case, policy),
        need,
        policy if case["policy"] else None,
        case["now"],
        Handling(**case["handling"]),
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_a_vector_is_decided_as_it_says_and_names_every_failing_rule(case):
    decision = run(case)
    assert decision.failing == tuple(case["rules"])
    assert decision.permitted == (case["expect"] == "permit")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_every_rule_is_reported_in_order_with_a_reason_and_a_reference(case):
    decision = run(case)
    assert tuple(rule.id for rule in decision.rules) == RULES
    for rule in decision.rules:
        assert rule.why
        assert rule.reference


def test_every_rule_has_a_vector_that_only_it_denies():
    alone = {case["rules"][0] for case in CASES if len(case["rules"]) == 1}
    # Without a label, or under another policy, more than one rule must fail.
    assert set(RULES) - alone == {"label-present", "policy-known", "same-policy"}


def test_a_reason_says_what_is_missing():
    policy = meridian()
    reader = clearance(policy, ["OPEN"], {"Release": ["BIRCH"]})
    secret = label(policy, "GUARDED", {"Release": ["ASTER"], "Codeword": ["IRIS"]})
    decision = decide(Action.READ, secret, reader, SAME_OFFICE, NEED, policy, NOW)
    reasons = {rule.id: rule.why for rule in decision.rules}
    assert reasons["classification"] == "the label is GUARDED; the clearance lists OPEN"
    assert reasons["restrictive"] == "the clearance lacks Codeword IRIS"
    assert reasons["permissive"] == "Release is limited to ASTER, none of them in the clearance"


@pytest.mark.parametrize("position", range(8))
@pytest.mark.parametrize("garbage", [object(), "", b"x", 7, [], {"permitted": True}, float("nan")])
def test_garbage_in_any_place_is_never_permitted_and_never_raises(position, garbage):
    policy = meridian()
    reader = clearance(policy, RANKS)
    arguments = [Action.READ, label(policy, "OPEN"), reader, SAME_OFFICE, NEED, policy, NOW, Handling()]
    assert decide(*arguments).permitted
    arguments[position] = garbage
    if position == 6 and garbage == 7:  # the seventh second of 1970 is a time like any other
        return
    assert not decide(*arguments).permitted


def test_an_exception_inside_is_a_denial_by_the_rule_internal():
    class Broken:
        @property
        def succession(self):
            raise RuntimeError

    decision = decide(Action.READ, Broken(), None, SAME_OFFICE, NEED, meridian(), NOW)
    assert decision.failing == ("internal",)
    assert "RuntimeError" in decision.rules[0].why


def test_what_an_absent_release_tag_means_is_the_policy_extensions_choice():
    outside = Sharing("ag", "MERIDIAN", "2.999.1", ("OPEN",), (), 0, NOW + 1, True)
    for means, inside, shared in (
        ("unrestricted", (), ()),
        ("owner_only", (), ("permissive",)),
        ("invalid", ("label-valid",), ("label-valid",)),
    ):
        policy = replace(meridian(), extensions=PolicyExtensions(absent=(("Release", means),)))
        bare, reader = label(policy, "OPEN"), clearance(policy, RANKS)
        assert decide(Action.READ, bare, reader, SAME_OFFICE, NEED, policy, NOW).failing == inside
        assert decide(Action.READ, bare, reader, outside, NEED, policy, NOW).failing == shared


def test_a_policy_past_its_last_day_permits_nothing():
    reader, one = clearance(meridian(), RANKS), label(meridian(), "OPEN")
    for start, end in ((None, NOW - 1), (NOW + 1, None)):
        policy = replace(meridian(), not_before=start, not_after=end)
        decision = decide(Action.READ, one, reader, SAME_OFFICE, NEED, policy, NOW)
        assert decision.failing == ("policy-known", "label-valid")


def test_a_member_that_the_policy_does_not_know_is_no_member():
    policy = replace(meridian(), memberships=(("GARDEN", ("ASTER", "NOWHERE")),))
    shared = label(policy, "GUARDED", {"Release": ["GARDEN"]})
    for held, failing in (("ASTER", ()), ("NOWHERE", ("permissive",))):
        reader = clearance(policy, RANKS, {"Release": [held]})
        assert decide(Action.READ, shared, reader, SAME_OFFICE, NEED, policy, NOW).failing == failing


def test_a_group_covers_its_members_where_a_label_names_it_and_not_where_an_agreement_does():
    policy = meridian()
    reader = clearance(policy, RANKS, {"Release": ["ASTER"]})
    for released, agreed, failing in (
        ("GARDEN", ["ASTER"], ()),
        ("ASTER", ["GARDEN"], ("agreement",)),
        ("ASTER", ["ASTER", "GARDEN"], ()),
    ):
        one = label(policy, "GUARDED", {"Release": [released]})
        terms = Sharing(
            "ag", "MERIDIAN", "2.999.1", ("GUARDED",), categories(policy, {"Release": agreed}), 0, NOW, True
        )
        assert decide(Action.READ, one, reader, terms, NEED, policy, NOW).failing == failing


def test_an_agreement_that_lists_a_tag_twice_grants_neither():
    policy = meridian()
    one = label(policy, "GUARDED", {"Release": ["ASTER"], "Codeword": ["IRIS"]})
    reader = clearance(policy, RANKS, {"Release": ["ASTER"], "Codeword": ["IRIS"]})
    iris, lotus = (categories(policy, {"Codeword": [name]}) for name in ("IRIS", "LOTUS"))
    for listed, failing in ((iris, ()), (iris + lotus, ("agreement",)), (iris + lotus + iris, ("agreement",))):
        terms = Sharing("ag", "MERIDIAN", "2.999.1", ("GUARDED",), listed, 0, NOW, True)
        assert decide(Action.READ, one, reader, terms, NEED, policy, NOW).failing == failing


def test_an_agreements_category_in_a_type_that_its_policy_does_not_give_it_is_no_way_round_the_ceiling():
    policy = meridian()
    reader = clearance(policy, RANKS, {"Release": ["ASTER", "BIRCH"]})
    (aster,) = categories(policy, {"Release": ["ASTER"]})
    desk = categories(policy, {"Desk": ["POSTAL"]})
    for kind, value, failing in (
        (TagType.PERMISSIVE, "ASTER", ()),
        (TagType.PERMISSIVE, "BIRCH", ("agreement",)),
        (TagType.RESTRICTIVE, "BIRCH", ("agreement",)),
        (TagType.INFORMATIVE, "BIRCH", ("agreement",)),
    ):
        terms = Sharing("ag", "MERIDIAN", "2.999.1", ("GUARDED",), (replace(aster, type=kind), *desk), 0, NOW, True)
        one = label(policy, "GUARDED", {"Release": [value]})
        decision = decide(Action.READ, one, reader, terms, NEED, policy, NOW)
        assert decision.failing == failing
    assert decision.rules[8].why == "agreement ag does not cover this label: Release"


subset = st.sets
labels = st.tuples(st.sampled_from(RANKS), subset(st.sampled_from(RELEASE)), subset(st.sampled_from(CODEWORDS)))
grants = st.tuples(
    subset(st.sampled_from(RANKS), min_size=1),
    subset(st.sampled_from(RELEASE)),
    subset(st.sampled_from(CODEWORDS)),
)


def chosen(release, codewords):
    rows = {"Release": sorted(release), "Codeword": sorted(codewords)}
    return {name: values for name, values in rows.items() if values}


def permitted(one, grant):
    """By the rules about clearance only: whether the label is valid is not at issue here."""
    policy = meridian()
    rank, release, codewords = one
    ranks, held_release, held_codewords = grant
    decision = decide(
        Action.READ,
        label(policy, rank, chosen(release, codewords)),
        clearance(policy, sorted(ranks), chosen(held_release, held_codewords)),
        SAME_OFFICE,
        NEED,
        policy,
        NOW,
    )
    return not set(decision.failing) - {"label-valid"}


def algebra(one, grant):
    """ADatP-4774.1 section 3.11.4 and the membership table, written down a second time."""
    rank, release, codewords = one
    ranks, held_release, held_codewords = grant
    wide = release | ({"ASTER"} if "GARDEN" in release else set())
    return rank in ranks and codewords <= held_codewords and (not release or bool(wide & held_release))


@given(labels, grants)
def test_the_decision_is_the_algebra_of_the_standard(one, grant):
    assert permitted(one, grant) == algebra(one, grant)


@given(labels, grants, st.sampled_from(CODEWORDS))
def test_a_further_restrictive_value_never_permits(one, grant, value):
    rank, release, codewords = one
    assert permitted(one, grant) or not permitted((rank, release, codewords | {value}), grant)


@given(labels, grants, st.sampled_from(RELEASE))
def test_a_release_value_less_never_permits(one, grant, value):
    rank, release, codewords = one
    if release - {value}:
        assert permitted(one, grant) or not permitted((rank, release - {value}, codewords), grant)


@given(labels, grants, grants)
def test_a_wider_clearance_never_denies(one, grant, more):
    wider = tuple(left | right for left, right in zip(grant, more, strict=True))
    assert permitted(one, wider) or not permitted(one, grant)


@settings(max_examples=30)
@given(st.permutations(RELEASE), st.data())
def test_order_case_and_repetition_do_not_matter(values, data):
    policy = meridian()
    spelled = [data.draw(st.sampled_from([value, value.lower(), value.title()])) for value in values]
    oid = policy.tag_set("Release").oid
    for reader, expected in (("ASTER", True), ("aster", True), ("CEDAR", False)):
        row = Category("Release", oid, TagType.PERMISSIVE, (*spelled, spelled[0]))
        held = Category("Release", oid, TagType.PERMISSIVE, (reader,))
        decision = decide(
            Action.READ,
            Label(policy.ref, data.draw(st.sampled_from(["GUARDED", "guarded"])), (row,)),
            Clearance(policy.name, policy.oid, ("Guarded",), (held,), 0, NOW),
            SAME_OFFICE,
            NEED,
            policy,
            NOW,
        )
        assert decision.permitted is expected


def test_a_decision_takes_microseconds():
    policy = meridian()
    reader = clearance(policy, RANKS, {"Release": ["ASTER"], "Codeword": ["IRIS"]})
    secret = label(policy, "GUARDED", {"Release": ["ASTER", "BIRCH"], "Codeword": ["IRIS"]})
    best = min(
        timeit.repeat(
            lambda: decide(Action.READ, secret, reader, SAME_OFFICE, NEED, policy, NOW), number=2000, repeat=5
        )
    )
    assert best / 2000 < 100e-6  # ten times what it takes: a guard against losing the cache, not a benchmark
