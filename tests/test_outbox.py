"""What waits in the outbox: answers that were lost, processes that were killed, relays that have no room or lie."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from acts import run, waiting
from forge import rows
from liaison import Client, Waiting
from liaison.record import FAILED
from liaison.transport import HttpTransport
from relay.protocol.canonical import encode
from relay.protocol.entry import parse_access_entry, parse_logged_entry
from relay.protocol.errors import Refused, TooMany, Unavailable, Unverified
from relay.protocol.header import Precedence
from simulator import double, lying
from world import PASSPHRASE

JEAN = "jean.petit@lo-paris"
SEALED = "TEST SEALED RELEASABLE TO FRA, POL"
OPEN = "TEST OPEN RELEASABLE TO FRA, POL"
SECRET = "Ferry at dawn."
POST = Path(__file__).parents[1] / "clients" / "partner" / "post.py"


def test_a_message_whose_receipt_was_lost_is_sent_once_and_gets_the_same_receipt(two_offices, anna, jean):
    def lost(_answer):
        raise Unavailable("the connection was cut")

    before = rows(two_offices)["message"]
    with lying(anna) as relay, pytest.raises(Unavailable):
        anna_sends_into(relay.lie("POST", r"^/v1/messages$", lost), anna)
    (message_id,) = waiting(anna)
    first = [answer for _, path, answer in relay.heard if path == "/v1/messages"]
    with lying(anna) as relay:
        anna.sync()
    again = [answer for _, path, answer in relay.heard if path == "/v1/messages"]
    assert len(first) == 1
    assert again == first
    assert waiting(anna) == []
    assert rows(two_offices)["message"] == before + 1
    assert jean.read(message_id).portions[0].text == SECRET


def anna_sends_into(_relay, anna):
    anna.send([JEAN], label=SEALED, body=SECRET)


def test_a_request_that_never_arrived_is_sent_by_the_next_run(two_offices, anna, jean):
    def unreachable(**_query):
        raise Unavailable("the relay cannot be reached")

    with lying(anna) as relay, pytest.raises(Unavailable):
        anna_sends_into(relay.invent("POST", r"^/v1/messages$", unreachable), anna)
    (message_id,) = waiting(anna)
    anna.sync()
    assert waiting(anna) == []
    assert jean.read(message_id).portions[0].text == SECRET


def test_a_process_killed_between_sealing_and_posting_loses_nothing(anna, jean, tmp_path):
    """A real process, ended by the kernel at the worst moment; the next one posts what it left."""
    program = """
import os, sys, pathlib
from liaison import Client
from liaison.outgoing import Outgoing
Outgoing.post = lambda *_: os._exit(9)
with Client.open(pathlib.Path(sys.argv[1]), passphrase=sys.argv[2]) as client:
    client.send([sys.argv[3]], label=sys.argv[4], body=sys.argv[5])
"""
    with double(anna, tmp_path / "anna"):
        pass
    arguments = [str(tmp_path / "anna"), PASSPHRASE, JEAN, SEALED, SECRET]
    ran = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=False)
    assert (ran.returncode, ran.stderr) == (9, b"")
    with Client.open(tmp_path / "anna", passphrase=PASSPHRASE) as next_run:
        (message_id,) = waiting(next_run)
        next_run.sync()
        assert waiting(next_run) == []
        (record,) = [record for kept, record in next_run.records() if kept == message_id]
        seq = record.message.core.seq
    assert jean.read(message_id).portions[0].text == SECRET
    with anna.profile.cabinet.transaction():  # the double has used this number of Anna's chain
        anna.profile.cabinet.advance_chain(seq, record.message.ref)


def test_a_message_that_the_relay_will_never_take_does_not_stand_in_the_way(anna, jean):
    sent = given_up_at_the_next_sync(anna)
    following = anna.send([JEAN], label=SEALED, body=SECRET)
    assert waiting(anna) == []
    assert anna.read(sent).state == FAILED
    assert jean.read(following.message_id).portions[0].text == SECRET


@pytest.mark.parametrize("command", ["status", "alarms"])
def test_every_command_that_gives_up_what_waits_says_so(anna, command):
    sent = given_up_at_the_next_sync(anna)
    told = run(anna, command)
    assert f"liaison: message {sent.hex()} will not be posted again: " in told.stderr


def test_a_partner_system_learns_that_what_waited_is_given_up(anna, tmp_path):
    sent = given_up_at_the_next_sync(anna)
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    told = {"LIAISON_HOME": str(anna.profile.folder), "LIAISON_PASSPHRASE_FILE": str(tmp_path / "passphrase")}
    command = [sys.executable, str(POST), "--to", JEAN, "--label", SEALED]
    for code, lines in ((1, 1), (0, 0)):
        ran = subprocess.run(
            command, env={**os.environ, **told}, input=b"54.5N 018.6E\n", capture_output=True, check=False
        )
        assert (ran.returncode, json.loads(ran.stdout)["released_to"]) == (code, [JEAN])
        assert ran.stderr.decode().count(f"post: message {sent.hex()} will not be posted again: ") == lines


def given_up_at_the_next_sync(client):
    """The id of a message in the outbox that the relay will never take: it has another of this id."""
    sent = client.send([JEAN], label=SEALED, body=SECRET)
    client.profile.cabinet.put_outbox(sent.message_id, encode([client.read(sent.message_id).encoded, [], []]))
    return sent.message_id


def test_a_refusal_by_the_relay_is_told_and_the_record_says_failed(anna, monkeypatch):
    monkeypatch.setattr("relay.core.accept._failing", lambda *_, **__: ("banner",))
    with pytest.raises(Refused) as refused:
        anna.send([JEAN], label=SEALED, body=SECRET)
    assert refused.value.rules == ("banner",)
    assert waiting(anna) == []
    assert list(anna.records())[-1][1].state == FAILED


def cut(monkeypatch, answer):
    """Nothing but messages is kept from the relay; how to end it."""
    honest = HttpTransport.post

    def post(self, path, *given):
        if path == "/v1/messages":
            raise answer
        return honest(self, path, *given)

    monkeypatch.setattr(HttpTransport, "post", post)
    return lambda: monkeypatch.setattr(HttpTransport, "post", honest)


@pytest.mark.parametrize("answer", [Unavailable("cut off"), TooMany("cut off")])
def test_a_message_that_waits_is_named_and_announced_when_it_goes(anna, jean, monkeypatch, answer):
    words = ["send", "--yes", "--to", JEAN, "--label", OPEN]
    join = cut(monkeypatch, answer)
    text, told = run(anna, *words, body="One."), run(anna, *words, "--json", body="Two.")
    join()
    one, two = waiting(anna)
    waits = "is sealed and waits; it goes with your next command; do not send it again"
    assert (text.exit_code, text.stdout) == (7, f"{one.hex()}\n")
    assert f"liaison: error: cut off\nliaison: hint: message {one.hex()} {waits}\n" in text.stderr
    assert f"liaison: message {one.hex()} waits: cut off\n" in told.stderr
    row = json.loads(told.stdout)
    assert (told.exit_code, row["message_id"], row["state"]) == (7, two.hex(), "waiting")
    assert (row["released_to"], row["refused"]) == ([JEAN], [])
    following = run(anna, "inbox")
    assert following.exit_code == 0
    gone = [line for line in following.stderr.splitlines() if "waited and has gone; logged as entry" in line]
    assert [line.split()[2] for line in gone] == [one.hex(), two.hex()]
    assert waiting(anna) == []
    assert jean.read(two).portions[0].text == "Two."


def test_what_waits_keeps_nothing_back_and_the_urgent_goes_first(anna):
    def no_room(**_query):
        raise TooMany("no room")

    with lying(anna) as relay:
        relay.invent("POST", r"^/v1/messages$", no_room)
        for precedence in (Precedence.ROUTINE, Precedence.FLASH, Precedence.ROUTINE):
            with pytest.raises(Waiting):
                anna.send([JEAN], label=SEALED, body=SECRET, precedence=precedence)
    early, flash, late = waiting(anna)
    with lying(anna) as relay:
        anna.sync()
    order = [parse_logged_entry(answer).index for _, path, answer in relay.heard if path == "/v1/messages"]
    assert order == sorted(order)
    accepted = [parse_access_entry(parse_logged_entry(answer).entry).message_id for *_, answer in relay.heard[-3:]]
    assert accepted == [flash, early, late]


def test_a_relay_that_lies_about_what_waits_ends_the_command(anna):
    def garbage(_answer):
        return b""

    with lying(anna) as relay:
        relay.lie("POST", r"^/v1/messages$", garbage)
        for act in (lambda: anna_sends_into(relay, anna), anna.sync):
            with pytest.raises(Unverified):
                act()
    anna.sync()
    assert waiting(anna) == []


def test_what_waits_is_tried_once_and_nobody_pauses_for_it(anna, monkeypatch):
    def no_room(**_query):
        raise TooMany("no room", retry_after=9)

    with lying(anna) as relay, pytest.raises(Waiting):
        anna_sends_into(relay.invent("POST", r"^/v1/messages$", no_room), anna)
    tried, honest = [], HttpTransport._attempt

    def attempt(self, method, path, *given):
        if path == "/v1/messages":
            tried.append(path)
            no_room()
        return honest(self, method, path, *given)

    monkeypatch.setattr(HttpTransport, "_attempt", attempt)
    anna.sync()
    assert len(tried) == len(waiting(anna)) == 1
    monkeypatch.setattr(HttpTransport, "_attempt", honest)
    anna.sync()
    assert waiting(anna) == []
