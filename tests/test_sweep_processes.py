"""The sweep as an operator meets it: `relay sweep` beside a relay that serves, and the serving relay on its own."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from contextlib import closing

import pytest

from forge import call
from large_parts import a_file
from processes import Serving, relay
from relay.protocol.canonical import encode
from world import TEST_SPIF, clearance

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-warsaw"
SHORT = b"retention = { OPEN = 1 }\n"


def asked(home, question: str):
    with closing(sqlite3.connect(home / "relay.sqlite")) as database:
        return database.execute(question).fetchone()[0]


def filled(world, film):
    """(what soon is due, what is not): a message with a large part of each kind, and an upload that nobody took up."""
    world.office("lo-warsaw", "POL", policy=None).publish_policy(TEST_SPIF, SHORT)
    anna, _jean = (world.device(each, clearances=[clearance(nations=["POL"])]) for each in (ANNA, JEAN))
    soon, late = (
        anna.send([JEAN], label=label, body="Ferry at dawn.", attachments=[film], expires_in=2).message_id
        for label in ("TEST OPEN", "TEST SEALED RELEASABLE TO POL")
    )
    orphan = os.urandom(100)
    digest = hashlib.sha256(orphan).digest()
    call(anna, "POST", "/v1/parts", encode([digest, len(orphan)]))
    assert call(anna, "PUT", f"/v1/parts/{digest.hex()}/0", orphan).status_code == 200
    with closing(sqlite3.connect(world.settings.data / "relay.sqlite")) as database, database:
        database.execute("UPDATE upload SET begun = 1")  # two days are a long time for a test
    return soon, late


def left(home) -> tuple[set[bytes], int, int]:
    """(messages, uploads that have not ended, folders of chunks)"""
    with closing(sqlite3.connect(home / "relay.sqlite")) as database:
        messages = {bytes(row[0]) for row in database.execute("SELECT message_id FROM message")}
    return (
        messages,
        asked(home, "SELECT count(*) FROM upload WHERE office != ''"),
        len(list((home / "parts").iterdir())),
    )


def passed(home) -> bool:
    """Whether what expires in two seconds and is kept for one more is due."""
    return time.time() > asked(home, "SELECT max(expires) FROM message") + 1.5


def wait_until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("by", ["the command", "the serving relay itself"])
def test_what_is_due_goes_with_its_chunks_and_what_is_not_stays(tmp_path, monkeypatch, by):
    home = tmp_path / "relay"
    if by == "the serving relay itself":
        monkeypatch.setenv("RELAY_SWEEP_EVERY", "0.3")
    with Serving(home) as serving, closing(serving.world(tmp_path)) as world:
        soon, late = filled(world, a_file(tmp_path, 2))
        if by == "the command":
            assert left(home) == ({soon, late}, 3, 3)
            wait_until(lambda: passed(home))
            swept = relay("sweep", "--data", home, "--json")
            assert json.loads(swept.stdout) == {"v": 1, "messages": 1, "entries": 0}
            assert "1 messages and the contents of 0 entries destroyed" in swept.stderr
        wait_until(lambda: left(home) == ({late}, 1, 1))
        assert serving.process.poll() is None
    relay("check", "--data", home)
    assert soon != late


def test_a_sweep_that_fails_is_told_and_the_next_one_does_its_work(tmp_path, monkeypatch):
    home, away = tmp_path / "relay", tmp_path / "relay" / "away"
    monkeypatch.setenv("RELAY_SWEEP_EVERY", "0.3")
    with Serving(home) as serving, closing(serving.world(tmp_path)) as world:
        (home / "parts").rename(away)  # as a volume that is not mounted
        wait_until(lambda: '"event": "sweep failed", "error": "builtins.FileNotFoundError"' in serving.said())
        away.rename(home / "parts")
        _soon, late = filled(world, a_file(tmp_path, 2))
        wait_until(lambda: left(home) == ({late}, 1, 1))
