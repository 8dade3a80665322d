"""`liaison hold list`: an office's security officers and its auditors are told what is held, and nobody else."""

from __future__ import annotations

import json
from itertools import count

import pytest

from acts import run, screen
from liaison.held import held_by_office
from liaison.holding import state_hold
from relay.core import hold as relay_hold
from relay.protocol.canonical import decode, encode
from relay.protocol.errors import Refused, Unverified
from relay.protocol.hold import Action
from relay.protocol.identity import Kind
from world import clearance, world

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"
EWA, OLA, LUC, ZOE = "ewa.lis@lo-warsaw", "ola.zak@lo-warsaw", "luc.bas@lo-paris", "zoe.roux@lo-paris"
WARSAW, PARIS = "audit@lo-warsaw", "audit@lo-paris"
LABEL = "TEST CLOSED RELEASABLE TO FRA, POL"
_REASONS = count(3)


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    with world(tmp_path_factory.mktemp("hold-list")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        for address in (ANNA, JEAN):
            built.device(address, clearances=[clearance(nations=["FRA", "POL"])])
        for address in (EWA, OLA, LUC, ZOE):
            built.device(address, clearances=[], roles=["security"])
        for address in (WARSAW, PARIS):
            built.device(address, clearances=[], kind=Kind.AUDITOR)
        yield built


@pytest.fixture
def held(offices):
    """Two messages that Warsaw holds, one of them Paris too; lifted afterwards."""
    sent = [offices.clients[ANNA].send([JEAN], label=LABEL, body="Meet at nine.\n").message_id for _ in range(2)]
    words = [((EWA, OLA), sent[0]), ((OLA, EWA), sent[1]), ((LUC, ZOE), sent[1])]
    for officers, message_id in words:
        state(offices, Action.PLACE, message_id, officers)
    yield sent
    for officers, message_id in words:
        for officer in officers:  # of one that waits to be lifted, the first of them ends it
            if message_id in {each.entry.message_id for each in held_by(offices, officer)}:
                # under another reason: the very word may have been said in this second, and none is taken twice
                state_hold(offices.clients[officer], Action.LIFT, message_id, "closed")


def state(built, action, message_id, officers):
    for number, officer in enumerate(officers, 1):
        state_hold(built.clients[officer], action, message_id, f"inquiry {number}")


def listed(built, officer):
    client = built.clients[officer]
    return held_by_office(client, client.sync().office)


def held_by(built, officer):
    """The words by which the office of the officer holds messages."""
    return [each.by for each in listed(built, officer) if each.by is not None]


def about(built, officer, message_id):
    """What the office of the officer has said of one message."""
    return next((each for each in listed(built, officer) if each.message_id == message_id), None)


def rows(built, who):
    ran = run(built.clients[who], "hold", "list", "--json")
    assert ran.exit_code == 0, ran.output
    return [json.loads(line) for line in ran.stdout.splitlines()]


def test_a_security_officer_sees_what_the_own_office_holds_by_whose_words_and_nothing_of_another_office(offices, held):
    found = rows(offices, EWA)
    assert [(row["v"], row["message_id"], row["office"]) for row in found] == [
        (1, each.hex(), "lo-warsaw") for each in held
    ]
    assert [(word["address"], word["reason"]) for word in found[0]["words"]] == [(OLA, "inquiry 2"), (EWA, "inquiry 1")]
    assert found[0]["approved_by"] == []
    assert [row["message_id"] for row in rows(offices, ZOE)] == [held[1].hex()]
    state(offices, Action.LIFT, held[0], (EWA, OLA))
    assert [row["message_id"] for row in rows(offices, OLA)] == [held[1].hex()]
    shown = screen(offices.clients[OLA], "hold", "list")
    assert any(held[1].hex() in line and "lo-warsaw" in line for line in shown)
    assert any("ewa.lis@lo-warsaw: inquiry 2" in line for line in shown)


def test_an_auditor_sees_the_holds_of_every_office_in_scope_from_the_log_itself(offices, held):
    ours = [(row["office"], row["message_id"]) for row in rows(offices, WARSAW)]
    # the originator's auditor reads what other offices do with its messages
    assert ours == [("lo-warsaw", held[0].hex()), ("lo-warsaw", held[1].hex()), ("lo-paris", held[1].hex())]
    assert rows(offices, PARIS) == [row for row in rows(offices, WARSAW) if row["office"] == "lo-paris"]
    state(offices, Action.LIFT, held[1], (LUC, ZOE))
    assert rows(offices, PARIS) == []
    assert "no message is held" in run(offices.clients[PARIS], "hold", "list").output


@pytest.mark.parametrize("who", [ANNA, JEAN])
def test_whoever_may_hold_nothing_is_told_of_no_hold(offices, held, who):
    with pytest.raises(Refused, match="security officers"):
        listed(offices, who)
    assert run(offices.clients[who], "hold", "list").exit_code == 6


def sent_one(offices):
    return offices.clients[ANNA].send([JEAN], label=LABEL, body="Meet at nine.\n").message_id


def rows_about(offices, who, message_id):
    return [row for row in rows(offices, who) if row["message_id"] == message_id.hex()]


def test_one_word_holds_nothing_and_is_shown_to_whoever_may_second_it(offices):
    message_id = sent_one(offices)
    state(offices, Action.PLACE, message_id, [EWA])
    for who in (OLA, WARSAW):
        (row,) = rows_about(offices, who, message_id)
        assert (row["held"], row["since"], row["entry"], row["words"]) == (False, None, None, [])
        assert [row["waits"][name] for name in ("action", "address", "reason")] == ["place", EWA, "inquiry 1"]
    assert rows_about(offices, ZOE, message_id) == []
    shown = screen(offices.clients[OLA], "hold", "list")
    assert any(f"{message_id.hex()} not held yet by lo-warsaw" in line for line in shown)
    assert any(f"to place it a second word is missing; {EWA}: inquiry 1" in line for line in shown)
    state(offices, Action.PLACE, message_id, [OLA])
    (row,) = rows_about(offices, EWA, message_id)
    assert (row["held"], row["waits"], len(row["words"])) == (True, None, 2)
    state(offices, Action.LIFT, message_id, [EWA, OLA])
    assert rows_about(offices, EWA, message_id) == rows_about(offices, WARSAW, message_id) == []


def test_one_word_to_lift_is_shown_beside_the_hold_that_still_stands(offices, held):
    state(offices, Action.LIFT, held[0], [OLA])
    for who in (EWA, WARSAW):
        (row,) = rows_about(offices, who, held[0])
        assert (row["held"], row["waits"]["action"], row["waits"]["address"]) == (True, "lift", OLA)
    shown = screen(offices.clients[EWA], "hold", "list")
    assert any(f"to lift it a second word is missing; {OLA}: inquiry 1" in line for line in shown)


def test_a_word_whose_officer_is_gone_waits_for_nothing(offices):
    message_id, iga = sent_one(offices), "iga.sowa@lo-warsaw"
    offices.device(iga, clearances=[], roles=["security"])
    state(offices, Action.PLACE, message_id, [iga])
    assert len(rows_about(offices, OLA, message_id)) == 1
    offices.authorities["lo-warsaw"].revoke(iga, "moved on")
    assert rows_about(offices, OLA, message_id) == rows_about(offices, WARSAW, message_id) == []


def test_a_word_waits_for_no_second_one_where_it_takes_approvals_by_now(offices):
    """A second officer would be refused: whoever of the two gets the approvals states it anew."""
    offices.office("lo-oslo", "NOR")
    nils, ida, siv = "nils.berg@lo-oslo", "ida.dahl@lo-oslo", "siv.moe@lo-oslo"
    for address in (nils, ida):
        offices.device(address, clearances=[clearance(nations=["NOR"])], roles=["security"])
    auditor = offices.device("audit@lo-oslo", clearances=[], kind=Kind.AUDITOR).profile.pins.address
    sent = offices.clients[nils].send([ida], label="TEST CLOSED RELEASABLE TO NOR", body="Meet at nine.\n")
    state(offices, Action.PLACE, sent.message_id, [nils])
    assert [len(rows(offices, who)) for who in (ida, auditor)] == [1, 1]
    offices.device(siv, clearances=[])
    named = run(offices.authorities["lo-oslo"], "approvers", "set", "--person", siv, "--needed", "hold=1")
    assert named.exit_code == 0, named.output
    with pytest.raises(Refused, match="takes the approval"):
        state(offices, Action.PLACE, sent.message_id, [ida])
    assert [rows(offices, who) for who in (ida, auditor)] == [[], []]


def test_a_list_of_more_than_a_page_is_whole(offices, held, monkeypatch):
    monkeypatch.setattr(relay_hold, "PAGE", 1)
    state(offices, Action.LIFT, held[0], [OLA])
    found = [each for each in listed(offices, EWA) if each.by is not None]
    assert [each.message_id for each in found] == held
    assert about(offices, EWA, held[0]).waits is not None


def say(built, action, message_id, officers):
    """A word of each, which was not said before."""
    for officer in officers:
        state_hold(built.clients[officer], action, message_id, f"inquiry {next(_REASONS)}")


def meanwhile(offices, monkeypatch, message_id, happen):
    """Something that happens once EWA was given the page with all that her office has said of this message."""
    known = about(offices, EWA, message_id)
    last = max(word.index for word in (known.by, known.waits) if word is not None)
    client, waiting = offices.clients[EWA], [happen]
    get = client.transport.get

    def answer(path, **query):
        if path == "/v1/holds" and query["after"] > last and waiting:
            waiting.pop()()
        return get(path, **query)

    monkeypatch.setattr(relay_hold, "PAGE", 1)
    monkeypatch.setattr(client.transport, "get", answer)
    found = listed(offices, EWA)
    monkeypatch.undo()
    assert not waiting
    return next(each for each in found if each.message_id == message_id)


def test_a_hold_that_is_lifted_and_placed_anew_between_two_pages_is_listed_as_it_is_now(offices, held, monkeypatch):
    def anew():
        say(offices, Action.LIFT, held[0], (OLA, EWA))
        say(offices, Action.PLACE, held[0], (OLA, EWA))
        say(offices, Action.LIFT, held[0], [OLA])

    found = meanwhile(offices, monkeypatch, held[0], anew)
    assert found == about(offices, EWA, held[0])
    assert (found.by.action, found.waits.action) == (Action.PLACE, Action.LIFT)


def test_a_hold_that_is_lifted_and_asked_for_anew_between_two_pages_is_listed_as_none(offices, held, monkeypatch):
    def begun():
        say(offices, Action.LIFT, held[0], (OLA, EWA))
        say(offices, Action.PLACE, held[0], [OLA])

    found = meanwhile(offices, monkeypatch, held[0], begun)
    assert found == about(offices, EWA, held[0])
    assert (found.by, found.waits.action) == (None, Action.PLACE)
    say(offices, Action.PLACE, held[0], [EWA])


def test_a_word_to_lift_that_lapses_between_two_pages_makes_room_for_another(offices, held, monkeypatch):
    uma = "uma.rek@lo-warsaw"
    offices.device(uma, clearances=[], roles=["security"])
    say(offices, Action.LIFT, held[0], [uma])

    def lapse():
        offices.authorities["lo-warsaw"].revoke(uma, "moved on")
        say(offices, Action.LIFT, held[0], [OLA])

    found = meanwhile(offices, monkeypatch, held[0], lapse)
    assert found == about(offices, EWA, held[0])
    assert (found.by.action, found.waits.words[0].address) == (Action.PLACE, OLA)


def test_what_was_in_the_log_before_the_first_page_is_no_news_on_the_second(offices, held, monkeypatch):
    placed = held_by(offices, EWA)[0].index
    say(offices, Action.LIFT, held[0], (OLA, EWA))
    say(offices, Action.PLACE, held[0], (OLA, EWA))
    again = next(each.index for each in held_by(offices, EWA) if each.entry.message_id == held[0])

    def past(_connection, _office, after, _count):
        return [each for each in (placed, again) if each >= after][:1]

    with monkeypatch.context() as patched:
        patched.setattr(relay_hold, "standing_entries", past)
        with pytest.raises(Unverified, match="or no other one"):
            listed(offices, EWA)


def lie(offices, monkeypatch, change):
    """The relay's answer to a question for holds, changed."""
    client = offices.clients[EWA]
    get = client.transport.get

    def answer(path, **asked):
        given = get(path, **asked)
        return encode(change(decode(given, "holds"))) if path == "/v1/holds" else given

    monkeypatch.setattr(client.transport, "get", answer)


LIES = {
    "other words": lambda found: [found[0], [[row[0][:-1] + b"!", *row[1:]] for row in found[1]]],
    "elsewhere": lambda found: [found[0], [[row[0], row[1] + 1, row[2]] for row in found[1]]],
    "twice": lambda found: [found[0], found[1] * 2],
    "backwards": lambda found: [found[0], found[1][::-1]],
    "under no signature": lambda found: [found[0][:-9], found[1]],
    "not the format": lambda found: found[:1],
}


@pytest.mark.parametrize("told", LIES)
def test_what_the_log_does_not_bear_out_is_not_shown(offices, held, monkeypatch, told):
    lie(offices, monkeypatch, LIES[told])
    with pytest.raises(Unverified):
        listed(offices, EWA)


def test_entries_of_the_log_that_are_no_hold_of_the_own_office_are_not_taken_for_one(offices, held, monkeypatch):
    paris = held_by(offices, ZOE)[0].index
    for other in (paris, paris - 1, 0):

        def proofs(connection, _office, _after, _count, other=other):
            return [other]

        with monkeypatch.context() as patched:
            patched.setattr(relay_hold, "standing_entries", proofs)
            with pytest.raises(Unverified, match="is no hold of lo-warsaw"):
                listed(offices, EWA)


def test_words_that_cannot_stand_beside_each_other_are_not_shown(offices, held, monkeypatch):
    """The relay shows what is past: a word to lift what is not held, and the one by which it was lifted."""
    placed = held_by(offices, EWA)[0].index
    state(offices, Action.LIFT, held[0], [OLA])
    asked = about(offices, EWA, held[0]).waits.index
    state(offices, Action.LIFT, held[0], [EWA])
    for shown in ([asked], [placed, asked + 1]):

        def past(_connection, _office, after, _count, shown=shown):
            return [each for each in shown if each >= after]

        with monkeypatch.context() as patched:
            patched.setattr(relay_hold, "standing_entries", past)
            with pytest.raises(Unverified, match="or no other one"):
                listed(offices, EWA)


def test_a_message_that_was_held_before_is_held_once(offices, held, monkeypatch):
    before = held_by(offices, EWA)[-1]
    state(offices, Action.LIFT, held[1], (EWA, OLA))
    state(offices, Action.PLACE, held[1], (EWA, OLA))
    after = held_by(offices, EWA)[-1]
    assert (before.entry.message_id, before.index < after.index) == (held[1], True)
    monkeypatch.setattr(relay_hold, "standing_entries", lambda *_: [before.index, after.index])
    with pytest.raises(Unverified, match=f"entry {after.index} of the access log is no hold of lo-warsaw, or no other"):
        listed(offices, EWA)
    monkeypatch.undo()
