"""The two programs as programs: every command has help and JSON, what the README names exists, completion works."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from liaison.cli import main as liaison
from liaison.cli.body import body_of
from liaison.cli.main import COMMANDS
from processes import told
from relay.cli import main as relay

ROOT = Path(__file__).parents[1]
BIN = Path(sys.prefix) / "bin"
PROGRAMS = {"liaison": liaison, "relay": relay}


def commands(program: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and group of a program with its words."""
    waiting = [((program,), PROGRAMS[program])]
    while waiting:
        words, command = waiting.pop()
        yield words, command
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                waiting.append(((*words, name), found))


EVERY = [(words, command) for program in PROGRAMS for words, command in commands(program)]


@pytest.mark.parametrize(
    ("words", "_command"), EVERY, ids=lambda value: " ".join(value) if type(value) is tuple else ""
)
def test_every_command_explains_itself(words, _command) -> None:
    told = CliRunner().invoke(PROGRAMS[words[0]], [*words[1:], "--help"])
    assert told.exit_code == 0, told.output
    assert told.output.startswith("Usage: ")
    listed = told.output.partition("\nCommands:\n")[2].splitlines()
    assert not [line for line in listed if line.endswith("...")], "what a command is for is said whole"
    assert "\\b" not in told.output
    explained = told.output.split("\n\n")[1].strip()
    assert explained, "no sentence says what it does"
    assert not explained.startswith("Options:"), "no sentence says what it does"


@pytest.mark.parametrize(("words", "command"), EVERY, ids=lambda value: " ".join(value) if type(value) is tuple else "")
def test_every_option_says_what_it_is_for(words, command) -> None:
    assert [each.name for each in command.params if isinstance(each, click.Option) and not each.help] == []


SPEAKING = {("relay", "serve"), ("relay", "demo")}  # they go on, and say what they do


@pytest.mark.parametrize(
    ("words", "command"),
    [(words, command) for words, command in EVERY if words not in SPEAKING and not isinstance(command, click.Group)],
    ids=lambda value: " ".join(value) if type(value) is tuple else "",
)
def test_every_command_speaks_json(words, command) -> None:
    assert any("--json" in option.opts for option in command.params), words


def test_the_help_of_the_program_lists_exactly_the_commands_that_exist() -> None:
    listed = [name for audience in COMMANDS.values() for name in audience]
    assert len(listed) == len(set(listed))
    for name in listed:
        assert liaison.get_command(click.Context(liaison), name).name == name


def readme_commands() -> Iterator[list[str]]:
    """The words of every `liaison` and `relay` command in the console blocks of the READMEs."""
    for readme in (ROOT / "README.md", ROOT / "clients" / "partner" / "README.md"):
        for block in re.findall(r"^```console\n(.*?)^```", readme.read_text(), re.MULTILINE | re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line.removeprefix("$ "), comments=True)
                while words and "=" in words[0]:
                    words.pop(0)
                if line.startswith("$ ") and words and words[0] in PROGRAMS:
                    yield words


def test_what_the_readme_shows_can_be_typed() -> None:
    shown = list(readme_commands())
    assert len(shown) > 15, "the walk-through was not found"
    for words in shown:
        command, rest = PROGRAMS[words[0]], words[1:]
        context = click.Context(command, info_name=words[0])
        while isinstance(command, click.Group):
            name = rest.pop(0)
            found = command.get_command(context, name)
            assert found is not None, f"{' '.join(words)}: there is no {name}"
            command = found
        known = {spelling for param in command.params for spelling in (*param.opts, *param.secondary_opts)}
        for word in rest:
            assert not word.startswith("--") or word in known, f"{' '.join(words)}: there is no {word}"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_completion_scripts_are_made(program: str, shell: str) -> None:
    if shell == "bash" and not Path("/bin/bash").exists():
        pytest.skip("no bash here, and click asks it for its version")
    asked = {**os.environ, f"_{program.upper()}_COMPLETE": f"{shell}_source"}
    made = subprocess.run([BIN / program], env=asked, capture_output=True, text=True, timeout=30, check=False)
    assert made.returncode == 0, made.stderr
    assert f"_{program}_completion" in made.stdout


def test_completion_knows_commands_and_survives_words_that_are_none() -> None:
    asked = {**os.environ, "_LIAISON_COMPLETE": "bash_complete", "COMP_CWORD": "1"}
    for words, completed in (("liaison in", ["plain,inbox", "plain,init"]), ("liaison xyz", [])):
        told = subprocess.run(
            [BIN / "liaison"],
            env=asked | {"COMP_WORDS": words},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert sorted(told.stdout.split()) == completed
    asked |= {"COMP_WORDS": "liaison xyz --", "COMP_CWORD": "2"}
    told = subprocess.run([BIN / "liaison"], env=asked, capture_output=True, text=True, timeout=30, check=False)
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("session", ["gone", "", "locked", "file", "session"])
def test_text_is_written_in_the_sessions_memory_if_there_is_such_a_place(tmp_path: Path, monkeypatch, session) -> None:
    (tmp_path / "locked").mkdir(0o500)
    for place in ("profile", "session"):
        (tmp_path / place).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "editor").write_text('#!/bin/sh\necho "$1" > "$1"\n')
    monkeypatch.setenv("VISUAL", f"sh {tmp_path / 'editor'}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", session and str(tmp_path / session))
    monkeypatch.setattr("liaison.cli.body.is_written_now", lambda _file: True)
    writable = {"session", "locked"} if os.geteuid() == 0 else {"session"}  # nothing is locked to the superuser
    with body_of(None, tmp_path / "profile") as text:
        assert Path(text.strip()).parents[1] == tmp_path / (session if session in writable else "profile")
        assert Path(text.strip()).is_file()
    assert not Path(text.strip()).exists()


def test_what_an_operator_does_is_told_as_json(tmp_path: Path) -> None:
    def objects(*words: object, code: int = 0) -> list[dict]:
        found = [json.loads(line) for line in told(*words, "--json", *there, code=code).stdout.splitlines()]
        assert {each.pop("v") for each in found} == {1}
        return found

    there = ("--data", tmp_path / "relay")
    assert objects("migrate", "--name", "relay.example") == [{"migrated": True}]
    assert [set(each) for each in objects("key")] == [{"relay", "vkey", "line"}] * 4
    assert objects("check") == [{"verified": True, "faults": 0}]
    file = tmp_path / "file"
    assert [each["log"].split("/")[0] for each in objects("backup", file)] == ["relay.example"] * 2
    told("backup", "-", "--json", *there, code=2)
    assert objects("approvers", "list") == [{"version": None, "needed": {}, "people": []}]
    for each in (tmp_path / "relay").glob("relay.sqlite*"):
        each.unlink()
    (restored,) = objects("restore", file, "--accept-loss")
    assert (restored["restored"], len(restored["lost"])) == (True, 1)
