"""Where a passphrase comes from. The rules:

- the first source that is named is the only one asked: descriptor, file, command, terminal, in this order;
- never from the arguments, which every process on the machine may read, and never from standard input, which
  carries the message;
- a named source that gives nothing is an error, not a reason to try the next;
- with `no_input` nobody is asked.
"""

from __future__ import annotations

import getpass
import os
import shlex
import subprocess
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from relay.protocol.errors import Malformed, Unauthenticated

MIN_LENGTH = 8  # characters, of a new one; NIST SP 800-63B-4 section 3.1.1.2
MAX_OCTETS = 4096
WAYS = "give --passphrase-fd N, LIAISON_PASSPHRASE_FILE or --passphrase-command CMD"


@dataclass(frozen=True, slots=True)
class PassphraseSource:
    """What the command line, the environment and the configuration say."""

    descriptor: int | None = None
    command: str | None = None
    no_input: bool = False
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    ways: str = WAYS  # what to do where nobody can be asked

    def current(self, what: str = "passphrase") -> str:
        """The passphrase of something that exists; `what` names it in the prompt. Raises Unauthenticated."""
        given = self._given()
        return self._checked(self._ask(f"{what}: ") if given is None else given)

    def new(self, what: str = "new passphrase") -> str:
        """A passphrase to be set: at least 8 characters, typed twice if typed. Raises Unauthenticated."""
        given = self._given()
        passphrase = self._checked(self._ask(f"{what}: ") if given is None else given)
        if len(passphrase) < MIN_LENGTH:
            raise Unauthenticated(
                f"the passphrase has {len(passphrase)} characters, at least {MIN_LENGTH} are needed",
                hint="several words, chosen by dice, are easy to keep and hard to guess",
            )
        if given is None and self._ask(f"{what} again: ") != passphrase:
            raise Unauthenticated("the two passphrases differ", hint="run the command again")
        return passphrase

    def _checked(self, passphrase: str) -> str:
        if not passphrase:
            raise Unauthenticated("the passphrase is empty", hint=self.ways)
        return passphrase

    def _given(self) -> str | None:
        if self.descriptor is not None:
            return _from_descriptor(self.descriptor)
        if "LIAISON_PASSPHRASE_FILE" in self.environment:
            return _from_file(Path(self.environment["LIAISON_PASSPHRASE_FILE"]))
        if self.command is not None:
            return _from_command(self.command)
        return None

    def _ask(self, prompt: str) -> str:
        if self.no_input:
            raise Unauthenticated("a passphrase is needed and --no-input forbids asking", hint=self.ways)
        try:
            os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
            with warnings.catch_warnings():
                # getpass would rather read standard input, or echo, than fail; we would rather fail
                warnings.simplefilter("error", getpass.GetPassWarning)
                return getpass.getpass(prompt)
        except (OSError, EOFError, getpass.GetPassWarning):
            raise Unauthenticated("a passphrase is needed and there is no terminal to ask on", hint=self.ways) from None


def _from_descriptor(descriptor: int) -> str:
    try:
        with os.fdopen(descriptor, "rb") as file:
            return _text(file.read(MAX_OCTETS + 1), f"descriptor {descriptor}")
    except OSError as problem:
        raise Unauthenticated(f"cannot read a passphrase from descriptor {descriptor}: {problem.strerror}") from None


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return _text(file.read(MAX_OCTETS + 1), str(path))
    except OSError as problem:
        raise Unauthenticated(f"cannot read a passphrase from {path}: {problem.strerror}") from None


def _from_command(command: str) -> str:
    try:
        argv = shlex.split(command)
        # the command is the user's own configuration; no shell, and no hands on the message in standard input
        ran = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)  # noqa: S603
    except (OSError, ValueError, IndexError) as problem:
        raise Unauthenticated(f"passphrase_command cannot be run: {problem}") from None
    if ran.returncode != 0:
        raise Unauthenticated(f"passphrase_command failed with exit code {ran.returncode}")
    return _text(ran.stdout, "passphrase_command")


def _text(octets: bytes, place: str) -> str:
    if len(octets) > MAX_OCTETS:
        raise Malformed(f"passphrase from {place}: longer than {MAX_OCTETS} octets")
    try:
        return octets.decode().removesuffix("\n")
    except UnicodeDecodeError:
        raise Malformed(f"passphrase from {place}: not UTF-8") from None
