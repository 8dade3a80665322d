"""Labels and clearances as ADatP-4774 XML, and the forms derived from them.

Sources: ADatP-4774 App 1, ADatP-4774.1 Table 14 and Fig 21, ADatP-5636 (JSON), ADatP-4778 (binding).
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable

from lxml import etree

from .errors import Malformed
from .label import Category, Clearance, Label
from .xml import Element, format_datetime

LABEL_NS = "urn:nato:stanag:4774:confidentialitymetadatalabel:1:0"
CLEARANCE_NS = "urn:nato:stanag:4774:confidentialityclearance:1:0"
BINDING_NS = "urn:nato:stanag:4778:bindinginformation:1:0"
XMIME_NS = "http://www.w3.org/2005/05/xmlmime"


def write_label_xml(label: Label) -> bytes:
    """The label as its originator's 4774 document in UTF-8.

    Raises Malformed without the creation time, which 4774 demands.
    """
    root = etree.Element(f"{{{LABEL_NS}}}originatorConfidentialityLabel", nsmap={"slab": LABEL_NS})
    if label.created is None:
        raise Malformed("a 4774 label needs its creation time")
    _write_label(root, label)
    return _document(root)


def _write_label(root: Element, label: Label) -> None:
    if label.review is not None:
        root.set("ReviewDateTime", format_datetime(label.review))
    information = _add(root, LABEL_NS, "ConfidentialityInformation")
    _write_policy(information, label.policy.name, label.policy.oid)
    _add(information, LABEL_NS, "Classification", label.classification)
    if label.privacy_mark is not None:
        _add(information, LABEL_NS, "PrivacyMark", label.privacy_mark)
    _write_categories(information, label.categories)
    if label.originator is not None:
        kind = "rfc822Name" if "@" in label.originator else "uniformResourceIdentifier"
        _add(root, LABEL_NS, "OriginatorID", label.originator).set("IDType", kind)
    if label.created is not None:
        _add(root, LABEL_NS, "CreationDateTime", format_datetime(label.created))
    if label.succession is not None:
        holder = _add(root, LABEL_NS, "SuccessionHandling")
        _add(holder, LABEL_NS, "SuccessionDateTime", format_datetime(label.succession.at))
        _write_label(_add(holder, LABEL_NS, "SuccessorConfidentialityLabel"), label.succession.label)


def write_clearance_xml(clearance: Clearance) -> bytes:
    """The clearance as a 4774 document in UTF-8. Its validity has no place there and is left out."""
    prefixes = {"sclr": CLEARANCE_NS, "s4774": LABEL_NS}
    root = etree.Element(f"{{{CLEARANCE_NS}}}ConfidentialityClearance", nsmap=prefixes)
    _write_policy(root, clearance.policy_name, clearance.policy_oid)
    holder = _add(root, CLEARANCE_NS, "ClassificationList")
    for name in clearance.classifications:
        _add(holder, LABEL_NS, "Classification", name)
    _write_categories(root, clearance.categories)
    return _document(root)


def clearance_claim(clearance: Clearance) -> str:
    """The JWT claim `aciClr`: the clearance document in base64url without padding (4774.1 Table 14)."""
    return urlsafe_b64encode(write_clearance_xml(clearance)).rstrip(b"=").decode("ascii")


def _write_policy(parent: Element, name: str, oid: str) -> None:
    _add(parent, LABEL_NS, "PolicyIdentifier", name).set("URI", f"urn:oid:{oid}")


def _write_categories(parent: Element, categories: Iterable[Category]) -> None:
    for category in categories:
        element = _add(parent, LABEL_NS, "Category")
        element.set("TagName", category.tag_name)
        element.set("Type", category.type.name)
        element.set("URI", f"urn:oid:{category.tag_set_oid}")
        for value in category.values:
            _add(element, LABEL_NS, "GenericValue", value)


def _add(parent: Element, uri: str, name: str, text: str | None = None) -> Element:
    element = etree.SubElement(parent, f"{{{uri}}}{name}")
    element.text = text
    return element


def _document(root: Element) -> bytes:
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", pretty_print=True)


def binding_data_object(label: Label, data_uri: str, content_type: str) -> bytes:
    """A detached ADatP-4778 binding of the originator's label to what `data_uri` names. Unsigned."""
    prefixes = {"mb": BINDING_NS, "slab": LABEL_NS, "xmime": XMIME_NS}
    root = etree.Element(f"{{{BINDING_NS}}}BindingInformation", nsmap=prefixes)
    container = _add(root, BINDING_NS, "MetadataBindingContainer")
    binding = _add(container, BINDING_NS, "MetadataBinding")
    metadata = _add(binding, BINDING_NS, "Metadata")
    _write_label(_add(metadata, LABEL_NS, "originatorConfidentialityLabel"), label)
    reference = _add(binding, BINDING_NS, "DataReference")
    reference.set("URI", data_uri)
    reference.set(f"{{{XMIME_NS}}}contentType", content_type)
    return _document(root)
