"""Signed objects as text that survives mail and a notepad: base64 between two lines that say what it is."""

from __future__ import annotations

import base64

from .errors import Malformed

_DASHES = "-----"


def armor(encoded: bytes, kind: str) -> str:
    """Text form of a signed object; `kind` in capitals, such as STATEMENT."""
    text = base64.b64encode(encoded).decode()
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    return "\n".join([f"{_DASHES}BEGIN LIAISON {kind}{_DASHES}", *lines, f"{_DASHES}END LIAISON {kind}{_DASHES}", ""])


def kinds_in(text: bytes) -> list[str]:
    """The kinds of the objects that begin in this text."""
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines()]
    begin = f"{_DASHES}BEGIN LIAISON "
    return [line[len(begin) : -len(_DASHES)] for line in lines if line.startswith(begin) and line.endswith(_DASHES)]


def dearmor(text: bytes, kind: str) -> bytes:
    """The object inside; text before and after is passed over. Raises Malformed."""
    begin, end = f"{_DASHES}BEGIN LIAISON {kind}{_DASHES}", f"{_DASHES}END LIAISON {kind}{_DASHES}"
    lines = [line.strip() for line in text.decode("utf-8", "replace").splitlines()]
    if begin not in lines or end not in lines:
        raise Malformed(f"this is not a {kind.lower()} file", hint=f"it should contain a line {begin}")
    inside = lines[lines.index(begin) + 1 : lines.index(end)]
    try:
        return base64.b64decode("".join(inside), validate=True)
    except ValueError as problem:  # binascii.Error, or of what is not ASCII the plain one
        raise Malformed(f"{kind.lower()} file: damaged text", hint="copy the file again") from problem
