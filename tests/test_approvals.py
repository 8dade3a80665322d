"""What takes M of N named people: the directory replays it, so neither an authority, an operator nor a relay skips it."""

from __future__ import annotations

import copy
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
from relay.protocol.approval import APPROVAL, APPROVERS, Approval, Approvers, Matter, list_ref, read_approvers
from relay.protocol.armor import armor, dearmor
from relay.protocol.canonical import encode
from relay.protocol.cose import parse_sign1
from relay.protocol.directory import Directory
from relay.protocol.entry import Change, Event, parse_access_entry, parse_directory_entry
from relay.protocol.errors import Conflict, Malformed, Refused, Unverified
from relay.protocol.identity import CERTIFICATE, STATEMENT
from relay.store.log import Log
from simulator import Forger, double, lying
from test_directory import NOW, PARIS, WARSAW, certificate, entry, office, redated, removal, revocation
from world import PASSPHRASE, World, clearance, world

# -- the directory alone ---------------------------------------------------------------------------------------------

EWA, OLA, JAN, LUC, NEW, SPARE, LATE = (SigningKey.generate() for _ in range(7))
NAMES = {EWA: "ewa@lo-warsaw", OLA: "ola@lo-warsaw", JAN: "jan@lo-warsaw", LUC: "luc@lo-paris", NEW: "new@lo-warsaw"}
START = [
    office(WARSAW, "lo-warsaw"),
    office(PARIS, "lo-paris", "FRA"),
    *(certificate(WARSAW, key, NAMES[key]) for key in (EWA, OLA, JAN)),
    certificate(PARIS, LUC, NAMES[LUC]),
]


def listed(*people, version=1, of="lo-warsaw", **needed) -> Approvers:
    chosen = needed or {"enrolment": 2}
    rows = tuple(sorted((Matter(name), count) for name, count in chosen.items()))
    return Approvers(of, version, rows, tuple(sorted((NAMES[key], key.device_id) for key in people)), NOW)


def named(approvers, *approvals, signer=WARSAW):
    signed = signer.sign_object(APPROVERS, approvers.payload())
    return with_approvals(entry(Change.APPROVERS, signed), *approvals)


def with_approvals(encoded, *approvals):
    return replace(parse_directory_entry(encoded), approvals=approvals).encoded()


def dated_now(encoded):
    return replace(parse_directory_entry(encoded), time=int(time.time() * 1000)).encoded()


def yes(key, encoded, matter=Matter.ENROLMENT, **fields):
    """This key's approval of what an entry brings."""
    payload, change = parse_directory_entry(encoded).payload, parse_directory_entry(encoded).change
    typ = STATEMENT if change is Change.OFFICE else change.value
    ref = list_ref(payload) if change is Change.RELAY_APPROVERS else parse_sign1(payload, typ).ref
    stated = Approval(matter, ref, key.device_id, NAMES[key], NOW)
    return key.sign_object(APPROVAL, replace(stated, **fields).payload())


@pytest.fixture
def directory():
    made = Directory()
    for each in [*START, named(listed(EWA, OLA, JAN))]:
        made.apply(each)
    return made


OFFICER = certificate(WARSAW, NEW, "new@lo-warsaw", roles=("security",))


def test_a_security_officer_is_enrolled_with_two_approvals_of_three(directory):
    directory.apply(with_approvals(OFFICER, yes(EWA, OFFICER), yes(JAN, OFFICER)))
    assert directory.device(NEW.device_id, NOW).certificate.roles == ("security",)


def test_approvals_that_are_too_old_today_do_not_count_by_dating_their_entry_back(directory):
    directory.apply(redated(certificate(WARSAW, LATE, "late@lo-warsaw"), 8 * 86400 * 1000))
    approved = with_approvals(OFFICER, yes(EWA, OFFICER), yes(JAN, OFFICER))
    with pytest.raises(Unverified, match="dated before"):
        directory.apply(approved)
    assert directory.device(NEW.device_id, NOW) is None


def test_who_approves_sees_the_categories_of_a_clearance_and_when_it_holds(directory):
    secret = replace(clearance(["OPEN"], ["AMBER"], ["FRA", "POL"]), not_before=NOW - 99, not_after=NOW + 99 * 86400)
    short = replace(clearance(["SEALED"]), policy_name="OTHER", policy_oid="1.2.3", not_before=NOW, not_after=NOW + 99)
    encoded = certificate(WARSAW, NEW, "new@lo-warsaw", roles=("security",), clearances=(secret, short))
    asked = read_asked(armor(parse_directory_entry(encoded).payload, "CERTIFICATE").encode(), directory)
    day = time.strftime("%Y-%m-%d", time.gmtime(NOW + 99))
    told = f"TEST OPEN (Codeword AMBER; Releasable To FRA, POL); OTHER SEALED until {day}; certified until"
    assert f"cleared for {told}" in asked.lines[1]


def test_anybody_else_is_enrolled_by_the_authority_alone(directory):
    directory.apply(certificate(WARSAW, NEW, "new@lo-warsaw"))


def _by_somebody_else(encoded):
    """Jan's statement, signed with another key."""
    stated = Approval(Matter.ENROLMENT, b"", JAN.device_id, NAMES[JAN], NOW)
    ref = parse_sign1(parse_directory_entry(encoded).payload, CERTIFICATE).ref
    return SPARE.sign_object(APPROVAL, replace(stated, ref=ref).payload())


OTHER = certificate(WARSAW, NEW, "new@lo-warsaw", roles=("security",), serial=b"\1" * 16)
SECOND = certificate(WARSAW, NEW, NAMES[EWA], roles=("security",))
NOT_ENOUGH = {
    "no approval": (OFFICER, [], Refused),
    "one": (OFFICER, [yes(EWA, OFFICER)], Refused),
    "one person twice": (OFFICER, [yes(EWA, OFFICER), yes(EWA, OFFICER, at=NOW - 1)], Refused),
    "an approval of another certificate": (OFFICER, [yes(EWA, OFFICER), yes(JAN, OTHER)], Unverified),
    "an approval for another matter": (OFFICER, [yes(EWA, OFFICER), yes(JAN, OFFICER, matter=Matter.HOLD)], Unverified),
    "a person whom nobody named": (OFFICER, [yes(EWA, OFFICER), yes(LUC, OFFICER)], Unverified),
    "a name without its device": (OFFICER, [yes(EWA, OFFICER), yes(LUC, OFFICER, address=NAMES[JAN])], Unverified),
    "another's signature": (OFFICER, [yes(EWA, OFFICER), _by_somebody_else(OFFICER)], Unverified),
    "an approval of eight days ago": (OFFICER, [yes(EWA, OFFICER), yes(JAN, OFFICER, at=NOW - 8 * 86400)], Unverified),
    "an approval of tomorrow": (OFFICER, [yes(EWA, OFFICER), yes(JAN, OFFICER, at=NOW + 86400)], Unverified),
    "one of one's own": (SECOND, [yes(EWA, SECOND), yes(JAN, SECOND)], Unverified),
}


@pytest.mark.parametrize("what", NOT_ENOUGH)
def test_a_security_officer_is_not_enrolled_with(directory, what):
    enrolled, approvals, problem_ = NOT_ENOUGH[what]
    before = copy.deepcopy(directory)
    with pytest.raises(problem_):
        directory.apply(with_approvals(enrolled, *approvals))
    assert directory == before


def test_the_approval_of_one_who_was_revoked_does_not_count(directory):
    approvals = [yes(EWA, OFFICER), yes(JAN, OFFICER)]
    directory.apply(revocation(WARSAW, JAN, NAMES[JAN]))
    with pytest.raises(Unverified, match="no longer valid"):
        directory.apply(with_approvals(OFFICER, *approvals))


def test_an_authority_cannot_certify_itself_a_quorum(directory):
    """Whoever holds the authority's key makes devices under the approvers' names; the list names other devices."""
    for key, name in ((SPARE, NAMES[OLA]), (NEW, NAMES[JAN])):
        directory.apply(certificate(WARSAW, key, name))
    officer = certificate(WARSAW, SigningKey.generate(), "mole@lo-warsaw", roles=("security",))
    ref = parse_sign1(parse_directory_entry(officer).payload, CERTIFICATE).ref
    forged = [
        key.sign_object(APPROVAL, Approval(Matter.ENROLMENT, ref, key.device_id, name, NOW).payload())
        for key, name in ((SPARE, NAMES[OLA]), (NEW, NAMES[JAN]))
    ]
    with pytest.raises(Unverified, match="not named"):
        directory.apply(with_approvals(officer, *forged))


def test_a_list_is_changed_by_its_own_people_and_nobody_else(directory):
    fresh = listed(OLA, version=2, enrolment=1)
    for approvals in ([], [yes(OLA, named(fresh), Matter.APPROVERS)]):
        with pytest.raises(Refused, match="takes the approval of 2"):
            directory.apply(named(fresh, *approvals))
    directory.apply(named(fresh, *(yes(key, named(fresh), Matter.APPROVERS) for key in (EWA, JAN))))
    directory.apply(with_approvals(OFFICER, yes(OLA, OFFICER)))


def test_a_change_of_the_list_takes_what_its_hardest_matter_takes():
    directory = Directory()
    for each in [*START, named(listed(EWA, OLA, JAN, enrolment=1, hold=3))]:
        directory.apply(each)
    fresh = named(listed(EWA, version=2, enrolment=1))
    with pytest.raises(Refused, match="takes the approval of 3"):
        directory.apply(named(listed(EWA, version=2, enrolment=1), yes(EWA, fresh, Matter.APPROVERS)))


BAD_LISTS = {
    "of another office's people": (named(listed(EWA, LUC)), Refused),
    "signed by another authority": (named(listed(EWA, OLA), signer=PARIS), Unverified),
    "signed by one of its people": (named(listed(EWA, OLA), signer=EWA), Unverified),
    "of more approvals than people": (named(listed(EWA, OLA, enrolment=3)), Malformed),
    "of no approval": (named(listed(EWA, OLA, enrolment=0)), Malformed),
    "of nobody": (named(listed()), Malformed),
    "with a matter twice": (named(replace(listed(EWA, OLA), needed=((Matter.HOLD, 1), (Matter.HOLD, 2)))), Malformed),
    "for the relay's matter": (named(listed(EWA, OLA, admission=2)), Malformed),
    "that skips a version": (named(listed(EWA, OLA, version=2)), Conflict),
    "of a device that is not there": (named(replace(listed(EWA), people=((NAMES[EWA], NEW.device_id),), needed=((Matter.HOLD, 1),))), Refused),
    "brought by the relay": (entry(Change.RELAY_APPROVERS, listed(EWA, OLA).payload()), Unverified),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_LISTS)
def test_no_list_holds(what):
    directory = Directory()
    for each in START:
        directory.apply(each)
    before = copy.deepcopy(directory)
    refused, problem_ = BAD_LISTS[what]
    with pytest.raises(problem_):
        directory.apply(refused)
    assert directory == before


def test_a_list_outlives_the_removal_of_its_office_under_the_same_authority(directory):
    directory.apply(removal("lo-warsaw"))
    directory.apply(office(WARSAW, "lo-warsaw"))
    with pytest.raises(Refused, match="has 0"):
        directory.apply(OFFICER)


def admission_list(*people, version=1, needed=2):
    return entry(Change.RELAY_APPROVERS, listed(*people, of="", version=version, admission=needed).payload())


def test_once_the_relay_has_approvers_its_operator_admits_nobody_alone_and_changes_no_list_alone(directory):
    directory.apply(admission_list(EWA, LUC))
    oslo = office(NEW, "lo-oslo", "NOR")
    for approvals in ([], [yes(EWA, oslo, Matter.ADMISSION)]):
        with pytest.raises(Refused, match="has"):
            directory.apply(with_approvals(oslo, *approvals))
    fresh = admission_list(EWA, version=2, needed=1)
    with pytest.raises(Refused):
        directory.apply(fresh)
    directory.apply(with_approvals(oslo, yes(EWA, oslo, Matter.ADMISSION), yes(LUC, oslo, Matter.ADMISSION)))
    directory.apply(with_approvals(fresh, *(yes(key, fresh, Matter.APPROVERS) for key in (EWA, LUC))))
    assert "lo-oslo" in directory.offices
    assert directory.approvers_of("").version == 2


def test_an_empty_list_of_approvals_is_another_spelling_and_refused(directory):
    fields = parse_directory_entry(OFFICER)
    spelled = encode([1, fields.change.value, fields.time, fields.salt, fields.payload, []])
    with pytest.raises(Malformed, match="expected 1 to 8"):
        directory.apply(spelled)


# -- end to end ------------------------------------------------------------------------------------------------------

EWA_, OLA_, JAN_, ANNA, JEAN = (
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
        for address, roles in ((EWA_, []), (OLA_, ["security"]), (JAN_, []), (ANNA, [])):
            built.device(address, clearances=FULL, roles=roles)
        built.device(JEAN, clearances=FULL)
        people = [word for address in (EWA_, OLA_, JAN_) for word in ("--person", address)]
        named_ = as_json(
            built.authorities["lo-warsaw"], "approvers", "set", *people, "--needed", "enrolment=2", "--needed", "hold=2"
        )
        assert (named_["version"], named_["needed"], len(named_["people"])) == (1, {"enrolment": 2, "hold": 2}, 3)
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
    one = approvals_of(offices, asked, tmp_path, EWA_)
    assert run(authority, "authority", "enrol", str(asked), *one).exit_code == 6
    both = approvals_of(offices, asked, tmp_path, EWA_, JAN_)
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
    shown = run(offices.clients[EWA_], "approve", str(asked))
    assert (shown.exit_code, "enrolment of ryba@lo-warsaw as officer, with the roles security" in shown.stderr) == (
        3,
        True,
    )
    for address in (ANNA, JEAN):
        refused = run(offices.clients[address], "approve", str(asked), "--yes")
        assert (refused.exit_code, "is not named by lo-warsaw" in refused.output) == (6, True)
    encoded = dearmor(asked.read_bytes(), "CERTIFICATE")
    asked.write_text(armor(encoded[:-1] + bytes([encoded[-1] ^ 1]), "CERTIFICATE"))
    assert run(offices.clients[EWA_], "approve", str(asked), "--yes").exit_code == 5
    asked.write_text(armor(encoded, "CERTIFICATE") + armor(encoded, "HOLD"))
    assert run(offices.clients[EWA_], "approve", str(asked), "--yes").exit_code == 1


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
    ola, message_id, asked = offices.clients[OLA_], sent(offices), tmp_path / "hold"
    alone = run(ola, "hold", "place", message_id.hex(), "--reason", "inquiry 7")
    assert (alone.exit_code, "hold: this takes the approval of 2" in alone.output) == (6, True)
    for action in ("place", "lift"):
        told = as_json(ola, "hold", action, message_id.hex(), "--reason", "inquiry 7", "--ask", str(asked))
        assert told == {"v": 1, "ask": str(asked)}
        one = approvals_of(offices, asked, tmp_path, EWA_)
        assert run(ola, "hold", action, str(asked), *one).exit_code == 6
        own = run(ola, "approve", str(asked), "--yes")
        assert (own.exit_code, "for others to approve" in own.output) == (6, True)
        both = approvals_of(offices, asked, tmp_path, EWA_, JAN_)
        told = as_json(ola, "hold", action, str(asked), *both)
        assert (told["held"], told["word"], told["of"]) == (action == "place", 3, 3)
        if action == "place":
            listed_ = as_json(ola, "hold", "list")
            assert (listed_["message_id"], sorted(listed_["approved_by"])) == (message_id.hex(), sorted([EWA_, JAN_]))
            assert [(word["address"], word["reason"]) for word in listed_["words"]] == [(OLA_, "inquiry 7")]
            assert f"    approved by {', '.join(listed_['approved_by'])}" in screen(ola, "hold", "list")
    assert holds(offices, message_id) == ["place 3 of 3: inquiry 7", "lift 3 of 3: inquiry 7"]


def test_what_was_approved_once_is_not_said_twice(offices, tmp_path):
    """Else one officer alone could lift, with old approvals, what others have placed again."""
    ola, message_id, folder = offices.clients[OLA_], sent(offices), tmp_path
    files = {}
    for name, action in (("first", "place"), ("lift", "lift"), ("again", "place")):
        asked = folder / name
        screen(ola, "hold", action, message_id.hex(), "--reason", name, "--ask", str(asked))
        (folder / f"{name}-approvals").mkdir()
        files[name] = [action, str(asked), *approvals_of(offices, asked, folder / f"{name}-approvals", EWA_, JAN_)]
        assert run(ola, "hold", *files[name]).exit_code == 0
    again = run(ola, "hold", *files["lift"])
    assert (again.exit_code, "stated before" in again.output) == (1, True)
    assert len(holds(offices, message_id)) == 3


def test_the_relays_operator_admits_an_office_with_the_approvals_that_he_asked_for_himself(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with world(tmp_path / "world") as built:
        for office_, nation, address in (("lo-warsaw", "POL", EWA_), ("lo-paris", "FRA", JEAN)):
            built.office(office_, nation)
            built.device(address, clearances=[])

        def relay(*words: str):
            return CliRunner().invoke(relay_main, [*words, "--data", str(built.settings.data)])

        def approved(file: str) -> list[str]:
            return approvals_of(built, tmp_path / file, tmp_path, EWA_, JEAN)

        assert relay("approvers", "set", "--person", EWA_, "--person", JEAN, "--needed", "2").exit_code == 0
        shown = json.loads(relay("approvers", "list", "--json").output)
        assert (shown["version"], shown["needed"], len(shown["people"])) == (1, {"admission": 2}, 2)
        statement = found_authority(tmp_path / "oslo", "lo-oslo", "NOR", built.url, built.relay.vkeys, PASSPHRASE)
        (tmp_path / "lo-oslo.statement").write_text(armor(statement, "STATEMENT"))
        alone = relay("office", "add", "lo-oslo.statement")
        assert (alone.exit_code, "admission: this takes the approval of 2" in alone.output) == (6, True)
        assert "hint: the office's statement is FILE; each" in alone.output
        assert relay("office", "add", "lo-oslo.statement", *approved("lo-oslo.statement")).exit_code == 0
        fewer = ["approvers", "set", "--person", EWA_, "--needed", "1"]
        assert (relay(*fewer).exit_code, "hint: --ask writes FILE; each" in relay(*fewer).output) == (6, True)
        assert relay(*fewer, "--ask", "fewer").exit_code == 0
        assert relay("approvers", "set", "fewer", *approved("fewer")).exit_code == 0
        # what the relay has done alone no client believes
        rogue = office(NEW, "lo-rogue", "NOR")
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
    fresh = authority.draft_approvers([EWA_], ((Matter.ENROLMENT, 1),))
    answer = call(authority, "POST", "/v1/directory", encode(["approvers", fresh, []]))
    assert (answer.status_code, problem(answer)["rules"]) == (403, ["approvals"])
    asked = read_asked(armor(fresh, "APPROVERS").encode(), authority.trust.directory)
    assert (asked.lines[0], read_approvers(parse_sign1(fresh, APPROVERS).payload).version) == (
        "approvers of lo-warsaw, version 2", 2,
    )  # fmt: skip
    given = [approve(offices.clients[address], asked) for address in (EWA_, JAN_)]
    short = call(authority, "POST", "/v1/directory", encode(["approvers", fresh, [], given[:1]]))
    assert short.status_code == 403
    assert len(Forger(offices).entries(Log.DIRECTORY)) == before
