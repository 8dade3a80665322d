"""The same relay over SQLite and over PostgreSQL: accept, open, prove, catch up, and come back after a failure."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import pytest
from sqlalchemy import create_engine, func, select, text, update

from databases import BOTH, fresh_database
from forge import Forge, call, problem, rows, stored
from jobs import cheap_entry, log_one, post_all
from logcheck import read_checkpoint, verify_all_consistent, verify_receipt
from relay.house import commit_alone, migrate, open_relay
from relay.pipeline.batch import Job
from relay.protocol.canonical import decode, encode
from relay.protocol.entry import Event, parse_access_entry, parse_logged_entry
from relay.protocol.envelope import parse_message
from relay.protocol.errors import LiaisonError
from relay.protocol.label import label_bytes
from relay.protocol.prekey import KEY_BATCH, KeyBatch, parse_key_package
from relay.settings import Settings
from relay.store.log import Log
from relay.store.log_schema import log_entry
from test_relay_revocation import key_batch, revoke_elsewhere
from world import clearance, world

ANNA, JEAN, LUC = "anna.nowak@lo-warsaw", "jean.petit@lo-paris", "luc.bas@lo-paris"


@pytest.fixture(scope="module", params=BOTH)
def offices(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with fresh_database(request.param, folder / "database") as url:
        migrate(Settings(data=folder / "relay", database=url))
        with world(folder, database=url) as built:
            built.office("lo-warsaw", "POL")
            built.office("lo-paris", "FRA")
            built.agreement("lo-warsaw", "lo-paris")
            built.device(ANNA, clearances=[clearance(nations=["POL"])])
            for address in (JEAN, LUC):
                built.device(address, clearances=[clearance(nations=["FRA"])])
            built.clients[ANNA].sync()
            yield built


def test_a_message_is_sent_listed_read_and_acknowledged(offices):
    anna, jean = offices.clients[ANNA], offices.clients[JEAN]
    sent = anna.send([JEAN], label="TEST SEALED RELEASABLE TO FRA, POL", subject="Gęś", body="Bit exact.\n")
    assert sent.message_id in [item.message_id for item in jean.inbox()]
    assert jean.read(sent.message_id).portions[0].text == "Bit exact.\n"
    jean.acknowledge(sent.message_id)
    receipts = call(anna, "GET", f"/v1/messages/{sent.message_id.hex()}/receipts")
    assert (b"opened" in receipts.content, b"acknowledged" in receipts.content) == (True, True)


def test_many_at_once_are_each_logged_once_and_proven(offices):
    forge = Forge(offices.clients[ANNA]).prepare(JEAN)
    readers = forge.last_resort(offices)
    before = rows(offices)["log_entry"]
    batches = [[forge.seal(readers=readers).encoded()] for _ in range(48)]
    answers = [response for each in post_all(offices, offices.clients[ANNA], batches) for response in each]
    assert {response.status_code for response in answers} == {201}
    receipts = [parse_logged_entry(response.content) for response in answers]
    assert sorted(receipt.index for receipt in receipts) == list(range(before, before + 48))
    checkpoints = [verify_receipt(offices.relay.vkeys, receipt) for receipt in receipts]
    verify_all_consistent(offices.url, offices.relay.vkeys, checkpoints)


def test_the_same_bytes_get_the_same_receipt_and_other_bytes_a_conflict(offices):
    forge = Forge(offices.clients[ANNA]).prepare(JEAN)
    submission = forge.seal(seq=(1 << 63) - 1)  # the widest number that a column must hold
    first = forge.post(submission.encoded())
    readers = forge.claim()
    with stored(offices):
        assert forge.post(submission.encoded()).content == first.content
        other = forge.seal(readers=readers, message_id=parse_message(submission.message).core.message_id)
        assert problem(forge.post(other.encoded()))["status"] == 409
    assert first.status_code == 201


def test_a_refusal_and_a_denial_are_logged_and_nothing_else_is_kept(offices):
    forge = Forge(offices.clients[ANNA]).prepare(JEAN)
    with stored(offices):
        assert problem(forge.post(forge.seal().encoded()[:-1]))["status"] == 400
    low = forge.client.labels.read("TEST OPEN")
    with stored(offices, log_entry=1):
        assert problem(forge.post(forge.seal(label=label_bytes(low)).encoded()))["rules"] == ["banner"]
    sound = forge.seal(readers=forge.claim())
    forge.post(sound.encoded())
    message_id = parse_message(sound.message).core.message_id.hex()
    with stored(offices, log_entry=2):
        assert call(offices.clients[LUC], "POST", f"/v1/messages/{message_id}/open").status_code == 404


def test_a_batch_of_keys_published_twice_counts_once_and_its_keys_serve_no_other_batch(offices):
    luc = offices.clients[LUC]
    body = key_batch(luc)
    first = call(luc, "POST", "/v1/keys", body)
    assert call(luc, "POST", "/v1/keys", body).content == first.content
    package = parse_key_package(decode(body)[1][0])
    key = luc.profile.signing
    again = key.sign_object(KEY_BATCH, KeyBatch(key.device_id, 1, (package.ref,)).payload())
    refused = call(luc, "POST", "/v1/keys", encode([again, [package.encoded()]]))
    assert (first.status_code, refused.status_code) == (200, 409)
    assert decode(call(luc, "GET", "/v1/keys/stock").content) == decode(first.content)


def test_a_claim_hands_each_one_time_key_to_one_sender(offices):
    anna = offices.clients[ANNA]
    wanted = encode([offices.clients[JEAN].profile.signing.device_id])
    given = [decode(call(anna, "POST", "/v1/keys/claim", wanted).content)[0][1] for _ in range(3)]
    assert len(set(given)) == 3


def test_what_another_process_commits_is_taken_in_before_the_next_answer(offices):
    before = rows(offices)["log_entry"]
    entry = cheap_entry("from elsewhere")

    def log_elsewhere(batch):
        index = batch.log(entry)
        return lambda committed: committed.prove(index)

    elsewhere = commit_alone(offices.settings, log_elsewhere)
    here = asyncio.run(offices.relay._writer.submit(log_one))
    assert (elsewhere.index, here.index) == (before, before + 1)
    checkpoints = [verify_receipt(offices.relay.vkeys, each) for each in (elsewhere, here)]
    verify_all_consistent(offices.url, offices.relay.vkeys, checkpoints)
    tom = offices.device("tom@lo-paris")
    revoke_elsewhere(offices, tom)
    assert call(tom, "GET", "/v1/inbox").status_code == 401


def test_a_relay_that_starts_again_goes_on_with_the_same_history(offices):
    before = rows(offices)["log_entry"]
    again = open_relay(replace_settings(offices))
    try:
        (outcome,) = again._committer.commit([Job(log_one)])
        assert outcome.value.index == before
        checkpoint = verify_receipt(again.vkeys, outcome.value)
        assert parse_access_entry(outcome.value.entry).event is Event.OPERATOR
        verify_all_consistent(offices.url, offices.relay.vkeys, [checkpoint])
    finally:
        again.close()


def replace_settings(offices) -> Settings:
    return Settings(data=offices.settings.data, database=offices.settings.database)


def test_a_relay_does_not_go_on_from_rows_that_its_checkpoint_did_not_sign(offices):
    engine = offices.relay._committer._engine
    with engine.begin() as connection:
        last = connection.scalar(select(func.max(log_entry.c.idx)).where(log_entry.c.log == Log.ACCESS))
        place = (log_entry.c.log == Log.ACCESS) & (log_entry.c.idx == last)
        genuine = connection.scalar(select(log_entry.c.leaf_hash).where(place))
        connection.execute(update(log_entry).where(place).values(leaf_hash=bytes(32)))
    try:
        with pytest.raises(LiaisonError, match="signed"):
            open_relay(replace_settings(offices))
    finally:
        with engine.begin() as connection:
            connection.execute(update(log_entry).where(place).values(leaf_hash=bytes(genuine)))
    read_checkpoint(offices.relay.vkeys, call(offices.clients[ANNA], "GET", "/v1/log/access/checkpoint").content)


def test_a_relay_whose_connections_are_cut_answers_again_at_once(offices):
    url = offices.settings.database
    if not url.startswith("postgresql"):
        pytest.skip("SQLite has no connections to cut")
    forge = Forge(offices.clients[ANNA]).prepare(JEAN)
    body = forge.seal().encoded()
    with ExitStack() as idle:  # all that there may be: each is lost
        for _ in range(4):
            idle.enter_context(offices.relay._readers.connect())
    other = create_engine(url)
    with other.connect() as connection:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
    other.dispose()
    assert call(offices.clients[JEAN], "GET", "/v1/inbox").status_code == 200
    assert forge.post(body).status_code == 201
