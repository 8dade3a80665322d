"""What a dishonest operator does to the log's database file, and that `liaison audit verify` says where.

The relay is a real process, the auditor's commands run in this one; the file is edited with plain sqlite3, the relay
stopped or serving on. The operator has the keys that sign the logs, and signs again whatever he has changed.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from liaison.cli import main
from relay.house import migrate, prepare_data
from relay.logkeys import load_log_keys
from relay.pipeline.batch import Job
from relay.pipeline.committer import Committer
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import Change, parse_access_entry, parse_directory_entry
from relay.protocol.errors import LiaisonError
from relay.protocol.identity import REVOCATION, Kind, read_revocation
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.settings import Settings
from relay.store.engine import open_readers, open_writer
from relay.store.migrate import relay_name
from served import Served
from test_relay_concurrency import log_one
from world import PASSPHRASE, clearance, world

RELAY = Path(sys.executable).parent / "relay"
ANNA, EWA = "anna.nowak@lo-warsaw", "ewa.lis@lo-warsaw"
LABEL = "TEST SEALED RELEASABLE TO FRA, POL"
FULL = [clearance(nations=["FRA", "POL"])]
DAY = 86_400_000
OTHER_LINE = "\u2014 nobody AAAAAAA=\n".encode()


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


def copied(data, into) -> int:
    """Back up a relay's data; the size of its access log."""
    into.mkdir(parents=True, exist_ok=True)
    source, target = sqlite3.connect(data / "relay.sqlite"), sqlite3.connect(into / "relay.sqlite")
    source.backup(target)
    (size,) = target.execute("SELECT size FROM log_head WHERE log = 2").fetchone()
    source.close()
    target.close()
    shutil.copy(data / "log-keys.json", into)
    return size


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


def tampered(data, edit):
    connection = sqlite3.connect(data / "relay.sqlite", timeout=30)
    edit(connection, data)
    connection.commit()
    connection.close()


def found(folder, *words, profile="auditor"):
    """What `audit verify` says of a log that does not hold. It ends with 5, and the alarm stays."""
    said = verified(folder, profile, *words, code=5).stderr
    assert "unresolved alarm" in verified(folder, profile, code=5).stderr
    return said


# -- what the operator does -------------------------------------------------------------------------------------------


def rewrite(connection, index, **changes):
    (encoded,) = connection.execute("SELECT entry FROM log_entry WHERE log = 2 AND idx = ?", (index,)).fetchone()
    forged = replace(parse_access_entry(encoded), **changes).encoded()
    row = (forged, leaf_hash(forged), index)
    connection.execute("UPDATE log_entry SET entry = ?, leaf_hash = ? WHERE log = 2 AND idx = ?", row)


def edit(connection, _data):
    rewrite(connection, 5, address="somebody.else@lo-warsaw")


def drop(connection, _data):
    """Gone, and those after it moved up."""
    connection.execute("DELETE FROM log_entry WHERE log = 2 AND idx = 5")
    connection.execute("UPDATE log_entry SET idx = -idx WHERE log = 2 AND idx > 5")
    connection.execute("UPDATE log_entry SET idx = -idx - 1 WHERE log = 2 AND idx < 0")


def reorder(connection, _data):
    for old, new in ((5, -5), (6, 5), (-5, 6)):
        connection.execute("UPDATE log_entry SET idx = ? WHERE log = 2 AND idx = ?", (new, old))


def truncate(size):
    return lambda connection, _data: connection.execute("DELETE FROM log_entry WHERE log = 2 AND idx >= ?", (size,))


def fork(first, size):
    """From `first` on another history, of `size` entries."""

    def rewrite_all(connection, data):
        truncate(size)(connection, data)
        for index in range(first, size):
            rewrite(connection, index, salt=os.urandom(16))

    return rewrite_all


def back_date(index, milliseconds=DAY):
    def date(connection, _data):
        rewrite(connection, index, time=int(time.time() * 1000) - milliseconds)

    return date


def signed(change):
    """And a checkpoint by the relay's own keys over what it comes to, with no trace of the old ones."""

    def change_and_sign(connection, data):
        change(connection, data)
        leaves = connection.execute("SELECT leaf_hash FROM log_entry WHERE log = 2 ORDER BY idx").fetchall()
        tree = MerkleTree(leaf for (leaf,) in leaves)
        (name,) = connection.execute("SELECT value FROM setting WHERE name = 'name'").fetchone()
        keys = load_log_keys(data / "log-keys.json")
        note = keys.sign_checkpoint(f"{name}/access", tree.size, tree.root(), int(time.time()))
        connection.execute("DELETE FROM checkpoint WHERE log = 2")
        connection.execute("INSERT INTO checkpoint (log, size, note) VALUES (2, ?, ?)", (tree.size, note))
        connection.execute("UPDATE log_head SET size = ? WHERE log = 2", (tree.size,))

    return change_and_sign


# -- that it is found, and where --------------------------------------------------------------------------------------


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


# -- that the relay itself does not go on -----------------------------------------------------------------------------


@pytest.fixture
def committer(tmp_path):
    """One that has served: it knows of three entries."""
    settings = Settings(data=tmp_path / "relay")
    migrate(settings)
    writer, readers = open_writer(settings.database_url), open_readers(settings.database_url)
    made = Committer(writer, readers, prepare_data(settings), relay_name(readers))
    assert [each.error for each in made.commit([Job(log_one)] * 3)] == [None] * 3
    yield made
    made.close()
    readers.dispose()


def grow(connection, _data):
    """As another host would: one entry more."""
    connection.execute(
        "INSERT INTO log_entry (log, idx, leaf_hash, entry, office, concerns) "
        "SELECT log, idx + 1, leaf_hash, entry, office, concerns FROM log_entry WHERE log = 2 ORDER BY idx DESC LIMIT 1"
    )


def grow_elsewhere(connection, data):
    """From a copy that lacks what was answered here."""
    rewrite(connection, 2, address="somebody.else@lo-warsaw")
    grow(connection, data)


def unsigned(connection, data):
    """The root is right, and nobody has signed it."""
    signed(grow)(connection, data)
    (note,) = connection.execute("SELECT note FROM checkpoint WHERE log = 2").fetchone()
    text = note.partition(b"\n\n")[0]
    connection.execute("UPDATE checkpoint SET note = ? WHERE log = 2", (text + b"\n\n" + OTHER_LINE,))


def signed_before(connection, data):
    """An older note of ours where the newest belongs."""
    (note,) = connection.execute("SELECT note FROM checkpoint WHERE log = 2 AND size = 3").fetchone()
    signed(grow)(connection, data)
    connection.execute("UPDATE checkpoint SET note = ? WHERE log = 2", (note,))


def lost(connection, data):
    signed(grow)(connection, data)
    connection.execute("DELETE FROM log_entry WHERE log = 2 AND idx = 3")


@pytest.mark.parametrize("change", [signed(grow_elsewhere), unsigned, signed_before, lost])
def test_nothing_is_signed_over_what_others_wrote_and_our_keys_did_not_sign_however_often_it_is_asked(
    committer, tmp_path, change
):
    tampered(tmp_path / "relay", change)
    for jobs in ([Job(log_one)], [Job(log_one)] * 2, [Job(log_one)]):
        for outcome in committer.commit(jobs):
            assert type(outcome.error) is LiaisonError
            assert "not those that its checkpoint signed" in str(outcome.error)
    with closing(sqlite3.connect(tmp_path / "relay" / "relay.sqlite")) as connection:
        assert connection.execute("SELECT max(size) FROM checkpoint WHERE log = 2").fetchone() == (4,)


def test_what_another_host_wrote_and_signed_is_gone_on_from(committer, tmp_path):
    tampered(tmp_path / "relay", signed(grow))
    (outcome,) = committer.commit([Job(log_one)])
    assert outcome.value.index == 4


@pytest.fixture(scope="module")
def revoked(tmp_path_factory):
    """Data of a stopped relay before and after it revoked a device, and that device's id."""
    folder = tmp_path_factory.mktemp("revoked")
    with world(folder) as built:
        built.office("lo-warsaw", "POL")
        device_id = built.device(ANNA, clearances=FULL).profile.signing.device_id
        copied(built.settings.data, folder / "before")
        built.authorities["lo-warsaw"].revoke(ANNA, "lost")
    return folder / "before", built.settings.data, device_id


def unrevoke(connection, _data):
    """Where the revocation was, an entry that needs nobody's key; every hash and every checkpoint stays as it is."""
    (encoded,) = connection.execute("SELECT entry FROM log_entry WHERE log = 1 AND idx = 4").fetchone()
    entry = parse_directory_entry(encoded)
    device_id = read_revocation(parse_sign1(entry.payload, REVOCATION)).device_id
    other = replace(entry, change=Change.KEY_BATCH, payload=encode([device_id, bytes(32)]))
    connection.execute("UPDATE log_entry SET entry = ? WHERE log = 1 AND idx = 4", (other.encoded(),))


@contextmanager
def at_work(data):
    """A committer of its own on this database, as each worker and each command of the operator has."""
    settings = Settings(data=data)
    writer, readers = open_writer(settings.database_url), open_readers(settings.database_url)
    try:
        yield Committer(writer, readers, prepare_data(settings), relay_name(readers))
    finally:
        writer.dispose()
        readers.dispose()


def test_a_relay_whose_database_has_another_entry_where_a_revocation_was_does_not_start(revoked, tmp_path):
    _before, after, device_id = revoked
    copied(after, tmp_path / "relay")
    with at_work(tmp_path / "relay") as committer:
        assert not committer.directory.stands(device_id)
    tampered(tmp_path / "relay", unrevoke)
    command = [RELAY, "serve", "--data", tmp_path / "relay", "--port", "0"]
    ran = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert b"the directory log from entry 4 on is not the one that its checkpoint signed" in ran.stderr
    assert b"relay check" in ran.stderr
    ran = subprocess.run([RELAY, "check", "--data", tmp_path / "relay"], capture_output=True, timeout=60, check=False)
    assert ran.returncode == 5
    assert b"directory log, entry 4: the leaf hash is not that of the entry" in ran.stdout


def test_nor_does_one_where_the_leaf_hash_below_a_full_tile_was_changed_along(revoked, tmp_path):
    _before, after, device_id = revoked
    copied(after, tmp_path / "relay")

    def publish(batch):
        for _ in range(4400):  # so many that the tree is restored from its edge
            batch.change(Change.KEY_BATCH, encode([device_id, os.urandom(32)]))
        return lambda _committed: None

    def unrevoke_with_its_hash(connection, data):
        unrevoke(connection, data)
        (entry,) = connection.execute("SELECT entry FROM log_entry WHERE log = 1 AND idx = 4").fetchone()
        connection.execute("UPDATE log_entry SET leaf_hash = ? WHERE log = 1 AND idx = 4", (leaf_hash(entry),))

    with at_work(tmp_path / "relay") as committer:
        (outcome,) = committer.commit([Job(publish)])
        assert outcome.error is None
    tampered(tmp_path / "relay", unrevoke_with_its_hash)
    with pytest.raises(LiaisonError, match="directory log from entry 0 on is not"), at_work(tmp_path / "relay"):
        pass


def test_nor_does_one_go_on_that_finds_it_among_what_another_process_wrote(revoked, tmp_path):
    before, after, _device_id = revoked
    copied(before, tmp_path / "relay")
    with at_work(tmp_path / "relay") as committer:
        copied(after, tmp_path / "relay")
        tampered(tmp_path / "relay", unrevoke)
        for jobs in ([Job(log_one)], [Job(log_one)] * 2):
            for outcome in committer.commit(jobs):
                assert type(outcome.error) is LiaisonError
                assert "the directory log from entry 4 on is not the one" in str(outcome.error)


# -- what an auditor learns of others ---------------------------------------------------------------------------------


def answers(folder, officers, label, body):
    """What the auditor of Paris is sent of an access log that also has the work of Oslo; and Oslo's secrets in it."""
    with world(folder) as built:
        built.office("lo-paris", "FRA")
        built.office("lo-oslo", "NOR")
        cleared = [clearance(nations=["NOR"])]
        sender, reader = (built.device(f"{name}@lo-oslo", clearances=cleared) for name in officers)
        auditor = built.device("audit@lo-paris", clearances=[], kind=Kind.AUDITOR)
        sent = sender.send([f"{officers[1]}@lo-oslo"], label=label, body=body)
        reader.read(sent.message_id)
        reader.acknowledge(sent.message_id)
        get = auditor.transport.get
        size = int(get("/v1/log/access/checkpoint", newest=1).split(b"\n")[1])
        raw = [
            get("/v1/audit/entries", after=0, count=1000),
            get(f"/v1/log/access/tile/0/000.p/{size}"),
            get("/v1/log/access/consistency", old=size // 2, new=size),
            get("/v1/log/access/checkpoint", newest=1),
        ]
        # With the CBOR heads before them: three letters alone stand in some salt or hash of one run in a hundred.
        secrets = [
            sent.message_id,
            b"lo-oslo",
            encode("TEST"),
            encode(["NOR"]),
            *(encode(f"{name}@lo-oslo") for name in officers),
        ]
        secrets += [client.profile.signing.device_id for client in (sender, reader)]
        connection = sqlite3.connect(built.settings.data / "relay.sqlite")
        stored = connection.execute("SELECT entry, leaf_hash FROM log_entry WHERE log = 2 ORDER BY idx").fetchall()
        connection.close()
    return raw, secrets, stored


def test_an_auditor_learns_nothing_of_other_offices_but_hashes_and_counts(tmp_path):
    """Two worlds, in which another office does as much of something else: the answers differ in no octet but hashes."""
    quiet = answers(tmp_path / "quiet", ("odd.ek", "liv.berg"), "TEST OPEN RELEASABLE TO NOR", "Ferry.")
    loud = answers(tmp_path / "loud", ("kari.nordmann-hansen", "ola"), "TEST SEALED RELEASABLE TO NOR", "Go." * 900)
    shapes = []
    for raw, secrets, stored in (quiet, loud):
        for secret in secrets:
            assert not any(secret in answer for answer in raw), secret
        assert all(any(secret in entry for entry, _leaf in stored) for secret in secrets)
        size, rows = decode(raw[0])
        for (entry, leaf), (shown, content) in zip(stored, rows, strict=False):
            parsed = parse_access_entry(entry)
            assert shown is ("lo-paris" in {parsed.office, parsed.concerns})
            assert content == (entry if shown else leaf)
            assert shown or len(content) == 32
        shapes.append((size, [shown or len(content) for shown, content in rows], [len(answer) for answer in raw[:3]]))
    assert shapes[0] == shapes[1]
    assert 32 in shapes[0][1]
    assert True in shapes[0][1]
