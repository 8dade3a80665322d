"""PostgreSQL as it fails: a killed primary and its promoted standby, a commit whose answer is lost, another's keys."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import closing

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from databases import fresh_database
from forge import Forge, call
from jobs import log_one
from logcheck import verify_all_consistent, verify_receipt
from postgres import replicated
from processes import Serving, relay
from relay.house import migrate, prepare_data
from relay.pipeline.batch import Job
from relay.pipeline.committer import Committer
from relay.protocol.entry import Event, parse_access_entry, parse_logged_entry
from relay.protocol.errors import LiaisonError, Unavailable, Unverified
from relay.settings import Settings
from relay.store.engine import open_readers, open_writer
from relay.store.schema import setting
from test_backup import last_resort
from test_crash import everything_logged

pytestmark = pytest.mark.postgres
ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-warsaw"
THREADS, EACH = 4, 30


def post_until_taken(anna, bodies, receipts) -> None:
    """A client that does not give up: the same bytes until they are acknowledged, every answer kept."""
    for number, body in bodies:
        while True:
            answer = call(anna, "POST", "/v1/messages", body, timeout=60)
            if answer.status_code == 201:
                receipts.append((number, answer.content))
                break
            assert answer.status_code == 503, answer.content
            time.sleep(0.2)


def test_a_killed_primary_and_its_promoted_standby_lose_and_double_nothing(tmp_path):
    with replicated() as servers:
        place = ("--data", tmp_path / "relay", "--database", servers.url)
        relay("migrate", *place)
        with Serving(tmp_path / "relay", servers.url) as serving, closing(serving.world(tmp_path)) as world:
            world.office("lo-warsaw", "POL")
            anna, jean = world.device(ANNA), world.device(JEAN)
            anna.sync()
            forge = Forge(anna).prepare(JEAN, label="TEST OPEN")
            readers = last_resort(world, forge)
            bodies = list(enumerate(forge.seal(readers=readers).encoded() for _ in range(THREADS * EACH)))
            receipts = []
            threads = [
                threading.Thread(target=post_until_taken, args=(anna, bodies[start::THREADS], receipts))
                for start in range(THREADS)
            ]
            for thread in threads:
                thread.start()
            while len(receipts) < len(bodies) // 3:
                time.sleep(0.01)
            before = len(receipts)
            servers.kill_primary()
            servers.promote_standby()
            for thread in threads:
                thread.join(60)
            assert len(receipts) == len(bodies) > before
            again = [(number, call(anna, "POST", "/v1/messages", body).content) for number, body in bodies]
            first = {number: parse_logged_entry(content) for number, content in receipts}
            for number, content in again:
                logged = parse_logged_entry(content)
                assert (logged.index, logged.entry) == (first[number].index, first[number].entry)
            keys = world.relay.vkeys
            verify_all_consistent(serving.url, keys, [verify_receipt(keys, each) for each in first.values()])
            accepted = Counter(e.message_id for e in everything_logged(world.settings) if e.event is Event.ACCEPT)
            assert accepted == Counter(parse_access_entry(each.entry).message_id for each in first.values())
            assert jean.read(anna.send([JEAN], label="TEST OPEN", body="Goes on.\n").message_id)
        relay("check", *place)


@pytest.fixture
def settings(tmp_path):
    with fresh_database("postgresql", tmp_path) as url:
        made = Settings(data=tmp_path / "relay", database=url)
        migrate(made)
        yield made


@pytest.fixture
def committer(settings):
    writer, readers = open_writer(settings.database_url), open_readers(settings.database_url)
    made = Committer(writer, readers, prepare_data(settings), "relay-test")
    yield made
    made.close()
    readers.dispose()


def cut(connection) -> None:
    """The server ends this connection, as a broken network would."""
    with connection.engine.dialect.loaded_dbapi.connect(
        **{k: v for k, v in connection.connection.driver_connection.info.get_parameters().items() if k != "options"},
        password=connection.connection.driver_connection.info.password,
        autocommit=True,
    ) as other:
        pid = connection.connection.driver_connection.info.backend_pid
        assert other.execute("SELECT pg_terminate_backend(%s, 10000)", [pid]).fetchone() == (True,)


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_whose_answer_is_lost_is_answered_by_nobody_and_run_by_nobody_again(committer, committed):
    jobs_run = []

    def job(batch):
        jobs_run.append(batch)
        return log_one(batch)

    def lose_the_answer(connection) -> None:
        if committed:
            connection.connection.driver_connection.commit()
            connection.connection.driver_connection.close()
        else:
            cut(connection)

    before = committer.commit([Job(log_one)])[0].value.index
    event.listen(committer._engine, "commit", lose_the_answer, once=True)
    outcomes = committer.commit([Job(job)] * 2)
    assert [type(each.error) for each in outcomes] == [Unavailable, Unavailable]
    assert len(jobs_run) == 2
    (after,) = committer.commit([Job(log_one)])
    assert after.value.index == before + 1 + (2 if committed else 0)


def test_a_connection_lost_in_the_middle_of_a_batch_is_told_to_all_at_once(committer):
    jobs_run = []

    def job(batch):
        jobs_run.append(batch)
        if len(jobs_run) == 1:
            cut(batch.connection)
        return log_one(batch)

    outcomes = committer.commit([Job(job)] * 3)
    assert [type(each.error) for each in outcomes] == [Unavailable] * 3
    assert len(jobs_run) == 3
    assert committer.commit([Job(log_one)])[0].error is None


def test_a_connection_that_ended_while_it_idled_is_replaced_and_nobody_is_told(committer):
    committer.commit([Job(log_one)])
    with committer._engine.connect() as connection:
        cut(connection)
    (outcome,) = committer.commit([Job(log_one)])
    assert (outcome.error, outcome.value.index) == (None, 1)


def test_a_row_that_the_database_refuses_fails_its_own_job_and_no_other(committer):
    def doubled(batch):
        for _ in range(2):
            batch.add(setting, {"name": "doubled", "value": ""})
        return log_one(batch)

    outcomes = committer.commit([Job(log_one), Job(doubled), Job(log_one)])
    assert [type(each.error) for each in outcomes] == [type(None), IntegrityError, type(None)]
    assert [each.value.index for each in outcomes if each.error is None] == [0, 1]


def test_who_comes_while_another_host_has_the_lock_goes_along_and_what_fails_fails_alone(committer):
    def fails(_batch):
        raise ZeroDivisionError

    with committer._engine.dialect.loaded_dbapi.connect(
        committer._engine.url.render_as_string(False).replace("+psycopg", "")
    ) as other:
        other.execute("SELECT size FROM log_head FOR UPDATE")
        found, come = [], [Job(log_one)]
        waiting = threading.Thread(target=lambda: found.extend(committer.commit([Job(log_one)], more=lambda: come)))
        waiting.start()
        while not other.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()[0]:
            time.sleep(0.01)
        come += [Job(fails), Job(log_one)]
    waiting.join(20)
    assert [type(each.error) for each in found] == [type(None), type(None), ZeroDivisionError, type(None)]
    assert [each.value.index for each in found if each.error is None] == [0, 1, 2]


def test_a_database_that_went_back_is_not_written_to(committer, settings):
    committer.commit([Job(log_one)] * 2)
    with committer._engine.begin() as connection:
        for statement in ("UPDATE log_head SET size = size - 1 WHERE log = 2", "DELETE FROM log_entry WHERE idx = 1"):
            connection.exec_driver_sql(statement)
    (outcome,) = committer.commit([Job(log_one)])
    assert type(outcome.error) is LiaisonError
    assert "went back from 2 entries to 1" in str(outcome.error)


def test_a_host_with_other_keys_does_not_serve_this_database(committer, settings, tmp_path):
    committer.commit([Job(log_one)])
    elsewhere = replace_folder(settings, tmp_path / "other")
    writer, readers = open_writer(settings.database_url), open_readers(settings.database_url)
    with pytest.raises(Unverified, match="did not sign") as refused:
        Committer(writer, readers, prepare_data(elsewhere), "relay-test")
    assert "log-keys.json" in refused.value.hint
    writer.dispose()
    readers.dispose()


def replace_folder(settings, folder) -> Settings:
    return Settings(data=folder, database=settings.database)
