"""Large parts in a backup: restored with their message, from files or a bucket, into files or a bucket; or not at all."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from contextlib import closing

import httpx2
import pytest

from buckets import s3_bucket
from forge import call
from large_parts import a_file, sha256
from liaison.meter import no_meter
from liaison.sealed import save
from processes import Serving, relay
from relay.protocol.canonical import decode, encode
from relay.protocol.parts import CHUNK
from world import clearance

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-warsaw"


@pytest.fixture(scope="module")
def bucket():
    with s3_bucket() as url:
        yield url


def sent_film(folder, home):
    """(port, film, message, world): a relay with a large part, and half of another, backed up to `folder`/backup."""
    with Serving(home) as serving:
        world = serving.world(folder)
        world.office("lo-warsaw", "POL")
        anna, _jean = (world.device(each, clearances=[clearance(nations=["POL"])]) for each in (ANNA, JEAN))
        film = a_file(folder, 9)
        sent = anna.send([JEAN], label="TEST OPEN", body="Film.\n", attachments=[film]).message_id
        half = encode([bytes(32), CHUNK + 1])
        assert decode(call(anna, "POST", "/v1/parts", half).content) == [0, 1]
        assert call(anna, "PUT", f"/v1/parts/{bytes(32).hex()}/0", os.urandom(CHUNK)).status_code == 200
        relay("backup", folder / "backup", "--data", home)
    return serving.port, film, sent, world


def restored_place(folder, home, code=0):
    home.mkdir()
    shutil.copy(folder / "one" / "log-keys.json", home)
    return relay("restore", folder / "backup", "--data", home, "--accept-loss", code=code)


@pytest.mark.parametrize("places", [("files", "files"), ("files", "bucket"), ("bucket", "files")])
def test_a_reader_downloads_the_part_from_the_restored_relay(tmp_path, monkeypatch, request, places):
    def at(place, name):
        if place == "bucket":
            monkeypatch.setenv("RELAY_PARTS", f"{request.getfixturevalue('bucket')}-{name}-{os.getpid()}")
        else:
            monkeypatch.delenv("RELAY_PARTS", raising=False)

    at(places[0], "one")
    port, film, sent, world = sent_film(tmp_path, tmp_path / "one")
    shutil.rmtree(tmp_path / "one" / "parts", ignore_errors=True)
    at(places[1], "two")
    restored_place(tmp_path, tmp_path / "two")
    relay("check", "--data", tmp_path / "two")
    with closing(sqlite3.connect(tmp_path / "two" / "relay.sqlite")) as database:
        assert database.execute("SELECT count(*) FROM upload").fetchone() == (1,)  # the other was not taken up
    with Serving(tmp_path / "two", port=port), closing(world):
        jean = world.clients[JEAN]
        save(jean.read(sent).portions[1], tmp_path / "copy", no_meter)
    assert sha256(tmp_path / "copy") == sha256(film)


@pytest.fixture(scope="module")
def backup(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backup-parts")
    sent_film(folder, folder / "one")[3].close()
    return folder


def test_a_backup_without_one_of_the_chunks_is_refused_and_leaves_no_file(backup, tmp_path):
    shutil.copytree(backup / "one", tmp_path / "one")
    (chunk,) = (tmp_path / "one" / "parts").glob("*/2")
    chunk.unlink()
    refused = relay("backup", tmp_path / "file", "--data", tmp_path / "one", code=5).stderr
    assert f"chunk 2 of {chunk.parent.name} is missing" in refused
    assert not list(tmp_path.glob("file*"))


def test_a_restore_where_chunks_of_its_uploads_lie_is_refused_and_they_stay(backup, tmp_path):
    home = tmp_path / "home"
    lying = shutil.copytree(backup / "one" / "parts", tmp_path / "parts")
    before = {path: path.read_bytes() for path in lying.glob("*/*")}
    home.mkdir()
    shutil.copy(backup / "one" / "log-keys.json", home)
    words = ("restore", backup / "backup", "--data", home, "--accept-loss")
    refused = relay(*words, code=1, RELAY_PARTS=lying).stderr
    assert re.search("error: chunks of [0-9a-f]{32} lie where", refused)
    assert {path: path.read_bytes() for path in lying.glob("*/*")} == before
    assert not list(home.glob("relay.sqlite*"))
    relay(*words)


@pytest.mark.parametrize("other", ["another relay", "an earlier state, restored"])
def test_a_second_database_at_the_same_place_removes_nothing_of_the_first(backup, tmp_path, other):
    home = tmp_path / "home"
    lying = shutil.copytree(backup / "one" / "parts", tmp_path / "parts")
    before = {path: path.read_bytes() for path in lying.glob("*/*")}
    if other == "another relay":
        relay("migrate", "--data", home)
    else:
        restored_place(backup, home)
        with closing(sqlite3.connect(home / "relay.sqlite")) as database, database:
            database.execute("UPDATE part SET upload_id = NULL")
            database.execute("DELETE FROM upload")  # the state before it was sent
    relay("sweep", "--data", home, RELAY_PARTS=lying)
    assert {path: path.read_bytes() for path in lying.glob("*/*")} == before


def test_a_restore_refused_by_the_logs_takes_its_chunks_away_again(backup, tmp_path):
    newer = tmp_path / "newer"
    home = tmp_path / "home"
    shutil.copytree(backup / "one", tmp_path / "ahead")
    with Serving(tmp_path / "ahead") as serving, closing(serving.world(tmp_path)) as world:
        world.office("lo-oslo", "NOR")
        newer.write_bytes(httpx2.get(f"{serving.url}/v1/log/directory/checkpoint").content)
    home.mkdir()
    shutil.copy(backup / "one" / "log-keys.json", home)
    refused = relay("restore", backup / "backup", "--data", home, "--checkpoint", newer, code=5).stderr
    assert "others hold a checkpoint of" in refused
    assert not list((home / "parts").iterdir())
