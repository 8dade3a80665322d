"""Private files that a command was asked for; `-` is standard output."""

from __future__ import annotations

import sys
from pathlib import Path

from liaison.private_file import replace_private

from .common import is_stdout


def deliver(path: Path, content: bytes, what: str) -> None:
    """Write a private file that was asked for; `-` is standard output."""
    if is_stdout(path):
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        replace_private(path, content, what)
