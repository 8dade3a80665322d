"""The text of a message: from a file, from standard input, or as the person writes it in an editor.

What was written in an editor is lost by no mistake after it: it stays until it is sealed, in the memory of the session
where there is such a place (XDG_RUNTIME_DIR), else in the profile's folder.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from liaison.waiting import Waiting
from relay.protocol.errors import LiaisonError, Malformed

from .saying import say


def is_written_now(file: str | None) -> bool:
    """Whether the person is to write the text, in an editor."""
    return file is None and sys.stdin.isatty()


@contextmanager
def body_of(file: str | None, profile: Path, *, keep: bool = False) -> Iterator[str]:
    """The text in `file`, from standard input (-, or a pipe) or the editor. Raises Malformed for none, or no UTF-8.

    What was written is removed when the block ends well, or is Waiting; else, or to `keep` it, it is told where it is.
    """
    if not is_written_now(file):
        yield _text(sys.stdin.buffer.read() if file in {None, "-"} else Path(str(file)).read_bytes())
        return
    path = Path(mkdtemp(prefix="unsent-", dir=_place(profile))) / "message.txt"
    try:
        yield _text(_edited(path))
    except Waiting:
        keep = False
        raise
    except BaseException:
        keep = True
        raise
    finally:
        if keep and path.is_file() and path.read_bytes().strip():
            say(f"what you wrote is kept, in clear: {path}")
        else:
            rmtree(path.parent)


def _place(profile: Path) -> Path:
    session = Path(os.environ.get("XDG_RUNTIME_DIR") or profile)
    return session if session.is_dir() and os.access(session, os.W_OK | os.X_OK) else profile


def _text(octets: bytes) -> str:
    if not octets.strip():
        raise Malformed("the message is empty; nothing was sent", hint="the body is FILE, - for stdin, or $EDITOR")
    try:
        return octets.decode()
    except UnicodeDecodeError as problem:
        hint = "attach it with --attach instead"
        raise Malformed(f"the body is not UTF-8 (octet {problem.start})", hint=hint) from None


def _edited(path: Path) -> bytes:
    """What the person writes in an editor, in this file."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    path.touch(0o600)
    try:
        left = subprocess.run([*shlex.split(editor), str(path)], check=False).returncode  # noqa: S603 - the person's own
    except ValueError as problem:
        raise LiaisonError(f"editor {editor}: {problem}", hint="set EDITOR, or give FILE") from None
    except OSError as problem:
        raise LiaisonError(f"editor {editor}: {problem.strerror}", hint="set EDITOR, or give FILE") from None
    if left != 0:
        raise LiaisonError(f"the editor ended with {left}; nothing was sent")
    return path.read_bytes()
