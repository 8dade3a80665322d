"""Who was sealed what: the portions that slots grant, as log entries name them.

    Grants = [[device_id, [portion...]]...]     ascending by device

The accept entry's detail is the SHA-256 of a message's Grants in hexadecimal, and its precedence; an open entry's
detail names the portions whose keys left, as `portions 0-3,5`. So the log alone says who could have read what, and who
did get the keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

from .canonical import encode, expect, expect_bytes
from .envelope import Slot, decode_list
from .errors import Malformed
from .header import Precedence

Grants = tuple[tuple[bytes, tuple[int, ...]], ...]
_PREFIX = "portions "
_BY_WORD = {each.name.lower(): each for each in Precedence}


def grants_of(slots: Iterable[Slot]) -> Grants:
    return tuple((each.device_id, each.granted) for each in slots)


def format_grants(grants: Grants) -> bytes:
    return encode([[device_id, list(granted)] for device_id, granted in grants])


def parse_grants(encoded: bytes) -> Grants:
    """Read what `format_grants` wrote. Raises Malformed."""
    found = []
    for item in decode_list(encoded, "grants"):
        if type(item) is not list or len(item) != 2:
            raise Malformed("grants: not a device and its portions")
        found.append((expect_bytes(item[0], 16, "grants: device"), _ascending(item[1])))
    devices = [device_id for device_id, _granted in found]
    if devices != sorted(set(devices)):
        raise Malformed("grants: devices not in ascending order, or twice")
    return tuple(found)


def grants_digest(grants: Grants) -> str:
    return hashlib.sha256(format_grants(grants)).hexdigest()


def accept_detail(grants: Grants, precedence: Precedence) -> str:
    """What the accept entry says: `3fb0…9c immediate`."""
    return f"{grants_digest(grants)} {precedence.name.lower()}"


def read_accept_detail(detail: str) -> tuple[str, Precedence]:
    """The grants' digest and the precedence that an accept entry states. Raises Malformed."""
    digest, _, word = detail.partition(" ")
    precedence = _BY_WORD.get(word)
    if precedence is None or len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise Malformed(f"accept entry: {detail!r:.90} is no digest and precedence")
    return digest, precedence


def format_portions(granted: Sequence[int]) -> str:
    """What the open entry says: ascending portions, consecutive ones as a range."""
    return _PREFIX + ",".join(str(first) if first == last else f"{first}-{last}" for first, last in _runs(granted))


def parse_portions(detail: str) -> tuple[int, ...]:
    """The portions that an open entry names. Raises Malformed for any but the one way to write them."""
    found: list[int] = []
    for run in detail.removeprefix(_PREFIX).split(","):
        first, _, last = run.partition("-")
        if not (first + last).isascii() or not first.isdecimal() or (last and not last.isdecimal()) or len(run) > 9:
            raise Malformed(f"open entry: {detail!r:.60} names no portions")
        run_of = range(int(first), int(last or first) + 1)
        if len(found) + len(run_of) > 256:
            raise Malformed("open entry: more portions than a message has")
        found += run_of
    if found != sorted(set(found)) or format_portions(found) != detail:
        raise Malformed(f"open entry: {detail!r:.60} names no portions")
    return tuple(found)


def _runs(granted: Sequence[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for portion in granted:
        if last is None or portion != last + 1:
            if first is not None and last is not None:
                yield first, last
            first = portion
        last = portion
    if first is not None and last is not None:
        yield first, last


def _ascending(value: object) -> tuple[int, ...]:
    items = expect(value, list, "grants: portions")
    if not items or any(type(item) is not int or item < 0 for item in items) or items != sorted(set(items)):
        raise Malformed("grants: no portions, or not in ascending order")
    return tuple(items)
