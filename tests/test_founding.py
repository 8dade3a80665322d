"""Profiles are made once; the file that goes to another person can be had again, by whoever has the passphrase."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from answering import answering
from liaison.cli import main
from liaison.founding import found_authority
from liaison.profile import open_profile
from relay.protocol.armor import armor, dearmor
from relay.protocol.identity import parse_request
from world import PASSPHRASE

STATEMENT, REQUEST = "lo-oslo.statement", "kari@lo-oslo.request"
AUTHORITY = ("authority", "init", "lo-oslo", "--nation", "NOR")
DEVICE = ("init", "kari@lo-oslo", "--authority", STATEMENT)


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`liaison`, with a profile called home; lo-oslo has an authority elsewhere."""
    monkeypatch.chdir(tmp_path)
    Path("passphrase").write_text(PASSPHRASE)
    with answering(json.dumps({"keys": []}).encode()) as relay:
        for folder, statement in (("oslo", STATEMENT), ("other", "other.statement")):
            signed = found_authority(tmp_path / folder, "lo-oslo", "NOR", relay.url, [], PASSPHRASE)
            Path(statement).write_text(armor(signed, "STATEMENT"))

        def command(*words: str, passphrase: str = PASSPHRASE) -> Result:
            Path("passphrase").write_text(passphrase)
            told = {"LIAISON_HOME": "home", "LIAISON_PASSPHRASE_FILE": "passphrase"}
            return CliRunner().invoke(main, [*words, "--relay", relay.url], env=told)

        yield command


def statement_of_home() -> bool:
    with closing(open_profile(Path("home"), PASSPHRASE)) as home:
        return dearmor(Path(STATEMENT).read_bytes(), "STATEMENT") == home.pins.statement


def request_of_home() -> bool:
    with closing(open_profile(Path("home"), PASSPHRASE)) as home:
        return parse_request(dearmor(Path(REQUEST).read_bytes(), "REQUEST")).device_id == home.signing.device_id


@pytest.mark.parametrize(
    ("words", "file", "is_of_home"), [(AUTHORITY, STATEMENT, statement_of_home), (DEVICE, REQUEST, request_of_home)]
)
def test_what_could_not_be_written_is_written_by_a_second_init(run, words, file, is_of_home):
    if words is AUTHORITY:
        Path(file).unlink()
    Path(file).symlink_to("/dev/full")
    assert run(*words).exit_code == 1
    Path(file).unlink()
    assert run(*words, passphrase="another one").exit_code == 4
    assert not Path(file).exists()
    assert run(*words).exit_code == 0
    assert is_of_home()


@pytest.mark.parametrize(
    ("words", "others"),
    [
        (AUTHORITY, ("authority", "init", "lo-oslo", "--nation", "POL")),
        (AUTHORITY, ("authority", "init", "lo-bergen", "--nation", "NOR")),
        (DEVICE, ("init", "kari@lo-oslo", "--authority", "other.statement")),
        (DEVICE, ("init", "nils@lo-oslo", "--authority", STATEMENT)),
        (DEVICE, AUTHORITY),
    ],
)
def test_a_second_init_in_other_words_finds_the_place_taken_and_writes_nothing(run, words, others):
    assert run(*words).exit_code == 0
    before = {path: path.read_bytes() for path in Path().glob("*.*")}
    told = run(*others)
    assert (told.exit_code, "there is a profile in home already" in told.stderr) == (1, True)
    assert {path: path.read_bytes() for path in Path().glob("*.*")} == before
