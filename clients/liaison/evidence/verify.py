"""Verifying an evidence package: offline, by nothing but what is in it and the keys that the verifier trusts.

The steps are those of SPEC.md, "The evidence package". The first failure stops and names itself. What the verifier was
given no key for is believed on the package's word, and `assumed` says so. A package without grants is a reader's, and
shows what became of the message at that one device: `shown_by` says so.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from relay.protocol.actor import verify_actor, verify_concerns
from relay.protocol.cose import parse_sign1, verify_sign1
from relay.protocol.dating import TOLERANCE
from relay.protocol.directory import Device, Directory
from relay.protocol.entry import AccessEntry, Event, parse_access_entry
from relay.protocol.envelope import RECEIPT, Message, parse_message, read_receipt
from relay.protocol.errors import LiaisonError, Malformed, Unverified
from relay.protocol.grants import Grants, parse_portions, read_accept_detail
from relay.protocol.header import Precedence
from relay.protocol.label import Label, label_of
from relay.protocol.note import NoteVerifier
from relay.protocol.recall import read_recall_detail

from .logs import check_authorities, directory_of, logged, relay_keys_of, signer_at
from .package import GRANTS_FILE, MESSAGE_FILE, Package, read_package
from .sealed_to import READER, accepted_grants, holder_of_grants, own_grant

_ABOUT_IT = frozenset({Event.ACCEPT, Event.OPEN, Event.ACKNOWLEDGE, Event.RECALL})


@dataclass(slots=True)
class Evidence:
    """What a package proves, given what is `assumed`."""

    package: Package
    exporter: Device
    shown_by: str  # originator, auditor or reader: of a reader's, nothing of other readers is in it
    directory: Directory
    accept: AccessEntry
    label: Label
    precedence: Precedence
    grants: Grants
    message: Message | None = None
    entries: list[tuple[int, AccessEntry]] = field(default_factory=list)
    assumed: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        core = self.message.core if self.message is not None else None
        return {
            "verified": True,
            "message_id": self.package.message_id.hex(),
            "message_ref": self.package.message_ref.hex(),
            "hash_only": self.message is None,
            "shown_by": self.shown_by,
            "exporter": self.exporter.address,
            "sender": core.sender if core else None,
            "addressees": core.reached if core else [],
            "precedence": self.precedence.name.lower(),
            "events": [
                {"index": index, "time": entry.time, "event": entry.event.value, "address": entry.address,
                 "detail": entry.detail}
                for index, entry in self.entries
            ],
            "sealed_to": [
                {"address": self.directory.devices[device].address, "device": device.hex(), "portions": list(granted)}
                for device, granted in self.grants
            ],
            "assumed": self.assumed,
        }  # fmt: skip


def verify_evidence(octets: bytes, relay_keys: Iterable[str] = (), authorities: Iterable[bytes] = ()) -> Evidence:
    """What the file proves. `authorities` are kids of authority keys that are trusted.

    Raises Unverified, also where the file is damaged, cut short or no package at all; TooLarge.
    """
    try:
        return _evidence_in(octets, relay_keys, authorities)
    except Malformed as problem:
        raise Unverified(f"not a package, or a damaged one: {problem}", hint=problem.hint) from problem


def _evidence_in(octets: bytes, relay_keys: Iterable[str], authorities: Iterable[bytes]) -> Evidence:
    # 1. the file, and that it is what its manifest lists
    package, manifest = read_package(octets)
    assumed: list[str] = []
    # 2. the relay's keys: those given, else those in the package
    vkeys = relay_keys_of(package, list(relay_keys), assumed)
    # 3. directory entries, each in the log, each holding after those before it
    directory = directory_of(package, vkeys)
    check_authorities(directory, frozenset(authorities), assumed)
    # 4. the manifest's signer
    exporter = signer_at(directory, manifest.kid[:16], package.at, "manifest")
    verify_sign1(manifest, exporter.signature_public)
    # 5. log entries, each in the log, each of this message, each its device's
    entries = _entries(package, vkeys, directory)
    accept = _only_accept(entries)
    for _index, entry in entries:
        verify_concerns(entry, accept.office)
    # 6. the message, the label, the devices it was sealed to
    message = _message(package, directory, accept)
    label = label_of(accept.label or b"")
    digest, precedence = read_accept_detail(accept.detail)
    if message is not None and message.core.handling.precedence is not precedence:
        raise Unverified("message: it was accepted under another precedence")
    if GRANTS_FILE in package.members:
        shown_by, grants = holder_of_grants(exporter, accept, message), accepted_grants(package, digest)
    else:
        shown_by, grants = READER, own_grant(package, exporter, [entry for _, entry in entries], message, assumed)
    found = Evidence(
        package, exporter, shown_by, directory, accept, label, precedence, grants, message, entries, assumed
    )
    # 7. openings and recalls
    _check_openings(found)
    # 8. receipts: each signed, each logged after an opening by its device
    _check_receipts(found)
    # 9. the policy that the label pins; 10. agreements between the offices, at each time that the rules were asked
    _check_policy(found)
    _check_agreements(found)
    assumed.append("that there are no other entries, revocations or withdrawals than those shown")
    return found


def _entries(package: Package, vkeys: list[NoteVerifier], directory: Directory) -> list[tuple[int, AccessEntry]]:
    found = list[tuple[int, AccessEntry]]()
    entries, dating = logged(package, "access", vkeys)
    for index, encoded in entries:
        try:
            entry = parse_access_entry(encoded)
        except LiaisonError as problem:
            raise Unverified(f"access entry {index} does not hold: {problem}") from problem
        verify_actor(entry, directory)
        found.append((index, entry))
        dating.take(index, entry.time)
        if dating.misdated is not None:
            raise Unverified(dating.misdated)
        if entry.event not in _ABOUT_IT or not entry.permitted:
            raise Unverified(f"access entry {index} is no evidence of a message")
        if (entry.message_id, entry.message_ref) != (package.message_id, package.message_ref):
            raise Unverified(f"access entry {index} is of another message")
    return found


def _only_accept(entries: list[tuple[int, AccessEntry]]) -> AccessEntry:
    accepts = [entry for _index, entry in entries if entry.event is Event.ACCEPT]
    if len(accepts) != 1 or entries[0][1] is not accepts[0]:
        raise Unverified("the package does not begin with the one entry of the message's acceptance")
    if any(entry.label != accepts[0].label for _index, entry in entries):
        raise Unverified("the entries speak of different labels")
    return accepts[0]


def _message(package: Package, directory: Directory, accept: AccessEntry) -> Message | None:
    if MESSAGE_FILE not in package.members:
        return None
    message = parse_message(package.members[MESSAGE_FILE])
    core = message.core
    sender = signer_at(directory, core.sender_device, core.created, "message")
    if sender.address != core.sender:
        raise Unverified("message: its sender is not its signer")
    verify_sign1(message.signed, sender.signature_public)
    if (core.message_id, message.ref, core.label) != (package.message_id, package.message_ref, accept.label):
        raise Unverified("message: another message, or another label, than was accepted")
    return message


def _check_openings(found: Evidence) -> None:
    grants, recalled = dict(found.grants), False
    for index, entry in found.entries:
        if entry.event is Event.RECALL:
            read_recall_detail(entry.detail)
            recalled = True
        elif entry.event is Event.OPEN:
            if recalled:
                raise Unverified(f"access entry {index}: opened after a recall")
            if parse_portions(entry.detail) != grants.get(entry.device_id):
                raise Unverified(f"access entry {index}: keys left that were not sealed to this device")
    if unknown := grants.keys() - found.directory.devices.keys():
        raise Unverified(f"the package lacks the certificate of device {min(unknown).hex()}")


def _check_receipts(found: Evidence) -> None:
    logged, opened = set[tuple[bytes, str]](), set[bytes]()
    for index, entry in found.entries:
        if entry.event is Event.OPEN:
            opened.add(entry.device_id)
        elif entry.event is Event.ACKNOWLEDGE:
            if entry.device_id not in opened:
                raise Unverified(f"access entry {index}: an acknowledgement by a device that had not opened")
            logged.add((entry.device_id, entry.detail))
    for name in (name for name in found.package.members if name.startswith("receipts/")):
        signed = parse_sign1(found.package.members[name], RECEIPT)
        receipt = read_receipt(signed)
        own = (found.package.message_id, found.package.message_ref, name)
        stated = f"receipts/{receipt.device_id.hex()}-{receipt.state}.cose"
        if (receipt.message_id, receipt.message_ref, stated) != own:
            raise Unverified(f"{name}: a receipt for another message, or of another device")
        verify_sign1(signed, signer_at(found.directory, receipt.device_id, receipt.at, name).signature_public)
        if (receipt.device_id, receipt.state) not in logged:
            raise Unverified(f"{name}: a receipt that was not logged")
        logged.remove((receipt.device_id, receipt.state))
    if logged:
        raise Unverified("the package lacks a receipt that was logged")


def _check_policy(found: Evidence) -> None:
    pinned, published = (
        found.label.policy,
        found.directory.policy_of(found.accept.office, found.label.policy.name, found.label.policy.oid),
    )
    if published is None or published.spif_digest != pinned.digest:
        raise Unverified("the package lacks the publication of the policy that the label pins")
    wanted = {digest.hex() for digest in (published.spif_digest, published.extensions_digest) if digest is not None}
    held = {
        name.removeprefix("policy/"): content for name, content in found.package.members.items() if "policy/" in name
    }
    if held.keys() != wanted or any(hashlib.sha256(content).hexdigest() != name for name, content in held.items()):
        raise Unverified("the policy files are not those that were published")


def _check_agreements(found: Evidence) -> None:
    own, devices = found.accept.office, found.directory.devices
    sealed = {(devices[device].office, found.accept.time) for device, _granted in found.grants}
    opened = {(entry.office, entry.time) for _index, entry in found.entries if entry.event is Event.OPEN}
    joined, reached = _joined(found.directory, own), dict[str, int]()
    # Who forged it chose how many of each there are, and none is looked at for every one of the others.
    for at, office in sorted((at, office) for office, at in sealed | opened if office != own):
        windows = joined.get(office, [])
        while windows and windows[-1][0] <= at:
            reached[office] = max(reached.get(office, 0), windows.pop()[1])
        if reached.get(office, 0) <= at:
            raise Unverified(
                f"the package lacks an agreement that {own} and {office} had signed, valid when the message was "
                f"accepted and opened"
            )


def _joined(directory: Directory, own: str) -> dict[str, list[tuple[int, int]]]:
    """By office, from when and until before when an agreement joined it with `own`, which all parties had signed.

    In milliseconds, the latest start first.
    """
    found, offices = dict[str, list[tuple[int, int]]](), directory.offices
    for state in directory.agreements.values():
        agreement = state.agreement
        if own not in state.signed or len(state.signed) < len(agreement.parties):
            continue
        window = (
            max(agreement.not_before * 1000, max(state.signed.values()) - TOLERANCE),
            (agreement.not_after + 1) * 1000,
        )
        kids = {each.office: each.authority_kid for each in agreement.parties}
        named = {office for office, kid in kids.items() if office in offices and offices[office].kid == kid}
        for office in named if own in named else ():
            found.setdefault(office, []).append(window)
    return {office: sorted(windows, reverse=True) for office, windows in found.items()}
