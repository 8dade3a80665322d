"""A recall of a message under legal hold: nobody opens it any more, and nothing is destroyed before the hold ends."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from acts import as_json, gets_nothing, run
from databases import BOTH, migrated_database
from forge import call
from liaison.holding import state_hold
from liaison.recalling import recall
from relay.house import check_all
from relay.protocol.entry import Event, parse_access_entry
from relay.protocol.hold import Action
from relay.store.log import Log
from relay.store.schema import part, slot
from simulator import Forger
from world import clearance, world

ANNA, JEAN, LEA = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "lea.roy@lo-paris"
EWA, OLA, LUC, ZOE = "ewa.lis@lo-warsaw", "ola.zak@lo-warsaw", "luc.bas@lo-paris", "zoe.roux@lo-paris"
LABEL = "TEST CLOSED RELEASABLE TO FRA, POL"


@pytest.fixture(scope="module", params=BOTH)
def offices(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("held-recall")
    with migrated_database(request.param, folder / "database") as url, world(folder, database=url) as built:
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.agreement("lo-warsaw", "lo-paris")
        for address in (ANNA, JEAN, LEA):
            built.device(address, clearances=[clearance(nations=["FRA", "POL"])])
        for address in (EWA, OLA, LUC, ZOE):
            built.device(address, clearances=[], roles=["security"])
        yield built


def sent(built) -> bytes:
    """Opened by Jean, and not by Lea."""
    message_id = built.clients[ANNA].send([JEAN, LEA], label=LABEL, body="Meet at nine.\n").message_id
    built.clients[JEAN].read(message_id)
    return message_id


def place(built, message_id: bytes, *officers: str) -> None:
    assert state_hold(built.clients[officers[0]], Action.PLACE, message_id, "inquiry 7").word == 1
    assert state_hold(built.clients[officers[1]], Action.PLACE, message_id, "inquiry 7").counts


def lift(built, message_id: bytes, *officers: str):
    assert not state_hold(built.clients[officers[0]], Action.LIFT, message_id, "closed").counts
    return state_hold(built.clients[officers[1]], Action.LIFT, message_id, "closed")


def slots(built, message_id: bytes) -> tuple[set, set]:
    """What is there to be handed out, and what is kept."""
    with built.relay._readers.connect() as connection:
        found = connection.execute(select(slot.c.encoded, slot.c.kept).where(slot.c.message_id == message_id)).all()
    given, kept = ({bytes(value) for value in column if value is not None} for column in zip(*found, strict=True))
    return given, kept


def parts(built, message_id: bytes) -> int:
    with built.relay._readers.connect() as connection:
        return len(connection.scalars(select(part.c.idx).where(part.c.message_id == message_id)).all())


def details(built, message_id: bytes, event: Event) -> list[str]:
    entries = [parse_access_entry(each) for each in Forger(built).entries(Log.ACCESS)]
    return [each.detail for each in entries if (each.event, each.message_id) == (event, message_id)]


def part_status(built, who: str, message_id: bytes) -> int:
    return call(built.clients[who], "GET", f"/v1/messages/{message_id.hex()}/parts/0").status_code


def test_a_recall_of_a_held_message_ends_opening_and_destroys_nothing_until_two_lift_the_hold(offices):
    message_id = sent(offices)
    place(offices, message_id, EWA, OLA)
    (before, none) = slots(offices, message_id)
    assert (len(before), none) == (2, set())
    taken = recall(offices.clients[ANNA], message_id, "Wrong annex", spill=False)
    states = {row["address"]: row["state"] for row in taken.as_json(offices.clients[ANNA])}
    assert states == {JEAN: "opened", LEA: "held unread"}
    assert details(offices, message_id, Event.RECALL)[0].startswith("recall-held ")
    assert gets_nothing(offices.clients[LEA], message_id)
    assert slots(offices, message_id) == (set(), before)
    assert list(check_all(offices.settings, [], lambda *_: None)) == []
    assert lift(offices, message_id, OLA, EWA).destroyed
    assert slots(offices, message_id) == (set(), set())
    assert details(offices, message_id, Event.HOLD)[-1] == "lift 2 of 2 destroyed: closed"
    assert gets_nothing(offices.clients[LEA], message_id)


def test_a_spill_of_a_held_message_stops_downloads_and_its_parts_go_with_the_hold(offices):
    message_id = sent(offices)
    place(offices, message_id, EWA, OLA)
    assert part_status(offices, JEAN, message_id) == 200
    recall(offices.clients[EWA], message_id, "Codeword in the clear", spill=True)
    assert (part_status(offices, JEAN, message_id), parts(offices, message_id)) == (404, 1)
    assert lift(offices, message_id, EWA, OLA).destroyed
    assert (slots(offices, message_id), parts(offices, message_id)) == ((set(), set()), 0)


def test_what_two_offices_hold_is_kept_until_the_last_of_them_lets_go(offices):
    message_id = sent(offices)
    place(offices, message_id, EWA, OLA)
    place(offices, message_id, LUC, ZOE)
    recall(offices.clients[ANNA], message_id, "Wrong annex", spill=False)
    assert not lift(offices, message_id, EWA, OLA).destroyed
    assert len(slots(offices, message_id)[1]) == 2
    assert lift(offices, message_id, LUC, ZOE).destroyed
    assert slots(offices, message_id) == (set(), set())


def test_another_recall_while_it_is_held_keeps_what_the_first_one_kept(offices):
    message_id = sent(offices)
    place(offices, message_id, EWA, OLA)
    recall(offices.clients[ANNA], message_id, "Once", spill=False)
    (_none, kept) = slots(offices, message_id)
    recall(offices.clients[EWA], message_id, "And spilled", spill=True)
    assert slots(offices, message_id) == (set(), kept)
    assert [each.split()[0] for each in details(offices, message_id, Event.RECALL)] == ["recall-held", "spill-held"]


def test_one_officers_word_holds_nothing_back(offices):
    message_id = sent(offices)
    state_hold(offices.clients[EWA], Action.PLACE, message_id, "inquiry 7")
    recall(offices.clients[ANNA], message_id, "Wrong annex", spill=False)
    assert slots(offices, message_id) == (set(), set())
    assert details(offices, message_id, Event.RECALL)[0].startswith("recall ")


def test_what_was_spilled_under_a_hold_that_came_after_a_recall_loses_its_parts_with_it(offices):
    message_id = sent(offices)
    recall(offices.clients[ANNA], message_id, "Wrong annex", spill=False)
    place(offices, message_id, EWA, OLA)
    recall(offices.clients[EWA], message_id, "Codeword in the clear", spill=True)
    assert parts(offices, message_id) == 1
    assert lift(offices, message_id, EWA, OLA).destroyed
    assert parts(offices, message_id) == 0


def test_a_message_that_nobody_recalled_opens_as_before_when_its_hold_is_lifted(offices):
    message_id = sent(offices)
    place(offices, message_id, EWA, OLA)
    assert not lift(offices, message_id, EWA, OLA).destroyed
    assert offices.clients[LEA].read(message_id)


def test_the_commands_say_that_it_is_held_and_that_it_is_destroyed(offices):
    message_id = sent(offices)
    place(offices, message_id, EWA, OLA)
    told = run(offices.clients[ANNA], "recall", message_id.hex(), "--reason", "Wrong annex", "--yes")
    assert (told.exit_code, "a legal hold stands" in told.stderr) == (0, True)
    assert run(offices.clients[EWA], "hold", "lift", message_id.hex(), "--reason", "closed").exit_code == 0
    assert as_json(offices.clients[OLA], "hold", "lift", message_id.hex(), "--reason", "closed")["destroyed"] is True


def test_a_check_takes_nothing_that_was_lawfully_destroyed_for_a_loss(offices):
    assert list(check_all(offices.settings, [], lambda *_: None)) == []
