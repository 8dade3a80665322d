"""A request, or an office's statement, that was swapped on its way is certified or admitted by nobody who compares words."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from acts import run
from liaison.cli.saying import CANCELLED
from liaison.home.founding import found_authority, found_device
from processes import relay, told
from relay.protocol.armor import armor
from relay.protocol.identity import parse_request, parse_statement
from relay.protocol.words import are_words, words_for
from world import PASSPHRASE

LIAISON, RELAY = (Path(sys.prefix) / "bin" / name for name in ("liaison", "relay"))
ANNA, EWA, LABEL = "anna.nowak@lo-warsaw", "ewa.lis@lo-warsaw", "TEST OPEN RELEASABLE TO FRA, POL"
ASKED = "Did its holder read out the same words"


@pytest.fixture(scope="module")
def warsaw(two_offices):
    return two_offices.authorities["lo-warsaw"]


def request_of(world, folder, address=EWA):
    """(file, words) of a request for this address, of keys made in `folder`."""
    statement = world.statements["lo-warsaw"]
    signed = found_device(
        folder / "profile", address, world.url, world.relay.vkeys, (statement, parse_statement(statement)), PASSPHRASE
    )
    (folder / f"{address}.request").write_text(armor(signed, "REQUEST"))
    return folder / f"{address}.request", words_for([parse_request(signed).kid])


@pytest.fixture
def ewas(two_offices, tmp_path):
    (tmp_path / "ewa").mkdir()
    return request_of(two_offices, tmp_path / "ewa")


@pytest.fixture
def swapped(two_offices, tmp_path):
    """What whoever carried Ewa's request hands over in its place: her address, his keys."""
    (tmp_path / "thief").mkdir()
    return request_of(two_offices, tmp_path / "thief")


def enrolled(authority, address=EWA):
    authority.sync()
    return [each for each in authority.trust.directory.devices.values() if each.address == address]


def at_a_terminal(authority, answer, *words, within=()):
    """(exit code, what the screen has) of a `liaison` command at a terminal where somebody types `answer`."""
    secret = authority.profile.folder / "passphrase"
    secret.write_text(PASSPHRASE)
    secret.chmod(0o600)
    home = str(authority.profile.folder)
    return typed(answer, *within, LIAISON, *words, LIAISON_HOME=home, LIAISON_PASSPHRASE_FILE=str(secret))


def typed(answer, *words, **settings):
    leader, follower = pty.openpty()
    with subprocess.Popen(
        words, env=os.environ | settings, stdin=follower, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as command:
        os.close(follower)
        os.write(leader, f"{answer}\n".encode())
        said, _ = command.communicate(timeout=60)
    os.close(leader)
    return command.returncode, said.decode()


def test_a_swapped_request_is_refused_by_the_words_that_the_officer_was_told(warsaw, ewas, swapped, tmp_path) -> None:
    before, asked = enrolled(warsaw), tmp_path / "certificate"
    for options in ((), ("--yes",), ("--ask", str(asked))):
        told = run(warsaw, "authority", "enrol", str(swapped[0]), "--words", ewas[1], *options)
        assert (told.exit_code, told.stdout) == (5, "")
        assert f"error: the device of {EWA} has other words than you were told: nothing is certified" in told.stderr
        assert swapped[1] not in told.stderr
    assert not asked.exists()
    assert enrolled(warsaw) == before


def test_the_words_are_compared_as_they_are_spoken(warsaw, ewas) -> None:
    spoken = ewas[1].replace("-", "  ").upper()
    told = run(warsaw, "authority", "enrol", str(ewas[0]), "--words", f" {spoken}\n", "--json")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["words"] == ewas[1]


def test_a_certificate_that_others_approved_is_compared_too(warsaw, ewas, swapped, tmp_path) -> None:
    before, asked = enrolled(warsaw), str(tmp_path / "certificate")
    assert run(warsaw, "authority", "enrol", str(swapped[0]), "--ask", asked).exit_code == 0
    assert run(warsaw, "authority", "enrol", asked, "--words", ewas[1]).exit_code == 5
    assert enrolled(warsaw) == before


def test_at_a_terminal_nothing_is_certified_unless_somebody_says_that_he_compared(warsaw, ewas, tmp_path) -> None:
    before, asked = enrolled(warsaw), tmp_path / "certificate"
    for answer in ("n", "", "what?\nno"):
        code, said = at_a_terminal(
            warsaw, answer, "authority", "enrol", str(ewas[0]), "--role", "duty", "--ask", str(asked)
        )
        assert code == CANCELLED, said
        assert f"{EWA}, officer, duty" in said
        assert "cleared for nothing" in said
        assert f"words of the device: {ewas[1]}" in said
        assert ASKED in said
    assert not asked.exists()
    assert enrolled(warsaw) == before
    code, said = at_a_terminal(warsaw, "y", "authority", "enrol", str(ewas[0]))
    assert code == 0, said
    assert len(enrolled(warsaw)) == len(before) + 1


@pytest.mark.parametrize("options", [("--yes",), ("--words", None)])
def test_what_was_answered_beforehand_is_not_asked(warsaw, ewas, options) -> None:
    given = [ewas[1] if each is None else each for each in options]
    code, said = at_a_terminal(warsaw, "n", "authority", "enrol", str(ewas[0]), *given)
    assert code == 0, said
    assert ASKED not in said


def test_without_a_terminal_nobody_is_asked(warsaw, ewas) -> None:
    told = run(warsaw, "authority", "enrol", str(ewas[0]))
    assert told.exit_code == 0, told.output
    assert f"words of the device: {ewas[1]}; if its holder has others" in told.stderr
    code, said = at_a_terminal(warsaw, "n", "--no-input", "authority", "enrol", str(ewas[0]))
    assert ASKED not in said
    assert code != CANCELLED


def test_words_that_are_not_all_of_them_are_none() -> None:
    keys = [bytes(32)]
    words = words_for(keys)
    assert are_words(words, keys)
    for said in ("", words[:-1], words[:23], f"{words}-lusab", words.replace("a", "á")):
        assert not are_words(said, keys)


# -- the operator admits an office --------------------------------------------------------------------------------------


@pytest.fixture
def oslo(two_offices, tmp_path):
    """(file, words) of a statement of an office that nobody has admitted yet."""
    signed = found_authority(
        tmp_path / "so-oslo", "lo-oslo", "NOR", two_offices.url, two_offices.relay.vkeys, PASSPHRASE
    )
    (tmp_path / "lo-oslo.statement").write_text(armor(signed, "STATEMENT"))
    return tmp_path / "lo-oslo.statement", words_for([parse_statement(signed).kid])


def admitted(authority):
    authority.sync()
    return "lo-oslo" in authority.trust.directory.offices


def test_an_operator_admits_nobody_whose_words_are_others_than_he_was_told(two_offices, warsaw, oslo) -> None:
    add, here = ("office", "add", oslo[0]), ("--data", two_offices.settings.data)
    wrong = told(*add, *here, "--words", words_for([bytes(32)]), code=5)
    assert "error: the authority of lo-oslo has other words than you were told: it is not admitted" in wrong.stderr
    assert oslo[1] not in wrong.stderr
    for answer in ("n", ""):
        code, said = typed(answer, RELAY, *add, *here)
        assert (code, "Did its security officer read out the same words" in said) == (CANCELLED, True), said
        assert f"words of the authority of lo-oslo (NOR): {oslo[1]}" in said
    assert not admitted(warsaw)
    code, said = typed("y", RELAY, *add, *here)
    assert code == 0, said
    assert admitted(warsaw)


@pytest.mark.parametrize("options", [(), ("--words", None)])
def test_an_operator_at_no_terminal_is_not_asked(tmp_path, oslo, options) -> None:
    relay("migrate", "--data", tmp_path / "relay")
    given = [oslo[1].upper() if each is None else each for each in options]
    assert "lo-oslo (NOR) admitted" in told("office", "add", oslo[0], "--data", tmp_path / "relay", *given).stderr


def test_who_said_yes_beforehand_is_not_asked(tmp_path, oslo) -> None:
    relay("migrate", "--data", tmp_path / "relay")
    code, said = typed("n", RELAY, "office", "add", oslo[0], "--data", tmp_path / "relay", "--yes")
    assert (code, "lo-oslo (NOR) admitted" in said) == (0, True), said


def test_whose_standard_input_is_closed_is_not_asked(two_offices, warsaw, ewas, oslo, tmp_path) -> None:
    relay("migrate", "--data", tmp_path / "relay")
    closed = ["sh", "-c", 'exec "$@" <&-', "sh"]
    code, said = typed("n", *closed, RELAY, "office", "add", oslo[0], "--data", tmp_path / "relay")
    assert (code, "lo-oslo (NOR) admitted" in said) == (0, True), said
    code, said = at_a_terminal(warsaw, "n", "authority", "enrol", str(ewas[0]), within=closed)
    assert (code, f"words of the device: {ewas[1]}" in said) == (0, True), said
    code, said = at_a_terminal(two_offices.clients[ANNA], "n", "send", "--to", EWA, "--label", LABEL, within=closed)
    assert (code, "Traceback" in said) == (1, False), said
