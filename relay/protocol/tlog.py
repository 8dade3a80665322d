"""What a log signs: C2SP tlog-checkpoint v1.0.0.

The rules:
  - a number or a line has one spelling; what would not be written back identically is Malformed;
  - a checkpoint body has its three lines and no extension lines;
  - nothing here checks a signature, which is note.py.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from dataclasses import dataclass
from typing import Final

from .errors import Malformed
from .merkle import HASH_SIZE

MAX_SIZE: Final = (1 << 63) - 1
_NAME = re.compile(r"[^ +]{1,255}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A log's statement about itself; worth what the signatures under it are worth."""

    origin: str
    size: int
    root: bytes


def check_origin(name: str, what: str) -> str:
    """`name` if a log, or a key that signs for one, can have it, else Malformed. Strangers' are shown in errors."""
    if not _NAME.fullmatch(name) or not name.isprintable():
        raise Malformed(f"{what}: not a name of 1 to 255 printable characters without space and plus sign")
    return name


def format_checkpoint_body(origin: str, size: int, root: bytes) -> str:
    """The note text of a checkpoint, with its final newline."""
    return f"{origin}\n{size}\n{b64encode(root).decode()}\n"


def parse_checkpoint_body(text: str) -> Checkpoint:
    """Read a checkpoint's note text; whoever calls has verified the note, or is about to."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[3]:
        raise Malformed("checkpoint: expected exactly the lines origin, size, root")
    origin, size, root = (
        lines[0],
        parse_number(lines[1], "checkpoint size"),
        parse_base64(lines[2], "checkpoint root"),
    )
    if not origin or len(root) != HASH_SIZE:
        raise Malformed("checkpoint: no origin, or a root that is not 32 octets")
    return Checkpoint(origin, size, root)


def parse_number(text: str, what: str) -> int:
    """A decimal number of at most 63 bits, in its one spelling. Raises Malformed."""
    if not (text.isascii() and text.isdigit()) or len(text) > 19 or (text[0] == "0" and text != "0"):
        raise Malformed(f"{what}: {text!r:.40} is not a decimal number without leading zeros")
    if (number := int(text)) > MAX_SIZE:
        raise Malformed(f"{what}: {text} is beyond 63 bits")
    return number


def parse_base64(text: str, what: str) -> bytes:
    """The octets that `text` spells, one at least. Raises Malformed for any spelling but the one `b64encode` writes."""
    try:
        octets = b64decode(text, validate=True)
    except (Base64Error, ValueError) as problem:
        raise Malformed(f"{what}: not base64") from problem
    if not octets or b64encode(octets).decode() != text:
        raise Malformed(f"{what}: empty, or not in its one base64 spelling")
    return octets
