"""`relay demo`, as a newcomer runs it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

RELAY = Path(sys.prefix) / "bin" / "relay"
ESCAPE = b"\x1b["


def test_the_demonstration_holds_every_claim_and_is_plain_on_a_pipe(tmp_path: Path) -> None:
    real = {"RELAY_PARTS": str(tmp_path / "parts"), "relay_data": str(tmp_path / "relay")}  # of a relay that works here
    leaks = {"PYTHONWARNINGS": "default::ResourceWarning"}  # of the demonstration and of each command in it
    told = subprocess.run(
        [RELAY, "demo"], cwd=tmp_path, env=os.environ | real | leaks, capture_output=True, timeout=180, check=False
    )
    assert told.returncode == 0, told.stdout[-2000:] + told.stderr[-2000:]
    assert told.stderr == b""
    assert ESCAPE not in told.stdout
    assert b"ResourceWarning" not in told.stdout
    last = told.stdout.decode().splitlines()[-1]
    assert f"{told.stdout.decode().count('  ✓ ')} claims held" in last
    assert "✗" not in told.stdout.decode()
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind, and has nothing to do with another relay"


def test_a_sandbox_stays_for_a_partners_program_until_it_is_told_to_end(tmp_path: Path) -> None:
    with subprocess.Popen([RELAY, "demo", "--stay"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as sandbox:
        try:
            given = dict(_settings_of(sandbox.stdout or ()))
            words = ("send", "--to", "anna.nowak@lo-warsaw", "--label", "DEMO RESTRICTED", "--yes", "--json", "-")
            told = subprocess.run(
                [RELAY.with_name("liaison"), *words],
                env=os.environ | given,
                input=b"54.5N 018.6E",
                capture_output=True,
                timeout=60,
                check=False,
            )
            assert b'"released_to": ["anna.nowak@lo-warsaw"]' in told.stdout, told.stderr
        finally:
            sandbox.terminate()
        assert sandbox.wait(30) == 128 + signal.SIGTERM
    assert not Path(given["LIAISON_HOME"]).exists()


def _settings_of(lines: Iterable[str]) -> Iterator[tuple[str, str]]:
    """What it tells a program to put into its environment: the passphrase's file, and the partner system's profile."""
    for line in lines:
        words = line.split()
        if words[:1] == ["export"]:
            name, _, value = words[1].partition("=")
            if name == "LIAISON_PASSPHRASE_FILE" or words[-1] == "cop-feed@lo-paris":
                yield name, value
        if words[:1] == ["Ctrl-C"]:
            return


def test_the_demonstration_is_coloured_on_a_terminal(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    with subprocess.Popen([RELAY, "demo"], cwd=tmp_path, stdin=follower, stdout=follower, stderr=follower) as telling:
        os.close(follower)
        try:
            said = os.read(leader, 1 << 16)  # the first chapter's title is enough; the story is told above
        finally:
            telling.terminate()
        telling.wait(30)
    os.close(leader)
    assert ESCAPE in said


def test_no_color_is_heeded_on_a_terminal(tmp_path: Path) -> None:
    leader, follower = pty.openpty()
    settings = {**os.environ, "NO_COLOR": "1"}
    with subprocess.Popen(
        [RELAY, "demo"], cwd=tmp_path, env=settings, stdin=follower, stdout=follower, stderr=follower
    ) as telling:
        os.close(follower)
        try:
            said = os.read(leader, 1 << 16)
        finally:
            telling.terminate()
        telling.wait(30)
    os.close(leader)
    assert said
    assert ESCAPE not in said
