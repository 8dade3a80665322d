"""On any terminal: one that is narrow, one that lacks letters; and what peers and agreements say of what is over."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from acts import as_json, run, screen
from liaison.cli import main
from policy_files import VECTORS
from world import PASSPHRASE

LIAISON = Path(sys.executable).parent / "liaison"
TEXT = "Łódź at 12°, 中 and ש.\nThe last line.\n"
SHOWN = ["\\u0141\\xf3d\\u017a at 12\\xb0, \\u4e2d and \\u05e9.", "The last line."]


@pytest.fixture(scope="module")
def anna(two_offices):
    return two_offices.clients["anna.nowak@lo-warsaw"]


@pytest.fixture(scope="module")
def jean(two_offices, anna):
    two_offices.office("lo-oslo", "NOR")
    anna.send([JEAN], label="TEST OPEN RELEASABLE TO FRA, POL", subject="Łódź", body=TEXT)
    return two_offices.clients[JEAN]


JEAN = "jean.petit@lo-paris"


def on_terminal(client, *words, **settings):
    """What the command sends to a terminal of these settings."""
    secret = client.profile.folder / "passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    told = {"LIAISON_HOME": str(client.profile.folder), "LIAISON_PASSPHRASE_FILE": str(secret), "TERM": "dumb"}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [LIAISON, *words], stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=os.environ | told | settings
    ) as process:
        os.close(theirs)
        sent = b""
        try:
            while more := os.read(ours, 4096):
                sent += more
        except OSError:  # it has closed the terminal
            pass
    os.close(ours)
    assert process.returncode == 0, sent
    return sent.decode("ascii" if "PYTHONIOENCODING" in settings else "utf-8").splitlines()


def test_letters_that_a_terminal_lacks_are_shown_as_escapes_and_end_no_message(anna, jean):
    message_id = jean.inbox()[0].message_id.hex()
    lines = on_terminal(jean, "read", message_id, PYTHONIOENCODING="ascii")
    start = lines.index(SHOWN[0])
    assert lines[start : start + 2] == SHOWN
    assert lines[-1] == lines[0] == "TEST OPEN RELEASABLE TO POL, FRA"
    assert any(line.endswith("\\u0141\\xf3d\\u017a") for line in lines[:start])  # the subject


def test_what_is_said_on_a_terminal_without_letters_has_none(anna, jean):
    told = subprocess.run(
        [LIAISON, "label", "show", "Łódź", "--policy", VECTORS / "label" / "meridian.spif.xml"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True, check=False,
    )  # fmt: skip
    assert told.returncode == 1
    assert "'\\u0142\\xf3d\\u017a'" in told.stderr.decode("ascii")


def test_json_and_files_are_the_same_whatever_the_terminal_shows(tmp_path, anna, jean):
    message_id = jean.inbox()[0].message_id.hex()
    assert as_json(jean, "read", message_id)["portions"][0]["text"] == TEXT
    (line,) = on_terminal(jean, "read", message_id, "--json", PYTHONIOENCODING="ascii")
    assert json.loads(line)["portions"][0]["text"] == TEXT
    spif = (VECTORS / "label" / "meridian.spif.xml").read_text().replace('"JADE"', '"JÄDE"')
    (tmp_path / "policy.xml").write_text(spif)
    words = ["label", "show", "DEEP BURIED JÄDE FOR ASTER", "--policy", str(tmp_path / "policy.xml"), "--xml"]
    plain, ascii_only, latin = (CliRunner(charset=each).invoke(main, words) for each in ("utf-8", "ascii", "latin-1"))
    assert plain.exit_code == ascii_only.exit_code == latin.exit_code == 0, plain.output
    assert "JÄDE".encode() in plain.stdout_bytes
    assert "JÄDE".encode() in ascii_only.stdout_bytes
    assert "JÄDE".encode() in latin.stdout_bytes


@pytest.mark.parametrize("columns", [30, 50, 70, 80, 100])
def test_a_terminal_of_any_width_breaks_no_id_and_no_address(anna, jean, columns):
    message_id = jean.inbox()[0].message_id.hex()[:12]
    words = [word for line in on_terminal(jean, "inbox", COLUMNS=str(columns)) for word in line.split()]
    assert message_id in words
    assert "anna.nowak@lo-warsaw" in words


def test_peers_of_an_office_without_an_agreement_says_so_and_shows_its_key(anna, jean):
    told = run(anna, "peers", "lo-oslo")
    assert (told.exit_code, told.stdout) == (0, "")
    assert "no agreement between lo-warsaw and lo-oslo is in force: nobody there can be written to" in told.stderr
    assert "lo-oslo: authority key " in told.stderr


def test_peers_of_an_office_has_the_words_that_each_of_its_devices_says_of_itself(two_offices, anna, jean):
    tablet = two_offices.device("jean.petit@lo-paris", name="jean's tablet")
    told, own = run(anna, "peers", "lo-paris"), {each: as_json(each, "status") for each in (jean, tablet)}
    for status in own.values():
        assert f"jean.petit@lo-paris, device {status['device'][:12]}: {status['words']}\n" in told.stderr
    assert "device " not in run(anna, "peers").stderr
    rows = [json.loads(line) for line in screen(anna, "peers", "lo-paris", "--json")]
    words = {each["device"]: each["words"] for row in rows for each in row["device_ids"]}
    assert {status["device"]: status["words"] for status in own.values()}.items() <= words.items()


def test_an_agreement_that_is_over_is_not_in_force_for_anybody_who_looks(two_offices, anna, jean):
    agreement = two_offices.agreement("lo-warsaw", "lo-oslo", days=0)
    two_offices.device("olav@lo-oslo", clearances=[])
    while time.time() <= agreement.not_after + 1:
        time.sleep(0.1)
    known = {each["agreement"]: each for each in map(json.loads, screen(anna, "agreement", "list", "--json"))}
    over = known[agreement.agreement_id.hex()]
    assert (over["state"], over["in_force"]) == ("over", False)
    told = run(anna, "peers", "lo-oslo", "--json")
    assert [json.loads(line)["agreements"] for line in told.stdout.splitlines()] == [[]]
    assert "no agreement between lo-warsaw and lo-oslo is in force" in told.stderr


def test_what_is_wrong_with_a_checkpoint_of_others_says_in_which_file(tmp_path, anna):
    (tmp_path / "theirs").write_bytes(b"not a note")
    told = run(anna, "status", "--compare", str(tmp_path / "theirs"))
    assert told.exit_code == 1
    assert f"error: {tmp_path / 'theirs'}: " in told.stderr
