"""A relay that lies about a recall, in its answer or in its log, is caught."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forge import call
from liaison.recalling import recall, sign_recall
from liaison.trust import ACCESS
from recalls import BAS, PETIT, people, sent
from relay.protocol.canonical import encode
from relay.protocol.entry import parse_access_entry
from relay.protocol.errors import Unverified
from relay.protocol.recall import Recall, Recalled, parse_recalled, recall_detail, verify_recalled
from relay.store.log import Log
from simulator import Forger, altered, double, lying

LIES = {
    "an opening is called destroyed unread": lambda it: replace(it, openings=(None,) * len(it.openings)),
    "a device is left out": lambda it: replace(it, grants=it.grants[1:], openings=it.openings[1:]),
    "a device's portions are others": lambda it: replace(it, grants=tuple((device, (0, 1)) for device, _ in it.grants)),
    "the opening of another entry": lambda it: replace(
        it, openings=tuple(it.accept if each is not None else None for each in it.openings)
    ),
    "an entry without its proof": lambda it: replace(it, accept=replace(it.accept, proof=it.accept.proof[:-1])),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_relay_that_lies_about_a_recall_is_caught(secured, lie, tmp_path):
    anna, jean, _luc = people(secured)
    message_id = sent(anna, PETIT, BAS)
    jean.read(message_id)
    with double(anna, tmp_path / "anna") as twin, lying(twin) as relay:
        relay.lie("POST", r"/recall$", lambda answer: LIES[lie](parse_recalled(answer)).encoded())
        with pytest.raises(Unverified):
            recall(twin, message_id, "Wrong annex", spill=False)


def test_a_relay_that_logs_a_false_state_is_caught_by_the_recall_that_it_signed(secured, tmp_path):
    """The operator hides an opening, in an entry and a log that are correctly signed: the answer contradicts itself."""
    anna, jean, _luc = people(secured)
    message_id = sent(anna, PETIT)
    jean.read(message_id)
    forger = Forger(secured)

    def other_reason(answer: bytes) -> bytes:
        given = parse_recalled(answer)
        entries = forger.entries(Log.ACCESS)
        entry = parse_access_entry(given.recall.entry)
        entries[given.recall.index] = altered(entry, detail=entry.detail + "!")
        logged = forger.logged(entries, given.recall.index, twin.trust.seen(ACCESS))
        return Recalled(logged, given.accept, given.grants, given.openings).encoded()

    with double(anna, tmp_path / "anna") as twin, lying(twin) as relay:
        relay.lie("POST", r"/recall$", other_reason)
        with pytest.raises(Unverified):
            recall(twin, message_id, "Wrong annex", spill=False)


LOGGED = {
    "a device is left out, in the entry too": (
        lambda it: replace(it, grants=it.grants[1:], openings=it.openings[1:]),
        "leaves out, or invents",
    ),
    "a device is invented, in the entry too": (
        lambda it: replace(it, grants=(*it.grants, (b"\xff" * 16, (0,))), openings=(*it.openings, None)),
        "leaves out, or invents",
    ),
    "the opening is younger than the recall": (
        lambda it: replace(
            it, openings=tuple(each and replace(each, index=it.recall.index + 1) for each in it.openings)
        ),
        "opened after its recall",
    ),
}


@pytest.mark.parametrize("lie", LOGGED)
def test_what_the_relay_logs_and_answers_alike_is_held_against_the_acceptance_and_the_order(secured, lie):
    anna, jean, _luc = people(secured)
    message_id = sent(anna, PETIT, BAS)
    jean.read(message_id)
    body = encode([sign_recall(anna, message_id, "Wrong annex", spill=False)])
    honest = parse_recalled(call(anna, "POST", f"/v1/messages/{message_id.hex()}/recall", body).content)
    asked = Recall(message_id, anna.profile.signing.device_id, False, "Wrong annex", 0)
    verify_recalled(honest, asked)
    change, problem = LOGGED[lie]
    told = change(honest)
    detail = recall_detail(told.states, "Wrong annex", spill=False, held=False)
    told = replace(
        told, recall=replace(told.recall, entry=altered(parse_access_entry(told.recall.entry), detail=detail))
    )
    with pytest.raises(Unverified, match=problem):
        verify_recalled(told, asked)
