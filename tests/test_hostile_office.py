"""What one office may do to the others that a relay serves: neither its papers nor its requests stand in their way."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from hashlib import sha256

import pytest

from forge import Forge, call, problem
from relay.core import hold
from relay.core.limits import MAX_DRAFTS, MAX_POLICIES
from relay.core.policies import _MOST, PolicyShelf
from relay.core.retention import Sweep
from relay.protocol import access
from relay.protocol.agreement import AGREEMENT, WITHDRAWAL, Agreement, Party, Withdrawal
from relay.protocol.canonical import decode, encode
from relay.protocol.community import COMMUNITY, ROSTER, Community, Roster
from relay.protocol.entry import Change
from relay.protocol.hold import HOLD, Action, Hold
from relay.protocol.identity import REVOCATION, Kind, Revocation, parse_statement
from relay.protocol.parts import MAX_INLINE
from relay.protocol.policy_extensions import NO_EXTENSIONS
from relay.protocol.publication import POLICY, PublishedPolicy
from relay.protocol.spif import read_spif
from relay.store.log import Log
from test_quota import limited
from world import LEVELS, POLICY_NAME, POLICY_OID, TEST_SPIF, clearance, world

ANNA, JEAN, MAL = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "mal@lo-hostile"
EWA, OLA = "ewa.lis@lo-warsaw", "ola.zak@lo-warsaw"
LABEL = "TEST CLOSED RELEASABLE TO FRA, POL"
HOSTILE = "lo-hostile"


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    """Warsaw and Paris, who agree, and an office that has agreed with nobody."""
    with world(tmp_path_factory.mktemp("hostile")) as built:
        for office, nation in (("lo-warsaw", "POL"), ("lo-paris", "FRA"), (HOSTILE, "NOR")):
            built.office(office, nation)
        for address in (ANNA, JEAN, MAL):
            built.device(address, clearances=[clearance(nations=["FRA", "POL"])])
        for address in (EWA, OLA):
            built.device(address, clearances=[], roles=["security"])
        built.agreement("lo-warsaw", "lo-paris")
        built.clients[ANNA].sync()
        yield built


def draft(built, *offices, since=60, until=86400):
    kids, now = {office: parse_statement(built.statements[office]) for office in offices}, int(time.time())
    return Agreement(
        title="Draft",
        parties=tuple(Party(office, kids[office].nation, kids[office].kid) for office in sorted(kids)),
        policy_name=POLICY_NAME,
        policy_oid=POLICY_OID,
        classifications=LEVELS,
        categories=(),
        communities=(),
        purposes=(),
        onward_release=False,
        not_before=now - since,
        not_after=now + until,
        nonce=os.urandom(16),
    )


def publish(authority, change, typ, payload, *files):
    signed = authority.profile.signing.sign_object(typ, payload)
    return call(authority, "POST", "/v1/directory", encode([change.value, signed, list(files)]))


def sign(authority, agreement):
    return publish(authority, Change.AGREEMENT, AGREEMENT, agreement.payload())


def withdraw(authority, agreement):
    ended = Withdrawal(
        agreement.agreement_id, authority.profile.pins.address.partition("@")[2], "over", int(time.time())
    )
    return publish(authority, Change.WITHDRAWAL, WITHDRAWAL, ended.payload())


@contextmanager
def counted(monkeypatch, place, name):
    """How often it was called meanwhile."""
    calls, original = [], getattr(place, name)

    def counting(*given, **named):
        calls.append(given)
        return original(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(place, name, counting)
        yield calls


def test_what_a_third_office_drafts_costs_two_others_no_decision_and_it_drafts_only_so_much(relay, monkeypatch):
    hostile, forge = relay.authorities[HOSTILE], Forge(relay.clients[ANNA]).prepare(JEAN)

    def decisions():
        forge.claim()
        with counted(monkeypatch, access, "decide") as calls:
            assert forge.post(forge.seal().encoded()).status_code == 201
        return len(calls)

    before, drafts = decisions(), [draft(relay, HOSTILE, "lo-paris", "lo-warsaw") for _ in range(MAX_DRAFTS + 1)]
    assert [sign(hostile, each).status_code for each in drafts] == [201] * MAX_DRAFTS + [413]
    assert decisions() == before
    # Whoever signs one of them is not held up, and what is withdrawn makes room.
    assert sign(relay.authorities["lo-paris"], drafts[0]).status_code == 201
    assert decisions() == before
    refused = sign(hostile, drafts[-1])
    assert (refused.status_code, "withdraw" in problem(refused)["hint"]) == (413, True)
    assert [withdraw(hostile, each).status_code for each in drafts[:MAX_DRAFTS]] == [201] * MAX_DRAFTS
    assert sign(hostile, drafts[-1]).status_code == 201
    assert withdraw(hostile, drafts[-1]).status_code == 201


def test_of_what_is_not_in_force_a_denial_looks_at_a_few_only(relay, monkeypatch):
    warsaw, forge = relay.authorities["lo-warsaw"], Forge(relay.clients[ANNA]).prepare(JEAN)
    drafts = [draft(relay, "lo-paris", "lo-warsaw") for _ in range(20)]
    assert {sign(warsaw, each).status_code for each in drafts} == {201}
    judge = relay.relay.judge()
    device = judge.directory.devices_of(JEAN, int(time.time()))[0]
    core = forge.core()
    with counted(monkeypatch, access, "decide") as calls:
        denied = judge.judge(access.Action.ACCEPT, access.Circle.of(core), core.label, device, core.expires)
    assert (denied.permitted, len(calls) <= 8 + 2) == (False, True)
    assert {withdraw(warsaw, each).status_code for each in drafts} == {201}


def test_what_an_office_publishes_has_a_rate_and_nothing_is_in_the_way_of_a_revocation(relay):
    with limited(relay, quota_publications=0):  # none of it is charged
        hostile = relay.office("lo-busy", "NOR")
        manager, lost = relay.device("mal@lo-busy"), relay.device("lost@lo-busy").profile.signing.device_id
    name = "ring@lo-busy"

    founded = Community(name, manager.profile.pins.address, "Ring", int(time.time()))

    def found():
        return publish(hostile, Change.COMMUNITY, COMMUNITY, founded.payload())

    def keep(version):
        stated = Roster(name, version, (JEAN,), int(time.time()))
        return call(manager, "POST", "/v1/rosters", manager.profile.signing.sign_object(ROSTER, stated.payload()))

    with limited(relay, quota_publications=1, quota_publications_burst=2):
        before = relay.relay._committer._trees[Log.DIRECTORY].size
        answers = [found(), keep(1), keep(2), found()]  # the manager's are of the same office
        assert [each.status_code for each in answers] == [201, 201, 429, 429]
        assert "lo-busy is limited to 1 publications a minute" in problem(answers[-1])["detail"]
        assert relay.relay._committer._trees[Log.DIRECTORY].size == before + 2
        stated = Revocation(lost, "lost@lo-busy", "lost", int(time.time())).payload()
        answers = [publish(hostile, Change.REVOCATION, REVOCATION, stated).status_code for _ in range(3)]
        assert answers == [201, 201, 429]


@pytest.mark.parametrize(("since", "until"), [(90000, -3600), (-3600, 90000)], ids=["lapsed", "not yet"])
def test_an_agreement_that_does_not_hold_now_uses_up_nobodys_keys(relay, since, until):
    agreed = draft(relay, HOSTILE, "lo-paris", since=since, until=until)
    assert {sign(relay.authorities[office], agreed).status_code for office in (HOSTILE, "lo-paris")} == {201}
    jean = relay.clients[JEAN]

    def stock():
        return decode(call(jean, "GET", "/v1/keys/stock").content)[0]

    before = stock()
    device_id = jean.profile.signing.device_id
    answer = call(relay.clients[MAL], "POST", "/v1/keys/claim", encode([device_id]))
    assert (decode(answer.content), stock()) == ([[device_id, None, None]], before)
    assert withdraw(relay.authorities["lo-paris"], agreed).status_code == 201


def test_each_entry_that_an_auditors_look_leaves_is_charged(relay):
    auditor = relay.device(f"audit@{HOSTILE}", kind=Kind.AUDITOR, clearances=[])

    def looks(*paths):
        return [call(auditor, "GET", f"/v1/audit/{path}").status_code for path in paths]

    with limited(relay, quota_messages=1, quota_burst=3):
        path = f"messages/{os.urandom(16).hex()}"
        assert looks(path, f"{path}/evidence", "entries?first=0&count=1", path, "entries") == [404, 404, 200, 429, 429]


def word(built, address, message_id, action, reason):
    """A security officer's word about a hold, posted."""
    key = built.clients[address].profile.signing
    stated = Hold(action, message_id, key.device_id, address, int(time.time()), reason)
    signed = key.sign_object(HOLD, stated.payload())
    return call(built.clients[address], "POST", f"/v1/messages/{message_id.hex()}/holds", signed)


def test_the_words_of_an_office_about_one_message_are_no_more_work_the_more_they_are_and_have_a_rate(
    relay, monkeypatch
):
    message_id = relay.clients[ANNA].send([JEAN], label=LABEL, body="Meet at nine.\n").message_id
    read, find = [], hold.standing_words

    def finding(*given):
        read.append(len(found := find(*given)))
        return found

    monkeypatch.setattr(hold, "standing_words", finding)
    with limited(relay, quota_publications=0):  # none of it is charged
        for count in range(24):
            action = (Action.PLACE, Action.LIFT)[count // 2 % 2]
            assert word(relay, (EWA, OLA)[count % 2], message_id, action, f"inquiry {count}").status_code == 201
    assert read == [0, 1, 1, 2] * 6
    with limited(relay, quota_publications=1, quota_publications_burst=2):
        for _ in range(3):  # who may state none uses up nobody's rate
            assert word(relay, ANNA, message_id, Action.PLACE, "inquiry 7").status_code == 404
        assert word(relay, EWA, message_id, Action.PLACE, "inquiry 7").status_code == 201
        assert word(relay, EWA, bytes(16), Action.PLACE, "inquiry 7").status_code == 404
        limit = problem(word(relay, EWA, message_id, Action.PLACE, "inquiry 7"))
        assert limit["detail"] == "ewa.lis@lo-warsaw is limited to 1 words on holds a minute"
        assert word(relay, OLA, message_id, Action.PLACE, "inquiry 7").status_code == 201


def test_an_upload_counts_at_least_as_much_as_what_would_have_gone_with_its_message(relay):
    mal, quota = relay.clients[MAL], relay.relay._quota

    def begun(length=1):
        return call(mal, "POST", "/v1/parts", encode([os.urandom(32), length])).status_code

    before, quota.office_octets = quota.office_octets, 3 * MAX_INLINE
    try:
        assert [begun(), begun(), begun(MAX_INLINE + 1), begun(), begun()] == [200, 200, 413, 200, 413]
    finally:
        quota.office_octets = before


def spif(number):
    own = f'name="P{number}" id="1.3.6.1.4.1.88888.{number}"'.encode()
    return TEST_SPIF.replace(b'name="TEST" id="1.3.6.1.4.1.99999.1"', own)


def test_an_office_has_so_many_policies_and_a_sweep_reads_each_of_them_once(relay, monkeypatch):
    hostile, shelf = relay.authorities[HOSTILE], relay.relay._shelf

    def adopt(number, version=1):
        file = spif(number).replace(b'version="1" creationDate', f'version="{version}" creationDate'.encode())
        stated = PublishedPolicy(
            HOSTILE, f"P{number}", f"1.3.6.1.4.1.88888.{number}", version, sha256(file).digest(), None, int(time.time())
        )
        return publish(hostile, Change.POLICY, POLICY, stated.payload(), file).status_code

    # One was published when the office was founded; another version of one takes no place.
    assert [adopt(number) for number in range(MAX_POLICIES)] == [201] * (MAX_POLICIES - 1) + [413]
    assert adopt(0, version=2) == 201
    with monkeypatch.context() as patched, relay.relay._readers.connect() as connection:
        patched.setattr(shelf, "_compiled", {})
        patched.setattr("relay.core.policies._MOST", 8 * len(TEST_SPIF))  # which all of them together are more than
        sweep = Sweep()
        with counted(monkeypatch, shelf, "_compile") as calls:
            for _ in range(3):
                assert sweep.next_job(connection, relay.relay.judge(), int(time.time())) is None
    assert len(calls) == MAX_POLICIES


def test_an_office_with_many_policies_crowds_out_its_own_and_nobody_elses():
    shelf, ours, theirs = (
        PolicyShelf(None),
        read_spif(TEST_SPIF, NO_EXTENSIONS)[0],
        read_spif(spif(1), NO_EXTENSIONS)[0],
    )
    digests = [sha256(bytes([number])).digest() for number in range(100)]
    shelf.put("lo-warsaw", [digests[0]], ours, _MOST // 8)
    for digest in digests:  # also the very same file
        shelf.put(HOSTILE, [digest], theirs, _MOST // 40)
    kept = shelf._compiled
    assert (len(kept), kept[digests[0],]) == (1 + 35, ("lo-warsaw", ours, _MOST // 8))
    assert (digests[-1],) in kept
