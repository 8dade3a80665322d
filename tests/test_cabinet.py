from __future__ import annotations

import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from liaison.home import shelf
from liaison.home.cabinet import Cabinet, Prekey, create_cabinet
from liaison.home.profile import Profile
from liaison.stock import _forget_expired
from liaison.transport import Transport
from liaison.trust import ACCESS, Trust
from relay.protocol import canonical
from relay.protocol.errors import (
    Conflict,
    LiaisonError,
    Malformed,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unknown,
    Unverified,
)
from relay.protocol.merkle import MerkleTree, leaf_hash
from relay.protocol.tlog import Checkpoint

STATE_KEY = hashlib.sha256(b"state").digest()
ID, OTHER_ID, DEVICE = b"M" * 16, b"N" * 16, b"D" * 16


@pytest.fixture
def path(tmp_path: Path) -> Path:
    create_cabinet(tmp_path / "cabinet", STATE_KEY)
    return tmp_path / "cabinet"


@pytest.fixture
def cabinet(path: Path) -> Iterator[Cabinet]:
    with Cabinet(path, STATE_KEY) as opened:
        yield opened


def ref(number: int) -> bytes:
    return hashlib.sha256(b"ref%d" % number).digest()


def seed(number: int) -> bytes:
    return hashlib.sha256(b"seed%d" % number).digest()


def stock(cabinet: Cabinet, count: int) -> None:
    cabinet.add_prekeys([(ref(i), seed(i), 1_900_000_000, i > 0) for i in range(count)])


def everything_beside(path: Path) -> bytes:
    """The database and any journal, as a thief of the folder has them."""
    return b"".join(file.read_bytes() for file in sorted(path.parent.iterdir()))


def opened_with(key: bytes, aads: list[bytes], stolen: bytes, length: int) -> set[bytes]:
    """What some stretch of the stolen octets, taken as a box of this length, says under the key."""
    found, cipher = set(), AESGCM(key)
    for start in range(len(stolen) - length + 1):
        box = stolen[start : start + length]
        if box.count(0) > 20:  # no ciphertext
            continue
        for aad in aads:
            try:
                found.add(cipher.decrypt(box[:12], box[12:], aad))
            except InvalidTag:
                continue
    return found


class Thief:
    """Has the state key and knows the code: finds every seed that the stolen octets still give away."""

    def __init__(self, before: bytes) -> None:
        wrap, key = self._rows(before, "prekey_key"), self._rows(before, "prekey")
        self._wrap_aads, self._wrap_length = wrap
        self._seed_aads, self._seed_length = key

    @staticmethod
    def _rows(before: bytes, name: str) -> tuple[list[bytes], int]:
        connection = sqlite3.connect(":memory:")
        connection.deserialize(before)
        rows = connection.execute(f"SELECT place, box FROM {name}").fetchall()
        connection.close()
        assert len({len(box) for _, box in rows}) == 1
        return [canonical.encode([name, place]) for place, _ in rows], len(rows[0][1])

    def seeds(self, stolen: bytes) -> set[bytes]:
        wrap_key = shelf._derive(STATE_KEY, "prekey_key boxes")
        keys = opened_with(wrap_key, self._wrap_aads, stolen, self._wrap_length)
        assert keys
        plains = {
            plain
            for wrapped in keys
            for plain in opened_with(canonical.decode(wrapped)[1], self._seed_aads, stolen, self._seed_length)
        }
        return {canonical.decode(canonical.decode(plain)[1])[0] for plain in plains}


def test_after_deletion_the_state_key_and_the_folder_do_not_open_the_seed(path: Path, cabinet: Cabinet) -> None:
    stock(cabinet, 4)
    before = everything_beside(path)
    thief = Thief(before)
    assert thief.seeds(before) == {seed(i) for i in range(4)}

    with cabinet.transaction():
        cabinet.put_message(ID, b"a message")
        cabinet.delete_prekey(ref(2))

    after = everything_beside(path)
    assert [file.name for file in path.parent.iterdir()] == ["cabinet"]
    assert thief.seeds(after) == {seed(0), seed(1), seed(3)}
    old_boxes = sqlite_boxes(before, "prekey") | sqlite_boxes(before, "prekey_key")
    assert not [box for box in old_boxes if box in after or box[12:40] in after]


def sqlite_boxes(content: bytes, name: str) -> set[bytes]:
    connection = sqlite3.connect(":memory:")
    connection.deserialize(content)
    boxes = {box for (box,) in connection.execute(f"SELECT box FROM {name}")}
    connection.close()
    return boxes


def test_every_deletion_replaces_the_prekey_key_and_the_other_seeds_stay(cabinet: Cabinet) -> None:
    stock(cabinet, 3)
    cabinet.delete_prekey(ref(1))
    assert cabinet.prekey(ref(1)) is None
    assert [cabinet.prekey(ref(i)) for i in (0, 2)] == [seed(0), seed(2)]
    assert [(row.kp_ref, row.not_after, row.one_time) for row in cabinet.prekeys()] == [
        (ref(0), 1_900_000_000, False),
        (ref(2), 1_900_000_000, True),
    ]
    assert sorted(row.one_time for row in cabinet.prekeys()) == [False, True]


def test_a_one_time_key_is_deleted_once(cabinet: Cabinet) -> None:
    stock(cabinet, 1)
    cabinet.delete_prekey(ref(0))
    with pytest.raises(Unknown):
        cabinet.delete_prekey(ref(0))
    with pytest.raises(Conflict):
        cabinet.add_prekeys([(ref(5), seed(5), 0, True), (ref(5), seed(6), 0, True)])
    assert cabinet.prekeys() == []


def test_message_and_key_deletion_hold_together_or_not_at_all(cabinet: Cabinet) -> None:
    def interrupted() -> None:
        with cabinet.transaction():
            cabinet.put_message(ID, b"opened")
            cabinet.delete_prekey(ref(1))
            raise RuntimeError("power cut")

    stock(cabinet, 2)
    with pytest.raises(RuntimeError, match="power"):
        interrupted()
    assert cabinet.message(ID) is None
    assert cabinet.prekey(ref(1)) == seed(1)


def test_a_step_that_failed_fails_the_transaction_even_if_caught(cabinet: Cabinet) -> None:
    def swallowed() -> None:
        with cabinet.transaction():
            cabinet.put_message(ID, b"record")
            with pytest.raises(Unknown):
                cabinet.delete_prekey(ref(9))

    with pytest.raises(Conflict, match="nothing of it was kept"):
        swallowed()
    assert cabinet.message(ID) is None
    cabinet.put_message(ID, b"record")
    assert cabinet.message(ID) == b"record"


def test_no_canary_is_found_in_the_file(path: Path, cabinet: Cabinet) -> None:
    canary = b"CANARY-9f3a anna.nowak@lo-warsaw Convoy.pdf"
    cabinet.put_message(ID, canary)
    cabinet.put_part(ID, 1, canary * 5000)
    cabinet.mark_seen(DEVICE, 7, ID)
    cabinet.put_log_state("directory.lo-warsaw", 3, b"R" * 32, canary)
    cabinet.append_entries("directory.lo-warsaw", 0, [canary])
    cabinet.raise_alarm(canary.decode(), canary, 5)
    cabinet.advance_chain(1, b"P" * 32)
    cabinet.put_outbox(OTHER_ID, canary)
    cabinet.add_prekeys([(ref(0), seed(0), 1, True)])
    content = everything_beside(path)
    for hidden in (
        b"CANARY",
        b"anna",
        b"lo-warsaw",
        b"Convoy",
        ID,
        OTHER_ID,
        DEVICE,
        b"R" * 8,
        b"P" * 8,
        ref(0),
        seed(0),
    ):
        assert hidden not in content
    assert path.stat().st_mode & 0o777 == 0o600


def test_messages_keep_their_turn_when_their_state_changes(cabinet: Cabinet) -> None:
    cabinet.put_message(OTHER_ID, b"unread one")
    cabinet.put_message(ID, b"unread two")
    cabinet.put_message(OTHER_ID, b"handled one")
    assert cabinet.messages() == [(OTHER_ID, b"handled one"), (ID, b"unread two")]
    assert cabinet.message(b"?" * 16) is None
    with pytest.raises(Malformed, match="message_id"):
        cabinet.put_message(b"short", b"")


def test_parts_are_found_by_message_and_number(cabinet: Cabinet) -> None:
    cabinet.put_part(ID, 0, b"body")
    cabinet.put_part(ID, 1, b"\0" * 3_000_000)
    assert cabinet.part(ID, 0) == b"body"
    assert cabinet.part(ID, 1) == b"\0" * 3_000_000
    assert cabinet.part(ID, 2) is None
    assert cabinet.part(OTHER_ID, 0) is None


def test_a_place_in_a_senders_chain_is_taken_once(cabinet: Cabinet) -> None:
    assert cabinet.seen(DEVICE, 1) is None
    cabinet.mark_seen(DEVICE, 1, ID)
    cabinet.mark_seen(DEVICE, 1, ID)
    assert cabinet.seen(DEVICE, 1) == ID
    with pytest.raises(Conflict):
        cabinet.mark_seen(DEVICE, 1, OTHER_ID)


def test_a_log_neither_shrinks_nor_changes_its_past(cabinet: Cabinet) -> None:
    assert cabinet.log_state("access") is None
    cabinet.put_log_state("access", 5, b"a" * 32, b"checkpoint")
    cabinet.put_log_state("access", 5, b"a" * 32, b"cosigned checkpoint")
    for size, root in ((4, b"a" * 32), (5, b"b" * 32)):
        with pytest.raises(Unverified, match="contradicts"):
            cabinet.put_log_state("access", size, root, b"fork")
    assert cabinet.log_state("access") == (5, b"a" * 32, b"cosigned checkpoint")
    assert cabinet.log_state("directory") is None


def test_entries_are_appended_without_gap_or_overlap(cabinet: Cabinet) -> None:
    assert list(cabinet.entries("d")) == []
    cabinet.append_entries("d", 0, [b"0", b"1"])
    cabinet.append_entries("d", 2, [b"2"])
    for start in (2, 4, -1):
        with pytest.raises(Conflict):
            cabinet.append_entries("d", start, [b"x"])
    assert list(cabinet.entries("d")) == [b"0", b"1", b"2"]
    assert list(cabinet.entries("d", 2)) == [b"2"]
    assert list(cabinet.entries("d", 3)) == []
    for start in (4, -1):
        with pytest.raises(Unknown):
            cabinet.entries("d", start)
    assert cabinet.count_entries("other") == 0


def test_a_missing_entry_is_noticed(path: Path, cabinet: Cabinet) -> None:
    cabinet.append_entries("d", 0, [b"%d" % number for number in range(600)])
    thief = sqlite3.connect(path)
    thief.execute("DELETE FROM entry WHERE number = 2")  # the second of three bundles
    thief.commit()
    thief.close()
    with pytest.raises(Unverified, match="entry 256 is missing"):
        list(cabinet.entries("d"))


@pytest.mark.parametrize("left", [0, 1, 255, 256, 257, 599, 600])
def test_entries_are_dropped_from_the_end_and_others_follow(cabinet: Cabinet, left: int) -> None:
    kept = [b"%d" % number for number in range(600)]
    for start in range(0, 600, 100):
        cabinet.append_entries("d", start, kept[start : start + 100])
    cabinet.drop_entries("d", left)
    assert list(cabinet.entries("d")) == kept[:left]
    cabinet.append_entries("d", left, [b"other"] * 300)
    assert list(cabinet.entries("d")) == kept[:left] + [b"other"] * 300
    assert list(cabinet.entries("d", left)) == [b"other"] * 300


def test_an_alarm_stays_until_it_is_resolved(path: Path, cabinet: Cabinet) -> None:
    first = cabinet.raise_alarm("the log forked", b"two checkpoints", 100)
    assert cabinet.raise_alarm("the log forked", b"two checkpoints", 200) == first
    second = cabinet.raise_alarm("the log forked", b"two others", 300)
    with Cabinet(path, STATE_KEY) as later:
        assert [(a.alarm_id, a.text, a.evidence, a.at) for a in later.alarms()] == [
            (first, "the log forked", b"two checkpoints", 100),
            (second, "the log forked", b"two others", 300),
        ]
    cabinet.resolve_alarm(first)
    assert [alarm.alarm_id for alarm in cabinet.alarms()] == [second]
    with pytest.raises(Unknown):
        cabinet.resolve_alarm(first)


def test_the_devices_chain_has_no_gaps(cabinet: Cabinet) -> None:
    assert cabinet.chain() == (0, bytes(32))
    cabinet.advance_chain(cabinet.next_seq(), b"1" * 32)
    for seq in (1, 3):
        with pytest.raises(Conflict):
            cabinet.advance_chain(seq, b"x" * 32)
    assert cabinet.chain() == (1, b"1" * 32)
    assert cabinet.next_seq() == 2


def test_a_retry_in_the_outbox_is_the_same_message(cabinet: Cabinet) -> None:
    cabinet.put_outbox(OTHER_ID, b"first")
    cabinet.put_outbox(ID, b"second")
    cabinet.put_outbox(OTHER_ID, b"first")
    with pytest.raises(Conflict):
        cabinet.put_outbox(OTHER_ID, b"changed")
    assert cabinet.outbox() == [(OTHER_ID, b"first"), (ID, b"second")]
    cabinet.drop_outbox(OTHER_ID)
    cabinet.drop_outbox(OTHER_ID)
    assert cabinet.outbox() == [(ID, b"second")]


def test_rows_swapped_or_altered_do_not_open(path: Path, cabinet: Cabinet) -> None:
    cabinet.put_message(ID, b"one")
    cabinet.put_message(OTHER_ID, b"two")
    thief = sqlite3.connect(path)
    thief.execute("UPDATE message SET box = (SELECT box FROM message WHERE number = 2) WHERE number = 1")
    thief.execute("UPDATE message SET box = x'00' WHERE number = 2")
    thief.commit()
    thief.close()
    for message_id in (ID, OTHER_ID):
        with pytest.raises(Unverified):
            cabinet.message(message_id)


def test_another_state_key_opens_nothing(path: Path) -> None:
    with pytest.raises(Unverified):
        Cabinet(path, bytes(32))


def test_what_is_no_cabinet_is_refused(tmp_path: Path, path: Path) -> None:
    with pytest.raises(Conflict):
        create_cabinet(path, STATE_KEY)
    with pytest.raises(Unauthenticated, match="there is no"):
        Cabinet(tmp_path / "absent", STATE_KEY)
    path.chmod(0o644)
    with pytest.raises(Unauthenticated, match="open to others"):
        Cabinet(path, STATE_KEY)
    path.chmod(0o600)
    for content in (b"", b"not a database at all" * 100, path.read_bytes()[:5000]):
        path.write_bytes(content)
        with pytest.raises(LiaisonError) as caught:
            Cabinet(path, STATE_KEY)
        assert isinstance(caught.value, Malformed)


def test_a_locked_cabinet_is_unavailable_and_not_damaged(
    path: Path, cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "LOCK_SECONDS", 0.05)
    with Cabinet(path, STATE_KEY) as second, cabinet.transaction():
        with pytest.raises(Unavailable, match="locked"):
            second.put_message(ID, b"now")
        cabinet.put_message(OTHER_ID, b"mine")
    assert cabinet.messages() == [(OTHER_ID, b"mine")]


def test_two_processes_that_forget_expired_keys_do_not_get_into_each_others_way(
    path: Path, cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shelf, "LOCK_SECONDS", 0.05)
    cabinet.add_prekeys([(ref(1), seed(1), 1, True)])
    listed = Cabinet.prekeys

    def meanwhile(own: Cabinet) -> list[Prekey]:
        found = listed(own)
        with suppress(Unavailable), Cabinet(path, STATE_KEY) as other:
            other.delete_prekey(ref(1))
        return found

    monkeypatch.setattr(Cabinet, "prekeys", meanwhile)
    _forget_expired(cast(Profile, SimpleNamespace(cabinet=cabinet)), 2**40)
    assert listed(cabinet) == []


TREE = MerkleTree(leaf_hash(bytes([leaf])) for leaf in range(6))
FORK = MerkleTree(leaf_hash(bytes([leaf, 1])) for leaf in range(6))


def head(size: int, tree: MerkleTree = TREE) -> Checkpoint:
    return Checkpoint("relay.example/access", size, tree.root(size))


@pytest.mark.parametrize(
    ("moved", "kept", "asked"), [(4, 5, [(2, 5), (4, 5)]), (5, 5, [(2, 5)]), (6, 6, [(2, 5), (5, 6)])]
)
def test_a_relay_that_takes_its_time_to_prove_that_the_log_grew_keeps_no_other_process_from_moving_its_head(
    path: Path, cabinet: Cabinet, monkeypatch: pytest.MonkeyPatch, moved: int, kept: int, asked: list[tuple[int, int]]
) -> None:
    trust, heard = Trust(cabinet, b"", ()), []
    monkeypatch.setattr(shelf, "LOCK_SECONDS", 0.05)

    def proof(_path: str, *, old: int, new: int) -> bytes:
        heard.append((old, new))
        if len(heard) == 1:
            with Cabinet(path, STATE_KEY) as other:
                Trust(other, b"", ()).advance(head(moved), b"", TREE.consistency_proof(2, moved), cast(Transport, None))
        return canonical.encode(list(TREE.consistency_proof(old, new)))

    slow = cast(Transport, SimpleNamespace(get=proof))
    trust.advance(head(2), b"", (), slow)
    trust.advance(head(5), b"", (), slow)
    assert (trust.seen(), heard) == (kept, asked)


@pytest.mark.parametrize("moved", [4, 5, 6])
def test_another_history_that_another_process_was_shown_meanwhile_is_still_found(
    path: Path, cabinet: Cabinet, moved: int
) -> None:
    trust = Trust(cabinet, b"", ())

    def proof(_path: str, *, old: int, new: int) -> bytes:
        with Cabinet(path, STATE_KEY) as other:
            other.put_log_state(ACCESS, moved, FORK.root(moved), b"")
        return canonical.encode(list(TREE.consistency_proof(old, new)))

    slow = cast(Transport, SimpleNamespace(get=proof))
    trust.advance(head(2), b"", (), slow)
    with pytest.raises(Unverified):
        trust.advance(head(5), b"", (), slow)
    assert trust.seen() == moved


def test_a_value_that_is_too_long_for_the_database_is_no_damage(cabinet: Cabinet) -> None:
    cabinet._database.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4096)
    with pytest.raises(TooLarge):
        cabinet.put_message(ID, bytes(5000))
    cabinet.put_message(ID, b"short")
    assert cabinet.messages() == [(ID, b"short")]


WORKER = """
import sys
from pathlib import Path
from liaison.home.cabinet import Cabinet
with Cabinet(Path(sys.argv[1]), bytes.fromhex(sys.argv[2])) as cabinet:
    for _ in range(15):
        with cabinet.transaction():
            seq = cabinet.next_seq()
            cabinet.put_outbox(seq.to_bytes(16), sys.argv[3].encode())
            cabinet.advance_chain(seq, bytes(32))
"""


def test_what_is_asked_of_a_closed_cabinet_is_a_fault_of_the_program_and_no_damage(cabinet: Cabinet) -> None:
    cabinet.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        cabinet.pin("audit-position")


def test_two_processes_take_turns(path: Path, cabinet: Cabinet) -> None:
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(path), STATE_KEY.hex(), name],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        for name in ("a", "b")
    ]
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
    assert cabinet.chain()[0] == 30
    assert len(cabinet.outbox()) == 30
    assert {who for _, who in cabinet.outbox()} == {b"a", b"b"}


def test_a_process_killed_inside_a_transaction_leaves_the_state_before(path: Path, cabinet: Cabinet) -> None:
    stock(cabinet, 3)
    script = WORKER.partition("    for")[0] + (
        "    with cabinet.transaction():\n"
        "        cabinet.put_part(bytes(16), 0, bytes(9_000_000))\n"
        f"        cabinet.delete_prekey(bytes.fromhex('{ref(1).hex()}'))\n"
        "        import os, signal; os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    worker = subprocess.run(
        [sys.executable, "-c", script, str(path), STATE_KEY.hex()],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert worker.returncode == -9
    assert cabinet.prekey(ref(1)) == seed(1)
    assert cabinet.part(bytes(16), 0) is None
