"""A relay whose logs three witnesses cosign: real ones, in processes of their own."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import shutil
import socket
import time

import httpx2
import pytest

from answering import answering
from liaison.trust import ACCESS, DIRECTORY
from logcheck import read_checkpoint
from relay.cosigning import Cosigning
from relay.house import open_relay
from relay.observe import JsonLines
from relay.protocol.errors import LiaisonError
from relay.protocol.note import parse_vkey
from relay.protocol.witness_policy import cosigned_at, parse_witness_policy, verify_witnessed
from relay.settings import Settings
from relay.store.log import Log
from witnessed import ANNA, JEAN, LABEL, cosigned, cosigned_by, eventually, newest, size_of, up_to_date
from witnesses import policy, witnesses
from world import serving, world


@pytest.fixture
def anna(witnessed):
    return witnessed.clients[ANNA]


@pytest.mark.parametrize("log", [DIRECTORY, ACCESS])
def test_the_newest_checkpoint_is_soon_served_with_its_cosignatures(witnessed, anna, log):
    anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(witnessed)
    note = cosigned(witnessed, log)
    verifiers = [key for key in map(parse_vkey, witnessed.relay.vkeys) if key.name.endswith(log)]
    found = verify_witnessed(note, verifiers, witnessed.relay.witness_policy, int(time.time()), 60)
    assert found == read_checkpoint(witnessed.relay.vkeys, note, log)


def test_an_unchanged_checkpoint_is_cosigned_anew(witnessed):
    up_to_date(witnessed)
    known = [each.verifier for each in witnessed.relay.witness_policy.witnesses.values()]
    before = max(cosigned_at(cosigned(witnessed), known).values())
    eventually(lambda: max(cosigned_at(cosigned(witnessed), known).values()) > before)


def test_a_dead_witness_delays_nothing_and_comes_back(witnessed, anna, three_witnesses):
    _folder, some = three_witnesses
    dead = some[2]
    dead.kill()
    anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(witnessed)
    assert b"witness.example/w2" not in cosigned(witnessed)
    dead.start()
    eventually(lambda: cosigned(witnessed).count(b"witness.example/w2") == 2)


def test_without_enough_witnesses_messages_go_on_and_the_last_good_checkpoint_stays(witnessed, anna, three_witnesses):
    _folder, some = three_witnesses
    up_to_date(witnessed)
    for dead in some[1:]:
        dead.kill()
    eventually(lambda: b"witness.example/w0" in cosigned(witnessed))
    before = size_of(newest(witnessed))
    for _ in range(3):
        anna.send([JEAN], label=LABEL, body="All quiet.")
    assert size_of(newest(witnessed)) > before
    assert size_of(cosigned(witnessed)) < size_of(newest(witnessed))
    assert cosigned(witnessed).count("—".encode()) >= 2 + 4
    for dead in some[1:]:
        dead.start()
    up_to_date(witnessed)


@pytest.fixture
def said():
    """The lines that an operator would read, so far."""
    lines, relay = io.StringIO(), logging.getLogger("relay")
    handler = logging.StreamHandler(lines)
    handler.setFormatter(JsonLines())
    relay.addHandler(handler)
    yield lambda: [json.loads(line) for line in lines.getvalue().splitlines()]
    relay.removeHandler(handler)


def test_a_witness_that_never_answers_stops_nobody(witnessed, anna, three_witnesses):
    """It takes the connection and says nothing: the others' cosignatures are served meanwhile."""
    _folder, some = three_witnesses
    with socket.create_server(("127.0.0.1", 0)) as silent:
        lines = policy(some, 2).decode().replace(some[0].url, f"http://127.0.0.1:{silent.getsockname()[1]}")
        slow = parse_witness_policy(lines.encode())
        up_to_date(witnessed)
        size = size_of(newest(witnessed))
        cosigning = Cosigning(witnessed.relay, slow, interval=0.02)
        cosigning.start()
        anna.send([JEAN], label=LABEL, body="All quiet.")
        eventually(lambda: size_of(cosigned(witnessed)) > size)
        cosigning.close()


def test_a_round_that_fails_is_told_and_the_next_one_is_made(witnessed, anna, monkeypatch, caplog):
    keep, failed = witnessed.relay.keep_cosigned, []

    async def fail_once(log, note):
        if failed:
            return await keep(log, note)
        failed.append(log)
        raise ZeroDivisionError

    up_to_date(witnessed)
    monkeypatch.setattr(witnessed.relay, "keep_cosigned", fail_once)
    anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(witnessed)
    assert (len(failed), "cosigning failed" in caplog.text) == (1, True)


def test_a_log_that_went_back_is_told_to_the_operator_and_not_cosigned(tmp_path, said):
    relay = open_relay(Settings(data=tmp_path / "relay"))
    vkeys = relay.vkeys
    relay.close()
    shutil.copytree(tmp_path / "relay", tmp_path / "earlier")
    with witnesses(tmp_path, "\n".join(vkeys), 1) as (only,):
        (tmp_path / "policy").write_bytes(policy([only], 1))
        with world(tmp_path, witness_policy=tmp_path / "policy") as built, cosigned_by(built):
            built.office("lo-warsaw", "POL")
            up_to_date(built)
        shutil.rmtree(tmp_path / "relay")
        (tmp_path / "earlier").rename(tmp_path / "relay")
        with world(tmp_path, witness_policy=tmp_path / "policy") as built, cosigned_by(built):
            eventually(lambda: any("our directory log, which has 0" in line.get("reason", "") for line in said()))
            assert b"witness.example" not in cosigned(built, "directory")
        told = next(line for line in said() if "which has 0" in line.get("reason", ""))
        assert (told["level"], told["event"]) == ("error", "witness disagrees")
        assert told["reason"].startswith("witness 1 of the policy: ")


def test_a_witness_that_is_away_is_told_of_as_that(witnessed, anna, three_witnesses, said):
    """Not as one that saw another history."""
    _folder, some = three_witnesses
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        gone = f"http://127.0.0.1:{nobody.getsockname()[1]}"
    away = parse_witness_policy(policy(some, 1).decode().replace(some[0].url, gone).encode())
    cosigning = Cosigning(witnessed.relay, away, interval=0.02)
    cosigning.start()
    eventually(lambda: [line["event"] for line in said() if "witness" in line["event"]] == ["witness away"] * 2)
    cosigning.close()


def test_a_witness_that_packs_its_answer_is_not_unpacked(witnessed, three_witnesses, said):
    _folder, some = three_witnesses
    with answering(b"nonsense", content_encoding="gzip") as packing:
        lines = policy(some, 1).decode().replace(some[0].url, packing.url)
        cosigning = Cosigning(witnessed.relay, parse_witness_policy(lines.encode()), interval=0.02)
        cosigning.start()
        eventually(lambda: any("witness 1" in line["reason"] for line in said() if line["event"] == "witness away"))
        cosigning.close()
    assert all("Malformed" in line["reason"] for line in said() if line["event"] == "witness away")
    assert {heard["accept-encoding"] for heard in packing.heard} == {"identity"}


def test_a_cosigned_checkpoint_does_not_give_way_to_an_older_one(witnessed, anna):
    up_to_date(witnessed)
    older = cosigned(witnessed)
    anna.send([JEAN], label=LABEL, body="All quiet.")
    up_to_date(witnessed)
    asyncio.run(witnessed.relay.keep_cosigned(Log.ACCESS, older))
    assert size_of(cosigned(witnessed)) > size_of(older)


def test_a_policy_that_its_witnesses_cannot_meet_is_refused_at_the_start(witnessed, three_witnesses):
    without = "\n".join(
        line.replace(f" {three_witnesses[1][0].url}", "") for line in policy(three_witnesses[1], 3).decode().split("\n")
    )
    with pytest.raises(LiaisonError, match="cannot be met"):
        Cosigning(witnessed.relay, parse_witness_policy(without.encode()))


def test_a_restarted_relay_serves_the_cosigned_checkpoint_that_it_kept(witnessed, tmp_path):
    up_to_date(witnessed)
    shutil.copytree(witnessed.settings.data, tmp_path / "relay")
    settings = Settings(data=tmp_path / "relay", witness_policy=witnessed.folder / "policy")
    with serving(settings) as (_relay, url):
        assert b"witness.example" in httpx2.get(f"{url}/v1/log/access/checkpoint").content
    with serving(Settings(data=tmp_path / "relay")) as (_relay, url):  # without witnesses, none is promised
        assert b"witness.example" not in httpx2.get(f"{url}/v1/log/access/checkpoint").content
