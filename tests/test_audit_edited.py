"""What pulling the access log finds: nobody edits what was written.

The tampering is real: the relay's SQLite file is edited with the relay stopped, and the relay started again.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from acts import pulled
from liaison import Client
from liaison.audit.pull import AuditPull
from liaison.transport import HttpTransport
from liaison.trust import ACCESS
from relay.logkeys import load_log_keys
from relay.protocol.entry import parse_access_entry
from relay.protocol.errors import LiaisonError, Unverified
from relay.protocol.identity import Kind
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.settings import Settings
from tampering import copied
from world import PASSPHRASE, clearance, serving, world

ANNA = "anna.nowak@lo-warsaw"
LABEL = "TEST SEALED RELEASABLE TO FRA, POL"
FULL = [clearance(nations=["FRA", "POL"])]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A relay's data folder and an auditor's profile, both as of an end of work; and the data some work earlier."""
    folder = tmp_path_factory.mktemp("stopped")
    with world(folder) as built:
        built.office("lo-warsaw", "POL")
        built.device(ANNA, clearances=FULL)
        built.device("ewa.lis@lo-warsaw", clearances=FULL)
        built.device("audit@lo-warsaw", clearances=[], kind=Kind.AUDITOR, name="auditor")
        for _ in range(2):
            sent = built.clients[ANNA].send(["ewa.lis@lo-warsaw"], label=LABEL, body="Ferry at dawn.")
            built.clients["ewa.lis@lo-warsaw"].read(sent.message_id)
        copied(built.settings.data, folder / "earlier")
        shutil.copytree(folder / "auditor", folder / "never-pulled")
        built.clients[ANNA].send(["ewa.lis@lo-warsaw"], label=LABEL, body="Ferry at dawn.")
        pulled(built.clients["auditor"])
        pulled(built.clients["auditor"])
        vkeys = built.relay.vkeys
    return SimpleNamespace(folder=folder, vkeys=vkeys)


@contextmanager
def restarted(stopped, tmp_path, edit, *, profile="auditor", data="relay"):
    """The auditor's client before a relay whose database was edited in the meantime."""
    copied(stopped.folder / data, tmp_path / "relay")
    connection = sqlite3.connect(tmp_path / "relay" / "relay.sqlite")
    edit(connection)
    connection.commit()
    connection.close()
    shutil.copytree(stopped.folder / profile, tmp_path / "profile")
    with (
        serving(Settings(data=tmp_path / "relay")) as (_relay, url),
        Client.open(tmp_path / "profile", passphrase=PASSPHRASE) as client,
    ):
        honest = client.transport
        client.transport = client.documents.transport = HttpTransport(url, client.profile.keyid, client.profile.request)
        honest.close()
        yield client


def _entry(connection, index):
    return connection.execute("SELECT entry FROM log_entry WHERE log = 2 AND idx = ?", (index,)).fetchone()[0]


def _forged(connection, index):
    entry = parse_access_entry(_entry(connection, index))
    return type(entry)(
        **{name: getattr(entry, name) for name in entry.__slots__} | {"address": "x@lo-warsaw"}
    ).encoded()


def edit_entry(connection):
    connection.execute("UPDATE log_entry SET entry = ? WHERE log = 2 AND idx = 5", (_forged(connection, 5),))


def edit_entry_and_hash(connection):
    forged = _forged(connection, 5)
    connection.execute(
        "UPDATE log_entry SET entry = ?, leaf_hash = ? WHERE log = 2 AND idx = 5", (forged, leaf_hash(forged))
    )


def hide_entry(connection):
    """Erased, as after its retention, but under another hash."""
    connection.execute("UPDATE log_entry SET entry = NULL, leaf_hash = ? WHERE log = 2 AND idx = 5", (bytes(32),))


def drop_entry(connection):
    """Gone, and those after it moved up."""
    connection.execute("DELETE FROM log_entry WHERE log = 2 AND idx = 5")
    connection.execute("UPDATE log_entry SET idx = -idx WHERE log = 2 AND idx > 5")
    connection.execute("UPDATE log_entry SET idx = -idx - 1 WHERE log = 2 AND idx < 0")
    connection.execute("UPDATE log_head SET size = size - 1 WHERE log = 2")


def reorder_entries(connection):
    for old, new in ((5, -5), (6, 5), (-5, 6)):
        connection.execute("UPDATE log_entry SET idx = ? WHERE log = 2 AND idx = ?", (new, old))


def truncate(connection):
    """The last entries gone, and every trace of them."""
    (size,) = connection.execute("SELECT size FROM log_head WHERE log = 2").fetchone()
    for statement in (
        "DELETE FROM log_entry WHERE log = 2 AND idx >= ?",
        "DELETE FROM checkpoint WHERE log = 2 AND size > ?",
        "UPDATE log_head SET size = ? WHERE log = 2",
    ):
        connection.execute(statement, (size - 4,))


def change_nothing(_connection):
    pass


def signed_again(edit):
    """What a dishonest operator does besides: he has the keys, and signs a checkpoint over the edited tree."""

    def edit_and_sign(connection):
        edit(connection)
        (folder,) = (Path(row[2]).parent for row in connection.execute("PRAGMA database_list"))
        leaves = connection.execute("SELECT leaf_hash FROM log_entry WHERE log = 2 ORDER BY idx").fetchall()
        tree = MerkleTree(leaf for (leaf,) in leaves)
        (name,) = connection.execute("SELECT value FROM setting WHERE name = 'name'").fetchone()
        keys = load_log_keys(folder / "log-keys.json")
        note = keys.sign_checkpoint(f"{name}/access", tree.size, tree.root(), int(time.time()))
        connection.execute("DELETE FROM checkpoint WHERE log = 2 AND size >= ?", (tree.size,))
        connection.execute("INSERT INTO checkpoint (log, size, note) VALUES (2, ?, ?)", (tree.size, note))

    return edit_and_sign


def found_by(client, pulls=3):
    """The first Unverified of a few pulls: a change under the last checkpoint shows once the log has grown."""
    pull = AuditPull(client)
    for _ in range(pulls):
        try:
            pull.pull()
        except Unverified as found:
            return str(found)
        client.transport.get("/v1/audit/entries", after=0, count=1)
    return None


@pytest.mark.parametrize("profile", ["never-pulled", "auditor"])
def test_an_untouched_log_holds_after_a_restart(stopped, tmp_path, profile):
    with restarted(stopped, tmp_path, change_nothing, profile=profile) as client:
        assert found_by(client) is None
        assert client.profile.cabinet.alarms() == []


EDITS = [edit_entry_and_hash, hide_entry, drop_entry, reorder_entries]


@pytest.mark.parametrize("edit", EDITS)
def test_an_honest_relay_does_not_serve_a_log_that_was_edited_under_it(stopped, tmp_path, edit):
    with (
        pytest.raises(LiaisonError, match="not those that its checkpoint signed"),
        restarted(stopped, tmp_path, edit),
    ):
        pass


@pytest.mark.parametrize("edit", [*EDITS, truncate])
def test_an_auditor_who_has_pulled_before_finds_it_though_the_operator_signed_it(stopped, tmp_path, edit):
    """An auditor who comes for the first time has nothing to compare with: that takes a witness, or a colleague."""
    with restarted(stopped, tmp_path, signed_again(edit)) as client:
        kept = client.profile.cabinet.count_entries(ACCESS)
        assert "access log" in found_by(client)
        assert client.profile.cabinet.count_entries(ACCESS) >= kept
        assert client.profile.cabinet.alarms()


def test_a_first_pull_finds_an_entry_that_is_not_what_was_signed(stopped, tmp_path):
    with restarted(stopped, tmp_path, edit_entry, profile="never-pulled") as client:
        assert "access log" in found_by(client, pulls=1)
        assert client.profile.cabinet.count_entries(ACCESS) == 0  # nothing past the lie is kept, or shown


def test_the_first_entry_that_does_not_hold_is_named(stopped, tmp_path):
    with restarted(stopped, tmp_path, edit_entry, profile="never-pulled") as client:
        assert found_by(client, pulls=1).startswith("entry 5 of the access log")


def test_a_database_set_back_to_an_earlier_backup_is_found(stopped, tmp_path):
    with restarted(stopped, tmp_path, change_nothing, data="earlier") as client:
        assert "went back" in found_by(client, pulls=1)


def test_a_full_check_finds_an_old_entry_edited_under_its_true_hash(stopped, tmp_path):
    """A pull has the true entry already and asks only for what is new; `audit verify` asks for all."""
    with restarted(stopped, tmp_path, edit_entry) as client, pytest.raises(Unverified, match="entry 5"):
        AuditPull(client).verify()


def back_date(connection):
    """Entry 5 says that it was written an hour earlier than it was."""
    entry = parse_access_entry(_entry(connection, 5))
    forged = replace(entry, time=entry.time - 3_600_000).encoded()
    connection.execute(
        "UPDATE log_entry SET entry = ?, leaf_hash = ? WHERE log = 2 AND idx = 5", (forged, leaf_hash(forged))
    )


LOCATED = [(edit, 5) for edit in (edit_entry_and_hash, hide_entry, drop_entry, reorder_entries, back_date)]


@pytest.mark.parametrize(("edit", "index"), LOCATED)
def test_a_full_check_names_the_entry_though_the_operator_signed_again(stopped, tmp_path, edit, index):
    with (
        restarted(stopped, tmp_path, signed_again(edit)) as client,
        pytest.raises(Unverified, match=f"^entry {index} of"),
    ):
        AuditPull(client).verify()


@pytest.mark.parametrize("data", ["relay", "earlier"])
def test_a_full_check_names_the_first_entry_that_is_gone(stopped, tmp_path, data):
    edit = signed_again(truncate) if data == "relay" else change_nothing
    with restarted(stopped, tmp_path, edit, data=data) as client:
        size = int(client.transport.get("/v1/log/access/checkpoint").split(b"\n")[1])
        with pytest.raises(Unverified) as found:
            AuditPull(client).verify()
    assert str(found.value).startswith(f"entry {size} of the access log is gone")


def test_a_first_pull_finds_a_back_dated_entry_without_anything_to_compare_with(stopped, tmp_path):
    with (
        restarted(stopped, tmp_path, signed_again(back_date), profile="never-pulled") as client,
        pytest.raises(Unverified, match=r"^entry 5 of the access log is dated before"),
    ):
        AuditPull(client).verify()


def test_the_alarm_stays_until_somebody_resolves_it(stopped, tmp_path):
    with restarted(stopped, tmp_path, edit_entry, profile="never-pulled") as client:
        assert found_by(client, pulls=1)
        for _ in range(2):
            with pytest.raises(Unverified, match="unresolved alarm"):
                client.sync()
        (alarm,) = client.profile.cabinet.alarms()
        assert alarm.evidence.startswith(client.trust.verifiers(ACCESS)[0].name.encode())
        client.profile.cabinet.resolve_alarm(alarm.alarm_id)
        client.sync()


def test_a_relay_whose_head_says_more_than_there_is_does_not_serve(stopped, tmp_path):
    def lose(connection):
        connection.execute("DELETE FROM log_entry WHERE log = 2 AND idx > 8")

    with pytest.raises(LiaisonError), restarted(stopped, tmp_path, lose):
        pass
