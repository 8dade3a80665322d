"""A hold or a recall in the log that nobody ordered: its entry has the signed words, and they do not bear it out."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest

from acts import as_json, run
from liaison.audit.warranted import Warrants
from liaison.holding import state_hold
from liaison.keys import SigningKey
from liaison.recalling import recall
from relay.house import commit_alone
from relay.protocol.approval import APPROVAL, APPROVERS, Approval, Approvers, Matter
from relay.protocol.cose import parse_sign1
from relay.protocol.directory import Directory
from relay.protocol.entry import AccessEntry, Change, Event, parse_access_entry
from relay.protocol.errors import Malformed, Unverified
from relay.protocol.hold import HOLD, Action, Hold
from relay.protocol.identity import Kind
from relay.protocol.recall import RECALL, Recall
from relay.protocol.warrant import judge_recall, verify_warrant
from relay.store.log import Log
from simulator import Forger
from test_directory import NOW, PARIS, WARSAW, batch, certificate, entry, office, redated, revocation
from world import clearance, world

EWA, OLA, JAN, ANNA, LUC = (SigningKey.generate() for _ in range(5))
NAMES = {
    EWA: "ewa@lo-warsaw", OLA: "ola@lo-warsaw", JAN: "jan@lo-warsaw", ANNA: "anna@lo-warsaw", LUC: "luc@lo-paris",
}  # fmt: skip
MESSAGE, OTHER = bytes(range(16)), bytes(16)


@pytest.fixture(scope="module")
def directory():
    made = Directory()
    made.apply(office(WARSAW, "lo-warsaw"))
    made.apply(office(PARIS, "lo-paris", "FRA"))
    for key in (EWA, OLA, JAN):
        made.apply(certificate(WARSAW, key, NAMES[key], roles=("security",)))
    made.apply(certificate(WARSAW, ANNA, NAMES[ANNA]))
    made.apply(certificate(PARIS, LUC, NAMES[LUC], roles=("security",)))
    return made


@pytest.fixture(scope="module")
def governed():
    """The same, where Warsaw has named Ewa, Ola and Jan: two of them approve a hold."""
    made = Directory()
    made.apply(office(WARSAW, "lo-warsaw"))
    for key in (EWA, OLA, JAN):
        made.apply(certificate(WARSAW, key, NAMES[key], roles=("security",)))
    people = tuple(sorted((NAMES[key], key.device_id) for key in (EWA, OLA, JAN)))
    listed = Approvers("lo-warsaw", 1, ((Matter.HOLD, 2),), people, NOW)
    made.apply(entry(Change.APPROVERS, WARSAW.sign_object(APPROVERS, listed.payload())))
    return made


def word(key, action=Action.PLACE, message_id=MESSAGE, reason="inquiry 7", **stated):
    said = Hold(action, message_id, key.device_id, NAMES[key], NOW, reason)
    return key.sign_object(HOLD, replace(said, **stated).payload())


def held(by, detail, *warrant, **fields):
    made = AccessEntry(
        event=Event.HOLD, time=NOW * 1000, salt=bytes(16), device_id=by.device_id, address=NAMES[by],
        office=NAMES[by].partition("@")[2], message_id=MESSAGE, message_ref=bytes(32), detail=detail, warrant=warrant,
    )  # fmt: skip
    return replace(made, **fields)


def approval(key, of, **stated):
    said = Approval(Matter.HOLD, parse_sign1(of, HOLD).ref, key.device_id, NAMES[key], NOW)
    return key.sign_object(APPROVAL, replace(said, **stated).payload())


def approved(said):
    return said, approval(EWA, said), approval(JAN, said)


def taken_back(by, *warrant, kind="recall", reason="Wrong annex"):
    return held(by, f"{kind} {'0' * 64} {reason}", *warrant, event=Event.RECALL)


def order(key, *, message_id=MESSAGE, spill=False, reason="Wrong annex", at=NOW):
    return key.sign_object(RECALL, Recall(message_id, key.device_id, spill, reason, at).payload())


FIRST, SECOND = "place 1 of 2: inquiry 7", "place 2 of 2: inquiry 7"
BORNE_OUT = {
    "a first word": held(EWA, FIRST, word(EWA)),
    "a second": held(OLA, SECOND, word(OLA), word(EWA)),
    "a lift that destroyed": held(
        OLA, "lift 2 of 2 destroyed: inquiry 7", word(OLA, Action.LIFT), word(EWA, Action.LIFT)
    ),
    "a recall": taken_back(ANNA, order(ANNA)),
    "a recall by a security officer": taken_back(EWA, order(EWA)),
    "a spill by two": taken_back(ANNA, order(ANNA, spill=True), order(OLA, spill=True), kind="spill-held"),
}
NOT_BORNE_OUT = {
    "one word counted twice": held(EWA, SECOND, word(EWA)),
    "one officer's two words": held(EWA, SECOND, word(EWA), word(EWA, reason="other")),
    "two words counted as one": held(OLA, FIRST, word(OLA), word(EWA)),
    "three words": held(OLA, SECOND, word(OLA), word(EWA), word(JAN)),
    "a word for another message": held(EWA, FIRST, word(EWA, message_id=OTHER)),
    "a second word for another message": held(OLA, SECOND, word(OLA), word(EWA, message_id=OTHER)),
    "a word to lift, logged as to place": held(EWA, FIRST, word(EWA, Action.LIFT)),
    "a second word to lift": held(OLA, SECOND, word(OLA), word(EWA, Action.LIFT)),
    "another reason": held(EWA, FIRST, word(EWA, reason="inquiry 8")),
    "somebody else's word": held(EWA, FIRST, word(OLA)),
    "a word in another's name": held(EWA, FIRST, word(OLA, device_id=EWA.device_id, address=NAMES[EWA])),
    "a second word in another's name": held(OLA, SECOND, word(OLA), word(JAN, address=NAMES[EWA])),
    "one who is no security officer": held(ANNA, FIRST, word(ANNA)),
    "a second who is none": held(OLA, SECOND, word(OLA), word(ANNA)),
    "a second of another office": held(OLA, SECOND, word(OLA), word(LUC)),
    "an office that is not the officer's": held(EWA, FIRST, word(EWA), office="lo-paris"),
    "a detail that orders nothing": held(EWA, "destroy 1 of 2: inquiry 7", word(EWA)),
    "a recall in the place of a word": held(EWA, FIRST, order(EWA)),
    "a word of an hour ago": held(EWA, FIRST, word(EWA, at=NOW - 3600)),
    "a word of the next hour": held(EWA, FIRST, word(EWA, at=NOW + 3600)),
    "no word but an approval": held(EWA, FIRST, approval(OLA, word(EWA))),
    "a recall by another": taken_back(ANNA, order(EWA)),
    "a recall of another message": taken_back(ANNA, order(ANNA, message_id=OTHER)),
    "a recall logged as a spill": taken_back(EWA, order(EWA), kind="spill"),
    "a recall for another reason": taken_back(ANNA, order(ANNA, reason="Spite")),
    "a recall of two days ago": taken_back(ANNA, order(ANNA, at=NOW - 2 * 86400)),
    "a spill with another office beside it": taken_back(
        EWA, order(EWA, spill=True), order(LUC, spill=True), kind="spill"
    ),
    "a spill by one officer": taken_back(ANNA, order(ANNA, spill=True), kind="spill"),
    "a spill by two devices of nobody else": taken_back(ANNA, order(ANNA, spill=True), order(LUC, spill=True), kind="spill"),
}  # fmt: skip


@pytest.mark.parametrize("ordered", BORNE_OUT.values(), ids=BORNE_OUT)
def test_what_was_ordered_is_borne_out(directory, ordered):
    verify_warrant(parse_access_entry(ordered.encoded()), directory)


@pytest.mark.parametrize("claimed", NOT_BORNE_OUT.values(), ids=NOT_BORNE_OUT)
def test_what_was_not_ordered_is_not(directory, claimed):
    with pytest.raises(Unverified):
        verify_warrant(claimed, directory)


def test_a_word_with_one_changed_octet_is_nobodys(directory):
    good = word(EWA)
    for at in (len(good) // 2, len(good) - 1):
        with pytest.raises(Unverified):
            verify_warrant(held(EWA, FIRST, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]), directory)


def test_an_office_that_has_named_approvers_holds_nothing_without_them(governed):
    said, third = word(OLA), "place 3 of 3: inquiry 7"
    both = approval(EWA, said), approval(JAN, said)
    verify_warrant(held(OLA, third, said, *both), governed)
    for claimed in (
        held(OLA, third, said, both[0]),
        held(OLA, third, *approved(word(OLA, at=NOW - 8 * 86400))),
        held(OLA, third, said, both[0], both[0]),
        held(OLA, third, said, both[0], approval(OLA, said)),
        held(OLA, third, said, both[0], approval(JAN, word(OLA, reason="other"))),
        held(OLA, third, said, both[0], approval(JAN, said, at=NOW - 8 * 86400)),
        held(OLA, SECOND, said, word(EWA)),
        held(OLA, "place 2 of 3: inquiry 7", said, *both),
    ):
        with pytest.raises(Unverified):
            verify_warrant(claimed, governed)


def test_a_word_counts_as_its_officer_stood_when_it_was_logged():
    made = Directory()
    made.apply(office(WARSAW, "lo-warsaw"))
    made.apply(certificate(WARSAW, EWA, NAMES[EWA], roles=("security",)))
    verify_warrant(held(EWA, FIRST, word(EWA)), made)
    made.apply(revocation(WARSAW, EWA, NAMES[EWA]))
    with pytest.raises(Unverified, match="not valid then"):
        verify_warrant(held(EWA, FIRST, word(EWA)), made)


def test_a_recall_is_its_originators_or_a_security_officers(directory):
    judge_recall(taken_back(ANNA, order(ANNA)), NAMES[ANNA], directory)
    judge_recall(taken_back(EWA, order(EWA)), NAMES[ANNA], directory)
    for claimed, sender in ((taken_back(ANNA, order(ANNA)), NAMES[OLA]), (taken_back(LUC, order(LUC)), NAMES[ANNA])):
        with pytest.raises(Unverified, match="nobody who may"):
            judge_recall(claimed, sender, directory)


def judged(made, *logged):
    """What a walk over these entries says, where the directory log is this."""
    walk = Warrants(lambda start: iter(made[start:]))
    for index, each in enumerate(logged):
        walk.take(index, each)
    return walk.fault


OFFICERS = [
    office(WARSAW, "lo-warsaw"),
    *(certificate(WARSAW, key, NAMES[key], roles=("security",)) for key in (EWA, OLA)),
]


def test_a_word_that_was_logged_before_orders_nothing_a_second_time():
    first, again = held(EWA, FIRST, word(EWA)), held(EWA, FIRST, word(EWA), salt=b"2" * 16)
    assert judged(OFFICERS, first, held(OLA, SECOND, word(OLA), word(EWA))) is None
    assert judged(OFFICERS, first, again) == "entry 1 of the access log is not borne out: its warrant was used before"
    assert "used before" in judged(OFFICERS, taken_back(EWA, order(EWA)), taken_back(EWA, order(EWA)))


@pytest.mark.parametrize(("seconds", "is_right"), [(0, True), (30, True), (90, False)])
def test_a_revocation_counts_for_what_is_dated_after_it_by_more_than_clocks_differ(seconds, is_right):
    logged = held(EWA, FIRST, word(EWA), time=(NOW + seconds) * 1000)
    assert (judged([*OFFICERS, revocation(WARSAW, EWA, NAMES[EWA])], logged) is None) is is_right


def test_an_entry_that_is_dated_ahead_hides_no_revocation_behind_it():
    logged, ahead = held(EWA, FIRST, word(EWA), time=(NOW + 90) * 1000), redated(batch(OLA.device_id), 60_000)
    assert "not valid then" in judged([*OFFICERS, ahead, revocation(WARSAW, EWA, NAMES[EWA])], logged)


@pytest.mark.parametrize(
    "changed",
    [{"warrant": ()}, {"warrant": (b"",) * 10}, {"event": Event.OPEN}],
    ids=["a hold without a warrant", "more words than there can be", "an opening with one"],
)
def test_an_entry_has_a_warrant_where_it_takes_one_and_nowhere_else(changed):
    with pytest.raises(Malformed):
        parse_access_entry(replace(held(EWA, FIRST, word(EWA)), **changed).encoded())


# -- a relay and its auditor -----------------------------------------------------------------------------------------

SENDER, READER, SAFE, SURE = "anna.nowak@lo-warsaw", "piotr.lis@lo-warsaw", "ewa.lis@lo-warsaw", "ola.zak@lo-warsaw"


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    with world(tmp_path_factory.mktemp("warrants")) as built:
        built.office("lo-warsaw", "POL")
        for address in (SENDER, READER):
            built.device(address, clearances=[clearance(nations=["POL"])])
        for address in (SAFE, SURE):
            built.device(address, clearances=[], roles=["security"])
        yield built


def entries(built, event):
    found = (parse_access_entry(each) for each in Forger(built).entries(Log.ACCESS))
    return [each for each in found if each.event is event]


def sent(built):
    return built.clients[SENDER].send([READER], label="TEST OPEN", body="Ferry at dawn.").message_id


def test_the_words_of_holds_and_recalls_stand_in_the_log_and_an_auditor_has_verified_them(offices):
    auditor, message_id = offices.device("audit@lo-warsaw", clearances=[], kind=Kind.AUDITOR), sent(offices)
    for action in Action:
        for officer in (SAFE, SURE):
            state_hold(offices.clients[officer], action, message_id, "inquiry 7")
    recall(offices.clients[SENDER], message_id, "Wrong annex", spill=False)
    assert [len(each.warrant) for each in entries(offices, Event.HOLD)] == [1, 2, 1, 2]
    assert [len(each.warrant) for each in entries(offices, Event.RECALL)] == [1]
    assert as_json(auditor, "audit", "verify")["entries"] > 0
    assert as_json(auditor, "audit", "exposure", message_id.hex())["recalls"][0]["by"] == SENDER


def test_a_hold_that_the_relay_made_up_is_found_and_located(offices):
    """By one who has followed the log, and by one who reads it for the first time."""
    follower = offices.device("follower@lo-warsaw", clearances=[], kind=Kind.AUDITOR)
    newcomer = offices.device("newcomer@lo-warsaw", clearances=[], kind=Kind.AUDITOR)
    message_id, logged = sent(offices), list[int]()
    state_hold(offices.clients[SAFE], Action.PLACE, message_id, "inquiry 9")
    before = as_json(follower, "audit", "verify")["entries"]
    first = entries(offices, Event.HOLD)[-1]
    second = replace(first, time=int(time.time() * 1000), salt=os.urandom(16), detail="place 2 of 2: inquiry 9")

    def make_up(batch):
        logged.append(batch.log(second))
        return lambda _committed: None

    commit_alone(offices.settings, make_up)
    assert logged[0] >= before
    for auditor, command in ((follower, "pull"), (newcomer, "verify")):
        told = run(auditor, "audit", command)
        assert told.exit_code == 5, told.output
        found = (
            f"entry {logged[0]} of the access log is not borne out: hold: logged as word 2 of 2, and signed as 1 of 2"
        )
        assert found in " ".join(told.output.split())
        assert run(auditor, "audit", command).exit_code == 5  # the alarm stays
