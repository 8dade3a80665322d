"""What takes M of N named people, end to end: on the command line, at the relay, and with a relay that goes without."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest
from click.testing import CliRunner

from acts import as_json, run, screen
from forge import call, problem
from liaison.approving import approve, read_asked
from liaison.cli import main as liaison_main
from liaison.home.founding import found_authority
from liaison.keys import SigningKey
from relay.cli import main as relay_main
from relay.protocol.approval import APPROVERS, Matter, read_approvers
from relay.protocol.armor import armor, dearmor
from relay.protocol.canonical import encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import Event, parse_access_entry, parse_directory_entry
from relay.protocol.errors import Unverified
from relay.store.log import Log
from simulator import Forger, double, lying
from test_directory import certificate, office
from world import PASSPHRASE, World, clearance, world

EWA, OLA, JAN, ANNA, JEAN = (
    "ewa.lis@lo-warsaw", "ola.zak@lo-warsaw", "jan.bor@lo-warsaw", "anna.nowak@lo-warsaw", "jean.petit@lo-paris",
)  # fmt: skip
LABEL = "TEST SEALED RELEASABLE TO FRA, POL"
FULL = [clearance(nations=["FRA", "POL"])]


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    """Warsaw has named Ewa, Ola and Jan, of whom two approve; Ola is a security officer since before."""
    with world(tmp_path_factory.mktemp("approvals")) as built:
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.agreement("lo-warsaw", "lo-paris")
        for address, roles in ((EWA, []), (OLA, ["security"]), (JAN, []), (ANNA, [])):
            built.device(address, clearances=FULL, roles=roles)
        built.device(JEAN, clearances=FULL)
        people = [word for address in (EWA, OLA, JAN) for word in ("--person", address)]
        named = as_json(
            built.authorities["lo-warsaw"], "approvers", "set", *people, "--needed", "enrolment=2", "--needed", "hold=2"
        )
        assert (named["version"], named["needed"], len(named["people"])) == (1, {"enrolment": 2, "hold": 2}, 3)
        yield built


def approvals_of(built: World, asked, folder, *who: str) -> list[str]:
    """Each of them reads the file and approves; the options for the command that takes their approvals."""
    options = []
    for address in who:
        out = folder / f"{address}.approval"
        told = as_json(built.clients[address], "approve", str(asked), "-o", str(out), "--yes")
        assert (told["address"], told["approval"]) == (address, str(out))
        options += ["--approval", str(out)]
    return options


def requested(built: World, address: str, folder):
    """What a new device asks for."""
    home, statement = folder / "device", built.folder / "lo-warsaw.statement"
    statement.write_text(armor(built.statements["lo-warsaw"], "STATEMENT"))
    told = {"LIAISON_HOME": str(home), "LIAISON_PASSPHRASE_FILE": str(folder / "words")}
    (folder / "words").write_text(PASSPHRASE)
    (folder / "words").chmod(0o600)
    words = ["--no-input", "init", address, "--relay", built.url, "--authority", str(statement)]
    assert CliRunner().invoke(liaison_main, words, env=told).exit_code == 0
    return folder / f"{address}.request"


def test_a_security_officer_is_enrolled_on_the_command_line_by_two_of_three(offices, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    authority, asked = offices.authorities["lo-warsaw"], tmp_path / "new.certificate"
    request = requested(offices, "kot@lo-warsaw", tmp_path)
    alone = run(authority, "authority", "enrol", str(request), "--role", "security")
    assert (alone.exit_code, "takes the approval of 2 of the named people, and has 0" in alone.output) == (6, True)
    assert screen(authority, "authority", "enrol", str(request), "--role", "security", "--ask", str(asked)) == []
    one = approvals_of(offices, asked, tmp_path, EWA)
    assert run(authority, "authority", "enrol", str(asked), *one).exit_code == 6
    both = approvals_of(offices, asked, tmp_path, EWA, JAN)
    told = as_json(authority, "authority", "enrol", str(asked), *both)
    anna = offices.clients[ANNA]
    anna.sync()
    enrolled = anna.trust.directory.devices[bytes.fromhex(told["device"])]
    assert (told["address"], enrolled.certificate.roles) == ("kot@lo-warsaw", ("security",))


def test_who_approves_sees_what_it_is_and_must_be_named(offices, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    authority, asked = offices.authorities["lo-warsaw"], tmp_path / "lis.certificate"
    request = requested(offices, "ryba@lo-warsaw", tmp_path)
    screen(authority, "authority", "enrol", str(request), "--role", "security", "--ask", str(asked))
    shown = run(offices.clients[EWA], "approve", str(asked))
    assert (shown.exit_code, "enrolment of ryba@lo-warsaw as officer, with the roles security" in shown.stderr) == (
        3,
        True,
    )
    for address in (ANNA, JEAN):
        refused = run(offices.clients[address], "approve", str(asked), "--yes")
        assert (refused.exit_code, "is not named by lo-warsaw" in refused.output) == (6, True)
    encoded = dearmor(asked.read_bytes(), "CERTIFICATE")
    asked.write_text(armor(encoded[:-1] + bytes([encoded[-1] ^ 1]), "CERTIFICATE"))
    assert run(offices.clients[EWA], "approve", str(asked), "--yes").exit_code == 5
    asked.write_text(armor(encoded, "CERTIFICATE") + armor(encoded, "HOLD"))
    assert run(offices.clients[EWA], "approve", str(asked), "--yes").exit_code == 1


def dated_now(encoded):
    return replace(parse_directory_entry(encoded), time=int(time.time() * 1000)).encoded()


def test_a_relay_that_enrols_without_approvals_is_caught_by_every_client(offices, tmp_path):
    """The authority's key is stolen and the relay's operator helps: the entry is in the log, well signed."""
    authority, stolen = offices.authorities["lo-warsaw"], SigningKey.generate()
    cert = certificate(authority.profile.signing, stolen, "mole@lo-warsaw", roles=("security",))
    jean = double(offices.clients[JEAN], tmp_path / "jean")
    with lying(jean) as relay:
        relay.invent("GET", r"^/v1/directory", Forger(offices).directory(lambda entries: [*entries, dated_now(cert)]))
        with pytest.raises(Unverified, match="does not hold: enrolment"):
            jean.sync()
    assert jean.profile.cabinet.alarms()
    jean.close()


def sent(built: World) -> bytes:
    return built.clients[ANNA].send([JEAN], label=LABEL, body="Ferry at dawn.\n").message_id


def holds(built: World, message_id: bytes) -> list[str]:
    entries = [parse_access_entry(each) for each in Forger(built).entries(Log.ACCESS)]
    return [each.detail for each in entries if each.event is Event.HOLD and each.message_id == message_id]


def test_a_hold_takes_one_word_and_two_approvals_and_the_same_to_lift_it(offices, tmp_path):
    ola, message_id, asked = offices.clients[OLA], sent(offices), tmp_path / "hold"
    alone = run(ola, "hold", "place", message_id.hex(), "--reason", "inquiry 7")
    assert (alone.exit_code, "hold: this takes the approval of 2" in alone.output) == (6, True)
    for action in ("place", "lift"):
        told = as_json(ola, "hold", action, message_id.hex(), "--reason", "inquiry 7", "--ask", str(asked))
        assert told == {"v": 1, "ask": str(asked)}
        one = approvals_of(offices, asked, tmp_path, EWA)
        assert run(ola, "hold", action, str(asked), *one).exit_code == 6
        own = run(ola, "approve", str(asked), "--yes")
        assert (own.exit_code, "for others to approve" in own.output) == (6, True)
        both = approvals_of(offices, asked, tmp_path, EWA, JAN)
        told = as_json(ola, "hold", action, str(asked), *both)
        assert (told["held"], told["word"], told["of"]) == (action == "place", 3, 3)
        if action == "place":
            listed_ = as_json(ola, "hold", "list")
            assert (listed_["message_id"], sorted(listed_["approved_by"])) == (message_id.hex(), sorted([EWA, JAN]))
            assert [(word["address"], word["reason"]) for word in listed_["words"]] == [(OLA, "inquiry 7")]
            assert f"    approved by {', '.join(listed_['approved_by'])}" in screen(ola, "hold", "list")
    assert holds(offices, message_id) == ["place 3 of 3: inquiry 7", "lift 3 of 3: inquiry 7"]


def test_what_was_approved_once_is_not_said_twice(offices, tmp_path):
    """Else one officer alone could lift, with old approvals, what others have placed again."""
    ola, message_id, folder = offices.clients[OLA], sent(offices), tmp_path
    files = {}
    for name, action in (("first", "place"), ("lift", "lift"), ("again", "place")):
        asked = folder / name
        screen(ola, "hold", action, message_id.hex(), "--reason", name, "--ask", str(asked))
        (folder / f"{name}-approvals").mkdir()
        files[name] = [action, str(asked), *approvals_of(offices, asked, folder / f"{name}-approvals", EWA, JAN)]
        assert run(ola, "hold", *files[name]).exit_code == 0
    again = run(ola, "hold", *files["lift"])
    assert (again.exit_code, "stated before" in again.output) == (1, True)
    assert len(holds(offices, message_id)) == 3


def test_the_relays_operator_admits_an_office_with_the_approvals_that_he_asked_for_himself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with world(tmp_path / "world") as built:
        for office_, nation, address in (("lo-warsaw", "POL", EWA), ("lo-paris", "FRA", JEAN)):
            built.office(office_, nation)
            built.device(address, clearances=[])

        def relay(*words: str):
            return CliRunner().invoke(relay_main, [*words, "--data", str(built.settings.data)])

        def approved(file: str) -> list[str]:
            return approvals_of(built, tmp_path / file, tmp_path, EWA, JEAN)

        assert relay("approvers", "set", "--person", EWA, "--person", JEAN, "--needed", "2").exit_code == 0
        shown = json.loads(relay("approvers", "list", "--json").output)
        assert (shown["version"], shown["needed"], len(shown["people"])) == (1, {"admission": 2}, 2)
        statement = found_authority(tmp_path / "oslo", "lo-oslo", "NOR", built.url, built.relay.vkeys, PASSPHRASE)
        (tmp_path / "lo-oslo.statement").write_text(armor(statement, "STATEMENT"))
        alone = relay("office", "add", "lo-oslo.statement")
        assert (alone.exit_code, "admission: this takes the approval of 2" in alone.output) == (6, True)
        assert "hint: the office's statement is FILE; each" in alone.output
        assert relay("office", "add", "lo-oslo.statement", *approved("lo-oslo.statement")).exit_code == 0
        fewer = ["approvers", "set", "--person", EWA, "--needed", "1"]
        assert (relay(*fewer).exit_code, "hint: --ask writes FILE; each" in relay(*fewer).output) == (6, True)
        assert relay(*fewer, "--ask", "fewer").exit_code == 0
        assert relay("approvers", "set", "fewer", *approved("fewer")).exit_code == 0
        # what the relay has done alone no client believes
        rogue = office(SigningKey.generate(), "lo-rogue", "NOR")
        jean = double(built.clients[JEAN], tmp_path / "jean")
        with lying(jean) as lie:
            lie.invent("GET", r"^/v1/directory", Forger(built).directory(lambda entries: [*entries, dated_now(rogue)]))
            with pytest.raises(Unverified, match="does not hold: admission"):
                jean.sync()
        jean.close()


def test_the_relay_refuses_by_rule_and_logs_no_change(offices):
    authority = offices.authorities["lo-warsaw"]
    authority.sync()
    before = len(Forger(offices).entries(Log.DIRECTORY))
    fresh = authority.draft_approvers([EWA], ((Matter.ENROLMENT, 1),))
    answer = call(authority, "POST", "/v1/directory", encode(["approvers", fresh, []]))
    assert (answer.status_code, problem(answer)["rules"]) == (403, ["approvals"])
    asked = read_asked(armor(fresh, "APPROVERS").encode(), authority.trust.directory)
    assert (asked.lines[0], read_approvers(parse_sign1(fresh, APPROVERS).payload).version) == (
        "approvers of lo-warsaw, version 2", 2,
    )  # fmt: skip
    given = [approve(offices.clients[address], asked) for address in (EWA, JAN)]
    short = call(authority, "POST", "/v1/directory", encode(["approvers", fresh, [], given[:1]]))
    assert short.status_code == 403
    assert len(Forger(offices).entries(Log.DIRECTORY)) == before
