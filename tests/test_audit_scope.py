"""Whose entries an auditor reads: his own office's, and those of offices that he was certified for AND that granted it."""

from __future__ import annotations

import os
import time

import pytest
from sqlalchemy import select

from acts import run
from forge import call
from liaison.audit.pull import AuditPull
from liaison.authority import Authority
from relay.house import commit_alone
from relay.protocol.canonical import decode, encode
from relay.protocol.entry import NO_DEVICE, OPERATOR, AccessEntry, Event, parse_access_entry
from relay.protocol.errors import Conflict, LiaisonError, Unknown
from relay.protocol.identity import Kind
from relay.store.log import Log
from relay.store.log_schema import log_entry
from world import PASSPHRASE, world

OFFICES = {"lo-warsaw": "POL", "lo-krakow": "POL", "lo-paris": "FRA", "lo-oslo": "NOR"}
TERMS = {"own": [], "office": ["lo-paris"], "nation": ["nation:POL"], "all": ["*"]}
CANARY = "what happened at "


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    """Four offices of three nations, an auditor of Warsaw for each kind of scope, and entries of every pair."""
    with world(tmp_path_factory.mktemp("scopes")) as built:
        for office, nation in OFFICES.items():
            built.office(office, nation)
        for name, scope in TERMS.items():
            built.device(f"{name}@lo-warsaw", clearances=[], kind=Kind.AUDITOR, scope=scope, name=name)

        def fill(batch):
            for office in OFFICES:
                for concerns in ("", *OFFICES):
                    by = (os.urandom(16), NO_DEVICE, OPERATOR)
                    batch.log(AccessEntry(Event.OPERATOR, batch.now_ms, *by, office, concerns, detail=CANARY + office))
            return lambda _committed: None

        commit_alone(built.settings, fill)
        yield built


def shown_to(offices, name, scope):
    """What the relay answers, octet for octet what it should, and nothing else of any entry; the offices shown."""
    auditor = offices.clients[name]
    answer = call(auditor, "GET", "/v1/audit/entries?count=1000").content
    size, _shown = decode(answer)
    wanted = select(log_entry.c.entry, log_entry.c.leaf_hash, log_entry.c.office, log_entry.c.concerns)
    with offices.relay._readers.connect() as connection:
        rows = connection.execute(wanted.where(log_entry.c.log == Log.ACCESS).order_by(log_entry.c.idx)).all()[:size]
    may = [bool({row.office, row.concerns} & scope) for row in rows]
    both = list(zip(rows, may, strict=True))
    expected = [[own, bytes(row.entry if own else row.leaf_hash)] for row, own in both]
    assert answer == encode([size, expected])
    for row, own in both:
        assert own or parse_access_entry(bytes(row.entry)).salt not in answer
    return {row.office for row, own in both if own and row.concerns == ""} - {""}


def test_without_a_grant_every_scope_is_the_own_office(offices):
    for name in TERMS:
        assert shown_to(offices, name, {"lo-warsaw"}) == {"lo-warsaw"}


@pytest.fixture(scope="module")
def granted(offices):
    """Krakow and Paris have granted it to all four auditors; Oslo to none."""
    for office in ("lo-krakow", "lo-paris"):
        for name in TERMS:
            offices.grant_audit(office, offices.clients[name])
    return offices


@pytest.mark.parametrize(
    ("name", "beyond"),
    [("own", set()), ("office", {"lo-paris"}), ("nation", {"lo-krakow"}), ("all", {"lo-krakow", "lo-paris"})],
)
def test_a_scope_is_what_the_certificate_asks_for_and_each_office_has_granted(granted, name, beyond):
    scope = {"lo-warsaw"} | beyond
    assert shown_to(granted, name, scope) == scope
    auditor = granted.clients[name]
    auditor.sync()
    own = auditor.trust.directory.audit_scope(auditor.profile.signing.device_id, int(time.time()))
    assert own == scope  # he can say so himself, from the directory that he verified


def test_the_status_of_an_auditor_says_whose_entries_he_reads(granted):
    told = run(granted.clients["all"], "status").output
    lines = [line.partition(":")[::2] for line in told.splitlines()]
    said = {name: value.strip() for name, value in lines}
    assert (said["Scope"], said["Scope asked"]) == ("lo-krakow; lo-paris; lo-warsaw", "*")


def test_what_was_a_hash_before_the_grant_is_kept_whole_at_the_next_verification(offices):
    late = offices.device("late@lo-oslo", clearances=[], kind=Kind.AUDITOR, scope=["*"], name="late")
    pull = AuditPull(late)
    pull.pull()
    before = [each.entry is not None and each.entry.detail == CANARY + "lo-paris" for each in pull.entries()]
    offices.grant_audit("lo-paris", late)
    late.sync()
    pull.verify()
    after = [each.entry is not None and each.entry.detail == CANARY + "lo-paris" for each in pull.entries()]
    assert (sum(before), sum(after)) == (1, 5)  # of those before, what concerned Oslo


def test_a_grant_that_was_ended_shows_no_more_and_cannot_be_replayed(offices):
    guest = offices.device("guest@lo-warsaw", clearances=[], kind=Kind.AUDITOR, scope=["lo-paris"], name="guest")
    paris = offices.authorities["lo-paris"]
    offices.grant_audit("lo-paris", guest)
    first = next(entry for entry in reversed(list(paris.profile.cabinet.entries("directory"))))
    assert shown_to(offices, "guest", {"lo-warsaw", "lo-paris"}) == {"lo-warsaw", "lo-paris"}
    done = run(paris, "authority", "grant-audit", "guest@lo-warsaw", "--end")
    assert "reads no entries of lo-paris from now on" in done.output
    assert shown_to(offices, "guest", {"lo-warsaw"}) == {"lo-warsaw"}
    paris.sync()
    with pytest.raises(Conflict, match="not later"):
        paris.trust.directory.apply(first)


def test_a_grant_is_the_granting_offices_own_word_and_for_an_auditor(offices):
    """Warsaw's authority cannot say it for Paris, whatever address and scope it certifies; nor is an officer granted."""
    warsaw, paris = offices.authorities["lo-warsaw"], offices.authorities["lo-paris"]
    officer = offices.device("ola.zak@lo-warsaw")
    warsaw.sync()
    device = warsaw.auditor("all@lo-warsaw")
    in_the_name_of = Authority(paris.profile, warsaw.transport, paris.trust, paris.documents)
    assert in_the_name_of.grant_audit(device, int(time.time()) + 60)  # Paris's word may be posted by another authority
    forger = Authority.open(offices.folder / "authority-lo-warsaw", passphrase=PASSPHRASE)
    with forger, pytest.MonkeyPatch.context() as patch:
        patch.setattr(Authority, "office", "lo-paris")
        with pytest.raises(LiaisonError, match="names another key"):
            forger.grant_audit(device, int(time.time()) + 60)
    with pytest.raises(Unknown, match="0 auditors"):
        warsaw.auditor(officer.profile.pins.address)


def test_a_header_is_shown_only_where_the_originators_office_granted_it(granted):
    anna = granted.device("anna.nowak@lo-krakow", name="anna")
    jean = granted.device("jan.lis@lo-krakow", name="jan")
    anna.sync()
    jean.sync()
    message_id = anna.send(["jan.lis@lo-krakow"], label="TEST OPEN", body="At nine.\n").message_id.hex()
    assert call(granted.clients["nation"], "GET", f"/v1/audit/messages/{message_id}").status_code == 200
    for name in ("own", "office"):
        assert call(granted.clients[name], "GET", f"/v1/audit/messages/{message_id}").status_code == 404


def looks_of(offices, name):
    """(detail, concerns) of the looks that this auditor's device took, in the log's order."""
    device = offices.clients[name].profile.signing.device_id
    wanted = select(log_entry.c.entry).where(log_entry.c.log == Log.ACCESS).order_by(log_entry.c.idx)
    with offices.relay._readers.connect() as connection:
        entries = [parse_access_entry(bytes(each)) for each in connection.scalars(wanted)]
    return [(each.detail, each.concerns) for each in entries if each.device_id == device]


def test_an_office_may_read_which_auditor_of_another_reads_its_entries(offices):
    guest = offices.device("gast@lo-warsaw", clearances=[], kind=Kind.AUDITOR, scope=["*"], name="gast")
    ada = offices.device("ada@lo-paris", name="ada")
    offices.device("ala@lo-paris", name="ala")
    ada.sync()
    sent = ada.send(["ala@lo-paris"], label="TEST OPEN", body="At nine.\n").message_id.hex()
    with offices.relay._readers.connect() as connection:
        wanted = select(log_entry.c.entry, log_entry.c.idx).where(log_entry.c.log == Log.ACCESS)
        rows = [(parse_access_entry(bytes(row.entry)), row.idx) for row in connection.execute(wanted)]
    first = {e.concerns: index for e, index in rows if e.detail == CANARY + "lo-oslo"}
    ask = [f"entries?after={first['lo-paris']}&count=1", "entries?after=0&count=1000", f"messages/{sent}"]
    for scope in ((), ("lo-paris",), ("lo-oslo", "lo-paris")):
        for office in scope:
            offices.grant_audit(office, guest)
        before = len(looks_of(offices, "gast"))
        for path in ask:
            call(guest, "GET", f"/v1/audit/{path}")
        looks = [(detail.partition(" ")[0], concerns) for detail, concerns in looks_of(offices, "gast")[before:]]
        pulls, seen = [concerns for detail, concerns in looks if detail == "entries"], list(scope) or [""]
        assert pulls == seen * 2
        assert looks[len(pulls) :] == [("message", "lo-paris" if scope else "")]
