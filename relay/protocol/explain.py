"""What a rule of a decision says to people: built only when asked for, because most decisions are permits.

These texts name labels and clearances. They are for the sender and the auditor, never for a refused reader.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .label import Clearance, fold

_REFERENCES = {
    "label-present": "ADatP-4774 App 1; XEP-0258 (nil label)",
    "policy-known": "ADatP-4774.1 section 3.3",
    "label-valid": "ADatP-4774 section 4, the policy's own constraints",
    "clearance-valid": "ADatP-4774.1 section 3.11; XEP-0258 (nil clearance)",
    "same-policy": "ADatP-4774.1 section 3.11.4 i",
    "classification": "ADatP-4774.1 section 3.11.4 ii",
    "restrictive": "ADatP-4774.1 section 3.11.4 iv",
    "permissive": "ADatP-4774.1 section 3.11.4 iii",
    "agreement": "the sharing agreement between the two offices",
    "need-to-know": "ADatP-4774 section 3, C-M(2009)0035",
    "handling": "originator control; the message's own expiry",
    "internal": "fail closed",
}
_HOLDS = {
    "label-present": "there is a label",
    "policy-known": "the policy is known and current",
    "label-valid": "the label is valid under its policy",
    "clearance-valid": "the clearance is valid now",
    "same-policy": "label and clearance are of one policy",
    "classification": "the clearance lists the classification",
    "restrictive": "the clearance holds every restrictive value",
    "permissive": "the clearance holds a value of every release tag",
    "agreement": "same office, or an agreement covers this label",
    "need-to-know": "there is a need-to-know for this message",
    "handling": "not expired, and no consent is missing",
}
_FIXED = {
    "label-present": "there is no label",
    "label-valid": "the label cannot be checked without its policy",
    "same-policy": "label, clearance or policy is missing",
    "classification": "cannot be checked without label, policy and clearance",
    "restrictive": "cannot be checked without label, policy and clearance",
    "permissive": "cannot be checked without label, policy and clearance",
    "need-to-know": "no addressee, role or community of this message gives a need-to-know, or one is exempted",
}


def reference(rule: str) -> str:
    """The text that demands the rule."""
    return _REFERENCES[rule]


def explain(rule: str, ok: bool, facts: tuple[Any, ...]) -> str:  # noqa: FBT001 - the fields of Rule, in order
    """One sentence in plain words; `facts` as the rule collected them."""
    if ok:
        return _HOLDS[rule]
    if not facts:
        return _FIXED[rule]
    return _FAILS[rule](facts)


def _policy_known(facts: tuple[Any, ...]) -> str:
    kind, *rest = facts
    return {
        "missing": "the label's policy is not known here",
        "other": "the label is under {} ({}), the policy at hand is {}",
        "older": "{} is at hand in version {}, the label needs version {} or later",
        "digest": "{} version {} at hand is not the file that the label pins",
        "period": "{} is outside its own validity period",
    }[kind].format(*rest)


def _label_valid(facts: tuple[Any, ...]) -> str:
    return "; ".join(finding.why for finding in facts)


def _clearance_valid(facts: tuple[Any, ...]) -> str:
    return "there is no clearance" if facts == ("missing",) else "the clearance is not valid at this time"


def _same_policy(facts: tuple[Any, ...]) -> str:
    return "the label is under {}, the clearance under {}".format(*facts)


def _classification(facts: tuple[Any, ...]) -> str:
    classification, clearance = facts
    held = ", ".join(clearance.classifications) if isinstance(clearance, Clearance) else "nothing"
    return f"the label is {classification}; the clearance lists {held}"


def _restrictive(facts: tuple[Any, ...]) -> str:
    parts = [f"{category.tag_name} {', '.join(_spelled(category, folded))}" for category, folded in facts]
    return "the clearance lacks " + "; ".join(parts)


def _spelled(category: Any, folded: frozenset[str]) -> list[str]:
    return [value for value in category.values if fold(value) in folded]


def _permissive(facts: tuple[Any, ...]) -> str:
    parts = [
        f"{fact} is absent, which keeps it inside the originator's office"
        if isinstance(fact, str)
        else f"{fact.tag_name} is limited to {', '.join(fact.values)}, none of them in the clearance"
        for fact in facts
    ]
    return "; ".join(parts)


def _agreement(facts: tuple[Any, ...]) -> str:
    kind, *rest = facts
    if kind == "over":
        return f"agreement {rest[0]} does not cover this label: {', '.join(rest[1:])}"
    return {
        "missing": "there is no agreement between the two offices",
        "period": "agreement {} is not in force now",
        "policy": "agreement {} is about {}, not the label's policy",
        "community": "agreement {} does not name the community {}",
        "purpose": "agreement {} is for a purpose that the message does not state",
    }[kind].format(*rest)


def _need_to_know(facts: tuple[Any, ...]) -> str:
    return f"{facts[0]!r} is no ground for a need-to-know"


def _handling(facts: tuple[Any, ...]) -> str:
    return {
        "action": "there is no such action: {}",
        "expired": "the message has expired",
        "originator": "originator-controlled: forwarding needs the originator's consent",
        "onward": "forwarding beyond the addressed offices needs the originator's consent",
    }[facts[0]].format(*facts[1:])


def _internal(facts: tuple[Any, ...]) -> str:
    return f"the decision could not be made ({facts[0]})"


_FAILS: dict[str, Callable[[tuple[Any, ...]], str]] = {
    "policy-known": _policy_known,
    "label-valid": _label_valid,
    "clearance-valid": _clearance_valid,
    "same-policy": _same_policy,
    "classification": _classification,
    "restrictive": _restrictive,
    "permissive": _permissive,
    "agreement": _agreement,
    "need-to-know": _need_to_know,
    "handling": _handling,
    "internal": _internal,
}
