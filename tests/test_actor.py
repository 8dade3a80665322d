"""Who did it, as the access log has it: the holder of the device's certificate, or nobody who asked."""

from __future__ import annotations

from dataclasses import replace

import pytest

from acts import run
from relay.pipeline.batch import Batch
from relay.protocol.actor import verify_actor, verify_concerns
from relay.protocol.directory import Directory
from relay.protocol.entry import NO_DEVICE, OPERATOR, RELAY, AccessEntry, Event
from relay.protocol.errors import Unverified
from relay.protocol.identity import Kind
from relay.protocol.retention import EVERYONE
from test_directory import ANNA, DEVICE, NOW, START, WARSAW, removal, revocation
from world import clearance, world

JEAN, LUC = "jean.petit@lo-paris", "luc.bas@lo-paris"


@pytest.fixture(scope="module")
def directory():
    """Anna was revoked, and her office is gone: what was logged of them stays theirs."""
    made = Directory()
    for each in (*START, revocation(WARSAW, ANNA), removal("lo-warsaw")):
        made.apply(each)
    return made


def entry(event, device_id=ANNA.device_id, address="anna.nowak@lo-warsaw", office="lo-warsaw", **fields):
    return AccessEntry(event, NOW * 1000, bytes(16), device_id, address, office, **fields)


BY_AUTHORITY = (Event.DIRECTORY, WARSAW.device_id, "authority@lo-warsaw")
RIGHT = {
    "her opening": entry(Event.OPEN, concerns="lo-paris"),
    "her denial, as her office has it": entry(Event.DENY),
    "her denial, as the originator's office has it": entry(Event.DENY, office="lo-paris"),
    "her denial where there is no message": entry(Event.DENY, office=""),
    "an authority's change": entry(*BY_AUTHORITY),
    "an operator's change": entry(Event.OPERATOR, NO_DEVICE, OPERATOR, ""),
    "an expiry": entry(Event.EXPIRE, NO_DEVICE, RELAY),
    "a destruction": entry(Event.DESTROY, NO_DEVICE, RELAY, EVERYONE),
}
FALSE = {
    "under another's name": entry(Event.OPEN, address="adam.lis@lo-warsaw"),
    "under another office": entry(Event.OPEN, office="lo-paris"),
    "under an office that nobody audits": entry(Event.ACKNOWLEDGE, office="lo-nowhere"),
    "a denial under another's name": entry(Event.DENY, address="adam.lis@lo-warsaw"),
    "a device that nobody certified": entry(Event.OPEN, device_id=DEVICE.device_id),
    "an opening by no device": entry(Event.OPEN, device_id=NO_DEVICE),
    "an opening by the relay": entry(Event.OPEN, NO_DEVICE, RELAY),
    "an authority's change under an officer's name": entry(*BY_AUTHORITY[:2], "anna.nowak@lo-warsaw"),
    "an expiry by somebody": entry(Event.EXPIRE),
    "an operator's change under somebody's name": entry(Event.OPERATOR, NO_DEVICE, "anna.nowak@lo-warsaw"),
}


@pytest.mark.parametrize("logged", RIGHT.values(), ids=RIGHT)
def test_an_entry_is_its_devices_holders_or_the_relays_own(directory, logged):
    verify_actor(logged, directory)


@pytest.mark.parametrize("logged", FALSE.values(), ids=FALSE)
def test_an_entry_that_names_somebody_else_is_nobodys(directory, logged):
    with pytest.raises(Unverified):
        verify_actor(logged, directory)


def test_an_entry_concerns_the_originators_office_where_it_is_not_the_actors():
    verify_concerns(entry(Event.OPEN), "lo-warsaw")
    verify_concerns(entry(Event.OPEN, concerns="lo-paris"), "lo-paris")
    for logged, originator in (
        (entry(Event.OPEN), "lo-paris"),
        (entry(Event.OPEN, concerns="lo-oslo"), "lo-paris"),
        (entry(Event.OPEN, concerns="lo-warsaw"), "lo-warsaw"),
    ):
        with pytest.raises(Unverified):
            verify_concerns(logged, originator)


@pytest.mark.parametrize("fields", [{"address": LUC}, {"office": "lo-nowhere"}], ids=["name", "office"])
def test_an_opening_that_the_relay_logs_as_somebody_elses_is_found_and_located(tmp_path, monkeypatch, fields):
    """The originator's auditor sees it, for it concerns his office; the reader's where his office stands in it."""
    honest, logged = Batch.log, list[int]()

    def lying(batch, entry):
        lie = entry.event is Event.OPEN
        index = honest(batch, replace(entry, **fields) if lie else entry)
        logged.extend([index] if lie else [])
        return index

    with world(tmp_path) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA")):
            built.office(office, nation)
        built.agreement("lo-warsaw", "lo-paris")
        anna = built.device("anna.nowak@lo-warsaw", clearances=[clearance(nations=["POL"])])
        jean = built.device(JEAN, clearances=[clearance(nations=["FRA"])])
        auditor = built.device("audit@lo-warsaw", kind=Kind.AUDITOR, clearances=[])
        sent = anna.send([JEAN], label="TEST OPEN RELEASABLE TO FRA, POL", body="Ferry at dawn.").message_id
        monkeypatch.setattr(Batch, "log", lying)
        told = run(jean, "read", sent.hex())
        assert (told.exit_code, "open: logged " in told.stderr) == (5, True), told.output
        for command in ("verify", "pull"):
            told = run(auditor, "audit", command)
            assert told.exit_code == 5, told.output
            assert f"entry {logged[0]} of the access log is not borne out: open: logged " in told.stderr
            auditor.profile.cabinet.resolve_alarm(auditor.profile.cabinet.alarms()[0].alarm_id)
        assert run(anna, "track", sent.hex(), "--evidence").exit_code == 5
        assert run(anna, "evidence", sent.hex(), "-o", str(tmp_path / "p.zip")).exit_code == 5
