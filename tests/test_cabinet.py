"""The cabinet: what it keeps, in which order, what it takes once, and what it refuses."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cabinets import DEVICE, ID, OTHER_ID, STATE_KEY, everything_beside, ref, seed, stock
from liaison.home.cabinet import Cabinet, create_cabinet
from relay.protocol.errors import Conflict, LiaisonError, Malformed, TooLarge, Unauthenticated, Unknown, Unverified


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


def test_no_canary_is_found_in_the_file(cabinet_path: Path, cabinet: Cabinet) -> None:
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
    content = everything_beside(cabinet_path)
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
    assert cabinet_path.stat().st_mode & 0o777 == 0o600


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


def test_a_missing_entry_is_noticed(cabinet_path: Path, cabinet: Cabinet) -> None:
    cabinet.append_entries("d", 0, [b"%d" % number for number in range(600)])
    thief = sqlite3.connect(cabinet_path)
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


def test_an_alarm_stays_until_it_is_resolved(cabinet_path: Path, cabinet: Cabinet) -> None:
    first = cabinet.raise_alarm("the log forked", b"two checkpoints", 100)
    assert cabinet.raise_alarm("the log forked", b"two checkpoints", 200) == first
    second = cabinet.raise_alarm("the log forked", b"two others", 300)
    with Cabinet(cabinet_path, STATE_KEY) as later:
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


def test_rows_swapped_or_altered_do_not_open(cabinet_path: Path, cabinet: Cabinet) -> None:
    cabinet.put_message(ID, b"one")
    cabinet.put_message(OTHER_ID, b"two")
    thief = sqlite3.connect(cabinet_path)
    thief.execute("UPDATE message SET box = (SELECT box FROM message WHERE number = 2) WHERE number = 1")
    thief.execute("UPDATE message SET box = x'00' WHERE number = 2")
    thief.commit()
    thief.close()
    for message_id in (ID, OTHER_ID):
        with pytest.raises(Unverified):
            cabinet.message(message_id)


def test_another_state_key_opens_nothing(cabinet_path: Path) -> None:
    with pytest.raises(Unverified):
        Cabinet(cabinet_path, bytes(32))


def test_what_is_no_cabinet_is_refused(tmp_path: Path, cabinet_path: Path) -> None:
    with pytest.raises(Conflict):
        create_cabinet(cabinet_path, STATE_KEY)
    with pytest.raises(Unauthenticated, match="there is no"):
        Cabinet(tmp_path / "absent", STATE_KEY)
    cabinet_path.chmod(0o644)
    with pytest.raises(Unauthenticated, match="open to others"):
        Cabinet(cabinet_path, STATE_KEY)
    cabinet_path.chmod(0o600)
    for content in (b"", b"not a database at all" * 100, cabinet_path.read_bytes()[:5000]):
        cabinet_path.write_bytes(content)
        with pytest.raises(LiaisonError) as caught:
            Cabinet(cabinet_path, STATE_KEY)
        assert isinstance(caught.value, Malformed)


def test_a_value_that_is_too_long_for_the_database_is_no_damage(cabinet: Cabinet) -> None:
    cabinet._database.connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 4096)
    with pytest.raises(TooLarge):
        cabinet.put_message(ID, bytes(5000))
    cabinet.put_message(ID, b"short")
    assert cabinet.messages() == [(ID, b"short")]


def test_what_is_asked_of_a_closed_cabinet_is_a_fault_of_the_program_and_no_damage(cabinet: Cabinet) -> None:
    cabinet.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        cabinet.pin("audit-position")
