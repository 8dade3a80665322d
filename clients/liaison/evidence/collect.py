"""Collecting an evidence package: what sender, reader or auditor hold, and what the relay proves; all verified.

An auditor of the originator's office has the whole log: what the relay leaves out of its answer is caught here. A
reader has his slot, and knows which receipts he gave; the relay shows him nothing of others, and he takes no more.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from liaison.audit.pull import AuditPull
from liaison.client import Client
from liaison.exposure import exposures
from liaison.record import HANDLED, IN, Record, read_record
from liaison.tracking import receipt_rows
from liaison.trust import ACCESS, DIRECTORY, relayed
from relay.protocol.agreement import AGREEMENT, read_agreement
from relay.protocol.canonical import encode, expect, read_array
from relay.protocol.cose import parse_sign1, verify_sign1
from relay.protocol.directory import Directory
from relay.protocol.entry import Change, DirectoryEntry, Event, parse_access_entry, parse_directory_entry
from relay.protocol.envelope import RECEIPT, decode_list, parse_message, read_receipt
from relay.protocol.errors import Malformed, Unverified
from relay.protocol.grants import parse_grants
from relay.protocol.header import Core
from relay.protocol.identity import (
    CERTIFICATE,
    REVOCATION,
    Kind,
    office_of,
    parse_statement,
    read_certificate,
    read_revocation,
)
from relay.protocol.label import label_of
from relay.protocol.publication import POLICY, read_published_policy

from .logs import signer_at
from .package import GRANTS_FILE, MESSAGE_FILE, RELAY_FILE, SLOT_FILE, Package, write_package
from .verify import verify_evidence


def collect(client: Client, message_id: bytes, *, hash_only: bool = False) -> bytes:
    """The package of a message that this device sent, opened or audits, signed by it.

    Raises Malformed, Unknown, Unverified.
    """
    own = client.sync()
    shown = _audited(client, message_id) if own.kind is Kind.AUDITOR else _sent_or_opened(client, message_id)
    with relayed():
        message = parse_message(shown.message)
    package = Package(message_id, message.ref, int(time.time()))
    members = package.members
    if not hash_only:
        members[MESSAGE_FILE] = shown.message
        if shown.slot:
            members[SLOT_FILE] = shown.slot
    members[RELAY_FILE] = "".join(f"{key}\n" for key in client.profile.pins.relay_keys).encode()
    with relayed():
        devices = _add_entries(client, package, shown.entries)
        for device_id, state, encoded, _index in shown.receipts:
            members[f"receipts/{device_id.hex()}-{state}.cose"] = encoded
    if own.kind is Kind.AUDITOR:
        _check_whole(client, package)
    with relayed():
        _leave_out_misdated(client, package)
    _add_directory(client, package, message.core, devices)
    octets = write_package(package, client.profile.signing)
    with relayed():
        verify_evidence(octets, client.profile.pins.relay_keys)  # nothing leaves that would not be believed
    return octets


@dataclass(frozen=True, slots=True)
class _Shown:
    """The signed message, and what the relay says became of it: entries, each proven, and signed receipts."""

    message: bytes
    entries: list[object]
    receipts: list[tuple[bytes, str, bytes, int]]
    slot: bytes = b""  # a reader's own, with its proof


def _sent_or_opened(client: Client, message_id: bytes) -> _Shown:
    kept = client.profile.cabinet.message(message_id)
    record = read_record(kept) if kept is not None else None
    if record is None:
        raise Malformed(
            "this device has neither sent nor opened this message", hint="a reader opens it first: liaison read ID"
        )
    path = f"/v1/messages/{message_id.hex()}"
    with relayed():
        entries = decode_list(client.transport.get(f"{path}/evidence"), "evidence")
        receipts = receipt_rows(decode_list(client.transport.get(f"{path}/receipts"), "receipts"))
        if record.direction == IN:
            _check_own(client, record, entries, receipts)
        return _Shown(record.encoded, entries, receipts, record.slot)


def _check_own(
    client: Client, record: Record, entries: list[object], receipts: list[tuple[bytes, str, bytes, int]]
) -> None:
    """Raise Unverified if the relay shows a reader others' grants, or not the receipts that he has given."""
    if entries[1:2] != [None]:
        raise Unverified("the relay shows a reader what others were sealed")
    shown, own = {row[:2] for row in receipts}, client.profile.signing.device_id
    for state, is_given in (("opened", record.receipt_sent), ("acknowledged", record.state == HANDLED)):
        if is_given and (own, state) not in shown:
            raise Unverified(f"the relay leaves out a receipt that this device has given: {state}")


def _audited(client: Client, message_id: bytes) -> _Shown:
    answer = client.transport.get(f"/v1/audit/messages/{message_id.hex()}/evidence")
    with relayed():
        header, entries, receipts = read_array(answer, 3, "evidence")
        message, _grants = read_array(expect(header, bytes, "evidence: header"), 2, "evidence: header")
        rows = receipt_rows(expect(receipts, list, "receipts"))
        return _Shown(expect(message, bytes, "evidence: message"), expect(entries, list, "evidence"), rows)


def _check_whole(client: Client, package: Package) -> None:
    """Raise Unverified unless the entries are those that the auditor's own, verified log has of this message."""
    pull = AuditPull(client)
    pull.pull()
    (own,) = exposures(pull.entries(), [package.message_id])
    firsts = [openings[0] for openings in own.openings.values()]
    wanted = {index for index, _entry in (*own.accepts, *firsts, *own.acknowledgements, *own.recalls)}
    shown = {int(name[7:17]) for name in package.members if name.startswith("access/0")}
    if shown != wanted:
        raise Unverified(f"the relay leaves out, or adds, entries about this message: {sorted(shown ^ wanted)[:5]}")


def _leave_out_misdated(client: Client, package: Package) -> None:
    """A receipt that its reader dated when his device was not certified proves nothing, and must not spoil the rest.

    Its entry goes with it, since every logged receipt is in a package (SPEC.md, 18.12), and the exporter is told.
    """
    members, directory = package.members, client.trust.directory
    for name in [name for name in members if name.startswith("receipts/")]:
        signed = parse_sign1(members[name], RECEIPT)
        receipt = read_receipt(signed)
        device = directory.devices.get(receipt.device_id)
        if device is None or (receipt.message_id, receipt.message_ref) != (package.message_id, package.message_ref):
            continue  # verifying refuses it
        verify_sign1(signed, device.signature_public)  # else the relay made it up
        try:
            signer_at(directory, receipt.device_id, receipt.at, name)
            continue
        except Unverified as problem:
            client.tell(f"left out, with its log entry: a receipt of {device.address} ({receipt.state}): {problem}")
        del members[name]
        own = (Event.ACKNOWLEDGE, receipt.device_id, receipt.state)
        for entry_name in [name for name in members if name.startswith("access/0")]:
            entry = parse_access_entry(read_array(members[entry_name], 3, entry_name)[0])
            if (entry.event, entry.device_id, entry.detail) == own:
                del members[entry_name]


def _add_entries(client: Client, package: Package, answer: list[object]) -> frozenset[bytes]:
    """The log entries with their proofs; their devices, and those that the relay says the message was sealed to."""
    if len(answer) != 3:
        raise Malformed("evidence: expected an array of 3")
    note, grants, entries = expect(answer[0], bytes, "evidence: checkpoint"), answer[1], answer[2]
    checkpoint = client.trust.read_checkpoint(ACCESS, note)
    client.trust.alarmed(note, lambda: client.trust.advance(checkpoint, note, (), client.transport))
    package.members["access/checkpoint"], devices = note, set[bytes]()
    for row in expect(entries, list, "evidence: entries"):
        encoded, index, _proof = read_array(proven := encode(row), 3, "evidence: entry")
        package.members[f"access/{expect(index, int, 'evidence: index'):010}.cbor"] = proven
        devices.add(parse_access_entry(expect(encoded, bytes, "evidence: entry")).device_id)
    if grants is None:  # to a reader
        return frozenset(devices)
    package.members[GRANTS_FILE] = expect(grants, bytes, "evidence: grants")
    return frozenset(devices.union(device for device, _granted in parse_grants(package.members[GRANTS_FILE])))


def _add_directory(client: Client, package: Package, core: Core, devices: frozenset[bytes]) -> None:
    """The directory entries that vouch for whoever appears, under the directory's newest checkpoint."""
    trust = client.trust
    state = trust.cabinet.log_state(DIRECTORY)
    if state is None:
        raise Malformed("the directory was never verified here")
    people = devices | {core.sender_device, client.profile.signing.device_id}
    if unknown := people - trust.directory.devices.keys():
        raise Unverified(f"the relay shows a device that the directory does not have: {min(unknown).hex()}")
    offices, label = _offices(trust.directory, core.office, people), label_of(core.label)
    package.members["directory/checkpoint"], files = state.checkpoint, list[bytes]()
    for index, encoded in enumerate(islice(trust.cabinet.entries(DIRECTORY), state.size)):
        entry = parse_directory_entry(encoded)
        if not offices.issuperset(_named(entry, people)):
            continue
        if entry.change is Change.POLICY:
            published = read_published_policy(parse_sign1(entry.payload, POLICY))
            if (published.office, published.spif_digest) != (core.office, label.policy.digest):
                continue
            files = [each for each in (published.spif_digest, published.extensions_digest) if each is not None]
        proof = trust.tree.inclusion_proof(index, state.size)
        package.members[f"directory/{index:010}.cbor"] = encode([encoded, index, proof])
    for digest in files:  # those of the newest publication
        package.members[f"policy/{digest.hex()}"] = client.documents.content(digest)


def _offices(directory: Directory, originator: str, people: frozenset[bytes]) -> frozenset[str]:
    """Theirs, and every party's of an agreement between originator and one of them: it counts with all signatures."""
    own = {directory.devices[device].office for device in people}
    states = (state for office in own - {originator} for state in directory.agreements_between(originator, office))
    return frozenset(own.union(*({party.office for party in state.agreement.parties} for state in states)))


def _named(entry: DirectoryEntry, people: frozenset[bytes]) -> Iterator[str]:
    """The offices that an entry is about; one that is none of ours, where it is about nobody of ours."""
    if entry.change is Change.OFFICE:
        yield parse_statement(entry.payload).office
    elif entry.change is Change.CERTIFICATE:
        certificate = read_certificate(parse_sign1(entry.payload, CERTIFICATE))
        yield office_of(certificate.address) if certificate.device_id in people else ""
    elif entry.change is Change.REVOCATION:
        revocation = read_revocation(parse_sign1(entry.payload, REVOCATION))
        yield office_of(revocation.address) if revocation.device_id in people else ""
    elif entry.change is Change.AGREEMENT:
        for party in read_agreement(parse_sign1(entry.payload, AGREEMENT).payload).parties:
            yield party.office
    elif entry.change is not Change.POLICY:
        yield ""
