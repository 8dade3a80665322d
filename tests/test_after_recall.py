"""After a recall the originator is told so wherever he looks: track, and explain."""

from __future__ import annotations

import json

import pytest

from acts import run, screen
from liaison.recalling import recall
from world import clearance, world

LABEL = "TEST CLOSED RELEASABLE TO FRA, POL"
ANNA, PETIT, BAS, DUTY = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris", "duty@lo-paris"


@pytest.fixture(scope="module")
def setting(tmp_path_factory):
    with world(tmp_path_factory.mktemp("after-recall")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=[clearance(nations=["POL"])])
        built.device(PETIT, clearances=[clearance(nations=["FRA"])], roles=["duty"])
        built.device(BAS, clearances=[clearance(nations=["FRA"])])
        yield built


@pytest.fixture(scope="module")
def taken(setting):
    """(message id, index of the recall) of what the holder of a role has opened and Luc has not."""
    anna = setting.clients[ANNA]
    message_id = anna.send([BAS, DUTY], label=LABEL, body="Meet at nine.\n").message_id
    setting.clients[PETIT].read(message_id)
    return message_id, recall(anna, message_id, "Wrong annex", spill=False).index


def test_track_says_who_had_opened_it_and_where_it_was_destroyed(setting, taken) -> None:
    message_id, index = taken
    rows = [json.loads(line) for line in screen(setting.clients[ANNA], "track", message_id.hex(), "--json")]
    assert [(row["address"], row["state"]) for row in rows] == [
        (PETIT, "opened"), (DUTY, "opened"), (BAS, "recalled, destroyed unread"),
    ]  # fmt: skip
    assert {row["recalled"]["index"] for row in rows} == {index}
    assert rows[2]["entry"] == index
    told = run(setting.clients[ANNA], "track", message_id.hex())
    assert "released" not in told.stdout
    assert f"recalled by {ANNA} with entry {index} of the access log, verified" in told.stderr


def test_explain_says_that_nobody_is_given_it_any_more(setting, taken) -> None:
    rows = [json.loads(line) for line in screen(setting.clients[ANNA], "explain", taken[0].hex(), "--json")]
    assert [(row["permitted"], row["rules"][0]["rule"]) for row in rows] == [(False, "recalled")] * 2
    shown = screen(setting.clients[ANNA], "explain", taken[0].hex())[1:-1]
    assert [line.split("\t")[1:3] for line in shown] == [["all", "no"]] * 2


def test_what_was_not_recalled_is_released_still(setting) -> None:
    anna = setting.clients[ANNA]
    message_id = anna.send([BAS], label=LABEL, body="Meet at ten.\n").message_id
    (row,) = [json.loads(line) for line in screen(anna, "track", message_id.hex(), "--json")]
    assert (row["state"], row["recalled"]) == ("released", None)
    assert all("\tyes" in line for line in screen(anna, "explain", message_id.hex())[1:-1])
