"""What a principal and an office may ask for in a time: held across processes and restarts, urgent traffic apart."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from sqlalchemy import create_engine

from acts import run
from databases import BOTH, fresh_database
from forge import Forge, call, problem
from liaison.recalling import sign_recall
from liaison.transport import HttpTransport
from relay.core.quota import Limits, Metered, Quota, Rate
from relay.house import limits, migrate
from relay.pipeline.batch import Batch
from relay.protocol.canonical import encode
from relay.protocol.directory import Directory
from relay.protocol.envelope import parse_message, parse_submission
from relay.protocol.errors import TooMany
from relay.protocol.header import Precedence
from relay.settings import Settings
from relay.store.log import Log
from relay.store.schema import bucket
from served import Served
from test_key_packages import batch_of, made
from test_store_failures import full_disk
from world import world

ANNA, PIOTR = "anna.nowak@lo-warsaw", "piotr.lis@lo-warsaw"
SLOW = {"quota_messages": 1, "quota_burst": 3}  # three at once, then one a minute
OFFICE = {"quota_office_messages": 1, "quota_office_burst": 3}


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    """One relay, to which each test gives limits, and officers who have not been charged yet."""
    with world(tmp_path_factory.mktemp("quota")) as built:
        yield built


@contextmanager
def limited(built, **given):
    quota, before = built.relay._quota, built.relay._quota._limits
    quota._limits = limits(Settings(data=built.settings.data, **given))
    try:
        yield
    finally:
        quota._limits = before


def two_officers(built):
    built.office("lo-warsaw", "POL")
    anna = built.device(ANNA)
    built.device(PIOTR)
    return Forge(anna).prepare(PIOTR, label="TEST OPEN")


_NATIONS = iter(range(100))


@pytest.fixture
def forge(relay):
    """Of an officer in an office of their own, with one to write to."""
    office = f"lo-{next(_NATIONS)}"
    relay.office(office, "POL")
    relay.device(f"reader@{office}")
    return Forge(relay.device(f"anna@{office}")).prepare(f"reader@{office}", label="TEST OPEN")


def colleague(relay, forge):
    """Another officer of that office, with the same reader."""
    office = office_of(forge)
    return Forge(relay.device(f"ewa@{office}")).prepare(f"reader@{office}", label="TEST OPEN")


def reader_of(relay, forge):
    return relay.clients[f"reader@{office_of(forge)}"]


def office_of(forge) -> str:
    return forge.client.profile.pins.address.partition("@")[2]


def sealed(forge, precedence=Precedence.ROUTINE):
    handling = replace(forge.core().handling, precedence=precedence)
    return forge.seal(readers=forge.claim(), handling=handling).encoded()


def statuses(forge, count, precedence=Precedence.ROUTINE):
    return [forge.post(sealed(forge, precedence)).status_code for _ in range(count)]


def openings(client, *message_ids):
    return [call(client, "POST", f"/v1/messages/{each.hex()}/open").status_code for each in message_ids]


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


def test_over_the_rate_nothing_is_stored_and_the_answer_says_when(relay, forge):
    with limited(relay, **SLOW):
        assert statuses(forge, 3) == [201] * 3
        before = {log: tree.size for log, tree in relay.relay._committer._trees.items()}
        refused = forge.post(sealed(forge))
        told = problem(refused)
        assert (refused.status_code, told["type"]) == (429, "urn:liaison-relay:problem:too-many")
        assert 0 < int(refused.headers["retry-after"]) <= 60
        assert told["hint"] == f"try again in {refused.headers['retry-after']} s"
        grown = {log: tree.size - before[log] for log, tree in relay.relay._committer._trees.items()}
        assert sorted(grown.values()) == [0, 1]  # the claim for the refused message, and nothing of it


@pytest.mark.parametrize("rates", [SLOW, OFFICE], ids=["of a principal", "of an office"])
def test_routine_traffic_leaves_the_reserve_of_urgent_messages_alone(relay, forge, rates):
    with limited(relay, **rates):
        assert statuses(forge, 4) == [201, 201, 201, 429]
        assert statuses(forge, 2, Precedence.IMMEDIATE) == [201, 201]
        assert statuses(forge, 2, Precedence.FLASH) == [201, 429]


def test_the_same_message_again_is_answered_and_not_charged(relay, forge):
    with limited(relay, **SLOW):
        body = sealed(forge)
        assert {forge.post(body).status_code for _ in range(6)} == {201}
        assert statuses(forge, 3) == [201, 201, 429]


def test_one_officers_haste_is_not_anothers(relay, forge):
    other = colleague(relay, forge)
    with limited(relay, **SLOW):
        assert statuses(forge, 4)[-1] == 429
        assert statuses(other, 1) == [201]


def test_officers_of_one_office_share_its_rate_and_other_offices_have_their_own(relay, forge):
    other = colleague(relay, forge)
    with limited(relay, **OFFICE):
        assert statuses(forge, 2) == [201, 201]
        assert statuses(other, 2) == [201, 429]
        assert office_of(forge) in problem(forge.post(sealed(forge)))["detail"]
        relay.office("lo-elsewhere", "POL")
        relay.device("reader@lo-elsewhere")
        far = Forge(relay.device("anna@lo-elsewhere")).prepare("reader@lo-elsewhere", label="TEST OPEN")
        assert statuses(far, 1) == [201]


def test_what_the_office_may_not_is_not_charged_to_its_officer(relay, forge):
    other = colleague(relay, forge)
    with limited(relay, **OFFICE, **SLOW):
        assert statuses(other, 3) == [201] * 3
        assert statuses(forge, 3) == [429] * 3
    with limited(relay, quota_office_messages=0, **SLOW):
        assert statuses(forge, 3) == [201] * 3


def test_a_submission_that_the_rules_refuse_is_charged_all_the_same(relay, forge):
    now = int(time.time())
    with limited(relay, **SLOW):
        late = [forge.seal(readers=forge.claim(), created=now - 100, expires=now - 1).encoded() for _ in range(4)]
        assert [forge.post(body).status_code for body in late] == [403, 403, 403, 429]


def test_what_the_database_did_not_take_is_charged_to_nobody(relay, forge):
    forge.prepare(reader_of(relay, forge).profile.pins.address, label="TEST OPEN", body="x" * 400_000)
    bodies = [sealed(forge) for _ in range(3)]
    with limited(relay, **SLOW):
        with full_disk(relay):
            assert [forge.post(body).status_code for body in bodies] == [503] * 3
        assert [forge.post(body).status_code for body in bodies] == [201] * 3
        assert statuses(forge, 1) == [429]


def test_a_denied_opening_is_charged(relay, forge):
    with limited(relay, quota_opens=2):
        assert openings(forge.client, *[bytes(16)] * 3) == [404, 404, 429]


def test_an_urgent_message_is_opened_though_the_routine_openings_are_used_up(relay, forge):
    reader = reader_of(relay, forge)
    for precedence in (Precedence.ROUTINE, Precedence.FLASH):
        assert statuses(forge, 1, precedence) == [201]
    waiting = {item.message.core.handling.precedence: item.message_id for item in reader.inbox()}
    with limited(relay, quota_opens=2):
        assert openings(reader, bytes(16), bytes(16)) == [404, 404]
        assert openings(reader, waiting[Precedence.ROUTINE], waiting[Precedence.FLASH]) == [429, 200]


def test_what_has_run_out_does_not_tell_that_there_is_an_urgent_message_for_somebody_who_is_denied(
    relay, forge, monkeypatch
):
    reader = reader_of(relay, forge)
    assert statuses(forge, 1, Precedence.FLASH) == [201]
    ((urgent),) = [item.message_id for item in reader.inbox()]
    monkeypatch.setattr("relay.core.open.failing", lambda *_: ("need-to-know",))
    with limited(relay, quota_opens=1):
        assert openings(reader, bytes(16), bytes(16), urgent) == [404, 429, 429]


def test_a_claim_costs_as_much_as_it_names_devices(relay, forge):
    own, other = (client.profile.signing.device_id for client in (forge.client, reader_of(relay, forge)))

    def claim(*devices):
        return call(forge.client, "POST", "/v1/keys/claim", encode(list(devices))).status_code

    with limited(relay, quota_claims=3):
        answers = [claim(own, other), claim(other), claim(other)]
    assert answers == [200, 200, 429]


def test_batches_of_keys_have_a_rate_and_the_same_batch_again_is_not_charged(relay, forge):
    with limited(relay, quota_key_batches=0):
        ewa = relay.device(f"ewa@{office_of(forge)}")
    before = relay.relay._committer._trees[Log.DIRECTORY].size
    with limited(relay, quota_key_batches=2):
        one, two, three = (batch_of(ewa, made(ewa))[0] for _ in range(3))
        answers = [call(ewa, "POST", "/v1/keys", body) for body in (one, one, two, three)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert "2 key batches a minute" in problem(answers[-1])["detail"]
    assert relay.relay._committer._trees[Log.DIRECTORY].size == before + 2


def test_a_recall_is_charged_as_an_urgent_opening_whether_it_is_denied_or_not(relay, forge):
    def recalled(message_id):
        words = encode([sign_recall(forge.client, message_id, "Wrong file.", spill=False)])
        return call(forge.client, "POST", f"/v1/messages/{message_id.hex()}/recall", words).status_code

    body = sealed(forge)
    own = parse_message(parse_submission(body).message).core.message_id
    assert forge.post(body).status_code == 201
    with limited(relay, quota_opens=2):
        assert openings(forge.client, *[bytes(16)] * 3) == [404, 404, 429]
        assert [recalled(each) for each in (bytes(16), own, own)] == [404, 200, 429]


class Worker:
    """One process's knowledge of the buckets; what it commits, it has charged."""

    def __init__(self, connection):
        self._connection = connection
        self._quota = Quota(Limits({}, {Metered.MESSAGE: Rate(1, 5)}, 0))

    def charges(self, size, log=Log.ACCESS, *, is_rolled_back=False):
        """One message, which adds an entry to this log of that size; whether it may."""
        batch = Batch(self._connection, Directory(), NOW_MS, {**dict.fromkeys(Log, 0), log: size})
        try:
            self._quota.charge(batch, SENDER, Metered.MESSAGE, None)
        except TooMany:
            return False
        if not is_rolled_back:
            batch.staged[log].append((b"an entry", "", ""))
            for step in (*batch.closing, *batch.settled):
                step()
        return True


NOW_MS = 1_800_000_000_000
SENDER = SimpleNamespace(address=ANNA, office="lo-warsaw")


@pytest.fixture
def workers():
    engine = create_engine("sqlite://")
    bucket.create(engine)
    with engine.connect() as connection:
        yield Worker(connection), Worker(connection)
    engine.dispose()


@pytest.mark.parametrize("log", Log)
@pytest.mark.parametrize("is_rolled_back", [False, True])
def test_each_worker_knows_what_the_others_have_charged_just_before(workers, is_rolled_back, log):
    if is_rolled_back:  # what it learned meanwhile holds, and nobody is charged
        assert workers[1].charges(0, log, is_rolled_back=True)
    answers = [workers[turn % 2].charges(turn, log) for turn in range(5)]
    assert (answers, [each.charges(5, log) for each in workers]) == ([True] * 5, [False] * 2)


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


def test_the_client_waits_as_long_as_it_is_told_and_sends_then(relay, forge, monkeypatch):
    waited, sleep = [], time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (waited.append(seconds), sleep(seconds)))
    bodies = [sealed(forge) for _ in range(2)]
    with limited(relay, quota_messages=60, quota_burst=1):
        for body in bodies:
            assert forge.client.transport.post("/v1/messages", body)
        assert 1 in waited


def test_the_client_that_would_wait_too_long_says_when_to_try_again(relay, forge):
    transport = forge.client.transport
    with limited(relay, quota_messages=1, quota_burst=1):
        transport.post("/v1/messages", sealed(forge))
        with pytest.raises(TooMany, match="limited to 1 messages a minute") as told:
            transport.post("/v1/messages", sealed(forge))
        assert told.value.hint.startswith("try again in ")
        assert told.value.retry_after > 30


def test_routine_over_the_rate_waits_and_neither_urgent_traffic_nor_reading_waits_for_it(relay, forge):
    anna, reader = forge.client, f"reader@{office_of(forge)}"
    received = relay.clients[reader].send([anna.profile.pins.address], label="TEST OPEN", body="For you.").message_id
    words = ["send", "--yes", "--to", reader, "--label", "TEST OPEN"]
    with limited(relay, quota_messages=1, quota_burst=1):
        assert run(anna, *words, body="One.").exit_code == 0
        assert run(anna, *words, body="Two.").exit_code == 7
        assert run(anna, *words, "--precedence", "FLASH", body="Three.").exit_code == 0
        assert run(anna, "read", received.hex()).exit_code == 0
        listed = run(anna, "inbox")
        assert (listed.exit_code, listed.stderr.count(" waits: relay: ")) == (0, 1)
    anna.sync()
    assert anna.profile.cabinet.outbox() == []
