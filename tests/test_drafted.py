"""A draft under either of its ids: what its drafter learns of it, takes back, and what a second release of it does."""

from __future__ import annotations

import json

import pytest

from acts import agree, gets_nothing, run, screen
from liaison import Waiting
from liaison.drafted import own_draft
from liaison.drafting import circulate_plan, draft_downgrade, open_draft, release_draft
from liaison.record import read_record
from liaison.tracking import look_up, unposted
from relay.protocol.errors import Conflict, Unavailable, Unverified
from simulator import lying
from world import TEST_SPIF, world

ANNA, PIOTR, OLGA, JEAN = "anna@lo-warsaw", "piotr@lo-warsaw", "olga@lo-warsaw", "jean@lo-paris"


@pytest.fixture(scope="module")
def clients(tmp_path_factory):
    """Piotr and Olga release what Anna drafts."""
    with world(tmp_path_factory.mktemp("drafted")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation, policy=None).publish_policy(TEST_SPIF, b'two_person_release_from = "SEALED"\n')
        agree(built, "lo-paris", "lo-warsaw")
        for address in (ANNA, JEAN):
            built.device(address)
        for address in (PIOTR, OLGA):
            built.device(address, roles=["release"])
        for client in built.clients.values():
            client.sync()
        yield built.clients


def drafted(clients):
    plan = clients[ANNA].plan([JEAN], label="TEST SEALED", subject="Ferry", body="At dawn.\n")
    return circulate_plan(clients[ANNA], plan)


def release(client, draft):
    return release_draft(client, open_draft(client, draft.sent.message_id))


def unreachable(**_query):
    raise Unavailable("the relay cannot be reached")


def test_who_reads_a_sealed_draft_is_told_what_releases_it(clients) -> None:
    carrier = drafted(clients).sent.message_id.hex()
    assert f"a sealed draft: liaison release {carrier[:12]}" in screen(clients[PIOTR], "read", carrier)


# -- releasing a second time ------------------------------------------------------------------------------------------


def test_a_second_release_says_that_there_was_a_first_and_as_which_message(clients) -> None:
    draft = drafted(clients)
    words = ("release", draft.sent.message_id.hex()[:12], "--yes")
    first, again, shown = (
        run(clients[PIOTR], *words),
        run(clients[PIOTR], *words),
        run(clients[PIOTR], *words, "--json"),
    )
    logged = f"as message {draft.message_id.hex()}; logged as entry "
    assert (first.exit_code, again.exit_code, shown.exit_code) == (0, 0, 0), again.output
    assert first.stderr.startswith(f"liaison: released {logged}")
    assert again.stderr.startswith("liaison: you signed this at 20")
    assert f"liaison: this was released already, {logged}{first.stderr.rpartition(' ')[2]}" in again.stderr
    assert json.loads(shown.stdout) == {
        "v": 1, "message_id": draft.message_id.hex(), "released": True, "signatures_needed": 0, "saved": [],
    }  # fmt: skip


def test_who_releases_what_another_officer_has_released_is_told_so(clients) -> None:
    draft = drafted(clients)
    release(clients[OLGA], draft)
    told = run(clients[PIOTR], "release", draft.sent.message_id.hex(), "--yes")
    assert told.exit_code == 1
    assert "liaison: error: another officer has released this draft already: nothing goes twice\n" in told.stderr
    assert f"hint: by whom and when, {ANNA} sees: liaison track {draft.message_id.hex()[:12]}\n" in told.stderr
    assert clients[PIOTR].profile.cabinet.outbox() == []


def test_who_released_while_the_relay_was_away_is_told_that_another_officer_was_faster(clients) -> None:
    draft, piotr = drafted(clients), clients[PIOTR]
    found, told = open_draft(piotr, draft.sent.message_id), []
    with lying(piotr) as relay:
        relay.invent("POST", r"^/v1/messages$", unreachable)
        with pytest.raises(Waiting):
            release_draft(piotr, found)
    release(clients[OLGA], draft)
    assert piotr.outgoing().post_waiting(told.append) == [draft.message_id]
    why = "another officer has released this draft already: nothing goes twice"
    assert told == [f"message {draft.message_id.hex()} will not be posted again: {why}"]


def test_a_draft_whose_keys_have_lapsed_is_not_taken_for_one_that_was_released(clients) -> None:
    draft, piotr = drafted(clients), clients[PIOTR]
    found = open_draft(piotr, draft.sent.message_id)
    with lying(piotr) as relay:
        relay.invent("POST", r"^/v1/messages$", lapsed)
        with pytest.raises(Conflict, match="waited too long") as told:
            release_draft(piotr, found)
    assert told.value.hint == f"keys that it was sealed to have lapsed or are used: {ANNA} drafts it anew"


def lapsed(**_query):
    raise Conflict("slot for 00: its key package is unknown or expired", hint="claim a new one")


def test_a_second_release_while_the_first_waits_is_the_same_message(clients) -> None:
    draft, piotr = drafted(clients), clients[PIOTR]
    found = open_draft(piotr, draft.sent.message_id)
    waits = []
    with lying(piotr) as relay:
        relay.invent("POST", r"^/v1/messages$", unreachable)
        for _time in range(2):
            with pytest.raises(Waiting):
                release_draft(piotr, found)
            waits.append(piotr.profile.cabinet.outbox())
    assert waits[0] == waits[1] != []
    assert release_draft(piotr, found)[0] == 0
    assert clients[JEAN].read(draft.message_id).released_by == (PIOTR,)


def test_who_signs_a_second_time_what_takes_two_sends_it_on_once(clients) -> None:
    anna, piotr = clients[ANNA], clients[PIOTR]
    draft = drafted(clients)
    release(piotr, draft)
    lower = draft_downgrade(anna, draft.message_id, "TEST OPEN", "the ferry has sailed", [], None)
    sent = [len(list(piotr.records()))]
    for _time in range(2):
        told = run(piotr, "release", lower.sent.message_id.hex(), "--yes")
        assert (told.exit_code, "1 more officer has to release it" in told.stderr) == (0, True), told.output
        sent.append(len(list(piotr.records())))
    assert sent[1] == sent[2]


# -- what its drafter learns ------------------------------------------------------------------------------------------


def tracked(client, message_id: bytes) -> list[dict]:
    return [json.loads(line) for line in screen(client, "track", message_id.hex(), "--json")]


def test_a_draft_that_nobody_has_released_is_said_to_wait_for_an_officer_under_either_id(clients) -> None:
    draft = drafted(clients)
    open_draft(clients[PIOTR], draft.sent.message_id)
    for named in (draft.message_id, draft.sent.message_id):
        rows = tracked(clients[ANNA], named)
        assert [(row["address"], row["state"]) for row in rows] == [
            (PIOTR, "opened"),
            ("release@lo-warsaw", "released"),
        ]
        for row in rows:
            assert (row["message_id"], row["draft"]) == (draft.message_id.hex(), draft.sent.message_id.hex())
            assert row["released"] is None
        told = run(clients[ANNA], "track", named.hex())
        assert f"nobody has released it; another officer runs: liaison release {draft.sent.message_id.hex()[:12]}" in (
            told.stderr
        )


def test_a_draft_that_was_released_is_tracked_as_its_message_under_either_id(clients) -> None:
    draft = drafted(clients)
    _needed, index = release(clients[PIOTR], draft)
    clients[JEAN].read(draft.message_id)
    for named in (draft.message_id, draft.sent.message_id):
        (row,) = tracked(clients[ANNA], named)
        assert (row["address"], row["state"], row["draft"]) == (JEAN, "opened", draft.sent.message_id.hex())
        assert (row["released"]["by"], row["released"]["index"]) == (PIOTR, index)
        told = run(clients[ANNA], "track", named.hex())
        assert f"as message {draft.message_id.hex()}, entry {index}, verified" in told.stderr
        assert f"released by {PIOTR} at 20" in told.stderr
        proven = screen(clients[ANNA], "track", named.hex(), "--evidence", "--json")
        assert {json.loads(line)["address"] for line in proven} == {JEAN}


def test_a_message_that_nobody_drafted_has_the_rows_that_it_had(clients) -> None:
    sent = clients[ANNA].send([JEAN], label="TEST CLOSED", body="At noon.\n")
    (row,) = tracked(clients[ANNA], sent.message_id)
    assert row == {"v": 1, "address": JEAN, "state": "released", "time": "", "entry": None, "recalled": None}


def test_what_an_officer_passed_on_for_a_further_signature_is_no_draft_of_his(clients) -> None:
    draft = drafted(clients)
    release(clients[PIOTR], draft)
    lower = draft_downgrade(clients[ANNA], draft.message_id, "TEST OPEN", "the ferry has sailed", [], None)
    release(clients[PIOTR], lower)
    *_, (passed_on, _record) = clients[PIOTR].records()
    (row,) = tracked(clients[PIOTR], passed_on)
    assert (row["address"], "draft" in row) == ("release@lo-warsaw", False)


def test_a_relay_that_shows_the_acceptance_of_something_else_is_not_believed(clients) -> None:
    one, other = drafted(clients), drafted(clients)
    release(clients[PIOTR], one)
    anna = clients[ANNA]
    answer = anna.transport.get(f"/v1/messages/{one.message_id.hex()}/evidence")
    with lying(anna) as relay:
        relay.invent("GET", rf"^/v1/messages/{other.message_id.hex()}/evidence$", lambda **_query: answer)
        with pytest.raises(Unverified):
            look_up(anna, own_draft(anna, other.message_id).record)


def test_a_draft_that_waits_here_is_tracked_as_waiting(clients) -> None:
    anna = clients[ANNA]
    plan = anna.plan([JEAN], label="TEST SEALED", body="At dawn.\n")
    with lying(anna) as relay:
        relay.invent("POST", r"^/v1/messages$", unreachable)
        with pytest.raises(Waiting) as told:
            circulate_plan(anna, plan)
        draft = own_draft(anna, told.value.drafted.message_id)
        assert draft.carrier == told.value.sent.message_id
        assert unposted(anna, read_record(anna.profile.cabinet.message(draft.carrier))) == "waiting"
    # to take it back posts nothing of it
    result = run(anna, "recall", draft.message_id.hex(), "--reason", "Wrong annex", "--yes", "--json")
    assert (result.exit_code, anna.profile.cabinet.outbox()) == (0, []), result.output
    assert json.loads(result.stdout) == {"v": 1, "message_id": draft.carrier.hex(), "state": "withdrawn"}
    assert {row["state"] for row in tracked(anna, draft.carrier)} == {"failed"}
    assert {row["state"] for row in tracked(anna, draft.message_id)} == {"draft"}


# -- what its drafter takes back --------------------------------------------------------------------------------------


def take_back(client, message_id: bytes):
    result = run(client, "recall", message_id.hex(), "--reason", "Wrong annex", "--yes", "--json")
    assert result.exit_code == 0, result.output
    return {json.loads(line)["message_id"] for line in result.stdout.splitlines()}, result.stderr


@pytest.mark.parametrize("name", ["message_id", "carrier"])
def test_a_draft_that_was_released_is_taken_back_under_either_id(clients, name) -> None:
    draft = drafted(clients)
    release(clients[PIOTR], draft)
    named = draft.message_id if name == "message_id" else draft.sent.message_id
    taken, told = take_back(clients[ANNA], named)
    assert taken == {draft.message_id.hex()}
    assert f"the draft was released: this takes back message {draft.message_id.hex()}" in told
    assert gets_nothing(clients[JEAN], draft.message_id)
    assert {row["state"] for row in tracked(clients[ANNA], named)} == {"recalled, destroyed unread"}
    # and once more: under the carrier's id it is the carrier's turn
    assert take_back(clients[ANNA], named)[0] == {named.hex()}


@pytest.mark.parametrize("name", ["message_id", "carrier"])
def test_a_draft_that_nobody_has_released_is_taken_from_the_officers_under_either_id(clients, name) -> None:
    draft = drafted(clients)
    open_draft(clients[PIOTR], draft.sent.message_id)
    named = draft.message_id if name == "message_id" else draft.sent.message_id
    taken, told = take_back(clients[ANNA], named)
    assert taken == {draft.sent.message_id.hex()}
    assert (
        f"who has opened it can release it still; should he, then: liaison recall {draft.message_id.hex()[:12]}" in told
    )
    assert gets_nothing(clients[OLGA], draft.sent.message_id)
    assert run(clients[ANNA], "track", named.hex()).stderr.startswith("liaison: nobody has released it\n")
    # as it was said: Piotr had opened it
    assert release(clients[PIOTR], draft)[0] == 0
    assert take_back(clients[ANNA], named)[0] == {draft.message_id.hex()}


def test_drafts_are_in_the_list_of_what_was_sent(clients) -> None:
    draft = drafted(clients)
    carrier, message = (json.loads(line) for line in screen(clients[ANNA], "track", "--limit", "2", "--json"))
    assert (message["message_id"], message["state"], message["opened"]) == (draft.message_id.hex(), "draft", None)
    assert (carrier["message_id"], carrier["state"]) == (draft.sent.message_id.hex(), "accepted")
    release(clients[PIOTR], draft)
    carrier, message = (json.loads(line) for line in screen(clients[ANNA], "track", "--limit", "2", "--json"))
    assert (message["state"], message["opened"], carrier["opened"]) == ("accepted", 0, 1)
