"""What is made of signed objects: messages, entries of the logs, the directory they add up to, what is posted."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from liaison.audit.pulled import read_answer
from liaison.tracking import receipt_rows
from relay.protocol.actor import verify_actor
from relay.protocol.canonical import decode, encode
from relay.protocol.cose import parse_sign1
from relay.protocol.directory import Directory
from relay.protocol.endorsement import (
    ENDORSEMENT,
    verify_endorsements,
    verify_passed_on,
)
from relay.protocol.entry import (
    WARRANTED,
    AccessEntry,
    parse_access_entry,
    parse_directory_entry,
    parse_logged_entry,
)
from relay.protocol.envelope import (
    RECEIPT,
    Message,
    decode_list,
    format_slot,
    parse_delivery,
    parse_message,
    parse_slot,
    parse_submission,
)
from relay.protocol.errors import LiaisonError, Malformed
from relay.protocol.grants import format_grants, parse_grants
from relay.protocol.header import parse_core
from relay.protocol.recall import RECALL, parse_recalled, read_recall, verify_recalled
from relay.protocol.suite import SUITE_1
from relay.protocol.warrant import verify_warrant
from vector_world import NOW

from . import mutators, seeds
from .objects import whole
from .target import Property, Target, is_read, spelled_once


def _message_holds(message: Message, octets: bytes) -> None:
    assert message.core.encoded() == decode(message.signed.payload)[0]
    assert whole(message.signed) == octets
    with suppress(LiaisonError):
        verify_passed_on(seeds.directory(), message.core)
    with suppress(LiaisonError):
        verify_endorsements(seeds.directory(), message, [seeds.of_kind(ENDORSEMENT)])


def _submission_holds(submission: Any, octets: bytes) -> None:
    assert submission.encoded() == octets
    with suppress(LiaisonError):
        message = parse_message(submission.message)
        _message_holds(message, submission.message)
        for encoded in submission.slots:
            _slot_holds(parse_slot(encoded, message.core), encoded)


def _slot_holds(slot: Any, octets: bytes) -> None:
    written = format_slot(slot.device_id, slot.kp_ref, slot.granted, slot.protected, slot.enc + slot.wrapped, SUITE_1)
    assert written == octets == slot.encoded


def _own_slot(octets: bytes) -> Any:
    return parse_slot(octets, parse_message(seeds.delivery().message).core)


def _entry_holds(entry: AccessEntry, octets: bytes) -> None:
    assert entry.encoded() == octets
    with suppress(LiaisonError):
        verify_actor(entry, seeds.directory())
    if entry.event in WARRANTED:
        with suppress(LiaisonError):
            verify_warrant(entry, seeds.directory())


def _recalled_holds(answer: Any, octets: bytes) -> None:
    assert answer.encoded() == octets
    assert all(type(portion) is int for state in answer.states for portion in state.granted)
    with suppress(LiaisonError):
        verify_recalled(answer, read_recall(parse_sign1(seeds.of_kind(RECALL), RECALL)))


def _replay(octets: bytes) -> tuple[Directory, list[bytes]]:
    """A directory of these entries; of the first that does not hold, that it changed nothing."""
    replayed, held, failed = Directory(), list[bytes](), False
    for entry in decode_list(octets, "entries"):
        if type(entry) is not bytes:
            raise Malformed("an entry that is none")
        try:
            replayed.apply(entry)
        except LiaisonError:
            if not failed:
                assert repr(replayed) == repr(_replayed(held)), "an entry that does not hold has changed something"
            failed = True
        else:
            held.append(entry)
    return replayed, held


def _replayed(entries: list[bytes]) -> Directory:
    replayed = Directory()
    for entry in entries:
        replayed.apply(entry)
    return replayed


def _directory_holds(found: tuple[Directory, list[bytes]], _octets: bytes) -> None:
    replayed, held = found
    assert replayed.size == len(held)
    for device_id, device in replayed.devices.items():
        assert device.device_id == device_id
        replayed.device(device_id, NOW)
        replayed.audit_scope(device_id, NOW)
        replayed.devices_of(device.address, NOW)
        replayed.trusted_kids(device.device_id)
    for left in replayed.offices:
        for right in replayed.offices:
            replayed.agreements_between(left, right)


def _answers() -> list[bytes]:
    rows = [[bytes(16), "opened", seeds.of_kind(RECEIPT), 3]]
    entry = seeds.access_entries()[0]
    return [encode(rows), encode([True, entry]), encode([False, bytes(32)]), encode([None, bytes(32)])]


def _entries() -> list[bytes]:
    logged = [each.encoded() for each in seeds.logged_entries()]
    changes = [*seeds.entries(), *seeds.changes()]
    return [*seeds.access_entries(), *changes, *logged, seeds.recalled(), format_grants(seeds.grants())]


def _envelopes() -> list[bytes]:
    sent = [each.encoded() for each in seeds.submissions()]
    messages = [each.message for each in seeds.submissions()]
    return [*sent, *messages, seeds.delivery().encoded(), seeds.delivery().slot, *seeds.message_vectors()]


def _cores() -> list[bytes]:
    return [parse_message(each.message).core.encoded() for each in seeds.submissions()]


def _directories() -> list[bytes]:
    return [encode(list(seeds.entries())), encode([*seeds.entries(), *seeds.changes()])]


TARGETS = (
    Target("core", (spelled_once(parse_core),), _cores, mutators.cbor),
    Target(
        "envelope",
        (
            Property(parse_message, _message_holds),
            Property(parse_submission, _submission_holds),
            spelled_once(parse_delivery),
            Property(_own_slot, _slot_holds),
        ),
        _envelopes,
        mutators.cbor,
        behind=True,
    ),
    Target(
        "entries",
        (
            Property(parse_access_entry, _entry_holds),
            spelled_once(parse_directory_entry),
            spelled_once(parse_logged_entry),
            Property(parse_recalled, _recalled_holds),
            spelled_once(parse_grants, format_grants),
        ),
        _entries,
        mutators.cbor,
        behind=True,
    ),
    Target(
        "directory", (Property(_replay, _directory_holds),), _directories, mutators.cbor, behind=True, longest=1 << 18
    ),
    Target(
        "answers",
        (
            Property(lambda octets: receipt_rows(decode_list(octets, "receipts")), is_read),
            Property(lambda octets: read_answer(7, decode(octets)), is_read),
        ),
        _answers,
        mutators.cbor,
    ),
)
