"""The inside of a part: a small header, the content, and padding so that its length tells little.

    part   = u32 length of header || header || content || zeros
    header = CBOR{1: kind, 2: label, 3: length of content, 4: name, 5: media type}

The header repeats the portion's label: what a reader decides on is what was sealed, not what was written
outside. `name` is the subject in a body portion and the file name in an attachment.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from typing import Protocol

from relay.protocol.canonical import encode, expect, read_map
from relay.protocol.errors import LiaisonError, Malformed

MAX_CONTENT = 32 * 1024 * 1024  # octets in memory, all portions together; a large file is not
_MAX_HEADER = 64 * 1024
BLOCK = 1024 * 1024  # octets of a large content in memory at a time


class PortionKind(IntEnum):
    BODY = 1
    PARAGRAPH = 2
    ATTACHMENT = 3
    DRAFT = 4  # a sealed submission with its content keys, for releasing officers
    CONSENT_REQUEST = 5
    CONSENT = 6


class Content(Protocol):
    """A content too large to hold: its length, and its octets block by block."""

    @property
    def length(self) -> int: ...

    def blocks(self) -> Iterator[bytes]: ...


@dataclass(frozen=True, slots=True)
class PlainFile:
    """A file of the sender's, as long as it was when it was attached."""

    path: Path
    length: int

    def blocks(self) -> Iterator[bytes]:
        with self.path.open("rb", buffering=0) as file:
            left = self.length
            while left:
                block = file.read(min(BLOCK, left))
                if not block:
                    break
                left -= len(block)
                yield block
            if left or file.read(1):
                raise LiaisonError(f"{self.path}: its length changed while it was read", hint="send it again")


@dataclass(frozen=True, slots=True)
class PortionContent:
    """One portion in the clear; a large content is not in memory, but `apart`."""

    kind: PortionKind
    label: bytes
    content: bytes
    name: str = ""
    media_type: str = "text/plain; charset=utf-8"
    apart: Content | None = None

    @property
    def size(self) -> int:
        return len(self.content) if self.apart is None else self.apart.length

    def blocks(self) -> Iterator[bytes]:
        """The content, block by block."""
        return iter([self.content]) if self.apart is None else self.apart.blocks()

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "replace")


def pack(portion: PortionContent) -> bytes:
    """The padded plaintext of a part."""
    return b"".join(pack_blocks(portion))


def pack_blocks(portion: PortionContent) -> Iterator[bytes]:
    """The padded plaintext of a part, block by block."""
    header = encode({
        1: int(portion.kind), 2: portion.label, 3: portion.size, 4: portion.name, 5: portion.media_type,
    })  # fmt: skip
    start = len(header).to_bytes(4, "big") + header
    yield start
    yield from portion.blocks()
    packed = len(start) + portion.size
    padding = padded_length(packed) - packed
    for at in range(0, padding, BLOCK):
        yield bytes(min(BLOCK, padding - at))


def unpack(plaintext: bytes) -> PortionContent:
    """Read a part's plaintext strictly, padding included. Raises Malformed."""
    portion, start, length = read_start(plaintext, len(plaintext))
    if any(plaintext[start + length :]):
        raise Malformed("part: padding that is not zero")
    return replace(portion, content=plaintext[start : start + length])


def read_start(beginning: bytes, total: int) -> tuple[PortionContent, int, int]:
    """From the beginning of a plaintext of `total` octets: the portion without content, where that starts, its length.

    Raises Malformed, also where lengths and padding do not agree.
    """
    size = int.from_bytes(beginning[:4], "big")
    if len(beginning) < 4 or size > min(_MAX_HEADER, len(beginning) - 4):
        raise Malformed("part: its header does not fit")
    fields = read_map(beginning[4 : 4 + size], frozenset({1, 2, 3, 4, 5}), frozenset(), "part header")
    length = expect(fields[3], int, "part header: length")
    start = 4 + size
    if not 0 <= length <= total - start or padded_length(start + length) != total:
        raise Malformed("part: another length than its header says")
    if type(fields[1]) is not int or fields[1] not in set(PortionKind):
        raise Malformed("part header: kind is unknown")
    portion = PortionContent(
        kind=PortionKind(fields[1]),
        label=expect(fields[2], bytes, "part header: label"),
        content=b"",
        name=expect(fields[4], str, "part header: name"),
        media_type=expect(fields[5], str, "part header: media type"),
    )
    return portion, start, length


def padded_length(length: int) -> int:
    """Padmé (Nikitin et al., PETS 2019): at most 12 % more, leaking O(log log length) bits."""
    if length < 256:
        return 256
    exponent = length.bit_length() - 1
    free = exponent - exponent.bit_length()
    mask = (1 << free) - 1
    return (length + mask) & ~mask
