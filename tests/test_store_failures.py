"""A database that fails: refused cleanly, nothing half done, and the same request succeeds once it is back."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import contextmanager

import httpx2
import pytest
from sqlalchemy.exc import ProgrammingError

from forge import Forge, call, problem, rows, stored
from jobs import cheap_entry, log_one, post_all, together
from liaison.home.founding import found_device
from logcheck import verify_all_consistent, verify_receipt
from relay.protocol.canonical import encode
from relay.protocol.entry import Change, parse_logged_entry
from relay.protocol.errors import Unavailable
from relay.protocol.identity import REVOCATION, Kind, Revocation, parse_statement
from relay.store.schema import document
from world import PASSPHRASE, clearance, world

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-warsaw"


@pytest.fixture(scope="module")
def offices(tmp_path_factory):
    with world(tmp_path_factory.mktemp("failures")) as built:
        built.office("lo-warsaw", "POL")
        for address in (ANNA, JEAN):
            built.device(address)
        built.clients[ANNA].sync()
        with pragma(built, "busy_timeout = 200"):
            yield built


@contextmanager
def pragma(built, setting: str):
    """A setting of the writer's one connection."""
    with built.relay._committer._engine.connect() as connection:
        connection.exec_driver_sql(f"PRAGMA {setting}")
    yield


@contextmanager
def full_disk(built):
    """The database may not grow by a page any more, as the writer sees it."""
    with sqlite3.connect(built.settings.data / "relay.sqlite") as looking:
        (pages,) = looking.execute("PRAGMA page_count").fetchone()
    looking.close()
    with pragma(built, f"max_page_count = {pages}"):
        try:
            yield
        finally:
            with pragma(built, "max_page_count = 1073741823"):
                pass


LOCKING = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
"""


@contextmanager
def locked_elsewhere(built):
    """Another process holds the write lock for longer than the relay waits."""
    command = [sys.executable, "-c", LOCKING, str(built.settings.data / "relay.sqlite")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        try:
            yield
        finally:
            other.stdin.close()


def sealed(built, *, octets=0) -> tuple[Forge, bytes]:
    forge = Forge(built.clients[ANNA]).prepare(JEAN, label="TEST CLOSED", body="x" * octets + "\n")
    return forge, forge.seal().encoded()


@pytest.mark.parametrize("failing", [full_disk, locked_elsewhere])
def test_what_cannot_be_stored_is_refused_with_503_and_leaves_nothing(offices, failing):
    forge, body = sealed(offices, octets=400_000)
    with stored(offices), failing(offices):
        response = forge.post(body)
        assert (response.status_code, response.headers["retry-after"]) == (503, "1")
        assert problem(response)["type"].endswith("unavailable")
        # who only looks is served meanwhile
        assert call(offices.clients[JEAN], "GET", "/v1/inbox").status_code == 200
    with stored(offices, message=1, slot=1, part=1, log_entry=1):
        accepted = forge.post(body)
    checkpoint = verify_receipt(offices.relay.vkeys, parse_logged_entry(accepted.content))
    verify_all_consistent(offices.url, offices.relay.vkeys, [checkpoint])


def test_a_message_that_does_not_fit_on_the_disk_does_not_take_its_neighbours_down(offices):
    def too_big(batch):
        batch.add(document, {"digest": bytes(32), "content": bytes(4_000_000)})
        return lambda _committed: None

    before = rows(offices)["log_entry"]
    with full_disk(offices):
        results = together(offices.relay, [refuse_nothing, too_big, refuse_nothing])
    assert isinstance(results[1], Unavailable)
    assert (results[0], results[2]) == ("done", "done")
    assert rows(offices)["log_entry"] == before


def test_entries_that_could_not_be_stored_are_in_no_tree_and_no_index_is_skipped(offices):
    def log_much(batch):
        for _ in range(300):
            batch.log(cheap_entry("x" * 60_000))
        return lambda _committed: None

    before = rows(offices)["log_entry"]
    with full_disk(offices):
        (failed,) = together(offices.relay, [log_much])
    assert isinstance(failed, Unavailable)
    (logged,) = together(offices.relay, [log_one])
    assert logged.index == before
    verify_all_consistent(offices.url, offices.relay.vkeys, [verify_receipt(offices.relay.vkeys, logged)])


def refuse_nothing(_batch):
    return lambda _committed: "done"


def test_a_connection_that_dies_while_it_is_asked_whether_it_lives_is_no_fault_of_ours(offices, monkeypatch):
    def dying():
        raise ProgrammingError("ping", None, sqlite3.ProgrammingError("connection in transaction status UNKNOWN"))

    forge, body = sealed(offices)
    with monkeypatch.context() as failing:
        failing.setattr(offices.relay._committer._engine, "connect", dying)
        assert forge.post(body).status_code == 503
    assert forge.post(body).status_code == 201


def test_everyone_who_waited_for_a_locked_database_is_told_at_once_and_not_one_after_another(offices):
    forge = Forge(offices.clients[ANNA]).prepare(JEAN, label="TEST CLOSED")
    bodies = [forge.seal(readers=forge.last_resort(offices)).encoded() for _ in range(24)]
    with stored(offices), locked_elsewhere(offices):
        answers = [each[0] for each in post_all(offices, offices.clients[ANNA], [[body] for body in bodies])]
    assert {answer.status_code for answer in answers} == {503}
    again = [each[0] for each in post_all(offices, offices.clients[ANNA], [[body] for body in bodies])]
    checkpoints = [verify_receipt(offices.relay.vkeys, parse_logged_entry(each.content)) for each in again]
    verify_all_consistent(offices.url, offices.relay.vkeys, checkpoints)


def test_a_directory_change_that_could_not_be_stored_never_was_and_can_be_made_again(offices):
    authority, statement = offices.authorities["lo-warsaw"], offices.statements["lo-warsaw"]
    relay, folder = offices.relay, offices.folder / "tom"
    request = found_device(
        folder, "tom@lo-warsaw", offices.url, relay.vkeys, (statement, parse_statement(statement)), PASSPHRASE
    )
    size = relay._committer.directory.size
    signed = certificate(authority, request)

    def certify_and_swell(batch):
        batch.change(Change.CERTIFICATE, signed)
        batch.log(cheap_entry())
        batch.add(document, {"digest": bytes(32), "content": bytes(4_000_000)})
        return lambda _committed: None

    with stored(offices), full_disk(offices):
        (result,) = together(relay, [certify_and_swell])
        assert isinstance(result, Unavailable)
        # nobody who was known is forgotten, and nobody is known who was not
        assert call(offices.clients[ANNA], "GET", "/v1/inbox").status_code == 200
        assert not relay._committer.directory.by_address.get("tom@lo-warsaw")
    assert relay._committer.directory.size == size
    published = call(authority, "POST", "/v1/directory", encode([Change.CERTIFICATE.value, signed, []]))
    assert published.status_code == 201
    assert relay._committer.directory.size == size + 1


def certificate(authority, request: bytes) -> bytes:
    """A certificate as the authority signs it, kept from being published."""
    kept = []

    class Kept(type(authority)):
        def _publish(self, _change, signed, files=(), approvals=()):
            kept.append(signed)

    signer = Kept(authority.profile, authority.transport, authority.trust, authority.documents)
    signer.enrol(request, kind=Kind.OFFICER, roles=(), clearances=[clearance()], scope=(), valid_days=3)
    return kept[0]


def test_an_entry_that_no_bundle_could_hold_is_refused_before_it_is_one(offices):
    authority = offices.authorities["lo-warsaw"]
    key = authority.profile.signing
    jean = offices.clients[JEAN].profile.signing.device_id
    stated = Revocation(jean, JEAN, "x" * 70_000, 1)
    body = encode([Change.REVOCATION.value, key.sign_object(REVOCATION, stated.payload()), []])
    with stored(offices):
        assert problem(call(authority, "POST", "/v1/directory", body))["status"] == 413
        assert call(offices.clients[JEAN], "GET", "/v1/inbox").status_code == 200


def test_the_writer_goes_on_after_a_time_in_which_every_commit_failed(offices):
    submit = offices.relay._writer.submit
    with stored(offices), locked_elsewhere(offices):
        for _ in range(3):
            with pytest.raises(Unavailable):
                asyncio.run(submit(log_one))
        assert httpx2.get(offices.url + "/ready").status_code == 503
    with stored(offices, log_entry=1):
        verify_receipt(offices.relay.vkeys, asyncio.run(submit(log_one)))
