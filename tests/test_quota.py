"""What a principal and an office may ask for in a time: held across processes and restarts, urgent traffic apart."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from databases import BOTH, fresh_database
from forge import Forge, call, problem
from liaison.transport import HttpTransport
from relay.core.quota import Rate
from relay.house import migrate
from relay.protocol.errors import TooMany
from relay.protocol.header import Precedence
from relay.settings import Settings
from served import Served
from world import world

ANNA, PIOTR, EWA = "anna.nowak@lo-warsaw", "piotr.lis@lo-warsaw", "ewa.mazur@lo-warsaw"
SLOW = {"quota_messages": 1, "quota_burst": 3}  # three at once, then one a minute


def two_officers(built):
    built.office("lo-warsaw", "POL")
    anna = built.device(ANNA)
    built.device(PIOTR)
    return Forge(anna).prepare(PIOTR, label="TEST OPEN")


def sealed(forge, precedence=Precedence.ROUTINE):
    handling = replace(forge.core().handling, precedence=precedence)
    return forge.seal(readers=forge.claim(), handling=handling).encoded()


def statuses(forge, count, precedence=Precedence.ROUTINE):
    return [forge.post(sealed(forge, precedence)).status_code for _ in range(count)]


def test_a_bucket_empties_and_fills_with_time():
    rate, level = Rate(60, 2), 0
    for _ in range(2):
        level, early = rate.charged(level, 1, 0)
        assert early <= 0
    assert rate.charged(level, 1, 0)[1] == 1_000_000
    assert rate.charged(level, 1, 1_000_000)[1] == 0


def test_a_clock_set_back_empties_a_bucket_and_no_more():
    rate = Rate(60, 2)
    level, _ = rate.charged(0, 2, 3600 * 1_000_000)
    assert rate.charged(level, 1, 0)[1] == 1_000_000


def test_over_the_rate_nothing_is_stored_and_the_answer_says_when(tmp_path):
    with world(tmp_path, **SLOW) as built:
        forge = two_officers(built)
        assert statuses(forge, 3) == [201] * 3
        before = {log: tree.size for log, tree in built.relay._committer._trees.items()}
        refused = forge.post(sealed(forge))
        told = problem(refused)
        assert (refused.status_code, told["type"]) == (429, "urn:liaison-relay:problem:too-many")
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert told["hint"] == f"try again in {refused.headers['retry-after']} s"
        grown = {log: tree.size - before[log] for log, tree in built.relay._committer._trees.items()}
        assert sorted(grown.values()) == [0, 1]  # the claim for the refused message, and nothing of it


def test_routine_traffic_leaves_the_reserve_of_urgent_messages_alone(tmp_path):
    with world(tmp_path, quota_office_messages=1, quota_office_burst=3) as built:
        forge = two_officers(built)
        assert statuses(forge, 4) == [201, 201, 201, 429]
        assert statuses(forge, 4, Precedence.FLASH) == [201, 201, 201, 429]


def test_the_same_message_again_is_answered_and_not_charged(tmp_path):
    with world(tmp_path, **SLOW) as built:
        forge = two_officers(built)
        body = sealed(forge)
        assert {forge.post(body).status_code for _ in range(6)} == {201}
        assert statuses(forge, 3) == [201, 201, 429]


def test_one_officers_haste_is_not_anothers(tmp_path):
    with world(tmp_path, **SLOW) as built:
        forge = two_officers(built)
        other = Forge(built.device(EWA)).prepare(PIOTR, label="TEST OPEN")
        assert statuses(forge, 4)[-1] == 429
        assert statuses(other, 1) == [201]


def test_opens_and_claims_have_their_rates(tmp_path):
    with world(tmp_path, quota_opens=2, quota_claims=3) as built:
        two_officers(built)  # claims one
        anna = built.clients[ANNA]
        assert [call(anna, "POST", f"/v1/messages/{'00' * 16}/open").status_code for _ in range(3)] == [404, 404, 429]
        body = b"\x81\x50" + built.clients[PIOTR].profile.signing.device_id
        claims = [call(anna, "POST", "/v1/keys/claim", body).status_code for _ in range(4)]
        assert 429 in claims
        assert claims[0] == 200


@pytest.mark.parametrize("kind", BOTH)
def test_the_rate_holds_across_processes_and_a_restart(kind, tmp_path):
    """On SQLite one process after another; on PostgreSQL two at once, asked in turn."""
    with fresh_database(kind, tmp_path / "database") as database:
        data = tmp_path / "relay"
        migrate(Settings(data=data, database=database))
        first = Served(data, database=database, quota_messages=1, quota_burst=5).start()
        second = Served(data, database=database, quota_messages=1, quota_burst=5)
        try:
            built = first.world(tmp_path)
            forge = two_officers(built)
            answers = statuses(forge, 2)
            if kind == "sqlite":
                assert first.stop() == 0
            second.start()
            for number in range(4):
                relay = second if kind == "sqlite" or number % 2 else first
                move(built.clients[ANNA], relay.url)
                answers += statuses(forge, 1)
            assert answers == [201] * 5 + [429]
            built.close()
        finally:
            for relay in (first, second):
                if hasattr(relay, "process"):
                    relay.kill()


def move(client, url):
    """The client asks another process of the same relay from here on."""
    client.transport.close()
    client.profile.pins = replace(client.profile.pins, relay_url=url)
    client.transport = HttpTransport(url, client.profile.keyid, client.profile.request)


def test_the_client_waits_as_long_as_it_is_told_and_sends_then(tmp_path, monkeypatch):
    waited, sleep = [], time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (waited.append(seconds), sleep(seconds)))
    with world(tmp_path, quota_messages=60, quota_burst=1) as built:
        forge = two_officers(built)
        transport = built.clients[ANNA].transport
        bodies = [sealed(forge) for _ in range(2)]
        waited.clear()
        for body in bodies:
            assert transport.post("/v1/messages", body)
        assert 1 in waited


def test_the_client_that_would_wait_too_long_says_when_to_try_again(tmp_path):
    with world(tmp_path, quota_messages=1, quota_burst=1) as built:
        forge = two_officers(built)
        transport = built.clients[ANNA].transport
        transport.post("/v1/messages", sealed(forge))
        with pytest.raises(TooMany, match="limited to 1 messages a minute") as told:
            transport.post("/v1/messages", sealed(forge))
        assert told.value.hint.startswith("try again in ")
        assert told.value.retry_after > 30
