"""Reading XML from strangers: bytes in, an element tree out, and nothing of the machine touched.

The rules:
  - UTF-8 only, no document type (so no entities), no network, bounded size and depth;
  - comments and processing instructions are dropped;
  - errors name the element and its line.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterator
from datetime import UTC, datetime

from lxml import etree

from .errors import Malformed, TooLarge
from .label import normalise

MAX_BYTES = 4 << 20
MAX_DEPTH = 40
XML_LANG = "{http://www.w3.org/XML/1998/namespace}lang"
_ENCODING = re.compile(rb"^<\?xml[^>]*encoding\s*=\s*[\"']([^\"']*)[\"']")
_BOM = b"\xef\xbb\xbf"
_DATETIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)?")

Element = etree._Element  # noqa: SLF001 - the type has no other name


def parse_xml(xml: bytes, what: str) -> Element:
    """The root element of `xml`. Raises Malformed, or TooLarge over 4 MiB."""
    if len(xml) > MAX_BYTES:
        raise TooLarge(f"{what}: over {MAX_BYTES} octets")
    body = xml.removeprefix(_BOM)
    declared = _ENCODING.match(body)
    if declared is not None and declared[1].lower() not in {b"utf-8", b"us-ascii"}:
        raise Malformed(f"{what}: not in UTF-8")
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as problem:
        raise Malformed(f"{what}: not in UTF-8") from problem
    # Refused before parsing, because a parser acts on a document type while it reads it.
    if b"<!DOCTYPE" in body or b"\x00" in body:
        raise Malformed(f"{what}: a document type is not accepted")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(body, parser)
    except etree.XMLSyntaxError as problem:
        raise Malformed(f"{what}: not well-formed XML: {problem.msg}") from problem
    _check_depth(root, what)
    return root


def _check_depth(root: Element, what: str) -> None:
    depth = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > MAX_DEPTH:
            raise TooLarge(f"{what}: elements nested deeper than {MAX_DEPTH} at line {element.sourceline}")


def local_name(element: Element) -> str:
    return etree.QName(element).localname


def namespace(element: Element) -> str:
    return etree.QName(element).namespace or ""


def place(element: Element) -> str:
    """The element and its line, for an error or a finding."""
    return f"{local_name(element)} at line {element.sourceline}"


def elements(parent: Element, uri: str, name: str) -> Iterator[Element]:
    """The direct children of that name."""
    return parent.iterchildren(f"{{{uri}}}{name}")


def required(element: Element, name: str) -> str:
    """The normalised, non-empty value of an attribute. Raises Malformed."""
    value = normalise(element.get(name) or "")
    if not value:
        raise Malformed(f"{place(element)}: attribute {name} is missing or empty")
    return value


def text_of(element: Element) -> str:
    """The normalised text of an element without children. Raises Malformed."""
    if len(element):
        raise Malformed(f"{place(element)}: expected text only")
    return normalise(element.text or "")


def parse_boolean(text: str | None, where: str) -> bool:
    """xs:boolean; absent is false. Raises Malformed."""
    if text is None or text.strip() in {"false", "0"}:
        return False
    if text.strip() in {"true", "1"}:
        return True
    raise Malformed(f"{where}: {text!r:.40} is not a boolean")


def parse_datetime(text: str, where: str) -> int:
    """xs:dateTime as seconds since 1970, fractions cut off, without a zone taken as UTC. Raises Malformed."""
    match = _DATETIME.fullmatch(text.strip())
    if match is None:
        raise Malformed(f"{where}: {text!r:.40} is not a date and time")
    try:
        seconds = timegm(datetime.fromisoformat(match[1] + (match[2] or "Z")).utctimetuple())
    except (ValueError, OverflowError) as problem:  # in UTC it may be in the year 0 or 10000
        raise Malformed(f"{where}: {text!r:.40} is not a date and time") from problem
    if seconds < 0:
        raise Malformed(f"{where}: {text!r:.40} is before 1970")
    return seconds


def format_datetime(seconds: int) -> str:
    """Seconds since 1970 as xs:dateTime in UTC. Raises Malformed beyond the year 9999."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError) as problem:
        raise Malformed(f"time {seconds} has no calendar date") from problem
