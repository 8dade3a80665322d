"""Files that a command was asked for; `-` is standard output."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from liaison.home.private_file import replace_private


def deliver(path: Path, content: bytes, what: str) -> None:
    """Write a private file that was asked for; `-` is standard output."""
    if is_stdout(path):
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        replace_private(path, content, what)


def is_stdout(path: Path) -> bool:
    """Whether `-` was given, for what cannot share standard output with JSON. Raises UsageError."""
    if path != Path("-"):
        return False
    if click.get_current_context().params.get("as_json"):
        raise click.UsageError("standard output takes the file or JSON, not both")
    return True


@contextmanager
def whole(path: Path) -> Iterator[TextIO]:
    """A text file that is there once all of it is written: until then it is `.partial`, and what was there stays.

    `-` is standard output.
    """
    if is_stdout(path):
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(encoding="utf-8", newline="")  # it is a file, whatever letters the terminal has
        yield sys.stdout
        sys.stdout.flush()
        return
    if path.exists() and not path.is_file():  # a pipe or a terminal cannot be replaced
        with path.open("w", encoding="utf-8", newline="") as file:
            yield file
        return
    target = path.resolve()
    partial = target.with_name(f"{target.name}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            yield file
    except BaseException:
        if partial.exists() and not partial.stat().st_size:
            partial.unlink()
        raise
    partial.replace(target)
