"""Recall: what nobody has opened is gone, provably; what was opened is named, provably."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url, select

from acts import as_json, gets_nothing, run, screen, slots_of
from forge import call, problem
from liaison.evidence.collect import collect
from liaison.evidence.verify import verify_evidence
from liaison.recalling import recall, sign_recall
from octets import flipped
from recalls import BAS, PETIT, last_entries, people, sent
from relay.protocol.canonical import encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import Event, parse_access_entry
from relay.protocol.errors import Malformed, Unauthenticated, Unknown
from relay.protocol.recall import RECALL, Recall, parse_recalled
from relay.store.log import Log
from relay.store.schema import part, slot
from simulator import Forger
from world import clearance


def test_a_recall_destroys_what_is_unread_and_names_who_has_opened(secured):
    anna, jean, luc = people(secured)
    message_id = sent(anna, PETIT, BAS)
    jean.read(message_id)
    taken = recall(anna, message_id, "Wrong annex", spill=False)
    states = {state.device_id: (state.opened, opened) for state, opened in taken.states}
    index, opened = states[jean.profile.signing.device_id]
    assert (opened.event, opened.address, opened.message_id) == (Event.OPEN, PETIT, message_id)
    assert parse_access_entry(Forger(secured).entries(Log.ACCESS)[index]) == opened
    assert states[luc.profile.signing.device_id] == (None, None)
    assert gets_nothing(luc, message_id)


def test_after_a_recall_no_slot_is_stored_and_a_device_that_had_opened_is_given_it_no_more(secured):
    anna, jean, _luc = people(secured)
    message_id = sent(anna, PETIT, BAS)
    jean.read(message_id)
    recall(anna, message_id, "Wrong annex", spill=False)
    with secured.relay._readers.connect() as connection:
        assert set(connection.scalars(select(slot.c.encoded).where(slot.c.message_id == message_id))) == {None}
    again = call(jean, "POST", f"/v1/messages/{message_id.hex()}/open")
    assert (again.status_code, problem(again)["detail"]) == (404, "no such message is available to this device")
    # what it opened it may finish reading
    assert call(jean, "GET", f"/v1/messages/{message_id.hex()}/parts/0").status_code == 200


def test_who_had_opened_it_still_proves_that_and_nobody_else_does(secured):
    anna, jean, luc = people(secured)
    message_id = sent(anna, PETIT, BAS)
    jean.read(message_id)
    recall(anna, message_id, "Wrong annex", spill=False)
    shown = verify_evidence(collect(jean, message_id))
    assert [entry.event for _index, entry in shown.entries] == [Event.ACCEPT, Event.OPEN, Event.ACKNOWLEDGE]
    assert shown.shown_by == "reader"
    for what in ("evidence", "receipts"):
        assert call(luc, "GET", f"/v1/messages/{message_id.hex()}/{what}").status_code == 404


def test_a_spill_stops_part_downloads_too(secured):
    anna, jean, _luc = people(secured)
    message_id = sent(anna, PETIT)
    jean.read(message_id)
    recall(secured.clients["ewa.sowa@lo-warsaw"], message_id, "Codeword in the clear", spill=True)
    assert call(jean, "GET", f"/v1/messages/{message_id.hex()}/parts/0").status_code == 404
    with secured.relay._readers.connect() as connection:
        assert connection.scalars(select(part.c.idx).where(part.c.message_id == message_id)).all() == []


def test_the_reader_is_told_nothing_and_the_auditor_why(secured):
    anna, _jean, luc = people(secured)
    recalled, spilled, absent = sent(anna, BAS), sent(anna, BAS), os.urandom(16)
    recall(anna, recalled, "Wrong annex", spill=False)
    recall(secured.clients["ewa.sowa@lo-warsaw"], spilled, "Codeword in the clear", spill=True)
    answers = [call(luc, "POST", f"/v1/messages/{each.hex()}/open") for each in (recalled, spilled, absent)]
    assert len({(each.status_code, each.content) for each in answers}) == 1
    for message_id, rule in ((recalled, "recalled"), (spilled, "spill")):
        denied = [entry for entry in last_entries(secured, message_id) if entry.event is Event.DENY]
        assert [(entry.office, entry.rules) for entry in denied] == [
            ("lo-paris", ("no-slot", rule)), ("lo-warsaw", ("no-slot", rule)),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("who", "spill", "allowed"),
    [
        ("anna.nowak@lo-warsaw", False, True),
        ("anna.nowak@lo-warsaw", True, False),  # one officer is not two
        ("ewa.sowa@lo-warsaw", False, True),
        ("ewa.sowa@lo-warsaw", True, True),
        ("jan.lis@lo-warsaw", False, False),  # neither originator nor security officer
        ("feed@lo-warsaw", False, False),
        (PETIT, False, False),  # a security officer, but of another office
        (PETIT, True, False),
    ],
)
def test_who_may_take_a_message_back(secured, who, spill, allowed):
    anna, _jean, luc = people(secured)
    message_id, asker = sent(anna, BAS), secured.clients[who]
    if allowed:
        recall(asker, message_id, "Because", spill=spill)
        assert gets_nothing(luc, message_id)
        return
    with pytest.raises(Unknown, match="no such message is available"):
        recall(asker, message_id, "Because", spill=spill)
    assert [entry.rules for entry in last_entries(secured, message_id)][-1] == ("recall",)
    luc.read(message_id)


def test_two_officers_together_stop_a_spill(secured):
    anna, _jean, luc = people(secured)
    jan, message_id = secured.clients["jan.lis@lo-warsaw"], sent(anna, BAS)
    beside = sign_recall(anna, message_id, "Codeword in the clear", spill=True)
    recall(jan, message_id, "Codeword in the clear", spill=True, beside=[beside])
    assert gets_nothing(luc, message_id)


def test_two_signatures_of_one_person_are_one_person(secured):
    anna, _jean, luc = people(secured)
    message_id = sent(anna, BAS)
    beside = sign_recall(anna, message_id, "Twice", spill=True)
    with pytest.raises(Malformed, match="one of each signer"):
        recall(anna, message_id, "Twice", spill=True, beside=[beside])
    jan, less = secured.clients["jan.lis@lo-warsaw"], sign_recall(anna, message_id, "x", spill=False)
    with pytest.raises(Malformed, match="one of each signer"):  # the other signature is for less than is asked
        recall(jan, message_id, "x", spill=True, beside=[less])
    luc.read(message_id)


def test_a_recall_that_is_old_or_for_another_message_or_signed_by_another_is_refused(secured):
    anna, _jean, luc = people(secured)
    message_id, other = sent(anna, BAS), sent(anna, BAS)
    key, path = anna.profile.signing, f"/v1/messages/{message_id.hex()}/recall"
    right = Recall(message_id, key.device_id, spill=False, reason="x", at=int(time.time()))
    for stated, status in (
        (replace(right, at=right.at - 90_000), 400),
        (replace(right, at=right.at + 900), 400),
        (replace(right, message_id=other), 400),
        (replace(right, reason=" "), 400),
        (replace(right, reason="two\nlines"), 400),
        (replace(right, device_id=luc.profile.signing.device_id), 401),
    ):
        assert call(anna, "POST", path, encode([key.sign_object(RECALL, stated.payload())])).status_code == status
    forged = encode([flipped(key.sign_object(RECALL, right.payload()), -1)])
    assert call(anna, "POST", path, forged).status_code == 422
    signed = encode([key.sign_object(RECALL, right.payload())])
    assert call(luc, "POST", path, signed).status_code == 401  # who overheard it posts it
    luc.read(message_id)
    luc.read(other)


def test_the_same_recall_again_has_the_answer_of_the_first_and_another_one_is_logged(secured):
    anna, _jean, _luc = people(secured)
    message_id = sent(anna, BAS)
    word = sign_recall(anna, message_id, "Once", spill=False)
    anew = anna.profile.signing.sign_object(RECALL, parse_sign1(word, RECALL).payload)
    assert anew != word  # signatures are hedged
    first, *again = (
        call(anna, "POST", f"/v1/messages/{message_id.hex()}/recall", encode([each])).content
        for each in (word, word, anew)
    )
    assert {parse_recalled(each).recall.entry for each in again} == {parse_recalled(first).recall.entry}
    recall(anna, message_id, "Twice", spill=False)
    recalls = [entry for entry in last_entries(secured, message_id) if entry.event is Event.RECALL]
    assert [entry.detail.split(" ", 2)[2] for entry in recalls] == ["Once", "Twice"]


@pytest.mark.parametrize("secured", ["sqlite"], indirect=True)  # on PostgreSQL it is a matter of VACUUM: SPEC.md
def test_a_copy_of_the_database_made_after_the_recall_holds_no_slot(secured, tmp_path):
    anna, _jean, _luc = people(secured)
    message_id = sent(anna, BAS)
    (slot,) = slots_of(secured, message_id).values()
    sealed = slot.enc + slot.wrapped
    # The row that stays is written over a part of the erased one: so all of that has to be gone, not only one place.
    pieces = [sealed[at : at + 16] for at in range(0, len(sealed) - 15, 16)]
    kept, database = tmp_path / "before.sqlite", Path(make_url(secured.settings.database_url).database)
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(kept)) as target:
        source.backup(target)
    assert all(piece in kept.read_bytes() for piece in pieces)
    recall(anna, message_id, "Wrong annex", spill=False)
    copy = tmp_path / "after.sqlite"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    assert not any(piece in copy.read_bytes() for piece in pieces)
    with closing(sqlite3.connect(database)) as checkpointing:
        assert checkpointing.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert not any(piece in database.read_bytes() for piece in pieces)


def test_a_recall_and_openings_in_one_commit_agree_on_who_was_first(secured):
    """The keys that left before it are named, and none leave after it, also within one transaction."""
    anna, jean, luc = people(secured)
    for _ in range(5):
        message_id = sent(anna, PETIT, BAS)
        body = encode([sign_recall(anna, message_id, "Race", spill=False)])
        path = f"/v1/messages/{message_id.hex()}"
        with ThreadPoolExecutor(3) as pool:
            opened = [pool.submit(call, who, "POST", f"{path}/open") for who in (jean, luc)]
            recalled = pool.submit(call, anna, "POST", f"{path}/recall", body)
            got = {
                who.profile.signing.device_id: each.result().status_code == 200
                for who, each in zip((jean, luc), opened, strict=True)
            }
        states = parse_recalled(recalled.result().content).states
        assert {each.device_id: each.opened is not None for each in states} == got


def test_the_command_prints_one_state_a_device_and_asks_first(secured, tmp_path):
    anna, jean, luc = people(secured)
    message_id = sent(anna, PETIT, BAS)
    jean.read(message_id)
    refused = run(anna, "recall", message_id.hex(), "--reason", "Wrong annex")
    assert refused.exit_code == 3
    lines = [
        json.loads(each) for each in screen(anna, "recall", message_id.hex()[:12], "--reason", "x", "--yes", "--json")
    ]
    assert {(each["address"], each["state"]) for each in lines} == {(PETIT, "opened"), (BAS, "destroyed unread")}
    spilled, file = sent(anna, BAS), tmp_path / "anna.recall"
    jan = secured.clients["jan.lis@lo-warsaw"]
    signed = as_json(anna, "recall", spilled.hex(), "--spill", "--reason", "y", "--sign-only", str(file))
    assert signed == {"v": 1, "message_id": spilled.hex(), "signed": str(file)}
    row = as_json(jan, "recall", spilled.hex(), "--spill", "--reason", "y", "--with", str(file), "--yes")
    assert (row["address"], row["state"], row["opened"]) == (BAS, "destroyed unread", None)
    assert gets_nothing(luc, spilled)


def test_a_revoked_originator_recalls_nothing(secured):
    lost = secured.device("lost@lo-warsaw", clearances=[clearance(nations=["POL"])])
    message_id = sent(lost, BAS)
    secured.authorities["lo-warsaw"].revoke("lost@lo-warsaw", "lost")
    with pytest.raises(Unauthenticated):
        recall(lost, message_id, "x", spill=False)
