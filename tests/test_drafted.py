"""A draft under either of its ids: what its drafter learns of it, takes back, and what a second release of it does."""

from __future__ import annotations

import json

import pytest

from acts import agree, run
from liaison import Waiting
from liaison.drafting import circulate_plan, draft_downgrade, open_draft, release_draft
from relay.protocol.errors import Conflict, Unavailable
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
    assert "liaison: error: another officer has released this draft already (relay: message" in told.stderr
    assert f"hint: {ANNA} sees by whom and when: liaison track {draft.message_id.hex()[:12]}" in told.stderr
    assert clients[PIOTR].profile.cabinet.outbox() == []


def test_another_conflict_at_the_release_is_not_taken_for_an_earlier_one(clients) -> None:
    draft, piotr = drafted(clients), clients[PIOTR]
    found = open_draft(piotr, draft.sent.message_id)
    with lying(piotr) as relay:
        relay.invent("POST", r"^/v1/messages$", lapsed)
        with pytest.raises(Conflict, match=r"^slot for"):
            release_draft(piotr, found)


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
