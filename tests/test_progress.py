"""The bar while a message is sealed to many: on a terminal, on stderr, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from liaison.meter import no_meter
from liaison.outgoing import MANY
from world import PASSPHRASE, clearance, world

ANNA = "anna.nowak@lo-warsaw"
READERS = [f"reader{number}@lo-warsaw" for number in range(MANY)]


@pytest.fixture(scope="module")
def office(tmp_path_factory):
    with world(tmp_path_factory.mktemp("progress")) as built:
        built.office("lo-warsaw", "POL")
        for address in (ANNA, *READERS):
            built.device(address, clearances=[clearance(nations=["POL"])])
        yield built


def told_on_stderr(folder: Path, readers: list[str], *words: str, terminal: bool) -> str:
    """What `liaison send` to these readers says on stderr, be that a terminal or a pipe."""
    passphrase, body = folder / "passphrase", folder / "body"
    passphrase.touch(0o600)
    passphrase.write_text(PASSPHRASE)
    body.write_text("To all.\n")
    settings = {"LIAISON_HOME": str(folder / ANNA), "LIAISON_PASSPHRASE_FILE": str(passphrase), "TERM": "xterm"}
    to = [word for address in readers for word in ("--to", address)]
    command = [Path(sys.executable).parent / "liaison", "send", *to, "--label", "TEST OPEN", "--yes", *words, body]
    ours, theirs = pty.openpty() if terminal else os.pipe()
    with subprocess.Popen(command, env={**os.environ, **settings}, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        said = b""
        try:
            while more := os.read(ours, 4096):
                said += more
        except OSError:  # how a terminal ends
            pass
        os.close(ours)
        assert b"sealing" not in process.stdout.read()
    assert process.returncode == 0, said
    return said.decode()


def test_sealing_to_many_shows_a_bar_on_a_terminal_only(office):
    assert f"{MANY}/{MANY}" in told_on_stderr(office.folder, READERS, terminal=True)
    assert "sealing" not in told_on_stderr(office.folder, READERS, terminal=False)
    assert "sealing" not in told_on_stderr(office.folder, READERS, "--json", terminal=True)
    assert "sealing" not in told_on_stderr(office.folder, READERS[:2], terminal=True)


def test_the_meter_is_told_of_every_device_that_was_sealed_to(office):
    anna, told = office.clients[ANNA], []

    @contextmanager
    def meter(what, total, *, counted=""):
        done = []
        yield done.append
        told.append((what, total, counted, sum(done)))

    anna.meter = meter
    try:
        anna.send(READERS, label="TEST OPEN", body="To all.")
    finally:
        anna.meter = no_meter
    assert told == [("sealing to", MANY, "devices", MANY)]
