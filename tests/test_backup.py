"""A backup taken under load, restored elsewhere: whole, checked against what others hold, and served on; or refused."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import threading
from contextlib import ExitStack, closing
from types import SimpleNamespace
from typing import Self

import pytest

from databases import fresh_database
from forge import Forge, call
from jobs import cheap_entry
from liaison.holding import state_hold
from logcheck import read_checkpoint, verify_all_consistent
from processes import RELAY, Serving, relay, told
from relay.house import commit_alone
from relay.protocol.hold import Action
from relay.settings import Settings
from relay.store.engine import open_readers
from relay.upkeep.backup import write_backup

ANNA, JEAN = "anna.nowak@lo-warsaw", "jean.petit@lo-warsaw"
OFFICERS = ("ewa.lis@lo-warsaw", "ola.zak@lo-warsaw")
PATHS = [
    ("sqlite", "sqlite"),
    pytest.param("sqlite", "postgresql", marks=pytest.mark.postgres),
    pytest.param("postgresql", "sqlite", marks=pytest.mark.postgres),
]


def log_many(batch):
    for _ in range(300):  # more than a tile
        batch.log(cheap_entry())
    return lambda _committed: None


class Load:
    """Posts one after another until told to stop; keeps what was answered."""

    def __init__(self, anna, bodies) -> None:
        self.answers, self._enough = [], threading.Event()
        self._thread = threading.Thread(target=self._run, args=(anna, bodies))

    def _run(self, anna, bodies) -> None:
        for body in bodies:
            self.answers.append(call(anna, "POST", "/v1/messages", body))
            if self._enough.wait(0.02):  # there are bodies for longer than a backup takes
                return

    def __enter__(self) -> Self:
        self._thread.start()
        self._wait_for(3)
        return self

    def __exit__(self, *_: object) -> None:
        self._wait_for(len(self.answers) + 3)  # some come after the backup
        self._enough.set()
        self._thread.join()

    def _wait_for(self, answers: int) -> None:
        while len(self.answers) < answers:
            assert self._thread.is_alive(), "it posted all it had"
            self._thread.join(0.01)


@pytest.mark.parametrize(("source", "target"), PATHS)
def test_a_backup_under_load_is_served_on_elsewhere_and_an_old_one_is_refused(tmp_path, source, target):
    with ExitStack() as stack:
        first, second = (
            stack.enter_context(fresh_database(kind, tmp_path / place))
            for kind, place in ((source, "one"), (target, "two"))
        )
        here, there, file = ("--data", tmp_path / "one"), ("--data", tmp_path / "two"), tmp_path / "backup"
        here, there = (*here, "--database", first), (*there, "--database", second)
        told("migrate", *here)
        with Serving(tmp_path / "one", first) as serving:
            world = stack.enter_context(closing(serving.world(tmp_path)))
            world.office("lo-warsaw", "POL")
            anna, jean = world.device(ANNA), world.device(JEAN)
            anna.sync()
            commit_alone(world.settings, log_many)
            sent = anna.send([JEAN], label="TEST OPEN", body="Before.\n")
            jean.read(sent.message_id)
            jean.acknowledge(sent.message_id)
            officers = [world.device(officer, clearances=[], roles=["security"]) for officer in OFFICERS]
            held_by(officers, sent.message_id)
            forge = Forge(anna).prepare(JEAN, label="TEST OPEN")
            readers = last_resort(world, forge)
            held = tmp_path / "held"
            held.write_bytes(call(anna, "GET", "/v1/log/access/checkpoint").content)
            with Load(anna, [forge.seal(readers=readers).encoded() for _ in range(400)]) as load:
                relay("backup", file, *here)
                relay("check", *here, "--checkpoint", held)
            keys, newer = world.relay.vkeys, tmp_path / "newer"
            newer.write_bytes(call(anna, "GET", "/v1/log/access/checkpoint").content)
        (tmp_path / "two").mkdir(exist_ok=True)
        refused = told("restore", file, *there, "--checkpoint", held, code=1)
        assert "log-keys.json is not there" in refused.stderr
        shutil.copy(tmp_path / "one" / "log-keys.json", tmp_path / "two")
        assert "nothing that others hold" in told("restore", file, *there, code=5).stderr
        refused = told("restore", file, *there, "--checkpoint", newer, code=5).stderr
        assert f"others hold a checkpoint of {newer.read_bytes().split()[1].decode()}" in refused
        relay("restore", file, *there, "--checkpoint", held)
        again = told("restore", file, *there, "--checkpoint", held, code=1).stderr
        assert "needs an empty" in again
        told("check", *there, "--checkpoint", held)
        foreign = tmp_path / "foreign"
        foreign.write_bytes(held.read_bytes().replace(b"/access", b"/excess"))
        for words in (("check",), ("restore", file)):
            refused = told(*words, *there, "--checkpoint", held, "--checkpoint", foreign, code=5).stderr
            assert f"error: {foreign}: a checkpoint of " in refused
        with Serving(tmp_path / "two", second, port=serving.port) as restored:
            after = anna.send([JEAN], label="TEST OPEN", body="After.\n")
            assert jean.read(after.message_id).portions[0].text == "After.\n"
            held_by(officers, after.message_id)
            verify_all_consistent(restored.url, keys, [read_checkpoint(keys, held.read_bytes())])
        assert {answer.status_code for answer in load.answers} == {201}
        assert "the last " in told("check", *there, "--checkpoint", newer, code=5).stdout


def held_by(officers, message_id):
    for number, officer in enumerate(officers, 1):
        assert state_hold(officer, Action.PLACE, message_id, "inquiry 7").word == number


@pytest.fixture(scope="module")
def backup(tmp_path_factory):
    """(folder, file, what others hold): a small relay with one message read, and its backup."""
    folder = tmp_path_factory.mktemp("backup")
    with Serving(folder / "relay") as serving:
        with closing(serving.world(folder)) as world:
            world.office("lo-warsaw", "POL")
            anna, jean = world.device(ANNA), world.device(JEAN)
            anna.sync()
            commit_alone(world.settings, log_many)
            jean.read(anna.send([JEAN], label="TEST OPEN", body="Before.\n").message_id)
            held = folder / "held"
            held.write_bytes(call(anna, "GET", "/v1/log/access/checkpoint").content)
        told("backup", folder / "file", "--data", folder / "relay")
    return folder, folder / "file", held


@pytest.fixture
def place(backup, tmp_path):
    shutil.copy(backup[0] / "relay" / "log-keys.json", tmp_path)
    return tmp_path


CUTS = {
    "the last octet": lambda octets: octets[:-1],
    "the second half": lambda octets: octets[: len(octets) // 2],
    "a bit": lambda octets: octets[:5000] + bytes([octets[5000] ^ 1]) + octets[5001:],
    "its end": lambda octets: octets + b"x",
    "everything": lambda _octets: b"",
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_backup_that_is_cut_off_or_altered_restores_nothing(backup, place, cut):
    _folder, file, held = backup
    (place / "harmed").write_bytes(CUTS[cut](file.read_bytes()))
    words = ("restore", place / "harmed", "--data", place, "--checkpoint", held)
    assert told(*words, code=None).exit_code in {1, 5}
    assert not list(place.glob("relay.sqlite*"))


def test_a_backup_of_another_relay_is_refused(backup, tmp_path):
    _folder, file, held = backup
    told("migrate", "--data", tmp_path / "other")
    (tmp_path / "other" / "relay.sqlite").unlink()
    refused = told("restore", file, "--data", tmp_path / "other", "--checkpoint", held, code=5)
    assert "not signed by" in refused.stderr
    told("restore", file, "--data", tmp_path / "other", "--accept-loss", code=5)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_restore_beside_a_file_of_another_database_is_refused_and_the_file_stays(backup, place, suffix):
    _folder, file, held = backup
    left = place / f"relay.sqlite{suffix}"
    left.write_bytes(b"another's")
    refused = told("restore", file, "--data", place, "--checkpoint", held, code=1)
    assert f"{left} exists" in refused.stderr
    assert [path.read_bytes() for path in place.glob("relay.sqlite*")] == [b"another's"]


def test_a_backup_that_overtakes_another_to_the_same_file_harms_neither_it_nor_a_file_of_nobodys(backup, tmp_path):
    folder, _file, _held = backup
    settings, target, others = Settings(data=folder / "relay"), tmp_path / "nightly", tmp_path / "nightly.new"
    others.write_bytes(b"another's")
    whole = []

    def overtake(*_: object) -> None:
        if not whole:
            whole.append(b"")
            write_backup(settings, target, lambda *_: None)
            whole[0] = target.read_bytes()

    write_backup(settings, target, overtake)
    assert len(target.read_bytes()) == len(whole[0]) > 0
    assert others.read_bytes() == b"another's"
    assert sorted(tmp_path.iterdir()) == [target, others]


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_backup_takes_the_place_of_no_device_pipe_or_link(backup, tmp_path, kind):
    folder, target = backup[0], tmp_path / "target"
    if kind == "pipe":
        os.mkfifo(target)
    else:
        target.symlink_to(tmp_path / "elsewhere")
    mode = target.lstat().st_mode
    refused = told("backup", target, "--data", folder / "relay", code=1)
    assert f"{target} is no regular file" in refused.stderr
    assert "hint: " in refused.stderr
    assert target.lstat().st_mode == mode
    assert list(tmp_path.iterdir()) == [target]


def test_a_backup_goes_to_standard_output_and_is_restored_from_there(backup, tmp_path, place):
    folder, _file, held = backup
    ran = subprocess.run(
        [RELAY, "backup", "-", "--data", folder / "relay"], capture_output=True, cwd=tmp_path, timeout=60, check=True
    )
    assert list(tmp_path.iterdir()) == [place / "log-keys.json"]
    (tmp_path / "piped").write_bytes(ran.stdout)
    told("restore", tmp_path / "piped", "--data", place, "--checkpoint", held)


def test_an_accepted_loss_is_told(backup, place):
    _folder, file, _held = backup
    said = told("restore", file, "--data", place, "--accept-loss").stderr
    assert "warning: nothing that others hold was compared" in said
    told("check", "--data", place)


HARMS = {
    "access log, entry 7: the leaf hash": "UPDATE log_entry SET entry = zeroblob(9) WHERE log = 2 AND idx = 7",
    "access log, entry 5: the leaf hash is not that": "UPDATE log_entry SET leaf_hash = x'80' WHERE log = 2 AND idx = 5",
    "directory log, entry 3: the leaf hash is not that": "UPDATE log_entry SET leaf_hash = zeroblob(33) WHERE log = 1 AND idx = 3",
    "access log, entry 4: the leaf hash is none": "UPDATE log_entry SET leaf_hash = x'', entry = NULL WHERE log = 2 AND idx = 4",
    "access log: has no head": "UPDATE log_head SET log = 3 WHERE log = 2",
    "log_head of log 3: is of no log": "UPDATE log_head SET log = 3 WHERE log = 1",
    "checkpoint of log 0: is of no log": "UPDATE checkpoint SET log = 0 WHERE log = 2 AND size = 0",
    "access log, entry 6: was erased, and no record says so": "UPDATE log_entry SET entry = NULL, office = '', concerns = '' WHERE log = 2 AND idx = 6",
    "access log, entry 8: is missing": "DELETE FROM log_entry WHERE log = 2 AND idx = 8",
    "access log, node 0 of level 1": "UPDATE log_node SET hash = zeroblob(32) WHERE log = 2",
    "access log, checkpoint of": "UPDATE checkpoint SET note = (SELECT note FROM checkpoint WHERE log = 2 AND size = 0) WHERE log = 2 AND size > 0",
    "directory log, entry 1: directory entry": "UPDATE log_entry SET entry = NULL WHERE log = 1 AND idx = 1",
    "is beyond the head": "UPDATE log_head SET size = size - 1 WHERE log = 2",
    "its bytes do not hash to its ref": "UPDATE message SET ref = zeroblob(32)",
    "its columns are not those of its bytes": "UPDATE message SET precedence = 5",
    "and the device is": "UPDATE log_entry SET entry = renamed(entry) WHERE log = 2",
    "that it accepts is not stored": "DELETE FROM message",
    "part 0: is not of the digest": "UPDATE part SET sealed = zeroblob(100)",
    "has parts []": "DELETE FROM part",
    "slot 0: ": "UPDATE slot SET encoded = zeroblob(100)",
    "is not marked as released by it": "UPDATE slot SET released = NULL",
    "is not its open entry": "UPDATE slot SET released = 3",
    "the receipt that it logs": "DELETE FROM receipt",
    "has no row of message_place": "DELETE FROM message_place",
    "is not what its row in message_place says": "UPDATE message_place SET seq = seq + 1",
    "is not in the directory log": "UPDATE key_batch SET device_id = zeroblob(16)",
    "key package": "UPDATE key_package SET not_after = 1",
    "is missing; a policy": "DELETE FROM document",
    "is not of its digest": "UPDATE document SET content = zeroblob(3)",
}


def harmed(folder, target, statement: str) -> None:
    """A copy of the relay in `target`, its database changed by that statement."""
    shutil.copy(folder / "relay" / "log-keys.json", target)
    with (
        sqlite3.connect(folder / "relay" / "relay.sqlite") as whole,
        sqlite3.connect(target / "relay.sqlite") as copy,
    ):
        whole.backup(copy)
    copy.create_function("renamed", 1, lambda entry: entry.replace(ANNA.encode(), ANNA[::-1].encode()))
    copy.execute(statement)
    copy.commit()
    whole.close()
    copy.close()


@pytest.mark.parametrize("harm", HARMS)
def test_check_names_the_place_of_what_does_not_hold(backup, tmp_path, harm):
    folder, _file, _held = backup
    harmed(folder, tmp_path, HARMS[harm])
    said = told("check", "--data", tmp_path, code=5)
    assert harm in said.stdout, said.stdout


@pytest.mark.parametrize(
    ("harm", "heads"),
    [("UPDATE log_head SET log = 3 WHERE log = 2", "[1, 3]"), ("DELETE FROM log_head WHERE log = 1", "[2]"),
     ("INSERT INTO log_head VALUES (3, 0)", "[1, 2, 3]")],
)  # fmt: skip
def test_a_database_with_the_heads_of_other_logs_is_not_served_and_the_line_says_why(backup, tmp_path, harm, heads):
    folder, _file, _held = backup
    harmed(folder, tmp_path, harm)
    # Serving changes its process, and so has one of its own.
    for run, words in ((relay, ["serve", "--port", "0"]), (told, ["sweep"]), (told, ["backup", tmp_path / "file"])):
        refused = run(*words, "--data", tmp_path, code=1).stderr
        assert f"the database has the heads of logs {heads}" in refused
        assert "relay check" in refused


def last_resort(world, forge):
    """The planned readers with their last-resort keys, read from the database of another process."""
    readers = open_readers(world.settings.database_url)
    found = forge.last_resort(SimpleNamespace(relay=SimpleNamespace(_readers=readers)))
    readers.dispose()
    return found
