"""Legal hold: two officers of one office keep a message and its entries from the sweep, and two of them end that."""

from __future__ import annotations

import asyncio
import sqlite3
import time

import pytest

from acts import run
from forge import call
from liaison.audit.pull import AuditPull
from liaison.held import held_by_office, held_in_log
from liaison.holding import state_hold
from relay.core.retention import Sweep
from relay.protocol.canonical import encode
from relay.protocol.entry import Event
from relay.protocol.errors import Conflict, Unknown, Unverified
from relay.protocol.hold import HOLD, Action, Hold
from retained import (
    AUDITOR,
    DAY,
    EWA,
    JEAN,
    check,
    later,
    officers,
    on_both,
    rows_of,
    sent,
    sweep,
)
from simulator import lying


def test_a_hold_by_one_officer_does_nothing(emptied_offices):
    message_id, (ewa, *_) = sent(emptied_offices), officers(emptied_offices)
    assert not state_hold(ewa, Action.PLACE, message_id, "inquiry 7").counts
    with pytest.raises(Conflict, match="your word is there already"):
        state_hold(ewa, Action.PLACE, message_id, "inquiry 7")
    assert sweep(emptied_offices, 31.1).messages == 1
    assert rows_of(emptied_offices, message_id) == 0


def test_a_word_about_a_message_that_is_gone_waits_for_nothing(fresh_offices):
    """The auditor's list, which is the log's, says what the officers' does, which is the relay's."""
    message_id, (ewa, _ola, luc) = sent(fresh_offices), officers(fresh_offices)
    for officer in (ewa, luc):
        state_hold(officer, Action.PLACE, message_id, "inquiry 7")
    assert _waiting(fresh_offices, message_id) == {"lo-warsaw", "lo-paris"}
    assert sweep(fresh_offices, 31.1).messages == 1
    assert message_id not in {each.message_id for each in held_by_office(ewa, "lo-warsaw")}
    assert _waiting(fresh_offices, message_id) == set()


def _waiting(built, message_id):
    found = held_in_log(_pulled(built), built.clients[AUDITOR])
    return {each.office for each in found if each.message_id == message_id and each.waits is not None}


def test_what_is_no_entry_of_a_hold_is_the_relays_fault(emptied_offices):
    message_id, (ewa, *_) = sent(emptied_offices), officers(emptied_offices)
    with lying(ewa) as relay:
        relay.invent("POST", r"/holds$", lambda: encode([1]))
        with pytest.raises(Unverified):
            state_hold(ewa, Action.PLACE, message_id, "inquiry 7")


@on_both
def test_two_officers_of_one_office_hold_a_message_and_its_entries_until_two_of_them_lift_it(fresh_offices):
    message_id, (ewa, ola, luc) = sent(fresh_offices), officers(fresh_offices)
    other = sent(fresh_offices)
    assert run(ewa, "hold", "place", message_id.hex(), "--reason", "inquiry 7").exit_code == 0
    # Another office's word is not the second one.
    assert not state_hold(luc, Action.PLACE, message_id, "inquiry 7").counts
    assert "is held" in run(ola, "hold", "place", message_id.hex(), "--reason", "inquiry 7").output
    assert sweep(fresh_offices, 200)[0] == 1
    assert rows_of(fresh_offices, message_id)
    assert not rows_of(fresh_offices, other)
    told = [
        each.entry
        for each in _pulled(fresh_offices)
        if each.entry is not None and each.entry.event is Event.HOLD and each.entry.message_id == message_id
    ]
    assert [entry.detail for entry in told] == [
        "place 1 of 2: inquiry 7",
        "place 1 of 2: inquiry 7",
        "place 2 of 2: inquiry 7",
    ]
    assert not state_hold(ola, Action.LIFT, message_id, "closed").counts
    with pytest.raises(Conflict, match="no hold to lift"):
        state_hold(luc, Action.LIFT, message_id, "closed")
    assert sweep(fresh_offices, 200)[0] == 0
    assert state_hold(ewa, Action.LIFT, message_id, "closed").counts
    messages, entries = sweep(fresh_offices, 200)
    assert (messages, rows_of(fresh_offices, message_id)) == (1, 0)
    assert entries >= 4


def test_a_relay_that_destroys_what_is_held_is_found_by_its_check_and_by_the_auditors(fresh_offices):
    """Its operator takes the hold out of the database first."""
    message_id, (ewa, ola, _luc) = sent(fresh_offices), officers(fresh_offices)
    for officer in (ewa, ola):
        state_hold(officer, Action.PLACE, message_id, "inquiry 7")
    (held,) = held_in_log(_pulled(fresh_offices), fresh_offices.clients[AUDITOR])
    assert (held.message_id, held.office, held.waits) == (message_id, "lo-warsaw", None)
    with sqlite3.connect(fresh_offices.settings.data / "relay.sqlite", timeout=30) as connection:
        connection.execute("DELETE FROM hold")
    connection.close()
    assert sweep(fresh_offices, 40).messages == 1
    (fault,) = check(fresh_offices)
    assert fault.wrong == "expire: destroyed while lo-warsaw held it"
    with pytest.raises(Unverified, match="destroyed while lo-warsaw held it"):
        AuditPull(fresh_offices.clients[AUDITOR]).verify()


def _pulled(built):
    pull = AuditPull(built.clients[AUDITOR])
    pull.pull()
    return list(pull.entries())


def test_a_word_that_waits_lapses_with_the_officers_certificate(emptied_offices):
    message_id, (_ewa, ola, _luc) = sent(emptied_offices), officers(emptied_offices)
    iga = emptied_offices.device("iga.wit@lo-warsaw", clearances=[], roles=["security"])
    state_hold(iga, Action.PLACE, message_id, "inquiry 7")
    emptied_offices.authorities["lo-warsaw"].revoke("iga.wit@lo-warsaw", "left")
    assert not state_hold(ola, Action.PLACE, message_id, "inquiry 7").counts


def test_to_whoever_may_not_hold_it_there_is_no_such_message(emptied_offices):
    message_id = sent(emptied_offices)
    nils = emptied_offices.office("lo-oslo", "NOR") and emptied_offices.device("nils@lo-oslo", roles=["security"])
    for client, wanted in ((emptied_offices.clients[JEAN], message_id), (nils, message_id), (nils, bytes(16))):
        with pytest.raises(Unknown, match="no such message is available"):
            state_hold(client, Action.PLACE, wanted, "curious")


@pytest.mark.parametrize("wrong", ["signature", "time", "message"])
def test_a_statement_that_is_not_the_officers_own_for_this_message_now_is_refused(emptied_offices, wrong):
    message_id, (ewa, ola, _luc) = sent(emptied_offices), officers(emptied_offices)
    key, now = ewa.profile.signing, int(time.time())
    stated = Hold(
        Action.PLACE,
        bytes(16) if wrong == "message" else message_id,
        key.device_id,
        EWA,
        now - 3600 if wrong == "time" else now,
        "inquiry",
    )
    signer = ola.profile.signing if wrong == "signature" else key
    answer = call(ewa, "POST", f"/v1/messages/{message_id.hex()}/holds", signer.sign_object(HOLD, stated.payload()))
    assert answer.status_code == (422 if wrong == "signature" else 400)


@on_both
def test_a_hold_that_comes_between_finding_and_destroying_is_obeyed_and_one_after_finds_nothing(fresh_offices):
    held, lost, (ewa, ola, _luc) = sent(fresh_offices), sent(fresh_offices), officers(fresh_offices)
    look, judge = fresh_offices.relay._readers, fresh_offices.relay.judge()
    with look.connect() as connection:
        destroy = Sweep().next_job(connection, judge, int(time.time()) + 32 * DAY)
    for officer in (ewa, ola):
        state_hold(officer, Action.PLACE, held, "inquiry 7")
    with later(32):
        assert asyncio.run(fresh_offices.relay._writer.submit(lambda batch: destroy(batch, judge))) == (1, 0)
    assert rows_of(fresh_offices, held)
    with pytest.raises(Unknown):
        state_hold(ewa, Action.PLACE, lost, "too late")
