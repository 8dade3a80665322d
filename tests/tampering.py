"""What a dishonest operator does to the log's database file: plain sqlite3, and the keys that sign the logs."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from dataclasses import replace

from relay.logkeys import load_log_keys
from relay.protocol.entry import parse_access_entry
from relay.protocol.merkle import MerkleTree, leaf_hash

DAY = 86_400_000


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


def tampered(data, edit):
    connection = sqlite3.connect(data / "relay.sqlite", timeout=30)
    edit(connection, data)
    connection.commit()
    connection.close()


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
