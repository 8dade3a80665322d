"""Denials: "there is none" and "not for you" are one answer, and each is an entry of the access log."""

from __future__ import annotations

import os

import pytest

from forge import Forge, call, stored
from relay.protocol.entry import Event, parse_access_entry
from relay.protocol.envelope import parse_message
from relay.protocol.header import Addressee, AddresseeKind
from relay.store import log as log_rows
from relay.store.log import Log
from world import clearance, world

ANNA, JEAN, LUC = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris"


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    with world(tmp_path_factory.mktemp("denials")) as built:
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=[clearance(nations=["POL"])])
        for address in (JEAN, LUC):
            built.device(address, clearances=[clearance(nations=["FRA"])])
        built.clients[ANNA].sync()
        yield built


def post(built, *to, **draft) -> str:
    forge = Forge(built.clients[ANNA]).prepare(*to, **draft)
    submission = forge.seal()
    assert forge.post(submission.encoded()).status_code == 201
    return parse_message(submission.message).core.message_id.hex()


def newest(built):
    with built.relay._readers.connect() as connection:
        size = log_rows.sizes(connection)[Log.ACCESS]
        return parse_access_entry(log_rows.entry(connection, Log.ACCESS, size - 1))


def told(response):
    """All of an answer that the asker sees, but for the clock."""
    return response.status_code, {**response.headers, "date": ""}, response.content


def test_what_is_not_there_and_what_is_not_for_the_asker_look_the_same_and_both_are_logged(offices):
    luc, forbidden, unknown = offices.clients[LUC], post(offices, JEAN), os.urandom(16).hex()
    answers = []
    for message_id, rule in ((forbidden, "no-slot"), (unknown, "no-slot")):
        with stored(offices, log_entry=2):
            answers.append(told(call(luc, "POST", f"/v1/messages/{message_id}/open")))
        entry = newest(offices)
        assert (entry.event, entry.permitted, entry.rules) == (Event.DENY, False, (rule, *entry.rules[1:]))
        assert (entry.address, entry.message_id.hex()) == (LUC, message_id)
    assert answers[0] == answers[1]
    assert answers[0][0] == 404


def test_an_office_that_is_no_party_learns_nothing_from_its_own_officers_denial(offices):
    """The asker's auditors see what they would see if there were no such message; the originator's see all of it."""
    offices.office("lo-oslo", "NOR")
    stranger = offices.device("kari.moe@lo-oslo")
    forge = Forge(offices.clients[ANNA]).prepare(JEAN)
    # To be left out by name makes nobody a party either.
    exempted = Addressee(AddresseeKind.EXEMPTED, "kari.moe@lo-oslo")
    submission = forge.seal(addressees=(*forge.plan.draft.addressees, exempted))
    assert forge.post(submission.encoded()).status_code == 201
    asked, unknown = parse_message(submission.message).core.message_id.hex(), os.urandom(16).hex()
    seen = {}
    for message_id in (asked, unknown):
        assert call(stranger, "POST", f"/v1/messages/{message_id}/open").status_code == 404
        with offices.relay._readers.connect() as connection:
            size = log_rows.sizes(connection)[Log.ACCESS]
            seen[message_id] = list(log_rows.entries(connection, Log.ACCESS, size - 2, 2))
    own = [parse_access_entry(rows[0][1]) for rows in seen.values()]
    assert [(each.office, each.label, each.message_ref, each.rules) for each in own] == [
        ("lo-oslo", None, None, ("no-slot",))
    ] * 2
    theirs = parse_access_entry(seen[asked][1][1])
    assert theirs.office == "lo-warsaw"
    assert theirs.label is not None
    assert "need-to-know" in theirs.rules
    assert parse_access_entry(seen[unknown][1][1]).office == ""


def test_a_slot_that_the_rules_no_longer_permit_is_denied_in_the_same_words(offices):
    luc, mine = offices.clients[LUC], post(offices, LUC)
    agreement = next(iter(offices.clients[ANNA].trust.directory.agreements))
    unknown = told(call(luc, "POST", f"/v1/messages/{os.urandom(16).hex()}/open"))
    assert call(luc, "GET", "/v1/inbox").content != call(luc, "GET", "/v1/inbox?after=1000").content
    offices.authorities["lo-warsaw"].withdraw(agreement, "over")
    with stored(offices, log_entry=2):
        assert told(call(luc, "POST", f"/v1/messages/{mine}/open")) == unknown
    assert newest(offices).rules == ("agreement",)
    # and before it is opened, it is not listed either
    assert mine.encode() not in call(luc, "GET", "/v1/inbox").content.hex().encode()
    offices.agreement("lo-warsaw", "lo-paris")
    with stored(offices, log_entry=1):
        assert call(luc, "POST", f"/v1/messages/{mine}/open").status_code == 200


@pytest.mark.parametrize("what", ["parts/0", "receipts"])
def test_parts_and_receipts_of_a_message_are_not_there_for_others(offices, what):
    luc = offices.clients[LUC]
    forbidden = told(call(luc, "GET", f"/v1/messages/{post(offices, JEAN)}/{what}"))
    assert forbidden == told(call(luc, "GET", f"/v1/messages/{os.urandom(16).hex()}/{what}"))
    assert forbidden[0] == 404


def test_parts_wait_for_the_slot_to_leave(offices):
    jean, message_id = offices.clients[JEAN], post(offices, JEAN)
    assert call(jean, "GET", f"/v1/messages/{message_id}/parts/0").status_code == 404
    assert call(jean, "POST", f"/v1/messages/{message_id}/open").status_code == 200
    assert call(jean, "GET", f"/v1/messages/{message_id}/parts/0").status_code == 200
    assert call(jean, "GET", f"/v1/messages/{message_id}/parts/1").status_code == 404


def test_mail_behind_a_page_of_mail_that_is_not_listed_is_found(offices, monkeypatch):
    monkeypatch.setattr("relay.core.reading.INBOX_PAGE", 2)
    tom = offices.device("tom@lo-paris", clearances=[clearance(nations=["FRA"])])
    offices.clients[ANNA].sync()
    for _ in range(5):
        post(offices, "tom@lo-paris", label="TEST SEALED RELEASABLE TO FRA, POL")
    agreement = [key for key, state in offices.clients[ANNA].trust.directory.agreements.items() if state.is_in_force]
    for each in agreement:
        offices.authorities["lo-warsaw"].withdraw(each, "narrowed")
    offices.agreement("lo-warsaw", "lo-paris", levels=["OPEN"])
    last = post(offices, "tom@lo-paris", label="TEST OPEN")
    assert [item.message_id.hex() for item in tom.inbox()] == [last]
