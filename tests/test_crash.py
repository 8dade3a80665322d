"""kill -9 under load: what was acknowledged is there once, nothing left without its entry, the log is one history."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from sqlalchemy import select

from forge import Forge, call
from logcheck import verify_all_consistent, verify_receipt
from ports import free_port
from relay.protocol.entry import Event, parse_access_entry, parse_logged_entry
from relay.settings import Settings
from relay.store import log as log_rows
from relay.store.engine import open_readers
from relay.store.log import Log
from relay.store.schema import slot
from world import World

ROUNDS, TOGETHER = 4, 12


class Victim:
    """A real `relay serve` on a port of its own, to be killed and started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.data, self.url = folder / "relay", f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [Path(sys.executable).parent / "relay", "serve", "--data", self.data, "--port", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert "serving on" in self.process.stdout.readline()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@pytest.fixture
def victim(tmp_path):
    relay = Victim(tmp_path)
    relay.start()
    yield relay
    relay.kill()


def post_until_killed(victim, anna, sealed, chance) -> dict[int, bytes]:
    """Post all at once and kill the relay meanwhile; the receipts that came back."""
    receipts: dict[int, bytes] = {}

    def post(number: int) -> None:
        try:
            response = call(anna, "POST", "/v1/messages", sealed[number])
        except httpx2.HTTPError:
            return
        if response.status_code == 201:
            receipts[number] = response.content

    threads = [threading.Thread(target=post, args=(number,)) for number in range(len(sealed))]
    for thread in threads:
        thread.start()
    time.sleep(chance.uniform(0.01, 0.25))
    victim.kill()
    for thread in threads:
        thread.join()
    return receipts


def test_nothing_acknowledged_is_lost_or_doubled_by_kill_minus_nine(victim, tmp_path):
    keys = json.loads(httpx2.get(f"{victim.url}/v1/relay").content)["keys"]
    settings = Settings(data=victim.data)
    world = World(tmp_path, settings, SimpleNamespace(vkeys=tuple(keys)), victim.url)
    world.office("lo-warsaw", "POL")
    anna, piotr = world.device("anna.nowak@lo-warsaw"), world.device("piotr.lis@lo-warsaw")
    chance = random.Random(os.environ.get("PYTEST_CRASH_SEED", "9"))
    forge, checkpoints, posted = Forge(anna).prepare("piotr.lis@lo-warsaw", label="TEST OPEN"), [], []
    for _ in range(ROUNDS):
        piotr.sync()  # refills its keys
        sealed = [forge.seal(readers=forge.claim()).encoded() for _ in range(TOGETHER)]
        receipts = post_until_killed(victim, anna, sealed, chance)
        victim.start()
        for number, body in enumerate(sealed):
            again = call(anna, "POST", "/v1/messages", body)
            assert again.status_code == 201
            logged = parse_logged_entry(again.content)
            checkpoints.append(verify_receipt(keys, logged))
            if number in receipts:
                first = parse_logged_entry(receipts[number])
                checkpoints.append(verify_receipt(keys, first))
                assert (first.entry, first.index) == (logged.entry, logged.index)
            posted.append(parse_access_entry(logged.entry).message_id)
        assert call(piotr, "POST", f"/v1/messages/{posted[-1].hex()}/open").status_code == 200
    verify_all_consistent(victim.url, keys, checkpoints)
    entries = everything_logged(settings)
    accepted = Counter(entry.message_id for entry in entries if entry.event is Event.ACCEPT)
    assert accepted == Counter(posted)
    assert_every_release_is_logged(settings, entries)
    world.close()


def everything_logged(settings) -> list:
    readers = open_readers(settings.database_url)
    with readers.connect() as connection:
        size = log_rows.sizes(connection)[Log.ACCESS]
        rows = list(log_rows.entries(connection, Log.ACCESS, 0, size))
    readers.dispose()
    assert [row[0] for row in rows] == list(range(size))
    return [parse_access_entry(bytes(row[1])) for row in rows]


def assert_every_release_is_logged(settings, entries) -> None:
    readers = open_readers(settings.database_url)
    with readers.connect() as connection:
        released = connection.execute(select(slot).where(slot.c.released.is_not(None))).all()
    readers.dispose()
    assert len(released) == ROUNDS
    for row in released:
        entry = entries[row.released]
        assert (entry.event, entry.device_id) == (Event.OPEN, bytes(row.device_id))
        assert entry.message_id == bytes(row.message_id)
