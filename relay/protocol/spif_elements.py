"""The elements of an Open XML SPIF 2.1 that define a policy, each read by one function."""

from __future__ import annotations

import re

from .errors import Malformed
from .label import check_name, check_oid, fold, normalise
from .policy_elements import (
    APPLIED,
    ClassEquivalence,
    Classification,
    EquivalentPolicy,
    SetEquivalence,
    Tag,
    TagSet,
    Value,
    ValueEquivalence,
)
from .spif_source import (
    EXTENSIONS_NAMESPACE,
    MARKING,
    Source,
    read_group,
    read_lacv,
    read_marking,
    read_requirements,
    read_tag_type,
)
from .xml import Element, elements, parse_boolean, parse_datetime, place, required, text_of

_HIERARCHY = re.compile(r"-?[0-9]{1,9}")


def read_classification(element: Element, source: Source) -> Classification:
    source.check(
        element,
        children={"equivalentClassification", "requiredCategory"} | MARKING,
        attributes={"name", "color", "lacv", "hierarchy", "obsolete"},
        strict=True,
    )
    hierarchy = required(element, "hierarchy")
    if not _HIERARCHY.fullmatch(hierarchy):
        raise Malformed(f"{place(element)}: hierarchy {hierarchy!r:.20} is not a number")
    return Classification(
        name=check_name(required(element, "name"), place(element)),
        lacv=read_lacv(element),
        hierarchy=int(hierarchy),
        color=element.get("color"),
        obsolete=parse_boolean(element.get("obsolete"), place(element)),
        marking=read_marking(element, source),
        required=read_requirements(element, source),
        equivalences=tuple(
            _read_class_equivalence(each, source) for each in elements(element, source.uri, "equivalentClassification")
        ),
    )


def _applied(element: Element) -> str:
    applied = required(element, "applied")
    if applied not in APPLIED:
        raise Malformed(f"{place(element)}: applied {applied!r:.40}")
    return applied


def _read_class_equivalence(element: Element, source: Source) -> ClassEquivalence:
    source.check(element, children={"requiredCategory"}, attributes={"policyRef", "lacv", "applied"}, strict=True)
    return ClassEquivalence(
        required(element, "policyRef"),
        read_lacv(element),
        _applied(element),
        read_requirements(element, source),
    )


def _read_value_equivalence(element: Element, source: Source) -> ValueEquivalence:
    source.check(
        element,
        children=(),
        attributes={"policyRef", "tagSetId", "tagType", "enumType", "lacv", "applied", "action"},
        strict=True,
    )
    action = element.get("action")
    if action not in {None, "discard"}:
        raise Malformed(f"{place(element)}: unknown action {action!r:.40}")
    policy, applied = required(element, "policyRef"), _applied(element)
    if action == "discard":
        return ValueEquivalence(policy, "", None, "", applied, discard=True)
    oid = check_oid(required(element, "tagSetId"), place(element))
    return ValueEquivalence(policy, oid, read_tag_type(element), read_lacv(element), applied, discard=False)


def read_tag_set(element: Element, source: Source) -> TagSet:
    source.check(
        element,
        children={"securityCategoryTag", "equivalentSecurityCategoryTagSet"},
        attributes={"name", "id"},
        strict=True,
    )
    name = check_name(required(element, "name"), place(element))
    return TagSet(
        name=name,
        oid=check_oid(required(element, "id"), place(element)),
        tags=tuple(_read_tag(each, source, name) for each in elements(element, source.uri, "securityCategoryTag")),
        equivalences=tuple(
            _read_set_equivalence(each, source)
            for each in elements(element, source.uri, "equivalentSecurityCategoryTagSet")
        ),
    )


def _read_set_equivalence(element: Element, source: Source) -> SetEquivalence:
    source.check(element, children={"requiredCategory"}, attributes={"policyRef", "name", "id"}, strict=True)
    if element.get("name") is not None or element.get("id") is not None:
        source.note("set-equivalence", element, "a mapping of a whole tag set is not applied, only those of values")
    return SetEquivalence(required(element, "policyRef"), read_requirements(element, source))


def _read_tag(element: Element, source: Source, set_name: str) -> Tag:
    source.check(
        element,
        children={"tagCategory", "markingQualifier"},
        attributes={"name", "tagType", "enumType", "tag7Encoding", "singleSelection", "maxSelection", "minSelection"},
        strict=True,
    )
    least = _selection(element, "minSelection") or 0
    most = _selection(element, "maxSelection")
    if parse_boolean(element.get("singleSelection"), place(element)):
        if most is not None and most > 1:
            source.note("selection", element, "singleSelection and maxSelection differ, one value is taken")
        most = 1 if most is None else min(most, 1)
    if most is not None and least > most:
        raise Malformed(f"{place(element)}: at least {least} and at most {most} values")
    return Tag(
        name=normalise(element.get("name") or set_name),
        type=read_tag_type(element),
        values=tuple(_read_value(each, source) for each in elements(element, source.uri, "tagCategory")),
        min_selection=least,
        max_selection=most,
        marking=read_marking(element, source),
    )


def _selection(element: Element, name: str) -> int | None:
    text = (element.get(name) or "unbounded").strip()
    if text == "unbounded":
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 6:
        raise Malformed(f"{place(element)}: {name} {text!r:.20} is no number")
    return int(text)


def _read_value(element: Element, source: Source) -> Value:
    source.check(
        element,
        children={"equivalentSecCategoryTag", *MARKING, "excludedClass", "requiredCategory", "excludedCategory"},
        attributes={"name", "lacv", "userInput", "requiredClass", "obsolete", "dateFormat", "notBefore", "notAfter"},
        strict=True,
    )
    where = place(element)
    name = element.get("name") or ""
    if name != normalise(name):
        source.note("white-space", element, f"the name {name!r} is read as {normalise(name)!r}")
    start, end = element.get("notBefore"), element.get("notAfter")
    return Value(
        name=check_name(required(element, "name"), where),
        lacv=read_lacv(element),
        obsolete=parse_boolean(element.get("obsolete"), where),
        free_text=element.get("userInput") is not None,
        required_class=None if element.get("requiredClass") is None else required(element, "requiredClass"),
        not_before=None if start is None else parse_datetime(start, where),
        not_after=None if end is None else parse_datetime(end, where),
        excluded_classes=_excluded_classes(element, source),
        required=read_requirements(element, source),
        excluded=tuple(read_group(each, source) for each in elements(element, source.uri, "excludedCategory")),
        marking=read_marking(element, source),
        equivalences=tuple(
            _read_value_equivalence(each, source) for each in elements(element, source.uri, "equivalentSecCategoryTag")
        ),
    )


def _excluded_classes(element: Element, source: Source) -> frozenset[str]:
    names: set[str] = set()
    for each in elements(element, source.uri, "excludedClass"):
        source.check(each, children=(), attributes=(), strict=True)
        name = check_name(text_of(each), place(each))
        if fold(name) in names:
            source.note("duplicate-exclusion", each, f"{name} is excluded twice")
        names.add(fold(name))
    return frozenset(names)


def read_equivalent_policy(element: Element, source: Source) -> EquivalentPolicy:
    source.check(
        element,
        children={"requiredCategory"},
        attributes={"name", "id", "userRefURI", "docRefURI"},
        strict=True,
    )
    oid = check_oid(required(element, "id"), place(element))
    return EquivalentPolicy(required(element, "name"), oid, read_requirements(element, source))


def read_memberships(root: Element, source: Source) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The groups of the NATO SPIF extension; an obsolete member is no member."""
    table: list[tuple[str, tuple[str, ...]]] = []
    for holder in elements(root, source.uri, "extensions"):
        for memberships in elements(holder, EXTENSIONS_NAMESPACE, "memberships"):
            for group in elements(memberships, EXTENSIONS_NAMESPACE, "membership"):
                members = [
                    _extension_name(each)
                    for each in elements(group, EXTENSIONS_NAMESPACE, "member")
                    if not parse_boolean(_extension(each, "obsolete"), place(each))
                ]
                table.append((_extension_name(group), tuple(members)))
    return tuple(table)


def _extension(element: Element, name: str) -> str | None:
    qualified = element.get(f"{{{EXTENSIONS_NAMESPACE}}}{name}")
    return element.get(name) if qualified is None else qualified


def _extension_name(element: Element) -> str:
    return check_name(normalise(_extension(element, "name") or ""), place(element))
