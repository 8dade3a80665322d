"""Two relays on one PostgreSQL, as two hosts or two workers: one log, one memory of nonces, mail that wakes both."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest

from databases import fresh_database
from forge import Forge, call, signed_headers
from logcheck import verify_all_consistent, verify_receipt
from ports import free_port
from relay.house import migrate
from relay.protocol.canonical import decode
from relay.protocol.entry import parse_logged_entry
from relay.settings import Settings
from served import Served
from world import World, serving

pytestmark = pytest.mark.postgres
ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-warsaw"


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """(world at the first relay, address of the second)."""
    folder = tmp_path_factory.mktemp("pair")
    with fresh_database("postgresql", folder) as url:
        settings = Settings(data=folder / "relay", database=url)
        migrate(settings)
        with serving(settings) as (relay, first), serving(settings) as (_second_relay, second):
            world = World(folder, settings, relay, first)
            world.office("lo-warsaw", "POL")
            for address in (ANNA, JEAN):
                world.device(address)
            yield world, second
            world.close()


def at(client, url: str):
    """The same device, speaking to another relay."""
    profile = replace(client.profile, pins=replace(client.profile.pins, relay_url=url))
    return type("Speaker", (), {"profile": profile})()


def test_a_request_that_one_relay_has_answered_is_good_at_no_other(pair):
    world, second = pair
    anna = at(world.clients[ANNA], second)
    for method, path, body in (("GET", "/v1/keys/stock", None), ("POST", "/v1/keys/claim", b"\x81\x50" + bytes(16))):
        headers = signed_headers(anna, method, path, body)
        # both relays answer under any name here, as two hosts behind one address do
        answers = [
            httpx2.request(method, url + path, content=body, headers={**headers, "host": second.partition("://")[2]})
            for url in (second, world.url, second)
        ]
        assert [each.status_code for each in answers] == [200, 401, 401]
        assert "used before" in answers[1].json()["detail"]


def test_mail_that_one_relay_accepts_wakes_who_waits_at_the_other(pair):
    world, second = pair
    forge = Forge(world.clients[ANNA]).prepare(JEAN, label="TEST OPEN")
    jean = at(world.clients[JEAN], second)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(call, jean, "GET", "/v1/inbox?after=0&wait=14", timeout=30)
        time.sleep(0.5)
        assert forge.post(forge.seal().encoded()).status_code == 201
        cursor, items = decode(waiting.result().content)
    assert cursor > 0
    assert len(items) == 1
    # polling alone would have found nothing within the wait


def test_a_notice_that_no_relay_sent_makes_none_deaf(pair):
    world, _second = pair
    with world.relay._committer._engine.begin() as connection:
        connection.exec_driver_sql("NOTIFY relay_mail, 'anybody'")
    test_mail_that_one_relay_accepts_wakes_who_waits_at_the_other(pair)


def test_two_relays_append_to_one_log_without_a_gap_or_a_double(pair):
    world, second = pair
    forge = Forge(world.clients[ANNA]).prepare(JEAN, label="TEST OPEN")
    readers = forge.last_resort(world)
    bodies = [forge.seal(readers=readers).encoded() for _ in range(40)]
    here, there = world.clients[ANNA], at(world.clients[ANNA], second)
    with ThreadPoolExecutor(8) as pool:
        answers = list(
            pool.map(
                lambda n: call(there if n % 2 else here, "POST", "/v1/messages", bodies[n]),
                range(len(bodies)),
            )
        )
    receipts = [parse_logged_entry(each.content) for each in answers]
    indexes = sorted(each.index for each in receipts)
    assert indexes == list(range(indexes[0], indexes[0] + len(bodies)))
    checkpoints = [verify_receipt(world.relay.vkeys, each) for each in receipts]
    verify_all_consistent(world.url, world.relay.vkeys, checkpoints)
    verify_all_consistent(second, world.relay.vkeys, checkpoints)


@pytest.fixture
def workers(tmp_path):
    """`relay serve --workers 2`, real processes."""
    with fresh_database("postgresql", tmp_path) as url:
        migrate(Settings(data=tmp_path / "relay", database=url))
        served = Served(tmp_path / "relay", database=url, workers=2).start()
        yield served
        served.kill()


def children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def serving_workers(served: Served) -> list[int]:
    """The workers' processes; the first child is Python's resource tracker, which serves nobody."""
    return [pid for pid in children(served.process.pid) if b"spawn_main" in command_of(pid)]


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="this system gives us one core"
)
def test_each_worker_keeps_to_a_core_of_its_own(workers):
    deadline, cores = time.monotonic() + 30, []
    while [len(each) for each in cores] != [1, 1] and time.monotonic() < deadline:  # one may still be starting
        time.sleep(0.1)
        cores = [os.sched_getaffinity(pid) for pid in serving_workers(workers)]
    assert len(set.union(*cores)) == 2, workers.said


def command_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:  # it has ended since
        return b""


def test_a_metrics_port_that_a_worker_finds_taken_is_said_at_the_start(tmp_path):
    with fresh_database("postgresql", tmp_path) as url, socket.socket() as taken:
        migrate(Settings(data=tmp_path / "relay", database=url))
        first = free_port(in_a_row=3)
        taken.bind(("127.0.0.1", first + 1))
        taken.listen()
        command = [Path(sys.executable).parent / "relay", "serve", "--data", tmp_path / "relay", "--database", url]
        options = ["--port", "0", "--workers", "2", "--metrics-port", str(first)]
        ran = subprocess.run([*command, *options], capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    wrong, hint = ran.stderr.splitlines()
    assert wrong.startswith(f"relay: error: cannot bind 127.0.0.1:{first + 1} for metrics")
    assert hint.startswith("relay: hint: ")


def test_a_worker_that_dies_is_replaced_and_no_message_is_lost(workers, tmp_path):
    built = workers.world(tmp_path)
    built.office("lo-warsaw", "POL")
    for address in (ANNA, JEAN):
        built.device(address)
    before = serving_workers(workers)
    assert len(before) == 2, workers.said
    os.kill(before[1], signal.SIGKILL)
    sent = [built.clients[ANNA].send([JEAN], label="TEST OPEN", body=f"{n}") for n in range(5)]
    deadline = time.monotonic() + 30
    while len(set(serving_workers(workers)) - {before[1]}) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(serving_workers(workers)) == 2
    assert {each.message_id for each in sent} == {item.message_id for item in built.clients[JEAN].inbox()}
    built.close()
    assert workers.stop() == 0
    assert any('"worker-ended"' in line for line in workers.said)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{workers.url}/health")


def test_workers_whose_parent_is_killed_finish_what_they_have_and_end(workers):
    orphans = serving_workers(workers)
    workers.kill()
    deadline = time.monotonic() + 30
    while any(command_of(pid) for pid in orphans) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [command_of(pid) for pid in orphans] == [b"", b""]
    assert any('"stopped"' in line for line in workers.said)  # one that was still starting had nothing to finish
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{workers.url}/health")
