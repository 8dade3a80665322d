"""Two relays on one PostgreSQL, as two hosts or two workers: one log, one memory of nonces, mail that wakes both."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx2
import pytest

from databases import fresh_database
from forge import Forge, call, signed_headers
from logcheck import verify_all_consistent, verify_receipt
from relay.house import migrate
from relay.protocol.canonical import decode
from relay.protocol.entry import parse_logged_entry
from relay.settings import Settings
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
