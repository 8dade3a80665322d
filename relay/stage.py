"""Where a story is told: commands shown and run for their owners, claims that must hold, and a relay to talk to."""

# ruff: noqa: T201 - a story is told on stdout

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_BIN = Path(sys.executable).parent


class ClaimFailed(Exception):
    """Something that was claimed did not hold."""


@dataclass
class Stage:
    """Runs commands where the audience can see them."""

    folder: Path
    claims: list[str] = field(default_factory=list)
    colored: bool = field(default_factory=sys.stdout.isatty)

    def environment(self) -> dict[str, str]:
        """The caller's, with nothing of a relay that he operates: the story's own has its own places."""
        home = self.folder / "relay"
        own = {
            "RELAY_DATA": str(home),
            "RELAY_DATABASE": f"sqlite:///{home / 'relay.sqlite'}",
            "RELAY_PARTS": str(home / "parts"),  # stated: it could also be in a file among the secrets
        }
        others = {name: value for name, value in os.environ.items() if not name.upper().startswith("RELAY_")}
        return others | own

    def chapter(self, title: str) -> None:
        print(f"\n{self._paint(title, '1;36')}\n", flush=True)

    def say(self, text: str) -> None:
        print(self._paint(text, "2"), flush=True)

    def claim(self, text: str, *, holds: bool) -> None:
        """State a claim; end the story if it does not hold."""
        print(f"  {self._paint('✓' if holds else '✗', '32' if holds else '31')} {text}", flush=True)
        if not holds:
            raise ClaimFailed(text)
        self.claims.append(text)

    def run(
        self, who: str, *command: str, stdin: str = "", code: int = 0, show: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as `who`, print it and what it says; the claim that it ends with `code` must hold."""
        environment = {
            **self.environment(),
            "LIAISON_HOME": str(self.folder / who),
            "LIAISON_PASSPHRASE_FILE": str(self.folder / "passphrase"),
        }
        if show:
            piped = f"echo {shlex.quote(stdin)} | " if stdin else ""
            print(f"{self._paint(f'{who}$', '33')} {self._paint(piped + shlex.join(command), '1')}", flush=True)
        done = subprocess.run(  # noqa: S603 - our own programs
            [str(_BIN / command[0]), *command[1:]],
            cwd=self.folder, env=environment, input=stdin, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if show or done.returncode != code:
            for line in (done.stdout + done.stderr).splitlines():
                print(f"    {line}", flush=True)
        if done.returncode != code:
            raise ClaimFailed(f"{shlex.join(command)} ended with {done.returncode}, not {code}")
        return done

    def _paint(self, text: str, style: str) -> str:
        return f"\x1b[{style}m{text}\x1b[0m" if self.colored and "NO_COLOR" not in os.environ else text


@contextmanager
def serving(stage: Stage) -> Iterator[str]:
    """A relay on a free loopback port; its URL."""
    command = [str(_BIN / "relay"), "serve", "--data", str(stage.folder / "relay"), "--port", "0"]
    with (
        (stage.folder / "relay.log").open("w") as log,
        subprocess.Popen(  # noqa: S603 - our own program
            command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=stage.folder, env=stage.environment()
        ) as process,
    ):
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "serving on" not in line:
                raise ClaimFailed("the relay did not start: " + (stage.folder / "relay.log").read_text()[-500:])
            yield line.split()[3]
        finally:
            process.terminate()
            process.wait(20)
