"""The text of a message: from a file, from standard input, or as the person writes it in an editor."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from relay.protocol.errors import LiaisonError, Malformed


def read_body(file: str | None) -> str:
    """The text in `file`, from standard input (-, or a pipe) or the editor. Raises Malformed for none, or no UTF-8."""
    if file == "-" or (file is None and not sys.stdin.isatty()):
        return _text(sys.stdin.buffer.read())
    return _text(_edited() if file is None else Path(file).read_bytes())


def _text(octets: bytes) -> str:
    if not octets.strip():
        raise Malformed("the message is empty; nothing was sent", hint="the body is FILE, - for stdin, or $EDITOR")
    try:
        return octets.decode()
    except UnicodeDecodeError as problem:
        hint = "attach it with --attach instead"
        raise Malformed(f"the body is not UTF-8 (octet {problem.start})", hint=hint) from None


def _edited() -> bytes:
    """What the person writes in an editor, in a private file that is gone afterwards."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    with tempfile.TemporaryDirectory(dir=os.environ.get("XDG_RUNTIME_DIR")) as folder:
        path = Path(folder) / "message.txt"
        path.touch(0o600)
        try:
            left = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode  # noqa: S603 - the person's own
        except OSError as problem:
            raise LiaisonError(f"editor {editor}: {problem.strerror}", hint="set EDITOR, or give FILE") from None
        if left != 0:
            raise LiaisonError(f"the editor ended with {left}; nothing was sent")
        return path.read_bytes()
