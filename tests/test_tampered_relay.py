"""A relay whose database was changed under it does not go on: it neither starts nor signs."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing, contextmanager
from dataclasses import replace

import pytest

from jobs import log_one
from processes import RELAY
from relay.house import migrate, prepare_data
from relay.pipeline.batch import Job
from relay.pipeline.committer import Committer
from relay.protocol.canonical import encode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import Change, parse_directory_entry
from relay.protocol.errors import LiaisonError
from relay.protocol.identity import REVOCATION, read_revocation
from relay.protocol.merkle import leaf_hash
from relay.settings import Settings
from relay.store.engine import open_readers, open_writer
from relay.store.migrate import relay_name
from tampering import copied, rewrite, signed, tampered
from world import clearance, world

ANNA = "anna.nowak@lo-warsaw"
FULL = [clearance(nations=["FRA", "POL"])]
OTHER_LINE = "\u2014 nobody AAAAAAA=\n".encode()


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
