"""Hostile octets to the one reader of CBOR: refused before they cost anything."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forge import call
from relay.protocol import canonical
from relay.protocol.canonical import MAX_ITEMS, decode, encode
from relay.protocol.errors import Malformed

_LEVELS, _WIDTH = 6, 60  # of references: a tree of 60^6 items, no deeper than is permitted


def head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    power = next(power for power in range(4) if argument < 1 << (8 << power))
    return bytes([major << 5 | 24 + power]) + argument.to_bytes(1 << power, "big")


def shared() -> bytes:
    """[shared [], shared [many times the first], shared [many times the second] ...], in tags 28 and 29."""
    rows = [head(6, 28) + head(4, _WIDTH) + (head(6, 29) + head(0, level)) * _WIDTH for level in range(_LEVELS)]
    return head(4, _LEVELS + 1) + head(6, 28) + head(4, 0) + b"".join(rows)


@pytest.mark.parametrize("content", [b"\x00", b"\x41a", b"\x61a", b"\x80"])
def test_every_tag_is_refused_before_its_content_is_read(content):
    for tag in (*range(300), 1004, 43000, 55799, 1 << 31, 1 << 63):
        with pytest.raises(Malformed, match=f"a tag is not permitted .*semantic tag {tag}"):
            decode(head(6, tag) + content)


def test_a_few_hundred_octets_that_share_references_cost_nothing(two_offices):
    anna = two_offices.clients["anna.nowak@lo-warsaw"]
    began = time.monotonic()
    assert call(anna, "POST", "/v1/keys", shared()).status_code == 400
    assert time.monotonic() - began < 5  # seconds; it was for ever


def test_more_items_than_any_object_has_are_refused_unread(monkeypatch):
    monkeypatch.setattr(canonical.cbor2, "loads", lambda *_, **__: pytest.fail("read"))
    with pytest.raises(Malformed, match=f"more than {MAX_ITEMS} items"):
        decode(head(4, MAX_ITEMS) + bytes([0x80]) * MAX_ITEMS)


def test_items_behind_a_string_of_no_stated_length_are_refused_unread(monkeypatch):
    monkeypatch.setattr(canonical.cbor2, "loads", lambda *_, **__: pytest.fail("read"))
    for string in (b"\x5f\xff", b"\x7f\xff"):  # 31, its low bits, is no length
        hidden = string + bytes([0x80]) * 30
        with pytest.raises(Malformed, match="canonical"):
            decode(head(4, 31 * 5000) + hidden * 5000)


_VALUES = st.recursive(
    st.integers(-(1 << 63), (1 << 63) - 1) | st.binary(max_size=300) | st.text(max_size=80) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=30) | st.dictionaries(st.integers(-24, 23), inner, max_size=5),
    max_leaves=60,
)


def items(value: object) -> int:
    if isinstance(value, dict):
        return 1 + len(value) + sum(items(each) for each in value.values())
    return 1 + sum(items(each) for each in value) if isinstance(value, list) else 1


@given(value=_VALUES)
def test_as_many_items_as_permitted_pass_and_one_more_does_not(value):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(canonical, "_FEW", 0)
        patched.setattr(canonical, "MAX_DEPTH", 100)
        patched.setattr(canonical, "MAX_ITEMS", items(value))
        assert decode(encode(value)) == value
        patched.setattr(canonical, "MAX_ITEMS", items(value) - 1)
        with pytest.raises(Malformed, match="items"):
            decode(encode(value))
