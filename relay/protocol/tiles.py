"""A tree cut into tiles, to be stored, cached and fetched: C2SP tlog-tiles v0.1.0.

The rules:
  - a hash tile (level, index) holds up to 256 hashes of binary level 8*level; full tiles never change;
  - an entry bundle holds up to 256 entries, each behind its length in two octets;
  - a path has one spelling; what would not be written back identically is Malformed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from .errors import Malformed
from .merkle import HASH_SIZE, NodeReader

TILE_WIDTH: Final = 256
MAX_ENTRY: Final = 0xFFFF
MAX_LEVEL: Final = 63

TileLevel = int | Literal["entries"]
_TILE_PATH = re.compile(r"tile/(entries|0|[1-9][0-9]?)/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]{0,2}))?")


@dataclass(frozen=True, slots=True)
class Tile:
    """Where a tile stands: its level (or "entries"), its index, and how many of its 256 places are filled."""

    level: TileLevel
    index: int
    width: int


def tile_path(level: TileLevel, index: int, width: int) -> str:
    """The path below the log's prefix: `tile/0/x001/x234/067`, `tile/entries/000.p/7`."""
    groups = [f"{index % 1000:03}"]
    while index := index // 1000:
        groups.append(f"x{index % 1000:03}")
    partial = "" if width == TILE_WIDTH else f".p/{width}"
    return f"tile/{level}/{'/'.join(reversed(groups))}{partial}"


def parse_tile_path(path: str) -> Tile:
    """Read what `tile_path` writes. Raises Malformed for every other spelling."""
    match = _TILE_PATH.fullmatch(path)
    if match is None:
        raise Malformed(f"tile path: {path!r:.80} is none")
    level: TileLevel = "entries" if match[1] == "entries" else int(match[1])
    index = int(match[2].replace("x", "").replace("/", ""))
    tile = Tile(level, index, int(match[3] or TILE_WIDTH))
    if (level != "entries" and level > MAX_LEVEL) or tile_path(tile.level, tile.index, tile.width) != path:
        raise Malformed(f"tile path: {path!r:.80} is not its one spelling")
    if match[3] and tile.width >= TILE_WIDTH:
        raise Malformed("tile path: a partial tile has 1 to 255 places filled")
    return tile


def tile_of(level: int, index: int, width: int, node: NodeReader) -> bytes:
    """The tile's content: `width` hashes of binary level 8*level."""
    return b"".join([node(8 * level, index * TILE_WIDTH + place) for place in range(width)])


def parse_tile(content: bytes, width: int) -> list[bytes]:
    """The hashes of a tile of exactly this width."""
    if not 1 <= width <= TILE_WIDTH or len(content) != width * HASH_SIZE:
        raise Malformed(f"tile: expected {width} hashes, found {len(content)} octets")
    return [content[at : at + HASH_SIZE] for at in range(0, len(content), HASH_SIZE)]


def tiles_between(old: int, new: int) -> Iterator[Tile]:
    """The hash tiles that a log must publish when it has grown from `old` to `new` leaves."""
    level = 0
    while new >> 8 * level:
        before, after = old >> 8 * level, new >> 8 * level
        if before != after:
            for index in range(before // TILE_WIDTH, after // TILE_WIDTH):
                yield Tile(level, index, TILE_WIDTH)
            if width := after % TILE_WIDTH:
                yield Tile(level, after // TILE_WIDTH, width)
        level += 1


def entry_bundle(entries: Sequence[bytes]) -> bytes:
    """Up to 256 entries as one bundle."""
    if not 1 <= len(entries) <= TILE_WIDTH:
        raise Malformed(f"entry bundle: {len(entries)} entries, expected 1 to {TILE_WIDTH}")
    if max(map(len, entries)) > MAX_ENTRY:
        raise Malformed(f"entry bundle: an entry has more than {MAX_ENTRY} octets")
    return b"".join([len(entry).to_bytes(2, "big") + entry for entry in entries])


def parse_entry_bundle(bundle: bytes, width: int) -> list[bytes]:
    """The entries of a bundle that holds exactly `width`."""
    entries: list[bytes] = []
    at = 0
    while at < len(bundle):
        end = at + 2 + int.from_bytes(bundle[at : at + 2], "big")
        if at + 2 > len(bundle) or end > len(bundle):
            raise Malformed(f"entry bundle: cut off in entry {len(entries)}")
        entries.append(bundle[at + 2 : end])
        at = end
    if len(entries) != width or not 1 <= width <= TILE_WIDTH:
        raise Malformed(f"entry bundle: expected {width} entries, found {len(entries)}")
    return entries
