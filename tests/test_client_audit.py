"""Pulling the access log: what an auditor sees, and a relay that answers him with something else."""

from __future__ import annotations

import os

import pytest

from acts import pulled
from liaison.audit.pull import AuditPull
from liaison.audit.pulled import markings
from relay.protocol.canonical import decode, encode
from relay.protocol.entry import Event, parse_access_entry
from relay.protocol.errors import Refused, Unknown, Unverified
from relay.protocol.identity import Kind
from relay.protocol.merkle import leaf_hash
from relay.store.log import Log
from simulator import Forger, lying
from world import clearance, world

ANNA, JEAN, AUDITOR = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "audit@lo-paris"
LABEL = "TEST SEALED RELEASABLE TO FRA, POL"
FULL = [clearance(nations=["FRA", "POL"])]


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    with world(tmp_path_factory.mktemp("audit")) as built:
        built.office("lo-warsaw", "POL")
        built.office("lo-paris", "FRA")
        built.agreement("lo-warsaw", "lo-paris")
        built.device(ANNA, clearances=FULL)
        built.device("ewa.lis@lo-warsaw", clearances=FULL)
        built.device(JEAN, clearances=FULL)
        built.device(AUDITOR, clearances=[], kind=Kind.AUDITOR, scope=["lo-paris"], name="first auditor")
        built.device("check@lo-paris", clearances=[], kind=Kind.AUDITOR, name="second auditor")
        traffic(built.clients)
        yield built


def traffic(clients):
    """A message to Paris, one inside Warsaw, one denial."""
    abroad = clients[ANNA].send([JEAN], label=LABEL, body="Ferry at dawn.")
    at_home = clients[ANNA].send(["ewa.lis@lo-warsaw"], label=LABEL, body="Ferry at dawn.")
    clients[JEAN].read(abroad.message_id)
    clients["ewa.lis@lo-warsaw"].read(at_home.message_id)
    with pytest.raises(Unknown):
        clients[JEAN].read(os.urandom(16))
    return abroad.message_id


def test_an_auditor_sees_the_entries_in_scope_and_only_hashes_of_the_others(offices):
    auditor = offices.clients["first auditor"]
    entries, truth = pulled(auditor), Forger(offices).entries(Log.ACCESS)
    assert len(entries) > 10
    for found, real in zip(entries, truth, strict=False):
        parsed = parse_access_entry(real)
        in_scope = "lo-paris" in {parsed.office, parsed.concerns}
        assert (found.entry == parsed) if in_scope else (found.entry is None)
        assert found.leaf_hash == leaf_hash(real)
    kinds = {found.entry.event for found in entries if found.entry is not None}
    assert {Event.OPEN, Event.DENY, Event.ACKNOWLEDGE, Event.DIRECTORY} <= kinds
    assert any(found.entry is None for found in entries)


def test_what_is_out_of_scope_is_not_in_the_answer_at_all(offices):
    truth = Forger(offices).entries(Log.ACCESS)
    answer = offices.clients["first auditor"].transport.get("/v1/audit/entries", after=0, count=1000)
    for index, (shown, content) in enumerate(decode(answer)[1]):
        assert content == (truth[index] if shown else leaf_hash(truth[index]))
        assert shown is (truth[index] in answer)
        if not shown:
            assert parse_access_entry(truth[index]).salt not in answer


def test_an_auditor_without_a_scope_sees_his_own_office(offices):
    entries = pulled(offices.clients["second auditor"])
    offices_seen = {found.entry.office for found in entries if found.entry is not None}
    assert "lo-paris" in offices_seen
    assert any(found.entry is None for found in entries)


def test_a_pull_fetches_only_what_is_new(offices):
    auditor = offices.clients["first auditor"]
    before = len(pulled(auditor))
    traffic(offices.clients)
    asked = []
    with lying(auditor) as relay:
        honest = relay.honest
        relay.invent("GET", r"/audit/entries", lambda **q: asked.append(q) or honest.get("/v1/audit/entries", **q))
        after = pulled(auditor)
    assert [query["after"] for query in asked] == [before]
    assert len(after) > before
    assert [found.index for found in after] == list(range(len(after)))


def test_a_pull_is_itself_an_entry(offices):
    auditor = offices.clients["first auditor"]
    size = len(pulled(auditor))
    (mine,) = pulled(auditor)[size:]  # the pull before is what is new
    assert (mine.entry.event, mine.entry.address) == (Event.AUDIT, AUDITOR)
    assert mine.entry.detail.startswith("entries ")


def test_only_an_auditor_pulls(offices):
    for name in (ANNA, JEAN):
        with pytest.raises(Refused):
            AuditPull(offices.clients[name]).pull()


def test_a_line_of_the_pull_says_who_did_what_and_nothing_of_the_content(offices):
    auditor = offices.clients["first auditor"]
    lines = [found.as_json(markings(auditor)) for found in pulled(auditor)]
    opened = [line for line in lines if line["event"] == "open"]
    assert opened[0].keys() == {
        "v", "index", "time", "event", "actor", "office", "message_id", "label", "decision", "rules", "leaf_hash",
        "detail",
    }  # fmt: skip
    assert (opened[0]["actor"], opened[0]["decision"], opened[0]["rules"]) == (JEAN, "permit", [])
    denied = [line for line in lines if line["event"] == "deny"]
    assert denied[0]["decision"] == "deny"
    assert denied[0]["rules"]
    assert "Ferry" not in str(lines)


def test_a_checkpoint_of_unknown_keys_is_an_alarm(offices):
    auditor = offices.clients["second auditor"]
    note = auditor.transport.get("/v1/log/directory/checkpoint")
    with lying(auditor) as relay:
        relay.invent("GET", r"/log/access/checkpoint", lambda **_: note)
        with pytest.raises(Unverified):
            AuditPull(auditor).pull()
    (alarm,) = auditor.profile.cabinet.alarms()
    auditor.profile.cabinet.resolve_alarm(alarm.alarm_id)


@pytest.mark.parametrize("told", [[1], [1, 2, 3], 5, [1, [5]], [1, [[True, b""]]]])
def test_entries_that_are_not_even_the_format_are_the_relays_fault(offices, told):
    auditor = offices.clients["second auditor"]
    before = len(pulled(auditor))
    traffic(offices.clients)
    with lying(auditor) as relay:
        relay.invent("GET", r"/audit/entries", lambda **_: encode(told))
        with pytest.raises(Unverified):
            AuditPull(auditor).pull()
    assert (AuditPull(auditor).count(), AuditPull(auditor).left_over()) == (before, 0)


def test_withheld_entries_are_found(offices):
    auditor = offices.clients["second auditor"]
    traffic(offices.clients)
    with lying(auditor) as relay:
        relay.lie("GET", r"/audit/entries", lambda _answer: b"\x82\x00\x80")
        with pytest.raises(Unverified, match="are withheld"):
            AuditPull(auditor).pull()
    for alarm in auditor.profile.cabinet.alarms():
        auditor.profile.cabinet.resolve_alarm(alarm.alarm_id)
    pulled(auditor)
