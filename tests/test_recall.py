"""Recall: what nobody has opened is gone, provably; what was opened is named, provably."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url, select

from acts import as_json, gets_nothing, run, screen, slots_of
from databases import BOTH, fresh_database
from forge import call, problem
from liaison import Client, Waiting
from liaison.evidence.collect import collect
from liaison.evidence.verify import verify_evidence
from liaison.recalling import recall, sign_recall
from liaison.trust import ACCESS
from octets import flipped
from relay.protocol.armor import armor
from relay.protocol.canonical import encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import Event, parse_access_entry
from relay.protocol.errors import Malformed, Unauthenticated, Unavailable, Unknown, Unverified
from relay.protocol.identity import Kind
from relay.protocol.parts import MAX_INLINE
from relay.protocol.recall import RECALL, Recall, Recalled, parse_recalled, recall_detail, verify_recalled
from relay.store.engine import open_writer
from relay.store.log import Log
from relay.store.migrate import upgrade
from relay.store.schema import part, slot
from simulator import Forger, LyingRelay, altered, double, lying
from world import PASSPHRASE, clearance, world

LABEL = "TEST CLOSED RELEASABLE TO FRA, POL"
PETIT, BAS = "jean.petit@lo-paris", "luc.bas@lo-paris"


@pytest.fixture(scope="module", params=BOTH)
def setting(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("recall")
    with fresh_database(request.param, folder / "database") as url:
        engine = open_writer(url)
        upgrade(engine, "relay-test")
        engine.dispose()
        yield from peopled(folder, url)


def peopled(folder, url):
    with world(folder, database=url) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        pol, fra = [clearance(nations=["POL"])], [clearance(nations=["FRA"])]
        built.device("anna.nowak@lo-warsaw", clearances=pol)
        built.device("jan.lis@lo-warsaw", clearances=pol)
        built.device("ewa.sowa@lo-warsaw", clearances=pol, roles=["security"])
        built.device("feed@lo-warsaw", clearances=pol, kind=Kind.SYSTEM)
        built.device(PETIT, clearances=fra, roles=["security"])
        built.device(BAS, clearances=fra)
        built.device("audit@lo-warsaw", kind=Kind.AUDITOR, clearances=[])
        yield built


@pytest.fixture
def people(setting):
    return [setting.clients[name] for name in ("anna.nowak@lo-warsaw", PETIT, BAS)]


def sent(anna, *to: str) -> bytes:
    return anna.send(list(to), label=LABEL, body="Meet at nine.\n").message_id


def last_entries(setting, message_id: bytes) -> list:
    entries = [parse_access_entry(each) for each in Forger(setting).entries(Log.ACCESS)]
    return [entry for entry in entries if entry.message_id == message_id]


def test_a_recall_destroys_what_is_unread_and_names_who_has_opened(setting, people):
    anna, jean, luc = people
    message_id = sent(anna, PETIT, BAS)
    jean.read(message_id)
    taken = recall(anna, message_id, "Wrong annex", spill=False)
    states = {state.device_id: (state.opened, opened) for state, opened in taken.states}
    index, opened = states[jean.profile.signing.device_id]
    assert (opened.event, opened.address, opened.message_id) == (Event.OPEN, PETIT, message_id)
    assert parse_access_entry(Forger(setting).entries(Log.ACCESS)[index]) == opened
    assert states[luc.profile.signing.device_id] == (None, None)
    assert gets_nothing(luc, message_id)


def test_after_a_recall_no_slot_is_stored_and_a_device_that_had_opened_is_given_it_no_more(setting, people):
    anna, jean, _luc = people
    message_id = sent(anna, PETIT, BAS)
    jean.read(message_id)
    recall(anna, message_id, "Wrong annex", spill=False)
    with setting.relay._readers.connect() as connection:
        assert set(connection.scalars(select(slot.c.encoded).where(slot.c.message_id == message_id))) == {None}
    again = call(jean, "POST", f"/v1/messages/{message_id.hex()}/open")
    assert (again.status_code, problem(again)["detail"]) == (404, "no such message is available to this device")
    # what it opened it may finish reading
    assert call(jean, "GET", f"/v1/messages/{message_id.hex()}/parts/0").status_code == 200


def test_what_still_waits_is_taken_back_without_being_posted(setting, people):
    anna, _jean, luc = people
    message_id = waits(anna, lost=False)
    result = run(anna, "recall", message_id.hex()[:12], "--reason", "Wrong annex", "--yes", "--json")
    assert json.loads(result.stdout) == {"v": 1, "message_id": message_id.hex(), "state": "withdrawn"}
    assert anna.profile.cabinet.outbox() == []
    anna.sync()
    assert {entry.event for entry in last_entries(setting, message_id)} == {Event.DENY}
    assert gets_nothing(luc, message_id)


def test_what_waits_for_a_receipt_that_was_lost_is_recalled_with_proof(setting, people):
    anna, _jean, luc = people
    message_id = waits(anna, lost=True)
    row = as_json(anna, "recall", message_id.hex(), "--reason", "Wrong annex", "--yes")
    assert (row["address"], row["state"]) == (BAS, "destroyed unread")
    assert anna.profile.cabinet.outbox() == []
    assert gets_nothing(luc, message_id)


@pytest.mark.parametrize("together", [False, True], ids=["a spill", "with another officer"])
def test_what_waits_is_not_posted_by_a_recall_that_the_relay_may_have_denied(setting, people, tmp_path, together):
    anna, _jean, luc = people
    message_id = waits(anna, lost=False)
    words = ["recall", message_id.hex()[:12], "--reason", "Wrong annex", "--yes"]
    words += with_another(luc, message_id, tmp_path) if together else ["--spill"]
    result = run(anna, *words)
    assert result.exit_code == 1
    assert "it still waits here, and goes with your next command" in result.stderr
    assert anna.profile.cabinet.waits(message_id)
    assert {entry.event for entry in last_entries(setting, message_id)} == {Event.DENY}
    withdrawn = as_json(anna, "recall", message_id.hex(), "--reason", "Wrong annex", "--yes")
    assert withdrawn == {"v": 1, "message_id": message_id.hex(), "state": "withdrawn"}


def with_another(client, message_id, folder) -> list[str]:
    """The options of a recall that this person signs too, of an office that has no say."""
    signed = folder / "signed"
    signed.write_text(armor(sign_recall(client, message_id, "Wrong annex", spill=False), "RECALL"))
    return ["--with", str(signed)]


def test_a_spill_of_a_security_officers_own_message_that_waits_is_withdrawn(setting, people):
    ewa, luc = setting.clients["ewa.sowa@lo-warsaw"], people[2]
    message_id = waits(ewa, lost=False)
    assert recall(ewa, message_id, "Wrong annex", spill=True) is None
    ewa.sync()
    assert gets_nothing(luc, message_id)


def test_the_beginning_of_an_id_that_several_have_posts_none_of_them(setting, people):
    anna = people[0]
    ids = waits(anna, lost=False), waits(anna, lost=False)
    prefix = ids[0].hex()[:4]  # of its time
    refused = run(anna, "recall", prefix, "--reason", "Wrong annex", "--yes")
    assert (refused.exit_code, f"messages begin with {prefix}" in refused.stderr) == (1, True)
    assert all(map(anna.profile.cabinet.waits, ids))
    anna.sync()


class Follower(threading.Thread):
    """Another process of this profile: it posts what waits, and `relay`, where something is put into its way."""

    def __init__(self, client):
        super().__init__()
        self.folder, self.relay, self.told = client.profile.folder, LyingRelay(None), []

    def run(self):
        with Client.open(self.folder, passphrase=PASSPHRASE) as own:
            self.relay.honest, own.transport, own.tell = own.transport, self.relay, self.told.append
            own.sync()


def test_what_is_taken_back_between_two_postings_of_another_process_is_posted_by_none(people):
    anna, _jean, luc = people
    first, second = waits(anna, lost=False), waits(anna, lost=False)
    with Client.open(anna.profile.folder, passphrase=PASSPHRASE) as follower:
        follower.tell = lambda line: first.hex() in line and recall(anna, second, "Wrong annex", spill=False)
        follower.sync()
    assert luc.read(first).portions[0].text == "Meet at nine.\n"
    assert gets_nothing(luc, second)


def test_what_is_taken_back_while_another_process_uploads_its_attachment_is_posted_by_none(people, tmp_path):
    anna, _jean, luc = people
    (tmp_path / "large").write_bytes(os.urandom(MAX_INLINE))
    message_id = waits(anna, lost=False, attachments=[tmp_path / "large"])
    uploading, taken, follower = threading.Event(), threading.Event(), Follower(anna)

    def slow(answer):
        uploading.set()
        taken.wait(20)
        return answer

    follower.relay.lie("POST", "^/v1/parts", slow)
    follower.start()
    uploading.wait(20)
    assert recall(anna, message_id, "Wrong annex", spill=False) is None
    taken.set()
    follower.join(20)
    (told,) = follower.told
    assert "will not be posted again: another process of this profile has taken it back" in told
    assert gets_nothing(luc, message_id)


def test_a_recall_waits_for_the_posting_that_is_under_way_and_is_proven(people):
    anna, _jean, luc = people
    message_id = waits(anna, lost=False)
    posting, answered, follower = threading.Event(), threading.Event(), Follower(anna)

    def slowly(honest, **_query):
        posting.set()
        answered.wait(1)
        return honest()

    follower.relay.lies.append(("POST", re.compile("^/v1/messages$"), slowly))
    follower.start()
    posting.wait(20)
    taken = recall(anna, message_id, "Wrong annex", spill=False)
    answered.set()
    follower.join(20)
    assert [state.opened for state, _opened in taken.states] == [None]
    assert gets_nothing(luc, message_id)


def waits(anna, *, lost: bool, **more) -> bytes:
    """A message in the outbox, to Luc; with `lost` the relay has it too."""

    def unreachable(*_answer):
        raise Unavailable("cut off")

    with lying(anna) as relay:
        (relay.lie if lost else relay.invent)("POST", r"^/v1/messages$", unreachable)
        with pytest.raises(Waiting) as told:
            anna.send([BAS], label=LABEL, body="Meet at nine.\n", **more)
    return told.value.sent.message_id


def test_who_had_opened_it_still_proves_that_and_nobody_else_does(setting, people):
    anna, jean, luc = people
    message_id = sent(anna, PETIT, BAS)
    jean.read(message_id)
    recall(anna, message_id, "Wrong annex", spill=False)
    shown = verify_evidence(collect(jean, message_id))
    assert [entry.event for _index, entry in shown.entries] == [Event.ACCEPT, Event.OPEN, Event.ACKNOWLEDGE]
    assert shown.shown_by == "reader"
    for what in ("evidence", "receipts"):
        assert call(luc, "GET", f"/v1/messages/{message_id.hex()}/{what}").status_code == 404


def test_a_spill_stops_part_downloads_too(setting, people):
    anna, jean, _luc = people
    message_id = sent(anna, PETIT)
    jean.read(message_id)
    recall(setting.clients["ewa.sowa@lo-warsaw"], message_id, "Codeword in the clear", spill=True)
    assert call(jean, "GET", f"/v1/messages/{message_id.hex()}/parts/0").status_code == 404
    with setting.relay._readers.connect() as connection:
        assert connection.scalars(select(part.c.idx).where(part.c.message_id == message_id)).all() == []


def test_the_reader_is_told_nothing_and_the_auditor_why(setting, people):
    anna, _jean, luc = people
    recalled, spilled, absent = sent(anna, BAS), sent(anna, BAS), os.urandom(16)
    recall(anna, recalled, "Wrong annex", spill=False)
    recall(setting.clients["ewa.sowa@lo-warsaw"], spilled, "Codeword in the clear", spill=True)
    answers = [call(luc, "POST", f"/v1/messages/{each.hex()}/open") for each in (recalled, spilled, absent)]
    assert len({(each.status_code, each.content) for each in answers}) == 1
    for message_id, rule in ((recalled, "recalled"), (spilled, "spill")):
        denied = [entry for entry in last_entries(setting, message_id) if entry.event is Event.DENY]
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
def test_who_may_take_a_message_back(setting, people, who, spill, allowed):
    anna, _jean, luc = people
    message_id, asker = sent(anna, BAS), setting.clients[who]
    if allowed:
        recall(asker, message_id, "Because", spill=spill)
        assert gets_nothing(luc, message_id)
        return
    with pytest.raises(Unknown, match="no such message is available"):
        recall(asker, message_id, "Because", spill=spill)
    assert [entry.rules for entry in last_entries(setting, message_id)][-1] == ("recall",)
    luc.read(message_id)


def test_two_officers_together_stop_a_spill(setting, people):
    anna, _jean, luc = people
    jan, message_id = setting.clients["jan.lis@lo-warsaw"], sent(anna, BAS)
    beside = sign_recall(anna, message_id, "Codeword in the clear", spill=True)
    recall(jan, message_id, "Codeword in the clear", spill=True, beside=[beside])
    assert gets_nothing(luc, message_id)


def test_two_signatures_of_one_person_are_one_person(setting, people):
    anna, _jean, luc = people
    message_id = sent(anna, BAS)
    beside = sign_recall(anna, message_id, "Twice", spill=True)
    with pytest.raises(Malformed, match="one of each signer"):
        recall(anna, message_id, "Twice", spill=True, beside=[beside])
    jan, less = setting.clients["jan.lis@lo-warsaw"], sign_recall(anna, message_id, "x", spill=False)
    with pytest.raises(Malformed, match="one of each signer"):  # the other signature is for less than is asked
        recall(jan, message_id, "x", spill=True, beside=[less])
    luc.read(message_id)


def test_a_recall_that_is_old_or_for_another_message_or_signed_by_another_is_refused(setting, people):
    anna, _jean, luc = people
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


def test_the_same_recall_again_has_the_answer_of_the_first_and_another_one_is_logged(setting, people):
    anna, _jean, _luc = people
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
    recalls = [entry for entry in last_entries(setting, message_id) if entry.event is Event.RECALL]
    assert [entry.detail.split(" ", 2)[2] for entry in recalls] == ["Once", "Twice"]


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
def test_a_relay_that_lies_about_a_recall_is_caught(setting, people, lie, tmp_path):
    anna, jean, _luc = people
    message_id = sent(anna, PETIT, BAS)
    jean.read(message_id)
    with double(anna, tmp_path / "anna") as twin, lying(twin) as relay:
        relay.lie("POST", r"/recall$", lambda answer: LIES[lie](parse_recalled(answer)).encoded())
        with pytest.raises(Unverified):
            recall(twin, message_id, "Wrong annex", spill=False)


def test_a_relay_that_logs_a_false_state_is_caught_by_the_recall_that_it_signed(setting, people, tmp_path):
    """The operator hides an opening, in an entry and a log that are correctly signed: the answer contradicts itself."""
    anna, jean, _luc = people
    message_id = sent(anna, PETIT)
    jean.read(message_id)
    forger = Forger(setting)

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
def test_what_the_relay_logs_and_answers_alike_is_held_against_the_acceptance_and_the_order(setting, people, lie):
    anna, jean, _luc = people
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


@pytest.mark.parametrize("setting", ["sqlite"], indirect=True)  # on PostgreSQL it is a matter of VACUUM: SPEC.md
def test_a_copy_of_the_database_made_after_the_recall_holds_no_slot(setting, people, tmp_path):
    anna, _jean, _luc = people
    message_id = sent(anna, BAS)
    (slot,) = slots_of(setting, message_id).values()
    sealed = slot.enc + slot.wrapped
    # The row that stays is written over a part of the erased one: so all of that has to be gone, not only one place.
    pieces = [sealed[at : at + 16] for at in range(0, len(sealed) - 15, 16)]
    kept, database = tmp_path / "before.sqlite", Path(make_url(setting.settings.database_url).database)
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


def test_a_recall_and_openings_in_one_commit_agree_on_who_was_first(setting, people):
    """The keys that left before it are named, and none leave after it, also within one transaction."""
    anna, jean, luc = people
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


def test_the_command_prints_one_state_a_device_and_asks_first(setting, people, tmp_path):
    anna, jean, luc = people
    message_id = sent(anna, PETIT, BAS)
    jean.read(message_id)
    refused = run(anna, "recall", message_id.hex(), "--reason", "Wrong annex")
    assert refused.exit_code == 3
    lines = [
        json.loads(each) for each in screen(anna, "recall", message_id.hex()[:12], "--reason", "x", "--yes", "--json")
    ]
    assert {(each["address"], each["state"]) for each in lines} == {(PETIT, "opened"), (BAS, "destroyed unread")}
    spilled, file = sent(anna, BAS), tmp_path / "anna.recall"
    jan = setting.clients["jan.lis@lo-warsaw"]
    signed = as_json(anna, "recall", spilled.hex(), "--spill", "--reason", "y", "--sign-only", str(file))
    assert signed == {"v": 1, "message_id": spilled.hex(), "signed": str(file)}
    row = as_json(jan, "recall", spilled.hex(), "--spill", "--reason", "y", "--with", str(file), "--yes")
    assert (row["address"], row["state"], row["opened"]) == (BAS, "destroyed unread", None)
    assert gets_nothing(luc, spilled)


def test_a_revoked_originator_recalls_nothing(setting):
    lost = setting.device("lost@lo-warsaw", clearances=[clearance(nations=["POL"])])
    message_id = sent(lost, BAS)
    setting.authorities["lo-warsaw"].revoke("lost@lo-warsaw", "lost")
    with pytest.raises(Unauthenticated):
        recall(lost, message_id, "x", spill=False)
