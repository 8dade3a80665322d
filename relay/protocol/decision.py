"""The access decision: one pure, total function, asked at the sender, the relay and the reader.

The rules, in the order in which every decision reports them (all are evaluated, none is skipped):

     1 label-present    there is a label
     2 policy-known     its policy is the one at hand, not older than the one pinned, the same file, valid now
     3 label-valid      the label in force now is valid under that policy
     4 clearance-valid  there is a clearance, valid now
     5 same-policy      label, clearance and policy are of one policy
     6 classification   the classification is in the clearance's list (a list, not a level)
     7 restrictive      every value of every restrictive tag is in the clearance
     8 permissive       of every permissive tag, one value, or a member if it is a group, is in the clearance
     9 agreement        inside one office, or an agreement in force covers this label
    10 need-to-know     a positive determination for this message
    11 handling         not expired; a forward has the consent it needs

PERMIT is all eleven. Whatever is missing or unknown is DENY; an exception is DENY with the rule "internal".
Sources: ADatP-4774 section 4, ADatP-4774.1 section 3.11.4, XEP-0258 (nil clearance).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass

from .aggregate import effective_label
from .compiled import CompiledGrant, CompiledLabel, compile_ceiling, compile_clearance, compile_label
from .decision_terms import (
    NEED_BASES,
    NO_HANDLING,
    SAME_OFFICE,
    Action,
    Agreement,
    Boundary,
    Decision,
    Handling,
    NeedToKnow,
    Rule,
    Sharing,
)
from .label import Clearance, Label, TagType, fold
from .policy import Key, Policy, timed_findings

__all__ = [
    "NEED_BASES",
    "NO_HANDLING",
    "RULES",
    "SAME_OFFICE",
    "Action",
    "Agreement",
    "Boundary",
    "Decision",
    "Handling",
    "NeedToKnow",
    "Rule",
    "Sharing",
    "decide",
]

RULES = (
    "label-present",
    "policy-known",
    "label-valid",
    "clearance-valid",
    "same-policy",
    "classification",
    "restrictive",
    "permissive",
    "agreement",
    "need-to-know",
    "handling",
)


_PASS = {name: Rule(name, True) for name in RULES}


@dataclass(slots=True)  # not frozen: setting up a frozen one costs as much as all the rules
class _Case:
    """The question, with whatever of it could be prepared."""

    action: object
    label: Label | None
    clearance: Clearance | None
    agreement: Agreement
    need_to_know: NeedToKnow | None
    policy: Policy | None
    now: int
    handling: Handling
    compiled: CompiledLabel | None
    grant: CompiledGrant | None


def decide(  # noqa: PLR0913, PLR0917 - the eight things a decision depends on, as the product names them
    action: Action,
    label: Label | None,
    clearance: Clearance | None,
    agreement: Agreement,
    need_to_know: NeedToKnow | None,
    policy: Policy | None,
    now: int,
    handling: Handling = NO_HANDLING,
) -> Decision:
    """Whether `action` under `label` is permitted at `now` (seconds since 1970). Never raises."""
    try:
        in_force = None if label is None else effective_label(label, now)
        compiled = None if in_force is None or policy is None else compile_label(policy, in_force)
        grant = None if clearance is None else compile_clearance(clearance)
        case = _Case(action, in_force, clearance, agreement, need_to_know, policy, now, handling, compiled, grant)
        rules = tuple([evaluate(case) for evaluate in _EVALUATORS])
        permitted = all(rule.ok is True for rule in rules)
        return Decision(permitted, rules)
    except Exception as problem:  # noqa: BLE001 - a decision that cannot be made is a denial
        return Decision(False, (Rule("internal", False, (type(problem).__name__,)),))


def _label_present(case: _Case) -> Rule:
    if isinstance(case.label, Label):
        return _PASS["label-present"]
    return Rule("label-present", False)


def _policy_known(case: _Case) -> Rule:
    policy, label = case.policy, case.label
    if policy is None or label is None:
        return Rule("policy-known", False, ("missing",))
    pinned = label.policy
    if pinned.oid != policy.oid:
        return Rule("policy-known", False, ("other", pinned.name, pinned.oid, policy.name))
    if policy.version < pinned.version:
        return Rule("policy-known", False, ("older", policy.name, policy.version, pinned.version))
    if policy.version == pinned.version and policy.digest != pinned.digest:
        return Rule("policy-known", False, ("digest", policy.name, policy.version))
    if (policy.not_before is not None and case.now < policy.not_before) or (
        policy.not_after is not None and case.now > policy.not_after
    ):
        return Rule("policy-known", False, ("period", policy.name))
    return _PASS["policy-known"]


def _label_valid(case: _Case) -> Rule:
    if case.compiled is None:
        return Rule("label-valid", False)
    findings = case.compiled.findings
    if case.compiled.periods:
        findings += timed_findings(case.compiled.periods, case.now)
    return Rule("label-valid", False, findings) if findings else _PASS["label-valid"]


def _clearance_valid(case: _Case) -> Rule:
    clearance = case.clearance
    if clearance is None:
        return Rule("clearance-valid", False, ("missing",))
    if not clearance.not_before <= case.now <= clearance.not_after:
        return Rule("clearance-valid", False, ("period",))
    return _PASS["clearance-valid"]


def _same_policy(case: _Case) -> Rule:
    label, clearance, policy = case.label, case.clearance, case.policy
    if label is None or clearance is None or policy is None:
        return Rule("same-policy", False)
    if label.policy.oid == clearance.policy_oid == policy.oid:
        return _PASS["same-policy"]
    return Rule("same-policy", False, (label.policy.name, clearance.policy_name))


def _classification(case: _Case) -> Rule:
    if case.compiled is None or case.grant is None or case.label is None:
        return Rule("classification", False)
    if case.compiled.classification in case.grant.classifications:
        return _PASS["classification"]
    return Rule("classification", False, (case.label.classification, case.clearance))


def _restrictive(case: _Case) -> Rule:
    if case.compiled is None or case.grant is None:
        return Rule("restrictive", False)
    held = case.grant.values
    lacking = [
        (category, values - held.get(key, frozenset()))
        for key, values, category in case.compiled.restrictive
        if not values <= held.get(key, frozenset())
    ]
    return Rule("restrictive", False, tuple(lacking)) if lacking else _PASS["restrictive"]


def _permissive(case: _Case) -> Rule:
    if case.compiled is None or case.grant is None:
        return Rule("permissive", False)
    held = case.grant.values
    lacking: list[object] = [
        category for key, values, category in case.compiled.permissive if values.isdisjoint(held.get(key, frozenset()))
    ]
    if case.compiled.owner_only and case.agreement is not SAME_OFFICE:
        lacking += case.compiled.owner_only
    return Rule("permissive", False, tuple(lacking)) if lacking else _PASS["permissive"]


def _agreement(case: _Case) -> Rule:  # noqa: PLR0911 - one return per reason
    agreement = case.agreement
    if agreement is SAME_OFFICE:
        return _PASS["agreement"]
    if type(agreement) is not Sharing:
        return Rule("agreement", False, ("missing",))
    if agreement.in_force is not True or not agreement.not_before <= case.now <= agreement.not_after:
        return Rule("agreement", False, ("period", agreement.agreement_id))
    if case.label is None or case.compiled is None or agreement.policy_oid != case.label.policy.oid:
        return Rule("agreement", False, ("policy", agreement.agreement_id, agreement.policy_name))
    need = case.need_to_know
    if need is not None and need.basis == "coi" and need.of not in agreement.communities:
        return Rule("agreement", False, ("community", agreement.agreement_id, need.of))
    if agreement.purposes and case.handling.purpose not in agreement.purposes:
        return Rule("agreement", False, ("purpose", agreement.agreement_id, *agreement.purposes))
    ceiling = compile_ceiling(agreement.classifications, agreement.categories)
    known = case.policy.index.tags if case.policy is not None else {}
    exceeding = _exceeding(case.compiled, ceiling, agreement, known)
    return Rule("agreement", False, ("over", agreement.agreement_id, *exceeding)) if exceeding else _PASS["agreement"]


def _exceeding(label: CompiledLabel, ceiling: CompiledGrant, agreement: Sharing, known: Container[Key]) -> list[str]:
    over = [] if label.classification in ceiling.classifications else ["its classification"]
    for key, values, category in label.restrictive:
        if not values <= ceiling.values.get(key, frozenset()):
            over.append(category.tag_name)
    released = {key: values for key, values, _ in label.permissive}
    for category in agreement.categories:
        key = (category.tag_set_oid, category.type)
        unmet = category.type is TagType.PERMISSIVE and ceiling.values[key].isdisjoint(released.get(key, frozenset()))
        if unmet or key not in known:
            over.append(category.tag_name)
    return over


def _need_to_know(case: _Case) -> Rule:
    need = case.need_to_know
    if need is None:
        return Rule("need-to-know", False)
    if need.basis not in NEED_BASES or not fold(need.of):
        return Rule("need-to-know", False, (need.basis,))
    return _PASS["need-to-know"]


def _handling(case: _Case) -> Rule:
    handling = case.handling
    if type(case.action) is not Action:
        return Rule("handling", False, ("action", str(case.action)))
    if handling.expires is not None and case.now >= handling.expires:
        return Rule("handling", False, ("expired",))
    if case.action is not Action.FORWARD or handling.consent is True:
        return _PASS["handling"]
    if handling.originator_controlled is not False:
        return Rule("handling", False, ("originator",))
    if handling.onward is not False and handling.onward_permitted is not True:
        return Rule("handling", False, ("onward",))
    return _PASS["handling"]


_EVALUATORS: tuple[Callable[[_Case], Rule], ...] = (
    _label_present,
    _policy_known,
    _label_valid,
    _clearance_valid,
    _same_policy,
    _classification,
    _restrictive,
    _permissive,
    _agreement,
    _need_to_know,
    _handling,
)
