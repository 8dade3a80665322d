"""What every element of an Open XML SPIF 2.1 shares: strictness, references to values, markings.

`Source.check` is what keeps a file from being half read: see the rules in spif.py.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from .errors import Malformed
from .label import TagType, normalise
from .policy import Finding
from .policy_elements import (
    Group,
    Marking,
    Phrase,
    Qualifier,
    Requirement,
)
from .xml import (
    XML_LANG,
    Element,
    elements,
    local_name,
    namespace,
    parse_boolean,
    place,
    required,
    text_of,
)

EXTENSIONS_NAMESPACE = "urn:nato:stanag:4774:spif:extensions:1:0"
CONSTRAINTS = frozenset({"excludedClass", "requiredCategory", "excludedCategory", "categoryGroup"})
OPERATIONS = frozenset({"onlyOne", "oneOrMore", "all"})
MARKING = frozenset({"markingData", "markingQualifier"})
CODES = frozenset(
    {
        "pageTop",
        "pageBottom",
        "pageTopBottom",
        "documentStart",
        "documentEnd",
        "noNameDisplay",
        "noMarkingDisplay",
        "suppressClassName",
        "firstLineOfText",
        "lastLineOfText",
        "subject",
        "xHeader",
        "portionMarking",
        "inputTitle",
        "waterMark",
        "replacePolicy",
    }
)
NOT_IN_A_BANNER = frozenset({"subject", "xHeader", "portionMarking", "inputTitle", "waterMark"})
_KNOWN_ELSEWHERE = frozenset({"equivalentSecCategoryTag", "equivalentClassification", "tagCategory", "code"}) | MARKING


@dataclass(slots=True)
class Source:
    """One file being read: its namespace, and what was found worth telling."""

    uri: str
    findings: list[Finding] = field(default_factory=list)

    def note(self, rule: str, element: Element, why: str) -> None:
        self.findings.append(Finding(rule, f"{place(element)}: {why}"))

    def check(
        self,
        element: Element,
        *,
        children: Collection[str],
        attributes: Collection[str],
        strict: bool = False,
    ) -> None:
        """Refuse or report whatever `element` contains beyond the given names.

        `strict` is for elements that constrain labels: there the unknown is refused.
        """
        for child in element.iterchildren(tag="*"):
            self._check_child(element, child, children, strict=strict)
        for name in map(str, element.attrib):
            if name.startswith("{") or name in attributes:
                continue
            if strict:
                raise Malformed(f"{place(element)}: unknown attribute {name}")
            self.note("unknown-attribute", element, f"attribute {name} is ignored")
        texts = [element.text, *(child.tail for child in element)]
        if children and any(text and text.strip() for text in texts):
            if strict:
                raise Malformed(f"{place(element)}: stray text")
            self.note("stray-text", element, "text between elements is ignored")

    def _check_child(self, parent: Element, child: Element, known: Collection[str], *, strict: bool) -> None:
        name, uri = local_name(child), namespace(child)
        if uri == self.uri and name in known:
            return
        where = f"{place(child)} in {local_name(parent)}"
        if name in CONSTRAINTS:
            raise Malformed(f"{where}: a constraint outside its place or its namespace")
        if strict and name not in _KNOWN_ELSEWHERE:
            raise Malformed(f"{where}: unknown where labels are constrained")
        if strict and uri == self.uri:
            raise Malformed(f"{where}: not allowed here")
        if uri != self.uri:
            self.note("namespace", child, f"in namespace {uri!r}, ignored")
        else:
            self.note("unknown-element", child, "ignored")


def read_lacv(element: Element) -> str:
    text = required(element, "lacv")
    return str(int(text)) if text.isascii() and text.isdigit() and len(text) < 20 else text


def read_tag_type(element: Element) -> TagType:
    """The type and, if enumerated, its enumType. Raises Malformed where they contradict or are silent."""
    tag_type, enum_type = required(element, "tagType"), element.get("enumType")
    plain = {
        "restrictive": TagType.RESTRICTIVE,
        "permissive": TagType.PERMISSIVE,
        "tagType7": TagType.INFORMATIVE,
    }
    if tag_type == "enumerated" and enum_type in {"restrictive", "permissive"}:
        return plain[enum_type]
    if tag_type in plain and enum_type in {None, tag_type}:
        return plain[tag_type]
    raise Malformed(f"{place(element)}: tag type {tag_type!r} with enum type {enum_type!r}")


def read_group(element: Element, source: Source) -> Group:
    source.check(element, children=(), attributes={"tagSetRef", "tagType", "enumType", "lacv", "all"}, strict=True)
    whole = parse_boolean(element.get("all"), place(element))
    if whole and element.get("lacv") is not None:
        raise Malformed(f"{place(element)}: both one value and all of them")
    lacv = None if element.get("lacv") is None else read_lacv(element)
    return Group(required(element, "tagSetRef"), read_tag_type(element), lacv)


def read_requirements(parent: Element, source: Source) -> tuple[Requirement, ...]:
    found = []
    for element in elements(parent, source.uri, "requiredCategory"):
        source.check(element, children={"categoryGroup"}, attributes={"operation"}, strict=True)
        groups = tuple(read_group(each, source) for each in elements(element, source.uri, "categoryGroup"))
        operation = required(element, "operation")
        if operation not in OPERATIONS or not groups:
            raise Malformed(f"{place(element)}: operation {operation!r} over {len(groups)} groups")
        found.append(Requirement(operation, groups))
    return tuple(found)


def read_marking(parent: Element, source: Source) -> Marking:
    phrases, qualifiers = [], []
    for element in elements(parent, source.uri, "markingData"):
        source.check(element, children={"code"}, attributes={"phrase"})
        codes = frozenset(text_of(code) for code in elements(element, source.uri, "code"))
        if unknown := codes - CODES:
            raise Malformed(f"{place(element)}: unknown marking code {min(unknown)!r:.40}")
        phrases.append(Phrase(_lang(element), _phrase(element), codes))
    for holder in elements(parent, source.uri, "markingQualifier"):
        source.check(holder, children={"qualifier"}, attributes={"markingCode"})
        where = holder.get("markingCode") or "pageTop"
        if where not in CODES:
            raise Malformed(f"{place(holder)}: unknown marking code {where!r:.40}")
        if where in NOT_IN_A_BANNER:
            continue  # a header's name or an input's title would otherwise read as part of the marking
        for element in elements(holder, source.uri, "qualifier"):
            source.check(element, children=(), attributes={"markingQualifier", "qualifierCode"})
            code = required(element, "qualifierCode")
            if code not in {"prefix", "suffix", "separator"}:
                raise Malformed(f"{place(element)}: unknown qualifier code {code!r:.40}")
            qualifiers.append(Qualifier(_lang(element), code, _printable(element, "markingQualifier")))
    return Marking(tuple(phrases), tuple(qualifiers))


def _lang(element: Element) -> str:
    return (element.get(XML_LANG) or "").strip().lower()


def _phrase(element: Element) -> str | None:
    return None if element.get("phrase") is None else normalise(_printable(element, "phrase"))


def _printable(element: Element, name: str) -> str:
    text = element.get(name) or ""
    if not text.isprintable():
        raise Malformed(f"{place(element)}: control characters in {name}")
    return text
