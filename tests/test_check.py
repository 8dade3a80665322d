"""`relay check` over what hangs on messages: holds, recalls, grants, receipts, slots; and alarms. A harm, and the place it names."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace

import pytest

from forge import call
from liaison.holding import state_hold
from liaison.recalling import recall
from processes import told
from relay.logkeys import load_log_keys
from relay.protocol.entry import parse_directory_entry
from relay.protocol.hold import Action
from relay.protocol.merkle import leaf_hash, root_of
from test_alarms import stated
from world import world

ANNA, JEAN, LEA, EWA, OLA = (
    f"{name}@lo-warsaw" for name in ("anna.nowak", "jean.petit", "lea.roy", "ewa.lis", "ola.zak")
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of a relay with one message read and held by two officers, one recalled, one held and spilt, one that nobody has
    opened; and an alarm.
    """
    with world(tmp_path_factory.mktemp("check")) as built:
        built.office("lo-warsaw", "POL")
        anna, jean, _lea = (built.device(address) for address in (ANNA, JEAN, LEA))
        officers = [built.device(address, clearances=[], roles=["security"]) for address in (EWA, OLA)]
        anna.sync()
        read, recalled, spilt, _waiting = (
            anna.send([JEAN, LEA], label="TEST OPEN", body=f"{each}.").message_id for each in range(4)
        )
        jean.read(read)
        jean.acknowledge(read)
        for officer in officers:
            for held in (read, spilt):
                state_hold(officer, Action.PLACE, held, "inquiry 7")
        recall(anna, recalled, "wrong text", spill=False)
        recall(officers[0], spilt, "codeword in the clear", spill=True)
        call(anna, "POST", "/v1/alarms", stated(anna, 1))
    told("check", "--data", built.settings.data)
    return built.settings.data


RECALLED, SPILT = (f"(SELECT message_id FROM recall WHERE {which})" for which in ("NOT spill", "spill"))
_WORD = "message_id, office, device_id, address, completes, encoded"
AGAIN = f"INSERT INTO hold ({_WORD}, entry) SELECT {_WORD}, {{entry}} FROM hold WHERE completes"
HARMS = {
    "a hold that is gone": ("word about a hold", "DELETE FROM hold"),
    "a hold that waits again": ("word about a hold", "UPDATE hold SET completes = 0"),
    "a hold in other words": ("word about a hold", "UPDATE hold SET encoded = zeroblob(9)"),
    "a hold that was never stated": ("is not its hold entry", AGAIN.format(entry="3")),
    "a hold that is lifted by being there twice": ("is stored twice", AGAIN.format(entry="entry")),
    "a hold of another office": ("word about a hold", "UPDATE hold SET office = 'lo-paris' WHERE completes"),
    "a hold by another officer": ("word about a hold", "UPDATE hold SET address = 'eve@lo-warsaw' WHERE completes"),
    "a hold by another device": ("word about a hold", "UPDATE hold SET device_id = zeroblob(16) WHERE completes"),
    "a hold under another name": ("word about a hold", "UPDATE hold SET ref = zeroblob(32)"),
    "a hold that holds nothing": ("stands otherwise", "UPDATE hold SET standing = 0 WHERE completes"),
    "a first word that holds": ("stands otherwise", "UPDATE hold SET standing = 2 WHERE NOT completes"),
    "a first word that waits for ever": ("stands otherwise", "UPDATE hold SET standing = 1 WHERE NOT completes"),
    "a recall that is gone": ("the recall of", "DELETE FROM recall"),
    "a recall in other words": ("the recall of", "UPDATE recall SET encoded = x'80'"),
    "a recall that calls itself a spill": ("the recall of", "UPDATE recall SET spill = 1"),
    "a recall that is another's answer": ("the recall of", "UPDATE recall SET digest = zeroblob(32)"),
    "parts that no spill destroyed": (
        "has parts [], and 1 were signed",
        f"DELETE FROM part WHERE message_id IN {RECALLED}; UPDATE recall SET spill = 1",
    ),
    "slots that a hold keeps": ("is empty, and no recall", "UPDATE slot SET kept = NULL WHERE kept IS NOT NULL"),
    "parts that a hold keeps": ("has parts [], and 1 were signed", f"DELETE FROM part WHERE message_id IN {SPILT}"),
    "a part under another number": ("has parts [7], and 1 were signed", "UPDATE part SET idx = 7"),
    "a slot that opens again": ("opens, and was recalled", "UPDATE slot SET encoded = kept WHERE kept IS NOT NULL"),
    "a slot of no octets": ("opens, and was recalled", f"UPDATE slot SET encoded = x'' WHERE message_id IN {RECALLED}"),
    "a slot that is kept for nothing": ("is kept, and no recall", "UPDATE slot SET kept = encoded"),
    "a slot that goes before others": ("a precedence that was not signed", "UPDATE slot SET precedence = 5"),
    "slots where nobody looks": ("has slots [], and", "UPDATE slot SET day = day + 1"),
    "parts where nobody looks": ("has parts [], and 1", "UPDATE part SET day = day + 1"),
    "an empty slot that was another's": (
        "of other devices than were granted",
        f"UPDATE slot SET device_id = zeroblob(16) WHERE position = 0 AND message_id IN {RECALLED}",
    ),
    "an alarm that is gone": ("the alarm that it logs", "DELETE FROM alarm"),
    "an alarm that another office reads": ("the alarm that it logs", "UPDATE alarm SET office = 'lo-paris'"),
    "an alarm about another entry": ("the alarm that it logs", "UPDATE alarm SET directory_index = 0"),
    "a slot that nobody can open": ("is empty, and no recall", "UPDATE slot SET encoded = NULL"),
    "grants that are gone": ("its grants are not those", "UPDATE message SET grants = NULL"),
    "grants of others": ("its grants are not those", "UPDATE message SET grants = x'80'"),
    "endorsements that are none": ("endorsements", "UPDATE message SET endorsements = x'00'"),
    "a receipt that is none": ("receipt of", "UPDATE receipt SET encoded = x'00'"),
    "the receipt of another state": (
        "its columns are not those of its bytes",
        "UPDATE receipt SET encoded = (SELECT encoded FROM receipt WHERE state = 'opened')",
    ),
}


@pytest.mark.parametrize("harm", HARMS)
def test_what_hangs_on_a_message_is_held_against_its_bytes_and_the_log(folder, tmp_path, harm):
    words, statement = HARMS[harm]
    shutil.copytree(folder, tmp_path / "relay")
    database = sqlite3.connect(tmp_path / "relay" / "relay.sqlite")
    assert all(database.execute(each).rowcount > 0 for each in statement.split(";"))
    database.commit()
    database.close()
    said = told("check", "--data", tmp_path / "relay", code=5)
    assert words in said.stdout, said.stdout


def test_a_file_that_is_damaged_ends_the_check_in_a_line_and_without_a_statement(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "relay")
    with (tmp_path / "relay" / "relay.sqlite").open("r+b") as file:
        octets = file.read()
        for page in range(8192, len(octets), 4096):
            file.seek(page)
            file.write(b"\xff" * 8)
    said = told("check", "--data", tmp_path / "relay", code=1)
    wrong, hint = said.stderr.splitlines()
    assert wrong == "relay: error: the database cannot be used: database disk image is malformed"
    assert "whole" in hint


DAY = 86400


@pytest.mark.parametrize(
    ("dated", "signed", "words"),
    [
        (-DAY, 0, "dated before an earlier one"),
        (DAY, 0, "is signed before an entry of it is dated"),
        (0, -DAY, "is signed before an entry of it is dated"),
        (0, 0, ""),
    ],
)
def test_the_newest_entry_of_the_directory_is_dated_between_those_before_it_and_the_signature_over_it(
    folder, tmp_path, dated, signed, words
):
    """Whatever it comes to, the relay's own keys have signed it."""
    shutil.copytree(folder, tmp_path / "relay")
    with closing(sqlite3.connect(tmp_path / "relay" / "relay.sqlite")) as database, database:
        (name,) = database.execute("SELECT value FROM setting WHERE name = 'name'").fetchone()
        last, encoded = database.execute("SELECT max(idx), entry FROM log_entry WHERE log = 1").fetchone()
        entry = parse_directory_entry(encoded)
        moved = replace(entry, time=entry.time + dated * 1000).encoded()
        where = "WHERE log = 1 AND idx = ?"
        database.execute(f"UPDATE log_entry SET entry = ?, leaf_hash = ? {where}", (moved, leaf_hash(moved), last))
        leaves = database.execute("SELECT leaf_hash FROM log_entry WHERE log = 1 ORDER BY idx").fetchall()
        root, now = root_of(leaf for (leaf,) in leaves), int(time.time())
        keys = load_log_keys(tmp_path / "relay" / "log-keys.json")
        note = keys.sign_checkpoint(f"{name}/directory", last + 1, root, now + signed)
        database.execute("UPDATE checkpoint SET note = ? WHERE log = 1 AND size = ?", (note, last + 1))
    said = told("check", "--data", tmp_path / "relay", code=5 if words else 0)
    assert words in said.stdout, said.stdout
