"""The decision is taken in four places, and any one of them is enough to keep a message from the wrong reader.

Four readers are not entitled, each for another reason. For each, every combination of the four places is switched
off in which at least one of them stays on, and the reader must get nothing: no slot, no plaintext, nothing kept.
The last tests are about entitlements that end after the message was accepted, where the first two places have
spoken already.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import combinations

import pytest
from sqlalchemy import select

import liaison.plan
import relay.core.accept
import relay.core.open
from liaison.incoming import Incoming
from liaison.release import Grant, Verdict
from relay.protocol.access import Judge
from relay.protocol.errors import Conflict, LiaisonError, Refused, Unauthenticated, Unknown
from relay.store.schema import slot
from world import clearance, world

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-paris"
SECRET = "Ferry at dawn."
LABEL = "TEST SEALED RELEASABLE TO FRA, POL"
SENDER, ACCEPT, OPEN, READER = PLACES = ("sender", "accept", "open", "reader")
SOME_OFF = [off for count in (1, 2, 3) for off in combinations(PLACES, count)]


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    with world(tmp_path_factory.mktemp("four-places")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA"), ("lo-oslo", "NOR")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        full = [clearance(nations=["POL", "FRA"])]
        built.device(ANNA, clearances=full)
        built.device(JEAN, clearances=full)
        built.device("luc.bas@lo-paris", clearances=[clearance(levels=["OPEN"], nations=["FRA"])])
        built.device("marc.roy@lo-paris", clearances=full)
        built.device("zoe.ney@lo-paris", clearances=full)
        built.device("olav.moe@lo-oslo", clearances=full)
        built.authorities["lo-paris"].revoke("zoe.ney@lo-paris", "lost")
        for client in built.clients.values():
            with suppress(Unauthenticated):
                client.sync()
        yield built


@dataclass(frozen=True)
class Reader:
    address: str
    addressed: bool = True


UNENTITLED = {
    "not cleared": Reader("luc.bas@lo-paris"),
    "not addressed": Reader("marc.roy@lo-paris", addressed=False),
    "revoked": Reader("zoe.ney@lo-paris"),
    "of an office without an agreement": Reader("olav.moe@lo-oslo"),
}


def switch_off(place, patch, reader):
    """Make one place say yes to everything. At the sender, that includes finding the reader's device at all."""
    if place == SENDER:
        honest, device_id = liaison.plan.review, reader.profile.signing.device_id

        def everyone(judge, trust, circle, labels, now):
            device = trust.directory.devices[device_id]
            every = tuple(range(len(labels)))
            verdicts = honest(judge, trust, circle, labels, now)
            mine = [verdict.addressee for verdict in verdicts if verdict.addressee.address == device.address]
            others = [verdict for verdict in verdicts if verdict.addressee not in mine]
            addressee = mine[0] if mine else others[0].addressee
            return [*others, Verdict(addressee, (Grant(device, every),), ())]

        patch.setattr(liaison.plan, "review", everyone)
    elif place == ACCEPT:
        patch.setattr(relay.core.accept, "_failing", lambda *_, **__: ())
    elif place == OPEN:
        patch.setattr(relay.core.open, "failing", lambda *_: ())
    else:
        patch.setattr(Incoming, "_decide", lambda *_: None)


def send(offices, *to):
    """The id of what was sealed, accepted or not. Jean is entitled and always addressed: there is something to steal."""
    anna = offices.clients[ANNA]
    with suppress(Refused, Conflict):
        anna.send([JEAN, *to], label=LABEL, body=SECRET)
    return list(anna.records())[-1][0]


def has_slot(offices, message_id, client):
    wanted = select(slot.c.id).where(
        slot.c.message_id == message_id, slot.c.device_id == client.profile.signing.device_id
    )
    with offices.relay._readers.connect() as connection:
        return connection.scalar(wanted) is not None


def assert_has_nothing(offices, address, message_id):
    """Neither with nor without bringing the directory up to date first does this reader get to the message."""
    client, opened = offices.clients[address], []
    for attempt in (
        lambda: opened.append(client.read(message_id)),
        lambda: client._incoming().open(message_id, int(time.time()), opened.append),
    ):
        with suppress(LiaisonError):
            attempt()
    assert opened == []
    assert list(client.records()) == []
    folder = b"".join(file.read_bytes() for file in client.profile.folder.iterdir() if file.is_file())
    assert SECRET.encode() not in folder


@pytest.mark.parametrize("why", UNENTITLED)
@pytest.mark.parametrize("off", SOME_OFF, ids="+".join)
def test_one_place_that_is_on_is_enough(offices, monkeypatch, off, why):
    reader = UNENTITLED[why]
    for place in off:
        switch_off(place, monkeypatch, offices.clients[reader.address])
    sent = send(offices, *([reader.address] if reader.addressed else []))
    if {SENDER, ACCEPT} <= set(off) and why in {"not cleared", "not addressed"}:
        assert has_slot(offices, sent, offices.clients[reader.address])  # the last places have something to decide
    assert_has_nothing(offices, reader.address, sent)


def test_with_all_four_off_the_reader_who_is_not_cleared_gets_it(offices, monkeypatch):
    """So that the test above fails when it should: the switches switch, and nothing else is in the way."""
    luc = offices.clients["luc.bas@lo-paris"]
    for place in PLACES:
        switch_off(place, monkeypatch, luc)
    sent = send(offices, "luc.bas@lo-paris")
    assert has_slot(offices, sent, luc)
    assert luc.read(sent).portions[0].text == SECRET
    luc.profile.cabinet._shelves["message"].clear()


def test_the_entitled_reader_gets_it(offices):
    newest = send(offices)
    assert offices.clients[JEAN].read(newest).portions[0].text == SECRET


# -- what ends after the message was accepted -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lapsed(tmp_path_factory):
    """A message that Jean could have read until the agreement was withdrawn, and one Ewa until she was revoked."""
    with world(tmp_path_factory.mktemp("lapsed")) as built:
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        agreement = built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=[clearance(nations=["POL"])])
        built.device(JEAN, clearances=[clearance(nations=["FRA"])])
        built.device("ewa.lis@lo-warsaw", clearances=[clearance(nations=["POL"])])
        sent = built.clients[ANNA].send([JEAN, "ewa.lis@lo-warsaw"], label=LABEL, body=SECRET)
        assert sent.refused == ()
        built.authorities["lo-warsaw"].revoke("ewa.lis@lo-warsaw", "lost")
        built.authorities["lo-warsaw"].withdraw(agreement.agreement_id, "over")
        yield built, sent.message_id


@pytest.mark.parametrize("off", PLACES)
def test_a_withdrawn_agreement_closes_what_was_not_opened_yet(lapsed, monkeypatch, off):
    offices, message_id = lapsed
    jean = offices.clients[JEAN]
    switch_off(off, monkeypatch, jean)
    with pytest.raises(Refused if off == OPEN else Unknown):
        jean.read(message_id)
    assert_has_nothing(offices, JEAN, message_id)


@pytest.mark.parametrize("off", PLACES)
def test_a_revoked_device_does_not_open_what_it_was_sent_before(lapsed, monkeypatch, off):
    offices, message_id = lapsed
    ewa = offices.clients["ewa.lis@lo-warsaw"]
    switch_off(off, monkeypatch, ewa)
    with pytest.raises(Unauthenticated):
        ewa.read(message_id)
    assert_has_nothing(offices, "ewa.lis@lo-warsaw", message_id)


def test_a_decision_that_cannot_be_made_is_a_denial_in_every_place(offices, monkeypatch):
    """A bug in gathering the facts opens nothing either."""

    def broken(*_args, **_named):
        raise RuntimeError("no facts")

    newest = send(offices)
    jean = offices.clients[JEAN]
    with monkeypatch.context() as patch:
        patch.setattr(Judge, "judge", broken)
        with pytest.raises((RuntimeError, LiaisonError)):
            jean.read(newest)
    assert jean.profile.cabinet.message(newest) is None
    assert jean.read(newest).portions[0].text == SECRET
