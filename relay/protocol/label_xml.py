"""Labels and clearances from ADatP-4774 XML; the way out is in label_forms.py.

The rules, where the schema is lenient and the reader is not:
  - the originator's label is read; an alternative one and the label of a label (metadata) are none;
  - one PolicyIdentifier, one Classification, in the label namespace; a URI must be the policy's urn:oid:;
  - a Category has a TagName, a known Type and one GenericValue or more; IntegerValue and BitStringValue shall
    not be used; a tag set stands once; it is the policy's of that name, its URI if given that oid;
  - CreationDateTime and OriginatorID are kept if present, as are a review time and a successor;
  - elements of other namespaces are ignored where 4774 has its wildcard, everything else unknown is refused.

Names are brought to the policy's spelling, so that case and white space do not make a different label.
Sources: ADatP-4774 App 1, ADatP-4774.1 Fig 21.
"""

from __future__ import annotations

from collections.abc import Iterable

from .errors import Malformed
from .label import MAX_SUCCESSION, Category, Clearance, Label, Succession, TagType, check_name, fold
from .label_forms import (
    CLEARANCE_NS,
    LABEL_NS,
    binding_data_object,
    clearance_claim,
    write_clearance_xml,
    write_label_xml,
)
from .policy import Policy
from .xml import (
    Element,
    elements,
    local_name,
    namespace,
    parse_datetime,
    parse_xml,
    place,
    required,
    text_of,
)

__all__ = [
    "binding_data_object",
    "clearance_claim",
    "read_clearance_xml",
    "read_label_xml",
    "write_clearance_xml",
    "write_label_xml",
]

# The second is the name before there were three kinds, "for backwards compatibility only".
_ORIGINATORS = frozenset(f"{{{LABEL_NS}}}{name}" for name in ("originatorConfidentialityLabel", "ConfidentialityLabel"))
_OTHERS = {
    f"{{{LABEL_NS}}}alternativeConfidentialityLabel": "it is a translation of the originator's label into a policy",
    f"{{{LABEL_NS}}}metadataConfidentialityLabel": "it is the label of a label",
}


def read_label_xml(label_xml: bytes, policy: Policy) -> Label:
    """The label in a 4774 document, pinned to `policy`. Raises Malformed naming element and line.

    Whether it is valid under the policy is `policy.validate`'s question; values that the policy does not know
    are kept as they are, so that it can say so.
    """
    root = parse_xml(label_xml, "label")
    if root.tag not in _ORIGINATORS:
        raise Malformed(f"label: the root element is {root.tag!r:.120}", hint=_OTHERS.get(str(root.tag), ""))
    return _read_label(root, policy, MAX_SUCCESSION)


def _read_label(root: Element, policy: Policy, successors: int) -> Label:
    known = ("ConfidentialityInformation", "OriginatorID", "CreationDateTime", "SuccessionHandling")
    _check_children(root, known)
    information = _one(root, "ConfidentialityInformation")
    _check_children(information, ("PolicyIdentifier", "Classification", "PrivacyMark", "Category"))
    _check_policy(_one(information, "PolicyIdentifier"), policy)
    rank = _one(information, "Classification")
    if rank.get("URI") is not None:
        raise Malformed(f"{place(rank)}: a URI shall not be used")
    mark, originator = _maybe(information, "PrivacyMark"), _maybe(root, "OriginatorID")
    created, review = _maybe(root, "CreationDateTime"), root.get("ReviewDateTime")
    if originator is not None:
        required(originator, "IDType")
    return Label(
        policy=policy.ref,
        classification=_spelled_rank(policy, check_name(text_of(rank), place(rank))),
        categories=tuple(_read_category(each, policy) for each in elements(information, LABEL_NS, "Category")),
        privacy_mark=None if mark is None else check_name(text_of(mark), place(mark)),
        originator=None if originator is None else check_name(text_of(originator), place(originator)),
        created=None if created is None else parse_datetime(text_of(created), place(created)),
        review=None if review is None else parse_datetime(review, "ReviewDateTime"),
        succession=_read_succession(root, policy, successors),
    )


def _read_succession(root: Element, policy: Policy, successors: int) -> Succession | None:
    holder = _maybe(root, "SuccessionHandling")
    if holder is None:
        return None
    if successors == 0:
        raise Malformed(f"{place(holder)}: more than {MAX_SUCCESSION} successors")
    _check_children(holder, ("SuccessionDateTime", "SuccessorConfidentialityLabel"))
    moment = _one(holder, "SuccessionDateTime")
    at = parse_datetime(text_of(moment), place(moment))
    successor = _one(holder, "SuccessorConfidentialityLabel")
    return Succession(at, _read_label(successor, policy, successors - 1))


def _check_children(parent: Element, known: Iterable[str]) -> None:
    for child in parent.iterchildren(tag="*"):
        if namespace(child) in {"", LABEL_NS, CLEARANCE_NS} and (
            namespace(child) != LABEL_NS or local_name(child) not in known
        ):
            raise Malformed(f"{place(child)}: not allowed in {local_name(parent)}")


def _one(parent: Element, name: str) -> Element:
    found = list(elements(parent, LABEL_NS, name))
    if len(found) != 1:
        raise Malformed(f"{place(parent)}: expected one {name}, found {len(found)}")
    return found[0]


def _maybe(parent: Element, name: str) -> Element | None:
    return _one(parent, name) if any(True for _ in elements(parent, LABEL_NS, name)) else None


def _check_policy(identifier: Element, policy: Policy) -> None:
    name, uri = text_of(identifier), identifier.get("URI")
    if fold(name) != fold(policy.name):
        raise Malformed(f"{place(identifier)}: the policy is {name!r:.80}, not {policy.name}")
    if uri is not None and uri.strip() != f"urn:oid:{policy.oid}":
        raise Malformed(f"{place(identifier)}: {uri!r:.80} is not the oid of {policy.name}")


def _spelled_rank(policy: Policy, name: str) -> str:
    rank = policy.classification(name)
    return name if rank is None else rank.name


def _read_category(element: Element, policy: Policy) -> Category:
    name, kind = required(element, "TagName"), required(element, "Type")
    if kind not in TagType.__members__:
        raise Malformed(f"{place(element)}: unknown type {kind!r:.40}")
    for child in element.iterchildren(tag="*"):
        if child.tag != f"{{{LABEL_NS}}}GenericValue":
            raise Malformed(f"{place(child)}: only GenericValue is accepted")
    tag_set = policy.tag_set(name)
    if tag_set is None:
        raise Malformed(f"{place(element)}: {policy.name} has no tag set {name!r:.80}")
    uri = element.get("URI")
    if uri is not None and uri.strip() != f"urn:oid:{tag_set.oid}":
        raise Malformed(f"{place(element)}: {uri!r:.80} is not the oid of {tag_set.name}")
    values = tuple(text_of(each) for each in element)
    try:
        raw = Category(tag_set.name, tag_set.oid, TagType[kind], values)
    except Malformed as problem:
        raise Malformed(f"{place(element)}: {problem}") from problem
    spelled = tuple(known[0].name if known else name for name, known in policy.chosen(raw))
    return Category(tag_set.name, tag_set.oid, raw.type, spelled)


def read_clearance_xml(clearance_xml: bytes, policy: Policy, *, not_before: int, not_after: int) -> Clearance:
    """The clearance in a 4774 document; its validity comes from the certificate that will carry it.

    Raises Malformed naming element and line, also for a name that the policy does not know: it would grant
    nothing, which the person who wrote it did not mean.
    """
    root = parse_xml(clearance_xml, "clearance")
    if root.tag != f"{{{CLEARANCE_NS}}}ConfidentialityClearance":
        raise Malformed(f"clearance: the root element is {root.tag!r:.120}")
    lists = list(elements(root, CLEARANCE_NS, "ClassificationList"))
    if len(lists) != 1:
        raise Malformed(f"{place(root)}: expected one ClassificationList, found {len(lists)}")
    for child in root.iterchildren(tag="*"):
        if child is not lists[0] and child.tag not in {
            f"{{{LABEL_NS}}}PolicyIdentifier",
            f"{{{LABEL_NS}}}Category",
        }:
            raise Malformed(f"{place(child)}: not allowed in a clearance")
    _check_policy(_one(root, "PolicyIdentifier"), policy)
    _check_children(lists[0], ("Classification",))
    ranks = [text_of(each) for each in elements(lists[0], LABEL_NS, "Classification")]
    categories = tuple(_read_category(each, policy) for each in elements(root, LABEL_NS, "Category"))
    for rank in ranks:
        if policy.classification(rank) is None:
            raise Malformed(f"clearance: {policy.name} has no classification {rank!r:.80}")
    for category in categories:
        for value, known in policy.chosen(category):
            if not known:
                kind = category.type.name
                raise Malformed(f"clearance: {category.tag_name} has no {kind} value {value!r:.80}")
    spelled = tuple(_spelled_rank(policy, rank) for rank in ranks)
    return Clearance(policy.name, policy.oid, spelled, categories, not_before, not_after)
