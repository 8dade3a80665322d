"""One value, one byte string: deterministic CBOR (RFC 8949 section 4.2.1), and nothing else is read.

The rules, which keep a library's leniency from becoming ours:
  - integers of 64 bits, byte strings, text, arrays, maps, true, false, null; no floats, no tags;
  - map keys are integers of one byte (-24..23), so length-first and bytewise order are the same order;
  - what does not encode back to the very same bytes is malformed: long integers, indefinite lengths,
    duplicate keys, unsorted maps and trailing bytes all fail that one test;
  - depth, number of items and size are limited before and while reading, and a tag is refused before its content is
    read: a few hundred octets of shared references are an exponential tree, and some tags compute.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final, NoReturn

import cbor2

from .errors import Malformed

MAX_DEPTH: Final = 8
MAX_ITEMS: Final = 1 << 20  # arrays and maps themselves counted
_FEW: Final = 1 << 16  # octets: no more items than that, so nobody needs to count them
LAST_SECOND: Final = 253_402_300_799  # of the year 9999: no calendar of a reader's goes on after it
_LEAVES = frozenset({bytes, str, bool, type(None)})


def encode(value: Any) -> bytes:
    """The one encoding of `value`. The caller builds only permitted types; `decode` enforces it on input."""
    return cbor2.dumps(value, canonical=True)


def decode(encoded: bytes, what: str = "value") -> Any:
    """Read exactly one canonical value; `what` names the place in errors.

    Raises Malformed for anything that is not the one encoding of a permitted value.
    """
    if len(encoded) > _FEW:
        _refuse_crowded(encoded, what)
    try:
        value = cbor2.loads(encoded, semantic_decoders=_NO_TAGS, tag_hook=_refuse_tag)
        _check(value, what, MAX_DEPTH)
        again = cbor2.dumps(value)  # maps in the order they were read, which `_check` has seen to be ascending
    except Malformed:
        raise
    except Exception as problem:  # of many kinds, and other ones in each version: every one means malformed
        fault = "a tag is not permitted" if isinstance(problem.__cause__, Malformed) else "not CBOR"
        raise Malformed(f"{what}: {fault} ({problem!s:.80})") from problem
    if again != encoded:
        raise Malformed(f"{what}: not in its one canonical encoding")
    return value


def _refuse_tag(*_: object) -> NoReturn:
    raise Malformed("a tag is not permitted")


class _NoTags(Mapping[int, Callable[..., NoReturn]]):
    """Asked about each tag before the library's own decoders: all are refused, those of later versions too."""

    def __getitem__(self, _tag: int) -> Callable[..., NoReturn]:
        return _refuse_tag

    def __iter__(self) -> Iterator[int]:
        return iter(())

    def __len__(self) -> int:
        return 1  # an empty one might as well not be asked


_NO_TAGS: Final = _NoTags()


def _refuse_crowded(encoded: bytes, what: str) -> None:
    """Raise Malformed for more than MAX_ITEMS items: an empty array is one octet here and 64 in memory."""
    at = count = 0
    while at < len(encoded) and count <= MAX_ITEMS:
        count += 1
        major, low = divmod(encoded[at], 32)
        if low > 27:  # of no stated length: what lies in it would not be counted
            raise Malformed(f"{what}: not in its one canonical encoding")
        stated = 1 << (low - 24) if 24 <= low <= 27 else 0  # octets of the head's argument
        length = int.from_bytes(encoded[at + 1 : at + 1 + stated]) if stated else low
        at += 1 + stated + (length if major in _STRINGS else 0)
    if count > MAX_ITEMS:
        raise Malformed(f"{what}: more than {MAX_ITEMS} items")


_STRINGS: Final = frozenset({2, 3})  # major types whose content follows their head


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
    return expect_items(decode(encoded, what), length, what)


def expect_items(value: Any, count: int, what: str) -> list[Any]:
    """A decoded value, if it is an array of exactly so many. Raises Malformed."""
    if type(value) is not list or len(value) != count:
        raise Malformed(f"{what}: expected an array of {count}")
    return value


def read_map(encoded: bytes, required: frozenset[int], optional: frozenset[int], what: str) -> dict[int, Any]:
    """Decode a map that has every required key and no key outside required and optional."""
    return expect_fields(decode(encoded, what), required, optional, what)


def expect_fields(value: Any, required: frozenset[int], optional: frozenset[int], what: str) -> dict[int, Any]:
    """A decoded value, if it is a map with every required key and no key outside required and optional."""
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


def expect_time(value: Any, what: str) -> int:
    """`value` if it is a time: whole seconds since 1970, before the year 10000; else Malformed."""
    if not 0 <= expect(value, int, what) <= LAST_SECOND:
        raise Malformed(f"{what}: {value} is no time from 1970 to the end of 9999")
    return int(value)


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
