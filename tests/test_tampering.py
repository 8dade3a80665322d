"""What a dishonest operator does to the log's database file, and that `liaison audit verify` says where.

The relay is a real process, the auditor's commands run in this one; the file is edited with plain sqlite3, the relay
stopped or serving on. The operator has the keys that sign the logs, and signs again whatever he has changed.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from liaison.cli import main
from processes import RELAY
from relay.protocol.identity import Kind
from served import Served
from tampering import DAY, back_date, copied, drop, edit, fork, reorder, signed, tampered, truncate
from world import PASSPHRASE, clearance

ANNA, EWA = "anna.nowak@lo-warsaw", "ewa.lis@lo-warsaw"
LABEL = "TEST SEALED RELEASABLE TO FRA, POL"
FULL = [clearance(nations=["FRA", "POL"])]


@dataclass(frozen=True)
class Scene:
    """A stopped relay, and profiles of auditors who verified its log when it had `held` entries, or never."""

    folder: Path
    listening: socket.socket
    held: int
    earlier: int  # entries of the backup `earlier`
    size: int


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tampering")
    (folder / "passphrase").write_text(PASSPHRASE)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        relay = Served(folder / "relay", listening=listening).start()
        try:
            built = relay.world(folder)
            built.office("lo-warsaw", "POL")
            built.device(ANNA, clearances=FULL)
            built.device(EWA, clearances=FULL)
            for name in ("auditor", "newcomer"):
                built.device(f"{name}@lo-warsaw", clearances=[], kind=Kind.AUDITOR, name=name)
            work(built.clients)
            earlier = copied(folder / "relay", folder / "earlier")
            work(built.clients)
            held = json.loads(verified(folder, "auditor", "--json").stdout)["entries"]
            work(built.clients)
            built.close()
            assert relay.stop() == 0
            size = copied(folder / "relay", folder / "stopped")
            assert earlier < held < size < 256
            yield Scene(folder, listening, held, earlier, size)
        finally:
            relay.kill()


def work(clients):
    sent = clients[ANNA].send([EWA], label=LABEL, body="Ferry at dawn.")
    clients[EWA].read(sent.message_id)
    clients[EWA].acknowledge(sent.message_id)


def told(folder, profile, *words, code=0):
    """The program run by the owner of this profile; it must end with this code."""
    given = {"LIAISON_HOME": str(profile), "LIAISON_PASSPHRASE_FILE": str(folder / "passphrase")}
    ran = CliRunner().invoke(main, [*map(str, words)], env=given)
    assert ran.exit_code == code, (words, ran.exit_code, ran.stdout, ran.stderr)
    return ran


def verified(folder, profile, *words, code=0):
    return told(folder, folder / profile, "audit", "verify", *words, code=code)


@contextmanager
def serving(scene, tmp_path, edit=lambda _connection, _data: None, *, data="stopped"):
    """The relay of the scene, started again on a copy of its data that was edited; the folder of the profiles."""
    copied(scene.folder / data, tmp_path / "relay")
    tampered(tmp_path / "relay", edit)
    for profile in ("auditor", "newcomer", ANNA, EWA):
        shutil.copytree(scene.folder / profile, tmp_path / profile)
    shutil.copy(scene.folder / "passphrase", tmp_path)
    relay = Served(tmp_path / "relay", listening=scene.listening).start()
    try:
        yield tmp_path
    finally:
        relay.kill()


def found(folder, *words, profile="auditor"):
    """What `audit verify` says of a log that does not hold. It ends with 5, and the alarm stays."""
    said = verified(folder, profile, *words, code=5).stderr
    assert "unresolved alarm" in verified(folder, profile, code=5).stderr
    return said


def test_a_log_that_nobody_touched_holds(scene, tmp_path):
    with serving(scene, tmp_path) as folder:
        assert json.loads(verified(folder, "auditor", "--json").stdout)["entries"] == scene.size
        verified(folder, "newcomer")


@pytest.mark.parametrize("change", [edit, drop, reorder])
def test_a_change_that_was_signed_is_found_at_its_entry(scene, tmp_path, change):
    with serving(scene, tmp_path, signed(change)) as folder:
        assert "entry 5 of the access log is not the one that was pulled before" in found(folder)


@pytest.mark.parametrize("change", [edit, drop, reorder])
def test_a_change_under_a_relay_that_serves_on_is_found_at_its_entry(scene, tmp_path, change):
    with serving(scene, tmp_path) as folder:
        tampered(folder / "relay", change)
        assert "entry 5 of the access log is not the one that was pulled before" in found(folder)


@pytest.mark.parametrize("change", [edit, drop, reorder])
def test_nothing_is_served_of_a_change_that_was_not_signed(scene, tmp_path, change):
    copied(scene.folder / "stopped", tmp_path / "relay")
    tampered(tmp_path / "relay", change)
    command = [RELAY, "serve", "--data", tmp_path / "relay", "--port", "0"]
    ran = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ran.returncode != 0
    assert b"the rows of the access log are not those that its checkpoint signed" in ran.stderr


def test_one_who_never_came_before_is_told_the_entry_that_is_not_of_its_hash(scene, tmp_path):
    def edit_but_keep_the_hash(connection, data):
        (leaf,) = connection.execute("SELECT leaf_hash FROM log_entry WHERE log = 2 AND idx = 5").fetchone()
        edit(connection, data)
        connection.execute("UPDATE log_entry SET leaf_hash = ? WHERE log = 2 AND idx = 5", (leaf,))

    with serving(scene, tmp_path, edit_but_keep_the_hash) as folder:
        assert "entry 5 of the access log does not hold" in found(folder, profile="newcomer")


def test_a_truncated_log_is_found_with_its_two_sizes(scene, tmp_path):
    left = scene.held - 4
    with serving(scene, tmp_path, signed(truncate(left))) as folder:
        assert f"went back from {scene.held} entries to {left}" in found(folder)


def test_a_database_rolled_back_to_a_backup_is_found_with_its_two_sizes(scene, tmp_path):
    with serving(scene, tmp_path, data="earlier") as folder:
        assert f"went back from {scene.held} entries to {scene.earlier}" in found(folder)


@pytest.mark.parametrize("longer", [False, True], ids=["shorter", "longer"])
def test_another_history_is_found_at_the_entry_where_it_parts(scene, tmp_path, longer):
    size = scene.size if longer else scene.held - 2
    with serving(scene, tmp_path, signed(fork(7, size))) as folder:
        assert "entry 7 of the access log is not the one that was pulled before" in found(folder)


def test_two_auditors_find_the_fork_between_them_by_their_checkpoints(scene, tmp_path):
    """Each alone sees a log that holds: one has never seen the other's history."""
    with serving(scene, tmp_path / "theirs", signed(fork(scene.held, scene.size - 1))) as folder:
        verified(folder, "newcomer")
        shown = told(folder, folder / "newcomer", "status", "--checkpoint", "access").stdout_bytes
    with serving(scene, tmp_path / "ours") as folder:
        verified(folder, "auditor")  # whose look is one more entry
        (folder / "theirs.checkpoint").write_bytes(shown)
        said = found(folder, "--checkpoint", folder / "theirs.checkpoint")
    assert f"others were shown {scene.size - 1} entries, we {scene.size + 1}" in " ".join(said.split())


def test_an_entry_that_is_back_dated_is_found_though_it_was_signed(scene, tmp_path):
    with serving(scene, tmp_path, signed(back_date(scene.held + 1))) as folder:
        for profile in ("auditor", "newcomer"):
            assert f"entry {scene.held + 1} of the access log is dated before an earlier one" in found(
                folder, profile=profile
            )


def test_an_entry_that_is_dated_ahead_is_found_by_the_time_in_the_signature_over_it(scene, tmp_path):
    with serving(scene, tmp_path, signed(back_date(scene.held + 1, -DAY))) as folder:
        for profile in ("auditor", "newcomer"):
            said = " ".join(found(folder, profile=profile).split())
            assert f"entry {scene.held + 1} of the access log is dated after a tree of " in said
