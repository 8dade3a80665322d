"""Profiles are made once; the file that goes to another person can be had again, by whoever has the passphrase."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from answering import answering
from liaison.cli import main
from liaison.home.founding import found_authority
from liaison.home.profile import open_profile
from liaison.witness import Witness, create_witness
from relay.logkeys import LogKeys
from relay.protocol.armor import armor, dearmor
from relay.protocol.errors import Conflict
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


# Each child founds in a folder of its own, and is killed in front of one act more on the disk than the one before it.
KILLED = """
import itertools, os, signal, sys
from pathlib import Path
from liaison.home.founding import found_authority
from liaison.witness import create_witness

ACTS = {"open", "os.chmod", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir"}

def found(folder, last):
    acts = itertools.count()
    def watch(event, given):
        if event in ACTS and str(folder) in repr(given) and next(acts) == last:
            os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(watch)
    if sys.argv[2] == "witness":
        create_witness(folder, "witness.example", sys.argv[3])
    else:
        found_authority(folder, "lo-oslo", "NOR", "http://127.0.0.1:1", [], sys.argv[3])

for last in itertools.count():
    child = os.fork()
    if child == 0:
        try:
            found(Path(sys.argv[1]) / f"home-{last:02}", last)
        finally:
            sys.stdout.flush()
            os._exit(int(sys.exc_info()[0] is not None))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != -signal.SIGKILL:
        sys.exit(code)
"""


def killed(folder, what, given):
    """Folders in which it was killed, and the names of what is there where it was not."""
    command = [sys.executable, "-c", KILLED, folder, what, given]
    subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, check=True, timeout=120)
    homes = sorted(folder.iterdir())
    assert len(homes) > 10
    return homes[:-1], {path.name for path in homes[-1].iterdir()}


def test_wherever_init_was_killed_the_next_one_makes_a_whole_profile_and_leaves_nothing_else(tmp_path):
    homes, whole = killed(tmp_path, "authority", PASSPHRASE)
    for home in homes:
        signed = found_authority(home, "lo-oslo", "NOR", "http://127.0.0.1:1", [], PASSPHRASE)
        with closing(open_profile(home, PASSPHRASE)) as opened:
            assert opened.pins.statement == signed
        assert {path.name for path in home.iterdir()} == whole, home


def test_keys_without_their_profile_are_not_taken_for_what_a_killed_init_left(tmp_path):
    found_authority(tmp_path, "lo-oslo", "NOR", "http://127.0.0.1:1", [], PASSPHRASE)
    (tmp_path / "profile.json").unlink()
    before = {path: path.read_bytes() for path in tmp_path.glob("*.*")}
    with pytest.raises(Conflict):
        found_authority(tmp_path, "lo-oslo", "NOR", "http://127.0.0.1:1", [], PASSPHRASE)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.*")} == before


def test_wherever_the_making_of_a_witness_was_killed_the_next_one_makes_it_whole(tmp_path):
    logs = "\n".join(LogKeys(Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()).vkeys(("relay/access",)))
    homes, whole = killed(tmp_path, "witness", logs)
    for home in homes:
        made = create_witness(home, "witness.example", logs)
        assert Witness.open(home).keys.vkeys() == made.vkeys()
        assert {path.name for path in home.iterdir()} == whole, home


def test_a_witness_is_made_once_and_given_again_in_the_same_words_only(tmp_path):
    logs = ["\n".join(LogKeys(Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()).vkeys(("relay/access",)))
            for _relay in range(2)]  # fmt: skip
    made = create_witness(tmp_path, "witness.example", logs[0])
    assert create_witness(tmp_path, "witness.example", logs[0]).vkeys() == made.vkeys()
    for name, keys in (("other.example", logs[0]), ("witness.example", logs[1])):
        with pytest.raises(Conflict):
            create_witness(tmp_path, name, keys)
    assert Witness.open(tmp_path).keys.vkeys() == made.vkeys()


@pytest.mark.parametrize("lost", ["witness.json", "witnessed.json"])
def test_a_witness_that_lost_its_keys_or_its_memory_is_not_made_anew(tmp_path, lost):
    logs = "\n".join(LogKeys(Ed25519PrivateKey.generate(), MLDSA44PrivateKey.generate()).vkeys(("relay/access",)))
    create_witness(tmp_path, "witness.example", logs)
    (tmp_path / "witnessed.json").write_text('{"relay/access": {"size": 1, "root": ""}}')
    (tmp_path / lost).unlink()
    with pytest.raises(Conflict):
        create_witness(tmp_path, "witness.example", logs)
