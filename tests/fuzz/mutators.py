"""Changes of octets that keep their shape: a value in CBOR, an element of XML, a word of a text."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import cbor2
from lxml import etree

_OCTETS = (
    b"\x00",
    b"\xff",
    b"\n",
    b"\n\n",
    b" ",
    b"\x7f",
    b"\x80",
    b"\xc3\xa9",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"\xef\xbf\xbf",
)
_NUMBERS = (
    0,
    1,
    -1,
    2,
    23,
    24,
    255,
    256,
    65535,
    65536,
    (1 << 31) - 1,
    1 << 32,
    253_402_300_799,
    253_402_300_800,
    (1 << 63) - 1,
    -(1 << 63),
    1 << 63,
    (1 << 64) - 1,
)
_WORDS = (
    "", " ", "  ", "\n", "\t", "\x00", "\x1b[31m", "é", "é", "İ", "ß", "\u202e", "\u200b", "\u2028", "\ufeff", "\U0001f600",
    "0", "00", "-1", "1", "9" * 20, "a" * 300, "*", "@", "/", "..", ",", "-", ";", '"', "=", "(", ")", "\u0661", "²", "true",
)  # fmt: skip
_LEAVES: tuple[Any, ...] = (None, True, False, 0, 1, -1, b"", bytes(16), bytes(32), "", "a", [], {}, [[]], {1: 1}, 1.5)
_DEEPEST = 12
_LONGEST = 1 << 17  # octets of what is repeated


def octets(given: bytes, rng: Random) -> bytes:
    """A bit, a slice or an interesting piece changed."""
    at = rng.randrange(len(given) + 1)
    end = min(len(given), at + rng.choice((1, 1, 2, 4, 8, 32, 1 << 20)))
    piece = given[at:end]
    match rng.randrange(7):
        case 0 if piece:
            return given[:at] + bytes([piece[0] ^ 1 << rng.randrange(8)]) + given[at + 1 :]
        case 1:
            return given[:at] + rng.choice(_OCTETS) + given[at:]
        case 2:
            return given[:at] + given[end:]
        case 3:
            return given[:at] + rng.choice(_OCTETS) + given[end:]
        case 4:
            return given[:at] + piece * _many(rng, len(piece)) + given[end:]
        case 5:
            other = rng.randrange(len(given) + 1)
            return given[:other] + piece + given[other:]
        case _:
            return given[:at] + rng.randbytes(end - at) + given[end:] if end - at < 100 else given[:at]


def text(given: bytes, rng: Random) -> bytes:
    """A word changed, taken out, doubled, moved, or put in; now and then an octet."""
    if rng.random() < 0.3:
        return octets(given, rng)
    return _changed_text(given.decode("utf-8", "surrogateescape"), rng).encode("utf-8", "surrogatepass")


def cbor(given: bytes, rng: Random) -> bytes:
    """A value somewhere in it changed, and all around it encoded again; now and then an octet."""
    if rng.random() < 0.15:
        return octets(given, rng)
    try:
        return cbor2.dumps(_changed(cbor2.loads(given), rng, _DEEPEST), canonical=True)
    except Exception:  # noqa: BLE001 - what is not CBOR, or no longer, is changed as octets
        return octets(given, rng)


def xml(given: bytes, rng: Random) -> bytes:
    """An element or attribute changed, taken out, moved, or repeated; now and then an octet or a word."""
    chance = rng.random()
    if chance < 0.3:
        return octets(given, rng) if chance < 0.1 else text(given, rng)
    try:
        root = etree.fromstring(given)
        every = list(root.iter("*"))
        _change_element(rng.choice(every), every, rng)
        return etree.tostring(root)
    except (etree.XMLSyntaxError, ValueError):
        return octets(given, rng)


def package(given: bytes, rng: Random) -> bytes:
    """A field of one of ZIP's records changed, or a record doubled or taken out; now and then an octet."""
    starts = [each.start() for each in re.finditer(rb"PK(?:\x01\x02|\x03\x04|\x05\x06)", given)]
    if rng.random() < 0.1 or not starts:
        return octets(given, rng)
    number = rng.randrange(len(starts))
    start, end = starts[number], [*starts, len(given)][number + 1]
    if rng.random() < 0.2:
        other = rng.choice(starts)
        return given[:other] + given[start:end] * rng.randrange(2) + given[other:start] + given[end:]
    at, width = start + 4 + rng.randrange(42), rng.choice((1, 2, 4))
    value = int.from_bytes(given[at : at + width], "little") + rng.choice(
        (1, -1, 2, 30, 46, 76, 1 << 11, rng.randrange(1 << 32))
    )
    return given[:at] + (value % (1 << 8 * width)).to_bytes(width, "little") + given[at + width :]


def _many(rng: Random, size: int) -> int:
    """How often something of this size stands there in place of once: seldom often, and never without end."""
    return min(rng.choice((2, 2, 2, 3, 3, 10, 100, 3000)), 2 + _LONGEST // (1 + size))


def _changed(value: Any, rng: Random, depth: int) -> Any:
    is_leaf = not isinstance(value, list | dict) and not _is_cbor(value)
    if depth == 0 or rng.random() < (0.3 if is_leaf else 0.04):
        return rng.choice(_LEAVES)
    if isinstance(value, list) and value:
        return _changed_list(value, rng, depth)
    if isinstance(value, dict) and value:
        return _changed_map(value, rng, depth)
    if isinstance(value, bytes):
        return _changed_bytes(value, rng, depth)
    if isinstance(value, str):
        return _changed_text(value, rng)
    if type(value) is int:
        return rng.choice((*_NUMBERS, value + 1, value - 1, -value))
    return rng.choice(_LEAVES)


def _changed_list(items: list[Any], rng: Random, depth: int) -> list[Any]:
    at = rng.randrange(len(items))
    if not _is_cbor(items[at]):  # what has something in it has more to be changed
        at = rng.choice((at, *(place for place, each in enumerate(items) if _is_cbor(each))))
    match rng.randrange(12):
        case 0:
            return items[:at] + items[at + 1 :]
        case 1:
            return items[:at] + [items[at]] * _many(rng, len(repr(items[at]))) + items[at + 1 :]
        case 2:
            return [*items[:at], rng.choice(_LEAVES), *items[at:]]
        case 3:
            return sorted(items, key=lambda _item: rng.random())
        case _:
            return [*items[:at], _changed(items[at], rng, depth - 1), *items[at + 1 :]]


def _changed_map(items: dict[Any, Any], rng: Random, depth: int) -> dict[Any, Any]:
    key = rng.choice(list(items))
    match rng.randrange(12):
        case 0:
            return {each: items[each] for each in items if each != key}
        case 1:
            return {**items, rng.choice((-24, -1, 0, 17, 23, 24, "a")): rng.choice(_LEAVES)}
        case 2:
            return {**items, key: rng.choice(list(items.values()))}
        case _:
            return {**items, key: _changed(items[key], rng, depth - 1)}


def _changed_bytes(value: bytes, rng: Random, depth: int) -> bytes:
    """What is CBOR itself is changed as such."""
    if _is_cbor(value) and rng.random() < 0.9:
        return cbor2.dumps(_changed(cbor2.loads(value), rng, depth - 1), canonical=True)
    if value.isascii() and b"\n" in value:
        return text(value, rng)
    return rng.choice(
        (b"", value[:-1], value + b"\0", bytes(len(value)), rng.randbytes(len(value)), octets(value, rng))
    )


def _is_cbor(value: Any) -> bool:
    """Whether these are the octets of a list or map, and not only begin as if: so would every other signature."""
    if not isinstance(value, bytes) or len(value) < 2 or value[0] >> 5 not in {4, 5}:
        return False
    try:
        return cbor2.dumps(cbor2.loads(value), canonical=True) == value
    except Exception:  # noqa: BLE001 - of many kinds
        return False


def _changed_text(value: str, rng: Random) -> str:
    begin, end = sorted((rng.randrange(len(value) + 1), rng.randrange(len(value) + 1)))
    if rng.random() < 0.5:  # a word
        spaces = [0, *(at + 1 for at, letter in enumerate(value) if letter in ' \n,;="/:@'), len(value) + 1]
        at = rng.randrange(len(spaces) - 1)
        begin, end = spaces[at], spaces[at + 1] - 1
    piece = value[begin:end]
    match rng.randrange(6):
        case 0:
            return value[:begin] + value[end:]
        case 1:
            return value[:begin] + piece * _many(rng, len(piece)) + value[end:]
        case 2:
            return value[:begin] + rng.choice(_WORDS) + value[begin:]
        case 3:
            return value[:begin] + rng.choice((piece.upper(), piece.lower(), piece[::-1], piece.title())) + value[end:]
        case 4:
            other = rng.randrange(len(value) + 1)
            return value[:other] + piece + value[other:]
        case _:
            return value[:begin] + rng.choice(_WORDS) + value[end:]


def _change_element(element: Any, every: list[Any], rng: Random) -> None:
    parent, other = element.getparent(), rng.choice(every)
    match rng.randrange(8):
        case 0 if parent is not None:
            parent.remove(element)
        case 1 if parent is not None:
            for _ in range(_many(rng, len(etree.tostring(element)))):
                parent.append(etree.fromstring(etree.tostring(element)))
        case 2:
            other.append(etree.fromstring(etree.tostring(element)))
        case 3 if element.attrib:
            del element.attrib[rng.choice(list(element.attrib))]
        case 4:
            source = rng.choice(every)
            if source.attrib:
                name = rng.choice(list(source.attrib))
                element.set(name, source.get(name))
        case 5 if element.attrib:
            name = rng.choice(list(element.attrib))
            element.set(name, _changed_text(element.get(name), rng))
        case 6:
            element.tag = other.tag
        case _:
            element.text = _changed_text(element.text or "", rng)
