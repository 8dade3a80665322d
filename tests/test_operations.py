"""A real relay process as its operator sees it: metrics, log lines, readiness, and its end under load."""

from __future__ import annotations

import json
import re
import resource
import signal
import socket
import sqlite3
import threading
import time

import httpx2
import pytest
from sqlalchemy import select

from forge import Forge, call, problem
from liaison.transport import HttpTransport
from processes import relay as run_relay
from relay.observe import FIELDS
from relay.protocol.errors import LiaisonError
from relay.store.engine import open_readers
from relay.store.schema import message
from served import Served
from world import clearance

ANNA, PIOTR = "anna.nowak@lo-warsaw", "piotr.lis@lo-warsaw"
SUBJECT, LABEL = "Canary-subject-7f3a", "TEST SEALED RELEASABLE TO POL"


@pytest.fixture
def served(tmp_path):
    relay = Served(tmp_path / "relay", log_level="debug").start()
    yield relay
    relay.kill()


def traffic(built):
    """What a relay sees of a day: keys, messages, openings, denials, strangers. The words nobody may see again."""
    built.office("lo-warsaw", "POL")
    cleared = [clearance(nations=["POL"])]
    anna, piotr = built.device(ANNA, clearances=cleared), built.device(PIOTR, clearances=cleared)
    sent = anna.send([PIOTR], label=LABEL, subject=SUBJECT, body="Canary-body-19c4")
    piotr.inbox()
    piotr.read(sent.message_id)
    piotr.acknowledge(sent.message_id)
    assert call(anna, "POST", f"/v1/messages/{sent.message_id.hex()}/open").status_code == 404
    httpx2.get(f"{built.url}/v1/inbox?after=1234567")
    httpx2.get(f"{built.url}/v1/Canary-path-55d0")
    httpx2.put(f"{built.url}/v1/inbox")
    words = [ANNA, PIOTR, "nowak", "lo-warsaw", "TEST", "SEALED", "RELEASABLE", "POL", SUBJECT, "Canary", "1234567"]
    devices = [client.profile.signing.device_id.hex() for client in (anna, piotr)]
    return [*words, sent.message_id.hex(), *devices]


def test_metrics_count_the_traffic_and_name_nothing_of_it(served, tmp_path):
    built = served.world(tmp_path)
    words, told = traffic(built), served.metrics()
    built.close()
    assert [word for word in words if word in told] == []
    assert 'relay_access_entries_total{event="accept"} 1.0' in told
    assert 'relay_access_entries_total{event="deny"} 2.0' in told
    assert 'relay_requests_total{method="POST",route="/v1/messages/{message_id}/open",status="404"} 1.0' in told
    assert 'relay_requests_total{method="PUT",route="/v1/inbox",status="405"} 1.0' in told
    assert re.search(r"^relay_messages_stored [01]\.0$", told, re.MULTILINE)
    assert re.search(r"^process_resident_memory_bytes \d", told, re.MULTILINE)
    assert "relay_queue_jobs 0.0" in told


def test_the_log_is_json_of_known_fields_and_names_nothing(served, tmp_path):
    built = served.world(tmp_path)
    words = traffic(built)
    built.close()
    assert served.stop() == 0
    lines = [json.loads(line) for line in served.said]
    assert {"serving", "request", "draining", "stopped"} <= {line["event"] for line in lines}
    assert {"v", "time", "level", "event"} | FIELDS >= {name for line in lines for name in line}
    assert {line["v"] for line in lines} == {1}
    told = "".join(served.said)
    assert [word for word in words if word in told] == []


@pytest.mark.parametrize(
    ("broken", "method", "asked", "where"),
    [
        ("UPDATE receipt SET encoded", "GET", "receipts", "relay/core/reading.py:"),
        ("UPDATE message SET endorsements", "POST", "open", "relay/core/open.py:"),  # answered before the framework
    ],
)
def test_a_fault_of_the_relays_own_has_a_reference_that_its_log_explains(
    served, tmp_path, broken, method, asked, where
):
    built = served.world(tmp_path)
    words = traffic(built)
    database = sqlite3.connect(served.data / "relay.sqlite", isolation_level=None)
    database.execute(f"{broken} = 'Canary-octets-0b6e'")  # text where octets belong: no request does that
    database.close()
    message_id = next(word for word in words if re.fullmatch("[0-9a-f]{32}", word))
    asker = built.clients[ANNA if asked == "receipts" else PIOTR]
    answer = call(asker, method, f"/v1/messages/{message_id}/{asked}")
    built.close()
    assert served.stop() == 0
    assert answer.status_code == 500
    lines = [json.loads(line) for line in served.said]
    (line,) = [line for line in lines if line["event"] == "unexpected"]
    assert line["reference"] == problem(answer)["reference"]
    assert line["error"] == "builtins.TypeError"
    assert line["route"] == f"/v1/messages/{{message_id}}/{asked}"
    assert any(place.startswith(where) for place in line["at"])
    assert [word for word in words if word in "".join(served.said)] == []


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/keys"])
def test_who_hangs_up_in_the_middle_of_a_request_is_no_fault_of_the_relays(served, path):
    host, _, port = served.url.partition("://")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as asking:
        asking.sendall(f"POST {path} HTTP/1.1\r\nhost: {host}:{port}\r\ncontent-length: 100\r\n\r\nhalf".encode())
    assert httpx2.get(f"{served.url}/health").status_code == 200
    assert served.stop() == 0
    told = [json.loads(line) for line in served.said]
    assert [line for line in told if line["level"] not in {"debug", "info"}] == []
    assert {"event": "request", "route": path, "status": 400}.items() <= next(
        line for line in told if line.get("route") == path
    ).items()


def test_an_answers_head_and_body_arrive_together(served):
    host, _, port = served.url.partition("://")[2].partition(":")
    with socket.create_connection((host, int(port)), timeout=10) as asking:
        for _ in range(50):
            asking.sendall(f"GET /health HTTP/1.1\r\nhost: {host}:{port}\r\n\r\n".encode())
            head, _, body = asking.recv(65536).partition(b"\r\n\r\n")
            assert f"content-length: {len(body)}".encode() in head
        asking.sendall(f"GET /health HTTP/1.1\r\nhost: {host}:{port}\r\nconnection: close\r\n\r\n".encode())
        last = b"".join(iter(lambda: asking.recv(65536), b""))  # closed at once, and still all of it
        assert last.endswith(body)


def test_ready_says_no_while_the_database_takes_no_write(served):
    assert httpx2.get(f"{served.url}/ready").status_code == 200
    database = sqlite3.connect(served.data / "relay.sqlite", isolation_level=None)
    database.execute("BEGIN IMMEDIATE")
    try:
        time.sleep(1.1)  # an answer is good for a second
        assert httpx2.get(f"{served.url}/ready", timeout=20).status_code == 503
        assert httpx2.get(f"{served.url}/health").status_code == 200
    finally:
        database.execute("ROLLBACK")
        database.close()


def test_while_the_disk_is_full_ready_says_no_and_what_was_not_taken_is_taken_afterwards(served, tmp_path):
    built = served.world(tmp_path)
    built.office("lo-warsaw", "POL")
    anna, piotr = built.device(ANNA), built.device(PIOTR)
    forge = Forge(anna).prepare(PIOTR, label="TEST OPEN")
    body = forge.seal(readers=forge.claim()).encoded()
    before = resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (1, before[1]))  # as if no file had room to be written
    assert forge.post(body).status_code == 503
    until_ready_says(served, 503)
    assert call(piotr, "GET", "/v1/inbox").status_code == 200  # what is there can be read
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, before)
    until_ready_says(served, 200)
    assert forge.post(body).status_code == 201
    assert len(piotr.inbox()) == 1
    built.close()


def until_ready_says(served, status) -> None:
    for _ in range(100):  # an answer is good for a second
        if httpx2.get(f"{served.url}/ready", timeout=30).status_code == status:
            return
        time.sleep(0.1)
    raise AssertionError(f"never became {status}")


def test_ready_says_no_while_the_relay_drains(tmp_path):
    relay = Served(tmp_path / "relay", drain_notice=3).start()
    try:
        assert httpx2.get(f"{relay.url}/ready").status_code == 200
        relay.process.terminate()
        while httpx2.get(f"{relay.url}/ready").status_code == 200:
            time.sleep(0.05)
        assert "about to stop" in problem(httpx2.get(f"{relay.url}/ready"))["detail"]
        assert httpx2.get(f"{relay.url}/v1/relay").status_code == 200  # it serves on
        assert relay.wait() == 0
    finally:
        relay.kill()


def test_a_second_relay_on_a_folder_of_sqlite_is_refused_while_the_first_lives(served):
    refused = run_relay("serve", "--data", served.data, "--port", "0", code=1)
    assert f"relay: error: another relay serves from {served.data}\n" in refused.stderr
    run_relay("office", "list", "--data", served.data)
    served.kill()
    served.start()


@pytest.mark.parametrize("name", [signal.SIGTERM, signal.SIGINT])
def test_a_relay_that_was_told_to_stop_and_did_has_not_failed(tmp_path, name):
    relay = Served(tmp_path / "relay").start()
    relay.process.send_signal(name)
    assert relay.wait() == 0
    assert [json.loads(line)["event"] for line in relay.said][-1] == "stopped"


def test_who_waits_for_mail_is_answered_when_the_relay_stops(served, tmp_path):
    built = served.world(tmp_path)
    built.office("lo-warsaw", "POL")
    piotr, ends = built.device(PIOTR), []
    waits = [
        lambda: ends.append(piotr.transport.get("/v1/inbox", after=0, wait=60)),
        lambda: ends.append(list(piotr.transport.events(0))),
    ]
    threads = [threading.Thread(target=wait) for wait in waits]
    for thread in threads:
        thread.start()
    while "relay_requests_in_flight 2.0" not in served.metrics():
        time.sleep(0.05)
    assert served.stop() == 0
    for thread in threads:
        thread.join(20)
    assert sorted(map(len, ends)) == [0, 3]  # an empty page of three octets, a stream that ended without an event
    built.close()


def test_a_restart_under_load_loses_nothing_and_doubles_nothing(tmp_path):
    """The port is held as systemd holds it; clients try again as the transport does; three relays follow each other."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        relay = Served(tmp_path / "relay", listening=listening).start()
        try:
            built = relay.world(tmp_path)
            built.office("lo-warsaw", "POL")
            anna = built.device(ANNA)
            built.device(PIOTR)
            forge = Forge(anna).prepare(PIOTR, label="TEST OPEN")
            sealed = [forge.seal(readers=forge.claim()).encoded() for _ in range(32)]
            codes, receipts, failures = [], {}, []
            work, done = iter(enumerate(sealed)), threading.Event()
            turn = threading.Lock()

            def post() -> None:
                own = HttpTransport(relay.url, anna.profile.keyid, anna.profile.request)
                while not done.is_set():
                    with turn:
                        number, body = next(work, (None, None))
                    if body is None:
                        break
                    try:
                        receipts[number] = own.post("/v1/messages", body)
                    except LiaisonError as problem:
                        failures.append(problem)
                    time.sleep(0.3)
                own.close()

            threads = [threading.Thread(target=post) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(2):
                codes.append(relay.stop())
                relay.start()
            for thread in threads:
                thread.join()
            built.close()
            codes.append(relay.stop())
        finally:
            relay.kill()
    assert (codes, failures) == ([0, 0, 0], [])
    assert len(receipts) == len(sealed)
    readers = open_readers(f"sqlite:///{relay.data / 'relay.sqlite'}")
    with readers.connect() as connection:
        digests = [bytes(digest) for digest in connection.scalars(select(message.c.digest))]
    readers.dispose()
    assert len(digests) == len(set(digests)) == len(sealed)
