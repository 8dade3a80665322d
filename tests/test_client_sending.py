"""The sending side when things go wrong: answers lost, processes killed, two at once, keys running out."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import func, select

import liaison.stock
from acts import run
from liaison import Client, Waiting
from liaison.record import FAILED, IN
from liaison.stock import LOW, TARGET, refill, stock
from liaison.transport import HttpTransport
from relay.protocol.canonical import LAST_SECOND, decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import parse_access_entry, parse_logged_entry
from relay.protocol.envelope import parse_message, parse_submission
from relay.protocol.errors import Malformed, Refused, TooMany, Unavailable, Unverified
from relay.protocol.header import Precedence
from relay.protocol.prekey import KEY_BATCH, read_key_batch
from relay.store.schema import message
from simulator import double, lying
from world import PASSPHRASE, TEST_SPIF

ANNA, JEAN, LUC = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris"
SEALED = "TEST SEALED RELEASABLE TO FRA, POL"
OPEN = "TEST OPEN RELEASABLE TO FRA, POL"
SECRET = "Ferry at dawn."
POST = Path(__file__).parents[1] / "clients" / "partner" / "post.py"


@pytest.fixture
def anna(two_offices):
    return two_offices.clients[ANNA]


@pytest.fixture
def jean(two_offices):
    return two_offices.clients[JEAN]


def stored(offices):
    with offices.relay._readers.connect() as connection:
        return connection.scalar(select(func.count()).select_from(message))


def waiting(client):
    return [message_id for message_id, _ in client.profile.cabinet.outbox()]


# -- answers that are lost --------------------------------------------------------------------------------------------


def test_a_message_whose_receipt_was_lost_is_sent_once_and_gets_the_same_receipt(two_offices, anna, jean):
    def lost(_answer):
        raise Unavailable("the connection was cut")

    before = stored(two_offices)
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
    assert stored(two_offices) == before + 1
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


# -- two at once ------------------------------------------------------------------------------------------------------


def together(*jobs):
    """Run the jobs at the same time; raise what any of them raised."""
    problems = []

    def run(job):
        try:
            job()
        except BaseException as problem:  # noqa: BLE001 - it is raised again in the test's own thread
            problems.append(problem)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    if problems:
        raise problems[0]


def meeting(at, change=lambda answer: answer):
    """A lie that is none: it only waits until both have come this far."""

    def meet(answer):
        at.wait(20)
        return change(answer)

    return meet


class InItsThread:
    """A client of its own for a thread: a database connection stays with the thread that made it."""

    def __init__(self, folder, job):
        self.folder, self.job = folder, job

    def __call__(self):
        with Client.open(self.folder, passphrase=PASSPHRASE) as client:
            self.job(client)


def test_two_processes_that_send_at_once_make_one_chain(two_offices, anna):
    _, last = anna.profile.cabinet.chain()
    before = {message_id for message_id, _ in anna.records()}

    def send(client):
        for _ in range(3):
            client.send([JEAN], label=SEALED, body=SECRET)

    together(*[InItsThread(anna.profile.folder, send)] * 2)
    cores = sorted(
        (record.message for message_id, record in anna.records() if message_id not in before),
        key=lambda each: each.core.seq,
    )
    assert len(cores) == 6
    for each in cores:
        assert each.core.prev == last
        last = each.ref
    assert waiting(anna) == []


def test_two_processes_that_read_the_same_message_at_once_both_get_it(anna, jean):
    sent = anna.send([JEAN], label=SEALED, body=SECRET)
    at, texts = threading.Barrier(2), []

    def read(client):
        with lying(client) as relay:
            relay.lie("GET", r"/parts/", meeting(at))
            texts.append(client.read(sent.message_id).portions[0].text)

    together(*[InItsThread(jean.profile.folder, read)] * 2)
    assert texts == [SECRET, SECRET]
    assert [record.direction for kept, record in jean.records() if kept == sent.message_id] == [IN]


def test_two_processes_that_learn_of_a_new_entry_at_once_agree(two_offices, jean):
    two_offices.authorities["lo-paris"].publish_policy(TEST_SPIF)
    at = threading.Barrier(2)

    def sync(client):
        with lying(client) as relay:
            relay.lie("GET", r"^/v1/directory", first_only(meeting(at)))
            client.sync()

    together(*[InItsThread(jean.profile.folder, sync)] * 2)
    jean.sync()
    assert jean.profile.cabinet.alarms() == []
    assert jean.trust.directory.size == two_offices.relay.judge().directory.size


def first_only(answer):
    told = []

    def once(honest):
        if told:
            return honest
        told.append(True)
        return answer(honest)

    return once


# -- keys -------------------------------------------------------------------------------------------------------------


def claim(client, device, count):
    for _ in range(count):
        decode(client.transport.post("/v1/keys/claim", encode([device.profile.signing.device_id])))


def test_the_stock_of_keys_is_refilled_when_it_is_low(anna, jean):
    jean.sync()
    left = stock(jean.transport)[0]
    claim(anna, jean, left - LOW)
    jean.sync()
    assert stock(jean.transport)[0] == LOW  # not low yet
    claim(anna, jean, 1)
    jean.sync()
    assert stock(jean.transport)[0] == TARGET


@pytest.mark.parametrize("told", [5, [1], ["64", None], [[], 0], [-5000, 1 << 40], [-5000, 0], [1025, 0], [64, -1]])
def test_a_stock_that_there_cannot_be_is_the_relays_fault_and_makes_no_keys(anna, told):
    held = len(anna.profile.cabinet.prekeys())
    with lying(anna) as relay:
        relay.lie("GET", r"/keys/stock$", lambda _honest: encode(told))
        with pytest.raises(Unverified, match="stock"):
            anna.sync()
    assert len(anna.profile.cabinet.prekeys()) == held


def test_who_has_more_keys_than_wanted_publishes_none(anna):
    with lying(anna) as relay:
        relay.lie("GET", r"/keys/stock$", lambda _honest: encode([TARGET + 1, LAST_SECOND]))
        assert refill(anna.profile, relay, force=True) == 0


@pytest.mark.parametrize(("told", "full"), [([0, LAST_SECOND], TARGET), ([TARGET, 0], 1)], ids=["none", "no last"])
def test_a_relay_that_says_at_each_look_that_keys_are_gone_is_given_eight_stocks_a_day(
    two_offices, told, full, monkeypatch
):
    emil = two_offices.device(f"emil-{full}@lo-warsaw")  # who was given one at his enrolment
    with lying(emil) as relay:
        relay.lie("GET", r"/keys/stock$", lambda _honest: encode(told))
        assert [refill(emil.profile, relay) for _ in range(9)] == [full] * 7 + [0, 0]
        tomorrow = SimpleNamespace(time=lambda: time.time() + 86401)
        monkeypatch.setattr(liaison.stock, "time", tomorrow)
        monkeypatch.setattr("relay.core.relay.time", tomorrow)
        assert refill(emil.profile, relay) == full


def test_who_reads_much_in_a_day_is_not_held_to_it(two_offices):
    erik = two_offices.device("erik.vik@lo-warsaw")
    with lying(erik) as relay:
        relay.lie("GET", r"/keys/stock$", lambda _honest: encode([0, LAST_SECOND]))
        for _ in range(9):
            assert refill(erik.profile, relay) == TARGET
            with erik.profile.cabinet.transaction():
                for prekey in erik.profile.cabinet.prekeys()[:TARGET]:
                    erik.profile.cabinet.delete_prekey(prekey.kp_ref)


def test_what_was_published_is_in_the_directory_and_its_private_half_in_the_cabinet(anna, jean):
    (row,) = decode(anna.transport.post("/v1/keys/claim", encode([jean.profile.signing.device_id])))
    batch = read_key_batch(parse_sign1(row[2], KEY_BATCH))
    held = {prekey.kp_ref for prekey in jean.profile.cabinet.prekeys()}
    assert held & set(batch.refs)
    assert batch.device_id in anna.trust.directory.key_batches.values()


def test_an_empty_stock_is_covered_by_the_last_resort_key_and_says_so(two_offices, anna, jean):
    jean.sync()
    claim(anna, jean, stock(jean.transport)[0])
    first = anna.send([JEAN], label=SEALED, body=SECRET)
    second = anna.send([JEAN], label=SEALED, body=SECRET)
    assert first.last_resort == second.last_resort == (JEAN,)
    for sent in (first, second):
        record = jean.read(sent.message_id)
        assert (record.portions[0].text, record.one_time) == (SECRET, False)
    # Reading brought the stock up again.
    third = anna.send([JEAN], label=SEALED, body=SECRET)
    assert third.last_resort == ()
    assert jean.read(third.message_id).one_time is True


def test_the_last_resort_key_is_replaced_in_time_and_the_old_one_kept_until_nothing_can_arrive(
    anna, two_offices, monkeypatch
):
    luc = two_offices.clients[LUC]
    luc.sync()
    claim(anna, luc, stock(luc.transport)[0])
    sent = anna.send([LUC], label=OPEN, body=SECRET)
    assert sent.last_resort == (LUC,)
    (old,) = [prekey for prekey in luc.profile.cabinet.prekeys() if not prekey.one_time]
    now = old.not_after - 7 * 86400

    def at(days):
        later = SimpleNamespace(time=lambda: now + days * 86400)
        monkeypatch.setattr(liaison.stock, "time", later)
        monkeypatch.setattr("relay.core.relay.time", later)
        refill(luc.profile, luc.transport)
        return [prekey for prekey in luc.profile.cabinet.prekeys() if not prekey.one_time]

    assert at(3) == [old]
    assert len(at(4)) == 2
    assert stock(luc.transport)[1] == now + 11 * 86400
    monkeypatch.undo()
    assert luc.read(sent.message_id).portions[0].text == SECRET  # sealed to the old one
    assert old in at(44)  # a message that was posted late may have waited a month
    assert old not in at(48)


# -- what is asked for ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label", ["TEST", "TEST SEALD", "NATO SECRET", "SEALED TEST", "TEST OPEN FOX"])
def test_a_label_that_cannot_be_read_is_refused_with_a_hint(anna, label):
    with pytest.raises(Malformed) as refused:
        anna.send([JEAN], label=label, body=SECRET)
    assert refused.value.hint
    assert waiting(anna) == []


@pytest.mark.parametrize("mark", ["TEST SEALD", "SECRET", "TEST SEALED FOXX"])
def test_a_mistyped_portion_mark_is_refused_and_does_not_fall_under_the_mark_before_it(anna, mark):
    body = f"Top.\n(TEST OPEN RELEASABLE TO FRA, POL) For many.\n({mark}) {SECRET}\n"
    with pytest.raises(Malformed, match="is not a portion mark") as refused:
        anna.send([JEAN, LUC], label=SEALED, body=body)
    assert refused.value.hint


@pytest.mark.parametrize("bracket", ["1", "a", "ii", "see annex", "Paris"])
def test_a_bracket_that_is_no_mark_is_text(anna, jean, bracket):
    body = f"Points:\n({bracket}) first\n"
    sent = anna.send([JEAN], label=SEALED, body=body)
    assert jean.read(sent.message_id).portions[0].text == body


def test_no_addressee_means_nobody_and_is_refused(anna):
    for to, exempt in ([], []), ([], [JEAN]), ([JEAN], [JEAN]):
        with pytest.raises(Malformed, match="no addressee"):
            anna.send(to, exempt=exempt, label=SEALED, body=SECRET)


def test_everybody_refused_is_a_refusal_and_nothing_is_sent(two_offices, anna):
    before = stored(two_offices)
    with pytest.raises(Refused) as refused:
        anna.send([LUC, "nobody@lo-paris"], label=SEALED, body=SECRET)
    assert set(refused.value.rules) == {"classification", "unknown-address"}
    assert stored(two_offices) == before
    assert waiting(anna) == []


def test_every_message_of_an_originator_has_a_dtg_of_its_own(anna):
    dtgs = [anna.send([JEAN], label=SEALED, body=SECRET).dtg for _ in range(3)]
    assert len(set(dtgs)) == 3
    assert all(dtg % 60 == 0 for dtg in dtgs)


def test_plans_that_are_released_in_another_order_than_they_were_made_have_a_dtg_each(anna):
    early, late = (anna.plan([JEAN], label=SEALED, body=SECRET) for _ in range(2))
    between = [anna.send([JEAN], label=SEALED, body=SECRET).dtg for _ in range(3)]
    dtgs = [*between, anna.release(late).dtg, anna.release(early).dtg, anna.release(early).dtg]
    assert dtgs == sorted(set(dtgs))


def test_what_is_posted_is_what_was_kept(anna):
    """The sender's own copy, the outbox and the relay have the same signed bytes."""
    posted = []

    class Watching:
        def __init__(self, honest):
            self.honest = honest

        def __getattr__(self, name):
            return getattr(self.honest, name)

        def post(self, path, body, seen=0, precedence=None):
            posted.append((path, body))
            return self.honest.post(path, body, seen)

    honest = anna.transport
    anna.transport = Watching(honest)
    try:
        sent = anna.send([JEAN], label=SEALED, body=SECRET)
    finally:
        anna.transport = honest
    (body,) = [body for path, body in posted if path == "/v1/messages"]
    assert parse_submission(body).message == anna.read(sent.message_id).encoded
    assert parse_message(parse_submission(body).message).core.message_id == sent.message_id
