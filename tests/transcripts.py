"""Whole programs, run as their users run them, against the transcript of what they must say.

A script is read line by line:

    # remark                    and blank lines: layout
    -- file NAME                the lines up to `-- end` are written to NAME before anything runs
    $ COMMAND                   through sh, in a fresh folder that is also HOME; no terminal, standard input empty
    & COMMAND                   a server: goes on once it has said `ready` or `serving`, is stopped when the script ends
    ! LINE                      the command's next line on standard error
    ? CODE                      the command's exit code; 0 if not given
    anything else               the command's next line on standard output; a leading backslash is not part of
                                it, so `\\` alone is an empty line and `\\$ x` a line that begins with `$ `

What is expected is exact and complete, except that `[..]` stands for any text within the line, `{NAME=regex}`
for text that matches and is remembered, and `{NAME}` for what was remembered, in commands too. NAME is in capitals;
`${NAME}` is left to the shell. `{PORT}` is a free port.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ports import free_port

COMMAND_SECONDS = 60
SERVER_SECONDS = 30
BRACED = re.compile(r"(?<!\$)\{([A-Z][A-Z0-9_]*)(=|\})")


class Mismatch(AssertionError):
    """The program said something else than its transcript."""


@dataclass(slots=True)
class Step:
    line: int
    command: str
    is_server: bool = False
    stdout: list[str] = field(default_factory=list)
    stderr: list[str] = field(default_factory=list)
    code: int = 0


def run_transcript(script: Path, folder: Path, known: Mapping[str, str] | None = None) -> None:
    """Raises Mismatch at the first step that differs, ValueError for a script that is none."""
    with played(script, folder, known):
        pass


@contextmanager
def played(script: Path, folder: Path, known: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """Plays a script, then keeps its servers while the block runs: other scripts may go on where it ended.

    `known` is what an earlier script remembered; the value is that and what this one has.
    """
    steps, files = parse(script.read_text())
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    remembered = {"PORT": str(free_port()), **(known or {})}
    with ExitStack() as servers:
        for step in steps:
            command = _fill(step.command, remembered)
            if step.is_server:
                servers.enter_context(_server(command, folder, f"{script.name}:{step.line}"))
            else:
                _run_step(step, command, folder, remembered, script.name)
        yield remembered


def parse(text: str) -> tuple[list[Step], dict[str, str]]:
    """The steps and the files of a script."""
    steps: list[Step] = []
    files: dict[str, list[str]] = {}
    writing: list[str] | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("-- file "):
            writing = files.setdefault(line.removeprefix("-- file "), [])
        elif line == "-- end":
            writing = None
        elif writing is not None:
            writing.append(line)
        elif line.startswith(("$ ", "& ")):
            steps.append(Step(number, line[2:], is_server=line[0] == "&"))
        elif line and not line.startswith("#"):
            _expect(steps, number, line)
    if writing is not None:
        raise ValueError("a `-- file` has no `-- end`")
    return steps, {name: "".join(f"{line}\n" for line in lines) for name, lines in files.items()}


def _expect(steps: list[Step], number: int, line: str) -> None:
    if not steps or steps[-1].is_server:
        raise ValueError(f"line {number} expects something of no command: {line}")
    if line.startswith("? "):
        steps[-1].code = int(line[2:])
    elif line == "!" or line.startswith("! "):
        steps[-1].stderr.append(line[2:])
    else:
        steps[-1].stdout.append(line.removeprefix("\\"))


def _run_step(step: Step, command: str, folder: Path, known: dict[str, str], name: str) -> None:
    ran = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env=_environment(folder),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=COMMAND_SECONDS,
        start_new_session=True,  # no terminal: what would be asked there must fail, not wait
        check=False,
    )
    where = f"{name}:{step.line}: $ {command}\n"
    said = f"\n--- stdout\n{ran.stdout.decode()}--- stderr\n{ran.stderr.decode()}--- exit code {ran.returncode}"
    for stream, found, expected in (("stdout", ran.stdout, step.stdout), ("stderr", ran.stderr, step.stderr)):
        if difference := _difference(found.decode(), expected, known):
            raise Mismatch(f"{where}{stream} {difference}{said}")
    if ran.returncode != step.code:
        raise Mismatch(f"{where}exit code {ran.returncode}, expected {step.code}{said}")


def _difference(found: str, expected: list[str], known: dict[str, str]) -> str:
    # not splitlines(), which would also split at a lone CR or a form feed, and hide it
    lines = found.removesuffix("\n").split("\n") if found else []
    for index, pattern in enumerate(expected):
        if index >= len(lines):
            return f"ends before: {pattern}"
        matched = re.fullmatch(_regex(pattern, known), lines[index])
        if matched is None:
            return f"expected: {pattern}\n          found: {lines[index]}"
        known.update(matched.groupdict())
    return f"goes on: {lines[len(expected)]}" if len(lines) > len(expected) else ""


def _regex(pattern: str, known: dict[str, str]) -> str:
    parts, place, declared = [], 0, set()
    while found := BRACED.search(pattern, place):
        parts.append(_literal(pattern[place : found.start()]))
        name, place = found[1], found.end()
        if found[2] == "=":
            end = _closing(pattern, place)
            parts.append(f"(?P<{name}>{pattern[place:end]})")
            declared.add(name)
            place = end + 1
        else:
            parts.append(f"(?P={name})" if name in declared else re.escape(_known(name, known)))
    return "".join([*parts, _literal(pattern[place:])])


def _literal(text: str) -> str:
    return ".*".join(map(re.escape, text.split("[..]")))


def _closing(pattern: str, start: int) -> int:
    depth = 0  # a regex may count with braces of its own: {ID=[0-9a-f]{32}}
    for place in range(start, len(pattern)):
        depth += {"{": 1, "}": -1}.get(pattern[place], 0)
        if depth < 0:
            return place
    raise ValueError(f"no closing brace: {pattern}")


def _fill(command: str, known: dict[str, str]) -> str:
    return BRACED.sub(lambda found: _known(found[1], known) if found[2] == "}" else found[0], command)


def _known(name: str, known: dict[str, str]) -> str:
    if name not in known:
        raise ValueError(f"{{{name}}} was not remembered before")
    return known[name]


def _environment(folder: Path) -> dict[str, str]:
    """Nothing of the caller's settings but where Python finds the programs."""
    inherited = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return inherited | {
        "PATH": f"{Path(sys.prefix) / 'bin'}{os.pathsep}{os.defpath}",
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "TERM": "dumb",
    }


@contextmanager
def _server(command: str, folder: Path, where: str) -> Iterator[None]:
    log = folder / f".server-{where.rpartition(':')[2]}.log"
    with log.open("wb") as output:
        program = subprocess.Popen(
            ["/bin/sh", "-c", f"exec {command}"],
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + SERVER_SECONDS
        while not re.search(rb"\b(ready|serving)\b", log.read_bytes()):
            if program.poll() is not None or time.monotonic() > deadline:
                raise Mismatch(f"{where}: never ready: {command}\n{log.read_text()}")
            time.sleep(0.02)
        yield
    finally:
        program.terminate()
        try:
            program.wait(10)
        except subprocess.TimeoutExpired:
            program.kill()
            program.wait()
            raise Mismatch(f"{where}: did not stop within 10 s: {command}\n{log.read_text()}") from None
