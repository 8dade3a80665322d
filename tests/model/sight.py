"""What is seen of the relay, held against the model: its database, its logs, the mailbox of a device."""

from __future__ import annotations

from hashlib import sha256

import pytest

from logcheck import read_checkpoint, verify_receipt
from model.acts import key_of
from model.cast import CLOCK
from model.relay import is_security_officer
from model.stage import Stage
from model.terms import Entry, Holder, Mail, Stored, Word
from relay.core.caller import Caller
from relay.house import check_all
from relay.protocol.canonical import decode
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import AccessEntry, Change, Event, LoggedEntry, parse_access_entry, parse_directory_entry
from relay.protocol.errors import Refused, Unauthenticated, Unknown
from relay.protocol.identity import REVOCATION, Kind, read_revocation
from relay.protocol.retention import parse_destruction
from relay.store.log import Log


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1"""
    if len(leaves) < 2:
        return leaves[0] if leaves else sha256(b"").digest()
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return sha256(b"\x01" + root_of(leaves[:half]) + root_of(leaves[half:])).digest()


class Sight:
    def __init__(self, stage: Stage) -> None:
        self.stage, self.model = stage, stage.model
        self.leaves: dict[Log, list[bytes]] = {log: [] for log in Log}
        self.notes: list[bytes] = []  # of every checkpoint that was seen
        self.ended: set[bytes] = set()  # messages recalled, devices revoked: by the logs alone

    def check_state(self) -> None:
        with self.stage.relay._readers.connect() as connection:
            self.rows = lambda question: connection.exec_driver_sql(question).all()
            for log in Log:
                self.check_log(log)
            self.check_mail()
            self.check_slots()
            self.check_keys()

    def check_all(self) -> None:
        """What `relay check` finds, with every checkpoint that was ever given out."""
        assert list(check_all(self.stage.settings, [("kept", note) for note in self.notes], lambda *_: None)) == []

    # -- the logs

    def check_log(self, log: Log) -> None:
        """Nothing that was there has changed, what is new is what the model says, and the relay has signed all of it."""
        known = self.leaves[log]
        rows = self.rows(f"SELECT idx, leaf_hash, entry FROM log_entry WHERE log = {log:d} ORDER BY idx")
        ((size,),) = self.rows(f"SELECT size FROM log_head WHERE log = {log:d}")
        assert [index for index, _leaf, _entry in rows] == list(range(size))
        fresh = [(index, bytes(entry)) for index, _leaf, entry in rows[len(known) :]]
        known += [sha256(b"\x00" + entry).digest() for _index, entry in fresh]
        assert [bytes(leaf) for _index, leaf, _entry in rows] == known
        if fresh:
            self.check_head(log)
        if log is Log.DIRECTORY:
            self.directory = [bytes(entry) for _index, _leaf, entry in rows]
            told = [parse_directory_entry(entry).change for _index, entry in fresh]
            assert told == self.model.directory[size - len(fresh) :]
        else:
            assert size == len(self.model.log)
            self.check_entries([(index, parse_access_entry(entry)) for index, entry in fresh])
            assert [entry is None for _index, _leaf, entry in rows] == [each.is_erased for each in self.model.log]

    def check_head(self, log: Log) -> None:
        size = len(self.leaves[log])
        ((note,),) = self.rows(f"SELECT note FROM checkpoint WHERE log = {log:d} AND size = {size}")
        head = read_checkpoint(self.stage.relay.vkeys, bytes(note), log.name.lower())
        assert (head.size, head.root) == (size, root_of(self.leaves[log]))
        self.notes.append(bytes(note))

    def check_entries(self, fresh: list[tuple[int, AccessEntry]]) -> None:
        foretold = self.model.log
        for index, got in fresh:
            if got.event is Event.EXPIRE:  # of what one sweep destroys the order is free
                same = (
                    place
                    for place in range(index, len(foretold))
                    if (foretold[place].message_id, foretold[place].concerns) == (got.message_id, got.concerns)
                )
                place = next(same)
                foretold[index], foretold[place] = foretold[place], foretold[index]
            self.check_entry(got, foretold[index])
            self.check_lawful(got)

    def check_entry(self, got: AccessEntry, each: Entry) -> None:
        told = (got.event, got.device_id, got.office, got.concerns, got.message_id, got.message_ref)
        assert told == (each.event, each.device_id, each.office, each.concerns, each.message_id, each.ref)
        assert (got.time, set(got.rules), got.label is None) == (each.time * 1000, each.rules, each.label is None)
        assert got.permitted is (got.event not in {Event.DENY, Event.REFUSE})
        assert each.detail in {None, got.detail}
        if got.event is Event.DESTROY:
            assert all(self.model.log[gone].is_erased for gone in parse_destruction(got.detail).entries)

    def check_lawful(self, got: AccessEntry) -> None:
        """By the logs alone, without the model: nothing leaves after a recall, a revocation, an expiry."""
        change, _, index = got.detail.partition(" ")
        if got.event is Event.RECALL:
            self.ended.add(got.message_id)
        elif got.event is Event.DIRECTORY and change == Change.REVOCATION:
            signed = parse_sign1(parse_directory_entry(self.directory[int(index)]).payload, REVOCATION)
            self.ended.add(read_revocation(signed).device_id)
        elif got.event is Event.OPEN:
            assert not {got.message_id, got.device_id} & self.ended, "released after a recall or a revocation"
            expires = dict(map(tuple, self.rows("SELECT message_id, expires FROM message")))
            assert got.time < expires[got.message_id] * 1000, "released after it expired"

    # -- what is stored

    def check_mail(self) -> None:
        mails = self.model.mails.items()
        assert self.rows("SELECT message_id, entry FROM message_place ORDER BY entry") == sorted(
            ((message_id, stored.entry) for message_id, stored in mails), key=lambda row: row[1]
        )
        assert set(self.rows("SELECT message_id, encoded FROM message")) == {
            (message_id, stored.mail.message) for message_id, stored in mails
        }
        assert set(self.rows("SELECT message_id, idx, sealed FROM part")) == {
            (message_id, *part)
            for message_id, stored in mails
            if stored.has_parts
            for part in enumerate(stored.mail.parts)
        }
        assert set(self.rows("SELECT message_id, device_id, state, entry FROM receipt")) == {
            (message_id, *who, entry) for message_id, stored in mails for who, entry in stored.receipts.items()
        }
        assert set(self.rows("SELECT message_id, entry FROM recall")) == {
            (message_id, entry) for message_id, stored in mails for entry in stored.recalls.values()
        }
        assert set(self.rows("SELECT message_id, office, standing = 2, entry FROM hold WHERE standing > 0")) == {
            (message_id, office, word.stands and entry == word.entry, entry)
            for message_id, stored in mails
            for office, word in stored.words.items()
            for entry in word.listed
        }

    def check_slots(self) -> None:
        """A slot has left if and only if the entry says so that released it first; after a recall none is there."""
        foretold = set()
        for message_id, stored in self.model.mails.items():
            for device_id, encoded in stored.mail.sealed_slots.items():
                there, kept = encoded if stored.has_slots else None, encoded if stored.is_kept else None
                foretold.add((message_id, device_id, there, kept, stored.opened.get(device_id)))
        rows = self.rows("SELECT message_id, device_id, encoded, kept, released FROM slot")
        assert len(rows) == len(foretold)
        assert set(rows) == foretold

    def check_keys(self) -> None:
        assert set(self.rows("SELECT ref, claimed_by, used_by IS NOT NULL FROM key_package")) == {
            (ref, each.claimed_by, each.used) for ref, each in self.model.packages.items()
        }

    # -- what a device is shown

    def check_mailbox(self, who: str, mail: Mail | None) -> None:
        relay, key, model = self.stage.relay, key_of(who), self.model
        asks = relay.door.authenticate(key.asks(CLOCK.now))
        if not model.may_act(key.device_id):
            with pytest.raises(Unauthenticated):
                self.stage.run(asks)
            return
        caller, holder = self.stage.run(asks), model.holders[key.device_id]
        if holder.kind is not Kind.AUDITOR:
            _cursor, items = decode(self.stage.run(relay.room.inbox(caller, 0, 0)))
            waiting = [each for each in model.mails.values() if self.is_listed(each, holder)]
            waiting.sort(key=lambda each: (-each.urgencies[holder.device_id], each.entry))
            assert [message for _number, message in items] == [each.mail.message for each in waiting]
        self.check_holds(caller, holder)
        if mail is not None:
            self.check_part(caller, mail)
            self.check_evidence(caller, mail)

    def is_listed(self, stored: Stored, holder: Holder) -> bool:
        granted = stored.mail.slots.get(holder.device_id)
        return granted is not None and stored.has_slots and not self.model.denying(holder, stored.mail, granted)

    def check_holds(self, caller: Caller, holder: Holder) -> None:
        """18a.6: the words of the own office, for its security officers."""
        asks = self.stage.relay.room.holds(caller, 0)
        if not is_security_officer(holder):
            with pytest.raises(Refused):
                self.stage.run(asks)
            return
        mails = self.model.mails.values()
        listed = [entry for each in mails for entry in each.words.get(holder.office, Word()).listed]
        note, entries = decode(self.stage.run(asks))
        assert [index for _entry, index, _proof in entries] == sorted(listed)
        self.check_proven(note, entries)

    def check_proven(self, note: bytes, entries: list[tuple[bytes, int, list[bytes]]]) -> None:
        for entry, index, proof in entries:
            verify_receipt(self.stage.relay.vkeys, LoggedEntry(entry, index, tuple(proof), note))

    def check_part(self, caller: Caller, mail: Mail) -> None:
        """Parts are for whom the slot has left to, after a recall too, and after a spill for nobody."""
        stored, room = self.model.mails.get(mail.message_id), self.stage.relay.room
        asks = room.part(caller, mail.message_id, 0, None)
        if stored is not None and caller.device.device_id in stored.opened and not stored.is_spilled:
            assert self.stage.run(asks) == stored.mail.parts[0]
        else:
            with pytest.raises(Unknown):
                self.stage.run(asks)

    def check_evidence(self, caller: Caller, mail: Mail) -> None:
        """For the sending device all that happened, for a reader his own, for others there is no such message."""
        stored, room = self.model.mails.get(mail.message_id), self.stage.relay.room
        asks, own = room.evidence(caller, mail.message_id), caller.device.device_id
        if stored is None or own not in {stored.mail.sender, *stored.opened}:
            with pytest.raises(Unknown):
                self.stage.run(asks)
            return
        is_sender = own == stored.mail.sender
        events = {each for device_id, each in stored.opened.items() if is_sender or device_id == own}
        events |= {each for (device_id, _state), each in stored.receipts.items() if is_sender or device_id == own}
        events |= set(stored.recalls.values()) if is_sender else set()
        note, _grants, entries = decode(self.stage.run(asks))
        assert [index for _entry, index, _proof in entries] == sorted({stored.entry, *events})
        self.check_proven(note, entries)
