"""The inside of a part: a small header, the content, and padding so that its length tells little.

    part   = u32 length of header || header || content || zeros
    header = CBOR{1: kind, 2: label, 3: length of content, 4: name, 5: media type}

The header repeats the portion's label: what a reader decides on is what was sealed, not what was written
outside. `name` is the subject in a body portion and the file name in an attachment.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from relay.protocol.canonical import encode, expect, read_map
from relay.protocol.errors import Malformed

_MAX_HEADER = 64 * 1024


class PortionKind(IntEnum):
    BODY = 1
    PARAGRAPH = 2
    ATTACHMENT = 3
    DRAFT = 4  # a sealed submission with its content keys, for releasing officers
    CONSENT_REQUEST = 5
    CONSENT = 6


@dataclass(frozen=True, slots=True)
class PortionContent:
    """One portion in the clear."""

    kind: PortionKind
    label: bytes
    content: bytes
    name: str = ""
    media_type: str = "text/plain; charset=utf-8"

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


def pack(portion: PortionContent) -> bytes:
    """The padded plaintext of a part."""
    header = encode({
        1: int(portion.kind), 2: portion.label, 3: len(portion.content), 4: portion.name, 5: portion.media_type,
    })  # fmt: skip
    packed = len(header).to_bytes(4, "big") + header + portion.content
    return packed.ljust(padded_length(len(packed)), b"\0")


def unpack(plaintext: bytes) -> PortionContent:
    """Read a part's plaintext strictly, padding included. Raises Malformed."""
    size = int.from_bytes(plaintext[:4], "big")
    if len(plaintext) < 4 or size > min(_MAX_HEADER, len(plaintext) - 4):
        raise Malformed("part: its header does not fit")
    fields = read_map(plaintext[4 : 4 + size], frozenset({1, 2, 3, 4, 5}), frozenset(), "part header")
    length = expect(fields[3], int, "part header: length")
    start = 4 + size
    if not 0 <= length <= len(plaintext) - start or padded_length(start + length) != len(plaintext):
        raise Malformed("part: another length than its header says")
    if any(plaintext[start + length :]):
        raise Malformed("part: padding that is not zero")
    if type(fields[1]) is not int or fields[1] not in set(PortionKind):
        raise Malformed("part header: kind is unknown")
    return PortionContent(
        kind=PortionKind(fields[1]),
        label=expect(fields[2], bytes, "part header: label"),
        content=plaintext[start : start + length],
        name=expect(fields[4], str, "part header: name"),
        media_type=expect(fields[5], str, "part header: media type"),
    )


def padded_length(length: int) -> int:
    """Padmé (Nikitin et al., PETS 2019): at most 12 % more, leaking O(log log length) bits."""
    if length < 256:
        return 256
    exponent = length.bit_length() - 1
    free = exponent - exponent.bit_length()
    mask = (1 << free) - 1
    return (length + mask) & ~mask
