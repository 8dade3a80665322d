"""What a command that takes the approval of others has in common with every other such command.

It runs twice: with --ask it only writes what is to be approved; then it takes that file, and with --approval what each
person signed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from relay.protocol.armor import armor, dearmor

from .saying import put, say

_ask = click.option(
    "--ask", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Only write what is to be approved."
)
_approval = click.option(
    "--approval",
    "approvals",
    multiple=True,
    type=click.File("rb"),
    metavar="FILE",
    help="One person's approval; repeat for each.",
)


@dataclass(frozen=True, slots=True)
class Asking:
    """How such a command was called."""

    path: Path | None
    files: Sequence[Any]
    as_json: bool

    def writes(self, encoded: bytes, kind: str) -> bool:
        """Whether this was only to ask: then what others have to approve is in the file, and there is no more to do."""
        if self.path is None:
            return False
        self.path.write_text(armor(encoded, kind))
        if self.as_json:
            put({"ask": str(self.path)})
        again = f"the same command with {self.path} and --approval APPROVAL, without its other options"
        say(f"each approver runs: liaison approve {self.path} -o APPROVAL; then {again}")
        return True

    def approvals(self) -> list[bytes]:
        """What was given with --approval. Raises Malformed."""
        return [dearmor(file.read(), "APPROVAL") for file in self.files]


def takes_approvals(command: Callable[..., None]) -> Callable[..., None]:
    """The options of such a command, which gets them as `asking`."""

    @wraps(command)
    def asked(*, ask: Path | None, approvals: Sequence[Any], **given: Any) -> None:
        command(asking=Asking(ask, approvals, given["as_json"]), **given)

    return _ask(_approval(asked))
