"""The inside of a part: one reading, padding that is checked, and how little its length tells."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liaison.portions import PortionContent, PortionKind, pack, padded_length, unpack
from relay.protocol.canonical import encode
from relay.protocol.errors import Malformed

PORTIONS = st.builds(
    PortionContent,
    kind=st.sampled_from(PortionKind),
    label=st.binary(max_size=300),
    content=st.binary(max_size=5000),
    name=st.text(max_size=40),
    media_type=st.text(max_size=40),
)


@given(PORTIONS)
def test_what_is_packed_is_unpacked_bit_exact(portion):
    assert unpack(pack(portion)) == portion


@given(st.integers(0, 1 << 40))
def test_padding_adds_at_most_twelve_per_cent_beyond_the_smallest_size(length):
    padded = padded_length(length)
    assert padded >= max(length, 256)
    if length >= 256:
        assert padded - length <= length * 0.12
        assert padded_length(padded) == padded  # a length that is padded stays
    assert padded_length(length + 1) >= padded


def test_lengths_fall_into_few_classes():
    """Padmé's promise: O(log log n) bits. Below 1 MiB there are a few hundred lengths, not a million."""
    classes = {padded_length(length) for length in range(1 << 20)}
    assert len(classes) < 300
    assert all(size % (1 << max(0, math.floor(math.log2(size)) - 5)) == 0 for size in classes)


@given(PORTIONS, st.integers(0, 5000), st.integers(1, 255))
def test_no_octet_of_header_or_padding_can_be_anything_else(portion, place, change):
    """A changed octet is another portion, or none: never the same portion in a second spelling."""
    packed = bytearray(pack(portion))
    packed[place % len(packed)] ^= change
    with suppress(Malformed):
        assert unpack(bytes(packed)) != portion


@given(PORTIONS, st.integers(1, 3000))
def test_a_part_of_another_length_is_malformed(portion, more):
    packed = pack(portion)
    for wrong in (packed + bytes(more), packed[: max(0, len(packed) - more)]):
        with pytest.raises(Malformed):
            unpack(wrong)


def _part(fields, content=b"", padding=b"\0"):
    header = encode(fields)
    packed = len(header).to_bytes(4, "big") + header + content
    return packed.ljust(padded_length(len(packed)), padding)


GOOD = {1: 1, 2: b"label", 3: 2, 4: "name", 5: "text/plain"}


@pytest.mark.parametrize(
    "wrong",
    [
        {1: 0}, {1: 99}, {1: True}, {1: "1"}, {2: "label"}, {3: -1}, {3: 1 << 40}, {3: True}, {4: b"name"}, {5: None},
        {6: 1},
    ],
)  # fmt: skip
def test_a_header_with_another_shape_is_malformed(wrong):
    assert unpack(_part(GOOD, b"ab")).content == b"ab"
    with pytest.raises(Malformed):
        unpack(_part(GOOD | wrong, b"ab"))


@pytest.mark.parametrize("missing", GOOD)
def test_a_header_that_lacks_a_field_is_malformed(missing):
    with pytest.raises(Malformed):
        unpack(_part({key: value for key, value in GOOD.items() if key != missing}, b"ab"))


def test_padding_that_is_not_zero_is_malformed():
    with pytest.raises(Malformed, match="padding"):
        unpack(_part(GOOD, b"ab", b"\1"))


@pytest.mark.parametrize("garbage", [b"", b"\0", b"\0\0\0\0", b"\xff" * 300, b"\0\0\1\0" + bytes(100)])
def test_garbage_is_malformed(garbage):
    with pytest.raises(Malformed):
        unpack(garbage)
