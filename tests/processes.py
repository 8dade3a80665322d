"""`relay` as its operator runs it: a serving process on a port of its own, and commands that end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Self

import httpx2
from click.testing import CliRunner, Result

from ports import free_port
from relay.cli import main
from relay.settings import Settings
from world import World

RELAY = Path(sys.executable).parent / "relay"


class Serving:
    """A real `relay serve`; `prefix` is what it runs under, such as a network namespace."""

    def __init__(self, data: Path, database: str | None = None, *, port=None, host="127.0.0.1", prefix=()) -> None:
        self.port, self.data, self.database = port or free_port(), data, database
        self.url = f"http://{host}:{self.port}"
        where = ["--data", data, "--host", host, "--port", str(self.port)]
        self._command = [*prefix, RELAY, "serve", *where, *(["--database", database] if database else [])]
        self._log = data.with_name(data.name + ".log")
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> Self:
        with self._log.open("a") as said:  # a file: a pipe that nobody empties would stop it
            self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=said, text=True)
        if "serving on" not in self.process.stdout.readline():
            self.__exit__()
            raise AssertionError(self.said())
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()

    def said(self) -> str:
        """On stderr, by all processes that served here."""
        return self._log.read_text()

    def world(self, folder: Path) -> World:
        keys = json.loads(httpx2.get(f"{self.url}/v1/relay").content)["keys"]
        settings = Settings(data=self.data, database=self.database)
        return World(folder, settings, SimpleNamespace(vkeys=tuple(keys)), self.url)


def relay(*words: object, code: int | None = 0, **variables: object) -> subprocess.CompletedProcess:
    """Run a command of the operator's program; it must end with this code, if one is given."""
    ran = subprocess.run(
        [RELAY, *map(str, words)],
        env=os.environ | {name: str(value) for name, value in variables.items()},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert code in {None, ran.returncode}, (words, ran.returncode, ran.stdout, ran.stderr)
    return ran


def told(*words: object, code: int | None = 0) -> Result:
    """The same command in this process, for what it says and leaves behind, not how it is started."""
    ran = CliRunner().invoke(main, [*map(str, words)])
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    assert code in {None, ran.exit_code}, (words, ran.exit_code, ran.stdout, ran.stderr)
    return ran
