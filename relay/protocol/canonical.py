"""One value, one byte string: deterministic CBOR (RFC 8949 section 4.2.1), and nothing else is read.

The rules, which keep a library's leniency from becoming ours:
  - integers of 64 bits, byte strings, text, arrays, maps, true, false, null; no floats, no tags;
  - map keys are integers of one byte (-24..23), so length-first and bytewise order are the same order;
  - what does not encode back to the very same bytes is malformed: long integers, indefinite lengths,
    duplicate keys, unsorted maps and trailing bytes all fail that one test;
  - depth and size are limited before and while reading.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import cbor2

from .errors import Malformed

MAX_DEPTH = 8
_LEAVES = frozenset({bytes, str, bool, type(None)})


def encode(value: Any) -> bytes:
    """The one encoding of `value`. The caller builds only permitted types; `decode` enforces it on input."""
    return cbor2.dumps(value, canonical=True)


def decode(encoded: bytes, what: str = "value") -> Any:
    """Read exactly one canonical value; `what` names the place in errors.

    Raises Malformed for anything that is not the one encoding of a permitted value.
    """
    try:
        value = cbor2.loads(encoded)
        _check(value, what, MAX_DEPTH)
        again = cbor2.dumps(value)  # maps in the order they were read, which `_check` has seen to be ascending
    except Malformed:
        raise
    except Exception as problem:  # the decoder's own errors vary by version; every one means malformed
        raise Malformed(f"{what}: not CBOR ({type(problem).__name__})") from problem
    if again != encoded:
        raise Malformed(f"{what}: not in its one canonical encoding")
    return value


def _check(value: Any, what: str, depth: int) -> None:
    kind = type(value)
    if kind is int:
        if not -(1 << 63) <= value < 1 << 63:
            raise Malformed(f"{what}: integer beyond 64 bits")
    elif kind is list or kind is dict:
        if depth == 0:
            raise Malformed(f"{what}: nested deeper than {MAX_DEPTH}")
        if kind is dict:
            _check_keys(list(value), what)
            value = value.values()
        for item in value:
            if type(item) not in _LEAVES:
                _check(item, what, depth - 1)
    elif kind not in _LEAVES:
        raise Malformed(f"{what}: {kind.__name__} is not permitted here")


def _check_keys(keys: list[Any], what: str) -> None:
    for key in keys:
        if type(key) is not int or not -24 <= key <= 23:
            raise Malformed(f"{what}: map key {key!r:.40} is not a one-byte integer")
    order = [key if key >= 0 else 23 - key for key in keys]  # of their octets: 0 to 23, then -1 to -24
    if order != sorted(set(order)):
        raise Malformed(f"{what}: map keys not in ascending order")


def read_array(encoded: bytes, length: int, what: str) -> list[Any]:
    """Decode an array of exactly `length` items."""
    value = decode(encoded, what)
    if type(value) is not list or len(value) != length:
        raise Malformed(f"{what}: expected an array of {length}")
    return value


def read_map(encoded: bytes, required: frozenset[int], optional: frozenset[int], what: str) -> dict[int, Any]:
    """Decode a map that has every required key and no key outside required and optional."""
    value = decode(encoded, what)
    if type(value) is not dict:
        raise Malformed(f"{what}: expected a map")
    if missing := required - value.keys():
        raise Malformed(f"{what}: field {min(missing)} is missing")
    if extra := value.keys() - required - optional:
        raise Malformed(f"{what}: field {min(extra)} is unknown", hint="an older program may be reading a newer format")
    return value


def expect(value: Any, kind: type, what: str) -> Any:
    """`value` if it is exactly of type `kind` (so that True is no integer), else Malformed."""
    if type(value) is not kind:
        raise Malformed(f"{what}: expected {kind.__name__}, found {type(value).__name__}")
    return value


def expect_version(value: Any, what: str) -> None:
    """Malformed unless `value` is the integer 1, the only version there is; True equals it, and is none."""
    if type(value) is not int or value != 1:
        raise Malformed(f"{what}: version {value!r:.20} is unknown", hint="a newer relay needs a newer program")


def expect_bytes(value: Any, length: int, what: str) -> bytes:
    """`value` if it is a byte string of exactly `length` octets, else Malformed."""
    if type(value) is not bytes or len(value) != length:
        raise Malformed(f"{what}: expected {length} octets")
    return value


def expect_texts(value: Any, what: str) -> tuple[str, ...]:
    """A tuple of strictly ascending text strings: sorted and without duplicates, so that it has one spelling."""
    if type(value) is not list or any(type(item) is not str for item in value):
        raise Malformed(f"{what}: expected an array of text")
    if any(left >= right for left, right in pairwise(value)):
        raise Malformed(f"{what}: not in ascending order without duplicates")
    return tuple(value)
