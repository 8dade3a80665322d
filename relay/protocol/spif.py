"""Reading a security policy from an Open XML SPIF, schema version 2.1.

The rules:
  - version 2.1 is read, another version is refused rather than half understood;
  - what constrains a label is read completely or the file is refused: an unknown element or attribute there,
    or one outside the SPIF namespace, could be a restriction that we would lose;
  - elsewhere the unknown is ignored and reported as a finding. Ignoring a mapping, a marking, a value or a
    member only ever denies more;
  - every reference inside the policy resolves, every name is unique with case and white space folded; only
    one value name given to several values is kept (real files have it), with the constraints of all;
  - the digest is over the bytes as received.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256

from .errors import Malformed, TooLarge
from .label import check_name, check_oid, fold
from .policy import Finding, Policy, PolicyExtensions
from .policy_elements import Classification, EquivalentPolicy, Marking, TagSet
from .policy_extensions import NO_EXTENSIONS, STANDARD_EXTENSIONS
from .spif_elements import (
    read_classification,
    read_equivalent_policy,
    read_memberships,
    read_tag_set,
)
from .spif_lint import check_extent, check_policy, lint
from .spif_source import Source, read_marking
from .xml import Element, elements, parse_datetime, parse_xml, required

NAMESPACE = "http://www.xmlspif.org/spif"
SCHEMA_VERSION = "2.1"
MAX_SPIF = 512 * 1024  # NATO's is 87 KiB; all of it is in memory, twelve times as large, wherever its labels are read
_ROOT_CHILDREN = frozenset(
    {
        "defaultSecurityPolicyId",
        "securityPolicyId",
        "updateInfo",
        "securityClassifications",
        "securityCategoryTagSets",
        "privacyMarks",
        "equivalentPolicies",
        "markingData",
        "markingQualifier",
        "extensions",
    }
)
_ROOT_ATTRIBUTES = frozenset(
    {
        "schemaVersion",
        "version",
        "creationDate",
        "originatorDN",
        "keyIdentifier",
        "privilegeId",
        "rbacId",
        "userRefURI",
        "docRefURI",
        "notBefore",
        "notAfter",
    }
)


def read_spif(spif_xml: bytes, extensions: PolicyExtensions = NO_EXTENSIONS) -> tuple[Policy, tuple[Finding, ...]]:
    """The policy in a SPIF, and what the linter thinks of it.

    A policy to which a standard adds prose (NATO: ADatP-4774 App 2) has that prose beside its `extensions`, and
    one that lacks the tag sets of which it speaks is refused.
    Raises Malformed naming the element and its line, TooLarge over MAX_SPIF.
    """
    if len(spif_xml) > MAX_SPIF:
        raise TooLarge(f"SPIF: {len(spif_xml)} octets; the limit is {MAX_SPIF}")
    root = parse_xml(spif_xml, "SPIF")
    if root.tag != f"{{{NAMESPACE}}}SPIF":
        raise Malformed(f"SPIF: the root element is {root.tag!r:.120}, not SPIF of {NAMESPACE}")
    schema = root.get("schemaVersion")
    if schema != SCHEMA_VERSION:
        raise Malformed(
            f"SPIF: schema version {schema!r:.20} at line {root.sourceline}, only {SCHEMA_VERSION} is read",
            hint="ask the policy authority for the policy in Open XML SPIF 2.1",
        )
    source = Source(NAMESPACE)
    source.check(root, children=_ROOT_CHILDREN, attributes=_ROOT_ATTRIBUTES)
    policy = _read_policy(root, source, sha256(spif_xml).digest(), extensions)
    check_extent(policy)
    return policy, (*source.findings, *lint(policy))


def _read_policy(root: Element, source: Source, digest: bytes, extensions: PolicyExtensions) -> Policy:
    identity = _only(root, "securityPolicyId")
    source.check(identity, children={"markingData", "markingQualifier"}, attributes={"name", "id"})
    oid = check_oid(required(identity, "id"), "securityPolicyId")
    classifications = _read_classifications(_only(root, "securityClassifications"), source)
    tag_sets = _read_tag_sets(root, source)
    extensions = _with_standard(oid, classifications, source, extensions)
    check_policy(classifications, tag_sets)
    start, end = root.get("notBefore"), root.get("notAfter")
    own, outer = read_marking(identity, source), read_marking(root, source)
    return Policy(
        name=check_name(required(identity, "name"), "securityPolicyId"),
        oid=oid,
        version=_version(root),
        digest=digest,
        classifications=classifications,
        tag_sets=tag_sets,
        marking=Marking(outer.phrases + own.phrases, outer.qualifiers + own.qualifiers),
        equivalents=_read_equivalents(root, source),
        memberships=read_memberships(root, source),
        privacy_marks=_read_privacy_marks(root),
        not_before=None if start is None else parse_datetime(start, "SPIF notBefore"),
        not_after=None if end is None else parse_datetime(end, "SPIF notAfter"),
        extensions=extensions,
    )


def _version(root: Element) -> int:
    text = (root.get("version") or "1").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise Malformed(f"SPIF: version {text!r:.20} at line {root.sourceline} is not a number")
    return int(text)


def _only(root: Element, name: str) -> Element:
    found = list(elements(root, NAMESPACE, name))
    if len(found) != 1:
        raise Malformed(f"SPIF: expected one {name}, found {len(found)}")
    return found[0]


def _optional(root: Element, name: str) -> Element | None:
    found = list(elements(root, NAMESPACE, name))
    if len(found) > 1:
        raise Malformed(f"SPIF: more than one {name}, the second at line {found[1].sourceline}")
    return found[0] if found else None


def _read_classifications(holder: Element, source: Source) -> tuple[Classification, ...]:
    source.check(holder, children={"securityClassification"}, attributes={"name"})
    return tuple(read_classification(each, source) for each in elements(holder, NAMESPACE, "securityClassification"))


def _read_tag_sets(root: Element, source: Source) -> tuple[TagSet, ...]:
    holder = _optional(root, "securityCategoryTagSets")
    if holder is None:
        return ()
    source.check(holder, children={"securityCategoryTagSet"}, attributes=())
    return tuple(read_tag_set(element, source) for element in elements(holder, NAMESPACE, "securityCategoryTagSet"))


def _read_equivalents(root: Element, source: Source) -> tuple[EquivalentPolicy, ...]:
    holder = _optional(root, "equivalentPolicies")
    if holder is None:
        return ()
    source.check(holder, children={"equivalentPolicy"}, attributes=())
    rows = tuple(read_equivalent_policy(each, source) for each in elements(holder, NAMESPACE, "equivalentPolicy"))
    for taken in ([fold(row.name) for row in rows], [row.oid for row in rows]):
        if len(set(taken)) != len(taken):
            raise Malformed(f"SPIF: an equivalent policy is given twice, after line {holder.sourceline}")
    return rows


def _read_privacy_marks(root: Element) -> tuple[str, ...]:
    holder = _optional(root, "privacyMarks")
    if holder is None:
        return ()
    return tuple(required(each, "name") for each in elements(holder, NAMESPACE, "privacyMark"))


def _with_standard(
    oid: str, classifications: tuple[Classification, ...], source: Source, extensions: PolicyExtensions
) -> PolicyExtensions:
    """A rank that the policy does not have costs its portion mark; of a tag set, `Policy` refuses the lack."""
    standard = STANDARD_EXTENSIONS.get(oid)
    if standard is None:
        return extensions
    ranks = {fold(each.name): each.name for each in classifications}
    marks = tuple((ranks[fold(name)], mark) for name, mark in standard.portion_marks if fold(name) in ranks)
    if lacking := [name for name, _ in standard.portion_marks if fold(name) not in ranks]:
        source.findings.append(Finding("standard-extensions", f"no portion mark for {', '.join(lacking)}"))
    return extensions.beside(replace(standard, portion_marks=marks))
