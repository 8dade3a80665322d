"""Directory alarms: what somebody did not do is a warning at once, and an entry of the log that his office reads."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from dataclasses import replace

import pytest

from acts import run, screen, warnings
from forge import call, problem
from liaison.alarming import office_alarms
from liaison.audit.pull import AuditPull
from liaison.authority import Authority
from relay.protocol.alarm import ALARM, MAX_FINDING, Alarm, read_alarm
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import Event, parse_logged_entry
from relay.protocol.errors import Malformed, Refused, TooMany, Unavailable, Unverified
from relay.protocol.identity import Kind
from relay.protocol.tlog import MAX_SIZE
from simulator import double, lying
from world import PASSPHRASE, world

EWA, AUDITOR = "ewa.sowa@lo-warsaw", "audit@lo-warsaw"
FOUND = "another device is certified for "


@pytest.fixture(scope="module")
def warsaw(tmp_path_factory):
    """Ewa, who is a security officer, and an auditor of Warsaw and one of Paris."""
    with world(tmp_path_factory.mktemp("alarms")) as built:
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.device(EWA, clearances=[], roles=["security"])
        built.device(AUDITOR, clearances=[], kind=Kind.AUDITOR)
        built.device("audit@lo-paris", clearances=[], kind=Kind.AUDITOR)
        yield built


@pytest.fixture
def anna(warsaw):
    """An officer of this test's own."""
    return warsaw.device(f"anna{len(warsaw.clients)}@lo-warsaw", clearances=[])


def second_device(built, anna):
    """Certified for her, and not by her doing; the index of that entry."""
    built.authorities["lo-warsaw"].sync()
    index = built.authorities["lo-warsaw"].trust.directory.size
    built.device(anna.profile.pins.address, clearances=[], name=f"second {index}")
    return index


def logged(auditor):
    """The alarm entries that this auditor reads."""
    auditor.sync()
    pull = AuditPull(auditor)
    pull.pull()
    return [each.entry for each in pull.entries() if each.entry is not None and each.entry.event is Event.ALARM]


def by(client, entries):
    return [each.detail for each in entries if each.device_id == client.profile.signing.device_id]


def test_an_unexpected_certificate_is_a_warning_at_the_next_command_and_one_entry_that_the_auditor_reads(warsaw, anna):
    index = second_device(warsaw, anna)
    for _ in range(2):
        assert FOUND in run(anna, "inbox").stderr
        anna.sync()
    (detail,) = by(anna, logged(warsaw.clients[AUDITOR]))
    assert detail.startswith(f"directory {index}: {FOUND}{anna.profile.pins.address}")
    assert logged(warsaw.clients["audit@lo-paris"]) == []


def test_security_officer_and_authority_are_told_by_a_command_and_nobody_else(warsaw, anna):
    index = second_device(warsaw, anna)
    anna.sync()
    for who in (warsaw.clients[EWA], warsaw.authorities["lo-warsaw"]):
        told = [json.loads(line) for line in screen(who, "alarms", "--json")]
        mine = [each for each in told if each["device"] == anna.profile.keyid]
        assert [(each["address"], each["directory_entry"]) for each in mine] == [(anna.profile.pins.address, index)]
        assert FOUND in mine[0]["finding"]
        assert any(FOUND in line for line in screen(who, "alarms"))
    for who in (anna, warsaw.clients[AUDITOR]):
        assert run(who, "alarms").exit_code == 6
    assert screen(warsaw.authorities["lo-paris"], "alarms") == []


def test_an_authority_tells_the_log_of_what_its_key_signed_elsewhere(warsaw, tmp_path):
    authority = warsaw.authorities["lo-warsaw"]
    authority.sync()
    shutil.copytree(authority.profile.folder, tmp_path / "thief")
    with Authority.open(tmp_path / "thief", passphrase=PASSPHRASE) as thief:
        warsaw.authorities["lo-warsaw"] = thief
        warsaw.device("ghost@lo-warsaw", kind=Kind.SYSTEM)
        warsaw.authorities["lo-warsaw"] = authority
        authority.sync()
    (entry,) = [each for each in logged(warsaw.clients[AUDITOR]) if each.address == "authority@lo-warsaw"]
    assert (entry.address, "ghost@lo-warsaw that was not issued here" in entry.detail) == ("authority@lo-warsaw", True)


def refusing(_relay=None, **_query):
    raise Refused("no alarms here")


def away(**_query):
    raise Unavailable("not now")


def busy(**_query):
    raise TooMany("later", retry_after=60)


@pytest.mark.parametrize(
    ("answer", "warned"), [(refusing, 2), (away, 1), (busy, 1)], ids=["refuses", "is away", "is busy"]
)
def test_a_relay_that_does_not_log_it_silences_nothing_and_gets_it_again_at_the_next_look(warsaw, anna, answer, warned):
    second_device(warsaw, anna)
    with lying(anna) as relay:
        relay.invent("POST", r"^/v1/alarms$", answer)
        for _ in range(2):
            anna.sync()
            assert FOUND in "".join(warnings(anna))
            assert len(warnings(anna)) == warned
    if warned > 1:
        assert any("the relay does not log the alarm about directory entry" in text for text in warnings(anna))
    assert by(anna, logged(warsaw.clients[AUDITOR])) == []
    # Looked into, and so no longer a warning: the log is told all the same.
    for each in anna.profile.cabinet.warnings():
        anna.profile.cabinet.resolve_alarm(each.alarm_id)
    anna.sync()
    assert len(by(anna, logged(warsaw.clients[AUDITOR]))) == 1


def test_a_relay_that_logs_another_alarm_than_was_raised_is_caught(warsaw, anna, tmp_path):
    index = second_device(warsaw, anna)
    second = warsaw.clients[f"second {index}"]
    answer = second.transport.post("/v1/alarms", stated(second, 0, "Something else."))
    with double(anna, tmp_path / "twin") as twin, lying(twin) as relay:
        relay.invent("POST", r"^/v1/alarms$", lambda **_query: answer)
        with pytest.raises(Unverified, match="logged another alarm"):
            twin.sync()
        assert FOUND in "".join(warnings(twin))
        with pytest.raises(Unverified):
            twin.sync()  # it still waits


def stated(client, about, finding="Not by me.", **fields):
    encoded = list(client.profile.cabinet.entries("directory"))[about]
    made = Alarm(client.profile.signing.device_id, about, hashlib.sha256(encoded).digest(), finding, int(time.time()))
    return client.profile.signing.sign_object(ALARM, replace(made, **fields).payload())


def test_one_fact_is_one_entry_whoever_asks_how_often_and_a_false_one_is_none(warsaw, anna):
    ewa = warsaw.clients[EWA]
    first = parse_logged_entry(call(anna, "POST", "/v1/alarms", stated(anna, 1)).content)
    again = parse_logged_entry(call(anna, "POST", "/v1/alarms", stated(anna, 1, "In other words.")).content)
    assert (again.index, again.entry) == (first.index, first.entry)
    refused = {
        404: [stated(anna, 2, digest=bytes(32)), stated(anna, 2, index=1 << 40), stated(anna, 2, index=MAX_SIZE - 1)],
        400: [
            stated(anna, 2, "two\nlines"), stated(anna, 2, " "), stated(anna, 2, index=-1),
            stated(anna, 2, index=MAX_SIZE),
            stated(anna, 2, "x" * (MAX_FINDING + 1)), stated(anna, 2, at=1), b"\xa0",
        ],
        401: [stated(ewa, 2)],
        422: [stated(ewa, 2, device_id=anna.profile.signing.device_id)],
    }  # fmt: skip
    for status, bodies in refused.items():
        for body in bodies:
            assert call(anna, "POST", "/v1/alarms", body).status_code == status
    assert by(anna, logged(warsaw.clients[AUDITOR])) == ["directory 1: Not by me."]


def test_alarms_are_rated_and_of_each_fact_only_the_first_counts(tmp_path):
    with world(tmp_path, quota_messages=1, quota_burst=1) as built:
        built.office("lo-warsaw", "POL")
        anna = built.device("anna.nowak@lo-warsaw")
        assert [call(anna, "POST", "/v1/alarms", stated(anna, about)).status_code for about in (0, 0, 1, 2)] == [
            201, 201, 429, 429,
        ]  # fmt: skip


@pytest.mark.parametrize("about", [MAX_SIZE, MAX_SIZE - 1, 1 << 40])
def test_an_alarm_about_an_entry_that_no_log_has_disturbs_nobody_in_its_batch_and_is_rated(tmp_path, about):
    with world(tmp_path, quota_messages=1, quota_burst=2) as built:
        built.office("lo-warsaw", "POL")
        anna = built.device("anna.nowak@lo-warsaw")
        known, run_again = built.relay.judge().directory, []
        forget = built.relay._committer._forget_staged
        built.relay._committer._forget_staged = lambda: (run_again.append(1), forget())
        answers = [call(anna, "POST", "/v1/alarms", stated(anna, 0, index=about)).status_code for _ in range(3)]
        assert answers == ([400] * 3 if about == MAX_SIZE else [404, 404, 429])
        assert (built.relay.judge().directory is known, run_again) == (True, [])


def test_the_office_is_told_only_what_its_own_people_signed(warsaw, anna):
    ewa = warsaw.clients[EWA]
    body = stated(anna, 1)
    assert call(anna, "POST", "/v1/alarms", body).status_code == 201
    *_, row = decode(call(ewa, "GET", "/v1/alarms").content)
    assert read_alarm(parse_sign1(row[1], ALARM)).finding == "Not by me."
    paris = stated(warsaw.clients["audit@lo-paris"], 1)
    forged = body[:-1] + bytes([body[-1] ^ 1])
    for encoded in (b"", encode(5), paris, forged, stated(ewa, 1, device_id=anna.profile.signing.device_id)):
        with lying(ewa) as relay:
            relay.invent("GET", r"^/v1/alarms$", lambda told=encoded, **_query: encode([[row[0], told]]))
            with pytest.raises(Unverified):
                list(office_alarms(ewa.trust, ewa.transport, "lo-warsaw"))
    assert problem(call(anna, "GET", "/v1/alarms"))["rules"] == ["security"]


def test_an_alarm_is_one_line_in_its_one_encoding():
    good = Alarm(bytes(16), 3, bytes(32), "Not by me.", 7)

    class Signed:
        payload = good.payload()

    assert read_alarm(Signed) == good
    for place, wrong in ((0, 2), (1, bytes(15)), (2, True), (3, bytes(31)), (4, 5), (5, "now")):
        fields = decode(good.payload())
        fields[place] = wrong
        Signed.payload = encode(fields)
        with pytest.raises(Malformed):
            read_alarm(Signed)
