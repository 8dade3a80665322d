"""What one has sent, newest first, with what became of it; also where the relay says nothing, or not the truth."""

from __future__ import annotations

import json
import time

import pytest

from acts import run, screen
from liaison.recalling import recall
from liaison.sent import sent_items
from liaison.transport import HttpTransport
from relay.protocol.errors import Refused, Unavailable
from relay.protocol.header import Precedence
from simulator import lying
from world import clearance

ANNA, JEAN, LUC, DUTY = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris", "duty@lo-paris"
OPEN, SEALED = "TEST OPEN RELEASABLE TO POL, FRA", "TEST SEALED RELEASABLE TO POL, FRA"


@pytest.fixture
def anna(two_offices):
    """A new sender for each test: what she has sent is what the test sends."""
    name = f"anna{len(two_offices.clients)}@lo-warsaw"
    return two_offices.device(name, clearances=[clearance(nations=["POL"])])


@pytest.fixture
def jean(two_offices):
    return two_offices.clients[JEAN]


def send(client, *to: str, label: str = OPEN, **more) -> bytes:
    return client.send(list(to), label=label, body="Ferry at dawn.\n", **more).message_id


def listed(client, *words: str) -> list[dict]:
    return [json.loads(line) for line in screen(client, "track", "--json", *words)]


def cut_off(monkeypatch, path: str) -> None:
    """No answer to what is posted or got there."""
    for name in ("post", "get"):
        honest = getattr(HttpTransport, name)

        def asked(self, where, *given, honest=honest, **query):
            if where.startswith(path):
                raise Unavailable("cut off")
            return honest(self, where, *given, **query)

        monkeypatch.setattr(HttpTransport, name, asked)


def test_the_newest_is_first_with_its_addressees_marking_subject_and_state(anna, jean) -> None:
    first = send(anna, JEAN, LUC, DUTY, subject="Ferry", precedence=Precedence.FLASH)
    second = send(anna, DUTY, label=SEALED, info=[JEAN], subject="Sealed \x1b[2J ferry")
    jean.read(first)
    jean.acknowledge(first)
    newest, older = listed(anna)
    assert older == {
        "v": 1, "message_id": first.hex(), "to": sorted([JEAN, LUC, DUTY]), "info": [], "precedence": "FLASH",
        "dtg": older["dtg"], "label": older["label"], "marking": OPEN, "subject": "Ferry",
        "expires": older["expires"], "state": "accepted", "addressees": 3, "opened": 2, "acknowledged": 2,
    }  # fmt: skip
    assert (newest["message_id"], newest["to"], newest["info"]) == (second.hex(), [DUTY], [JEAN])
    assert (newest["state"], newest["addressees"], newest["opened"], newest["acknowledged"]) == ("accepted", 2, 0, 0)
    shown = screen(anna, "track")
    assert shown[0] == shown[-1] == f"{SEALED} / {OPEN}"
    assert [line.split("\t")[0] for line in shown[1:-1]] == [second.hex()[:12], first.hex()[:12]]
    assert [line.split("\t")[-1] for line in shown[1:-1]] == [
        "accepted, 0 of 2 opened", "accepted, 2 of 3 opened, 2 acknowledged",
    ]  # fmt: skip
    assert not any("\x1b" in line for line in shown)
    assert screen(anna, "track", shown[1].split("\t")[0])  # the id that is shown is one to track by


def test_what_came_is_not_listed_and_nothing_is_said_to_be_nothing(anna) -> None:
    told = run(anna, "track")
    assert (told.exit_code, told.stdout, told.stderr) == (0, "", "liaison: nothing was sent from this device\n")
    assert listed(anna) == []


def test_recalled_and_expired_are_said(anna, jean) -> None:
    over = send(anna, JEAN, expires_in=3)
    back = send(anna, JEAN, LUC)
    jean.read(back)
    recall(anna, back, "Wrong annex", spill=False)
    time.sleep(3.1)
    rows = {row["message_id"]: (row["state"], row["opened"]) for row in listed(anna)}
    assert rows == {over.hex(): ("expired", 0), back.hex(): ("recalled", 1)}


def test_what_waits_and_what_was_given_up_are_said_and_not_asked_about(anna, monkeypatch) -> None:
    gone = send(anna, JEAN)
    cut_off(monkeypatch, "/v1/messages")
    sent = json.loads(run(anna, "send", "--yes", "--to", JEAN, "--label", OPEN, "--json", body="At noon.\n").stdout)
    told = run(anna, "track", "--json")
    rows = [json.loads(line) for line in told.stdout.splitlines()]
    assert [(row["message_id"], row["state"], row["opened"]) for row in rows] == [
        (sent["message_id"], "waiting", None), (gone.hex(), "accepted", None),
    ]  # fmt: skip
    assert (told.exit_code, "liaison: error: cut off" in told.stderr) == (7, True)
    monkeypatch.undo()
    with lying(anna) as relay:
        relay.invent("POST", r"^/v1/messages$", refuses)
        anna.sync()
    assert [(row["state"], row["opened"]) for row in listed(anna)] == [("failed", None), ("accepted", 0)]


def refuses(**_query):
    raise Refused("the rules do not permit this message")


def test_without_a_relay_the_list_is_there_and_the_command_fails_as_others_do(anna, monkeypatch) -> None:
    sent = send(anna, JEAN)
    cut_off(monkeypatch, "/")
    told = run(anna, "track")
    marking, row, last = told.stdout.splitlines()
    assert (told.exit_code, marking, last) == (7, OPEN, OPEN)
    assert (row.split("\t")[0], row.split("\t")[-1]) == (sent.hex()[:12], "accepted")
    assert "the relay was not asked about all of these" in told.stderr


def test_no_more_is_asked_than_is_shown(anna) -> None:
    sent = [send(anna, JEAN) for _number in range(3)]
    with lying(anna) as relay:
        found = sent_items(anna, 2)
        looks = [path for _method, path, _answer in relay.heard if path.endswith("/evidence")]
    assert [item.core.message_id for item in found.items] == sent[:0:-1]
    assert (found.older, len(looks)) == (1, 2)
    told = run(anna, "track", "--limit", "2")
    assert (len(told.stdout.splitlines()), told.exit_code) == (4, 0)
    assert "liaison: 1 more, all older: --limit 3 lists them too\n" in told.stderr


def test_a_relay_that_lies_about_one_of_them_is_caught_and_the_rest_is_listed(anna) -> None:
    first, second = send(anna, JEAN), send(anna, JEAN)
    answer, said = anna.transport.get(f"/v1/messages/{first.hex()}/evidence"), []
    anna.tell = said.append
    with lying(anna) as relay:
        relay.invent("GET", rf"^/v1/messages/{second.hex()}/evidence$", lambda **_query: answer)
        found = sent_items(anna, 20)
    assert [(item.core.message_id, item.opened) for item in found.items] == [(second, None), (first, None)]
    assert found.problem.code == "unverified"
    assert said == [f"message {second.hex()} was not looked up: {found.problem}"]


def test_another_device_of_the_same_person_is_told_what_its_list_lacks(two_offices, anna) -> None:
    send(anna, JEAN)
    address = anna.profile.pins.address
    assert "another device" not in run(anna, "track").stderr
    other = two_offices.device(address, clearances=[clearance(nations=["POL"])], name=f"{address} tablet")
    told = run(other, "track")
    assert (told.exit_code, told.stdout) == (0, "")
    assert f"what {address} sent from another device is not here" in told.stderr


@pytest.mark.parametrize(
    "words", [["--evidence"], ["--within", "4h"], ["00", "--limit", "3"], ["--limit", "0"], ["00", "--within", "4h"]]
)
def test_options_that_are_for_the_other_use_are_wrong_usage(anna, words) -> None:
    assert run(anna, "track", *words).exit_code == 2


def test_on_a_narrow_terminal_an_id_is_whole(anna) -> None:
    sent = send(anna, JEAN, subject="A subject that is longer than its column")
    shown = run(anna, "--color", "always", "track")
    assert any(line.startswith(f"{sent.hex()[:12]} ") for line in shown.stdout.splitlines())
