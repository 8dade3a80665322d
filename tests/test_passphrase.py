from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from liaison.home.passphrase import PassphraseSource
from relay.protocol.errors import Malformed, Unauthenticated


def descriptor(content: bytes) -> int:
    read, write = os.pipe()
    os.write(write, content)
    os.close(write)
    return read


def test_the_first_named_source_wins(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("from the file\n")
    environment = {"LIAISON_PASSPHRASE_FILE": str(tmp_path / "p")}
    command = "printf 'from the command'"
    assert PassphraseSource(descriptor(b"from fd"), command, environment=environment).current() == "from fd"
    assert PassphraseSource(None, command, environment=environment).current() == "from the file"
    assert PassphraseSource(None, command, environment={}).current() == "from the command"


@pytest.mark.parametrize(
    ("given", "taken"),
    [(b"secret\n", "secret"), (b"secret\n\n", "secret\n"), (b" a b ", " a b "), (b"x\r\n", "x\r")],
)
def test_exactly_one_newline_at_the_end_is_not_part_of_it(given: bytes, taken: str) -> None:
    assert PassphraseSource(descriptor(given), environment={}).current() == taken


def test_a_named_source_that_gives_nothing_is_an_error_and_not_the_next_source(tmp_path: Path) -> None:
    command = "printf fallback"
    for source in (
        PassphraseSource(descriptor(b"\n"), command, environment={}),
        PassphraseSource(987, command, environment={}),
        PassphraseSource(None, command, environment={"LIAISON_PASSPHRASE_FILE": str(tmp_path / "absent")}),
        PassphraseSource(None, command, environment={"LIAISON_PASSPHRASE_FILE": ""}),
        PassphraseSource(None, "false", environment={}),
        PassphraseSource(None, "", environment={}),
        PassphraseSource(None, "'unclosed", environment={}),
        PassphraseSource(None, "/nonexistent/program", environment={}),
    ):
        with pytest.raises(Unauthenticated):
            source.current()


def test_the_command_meets_no_shell(tmp_path: Path) -> None:
    source = PassphraseSource(None, f"echo $HOME; touch {tmp_path}/touched", environment={})
    assert source.current() == f"$HOME; touch {tmp_path}/touched"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("given", [b"\xff\xfe secret", b"x" * 4097])
def test_what_is_no_passphrase_is_malformed(given: bytes) -> None:
    with pytest.raises(Malformed):
        PassphraseSource(descriptor(given), environment={}).current()


def test_a_new_passphrase_has_at_least_eight_characters_wherever_it_comes_from() -> None:
    with pytest.raises(Unauthenticated, match="7 characters, at least 8"):
        PassphraseSource(descriptor("żółwiki".encode()), environment={}).new()
    assert PassphraseSource(descriptor("żółwikiż".encode()), environment={}).new() == "żółwikiż"


def test_no_input_fails_instead_of_asking() -> None:
    with pytest.raises(Unauthenticated, match="--no-input") as caught:
        PassphraseSource(no_input=True, environment={}).current()
    assert "--passphrase-fd" in caught.value.hint


SCRIPT = """
import fcntl, sys, termios
if len(sys.argv) > 2:
    fcntl.ioctl(int(sys.argv[2]), termios.TIOCSCTTY, 0)
from liaison.home.passphrase import PassphraseSource
from relay.protocol.errors import Unauthenticated
try:
    print(repr(getattr(PassphraseSource(environment={}), sys.argv[1])()), repr(sys.stdin.read()))
except Unauthenticated as error:
    print(error)
"""


def typed(method: str, *lines: str) -> tuple[str, str]:
    """What a program with the message on its standard input and a person at its terminal says, and shows."""
    master, slave = os.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, method, str(slave)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        pass_fds=[slave],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    ) as program:
        assert program.stdin
        assert program.stdout
        program.stdin.write(b"the message")
        program.stdin.close()
        shown = b""
        for line in lines:
            while not shown.endswith(b": "):
                shown += os.read(master, 1000)
            os.write(master, line.encode() + b"\n")
            shown += b"|"
        said = program.stdout.read().decode()
    shown += os.read(master, 1000)
    os.close(master)
    os.close(slave)
    return said, shown.decode()


def test_the_terminal_is_asked_without_echo_while_standard_input_carries_the_message() -> None:
    said, shown = typed("current", "open sesame")
    assert said == "'open sesame' 'the message'\n"
    assert shown.startswith("passphrase: ")
    assert "sesame" not in shown


def test_a_new_passphrase_is_typed_twice() -> None:
    assert typed("new", "open sesame", "open sesame")[0].startswith("'open sesame'")
    assert typed("new", "open sesame", "open simsim")[0] == "the two passphrases differ\n"
    assert "at least 8" in typed("new", "short")[0]


def test_without_a_terminal_nothing_is_read_from_standard_input() -> None:
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, "current"],
        input=b"the message\n",
        stdout=subprocess.PIPE,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=True,
    )
    assert b"no terminal" in ran.stdout
