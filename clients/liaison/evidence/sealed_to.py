"""Who wrote a package, and to which devices it shows its message to have been sealed: to all, or to that one.

    slot.cbor = [slot, index, [inclusion proof...]]     under the slot_root that the message's sender signed

A reader is given nobody's grants. What was sealed to himself the sender has signed, in the slot; where there is no
slot, as the message is left out or an older program opened it, the entry of his opening says it: that is `assumed`.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.protocol.canonical import expect, read_array
from relay.protocol.directory import Device
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.envelope import Message, parse_slot
from relay.protocol.errors import Unverified
from relay.protocol.grants import Grants, grants_digest, parse_grants, parse_portions
from relay.protocol.header import MAX_PORTIONS
from relay.protocol.identity import Kind
from relay.protocol.merkle import leaf_hash, verify_inclusion

from .package import GRANTS_FILE, SLOT_FILE, Package

READER = "reader"


def holder_of_grants(exporter: Device, accept: AccessEntry, message: Message | None) -> str:
    """`originator` or `auditor`: nobody else is given the grants. Raises Unverified."""
    if exporter.kind is Kind.AUDITOR:
        return "auditor"
    sender = message.core.sender_device if message is not None else exporter.device_id
    if (exporter.device_id, exporter.office) != (sender, accept.office):
        raise Unverified("the package has grants.cbor, and was written by neither the originator nor an auditor")
    return "originator"


def accepted_grants(package: Package, digest: str) -> Grants:
    """Those of every device, by the digest in the entry of acceptance. Raises Malformed, Unverified."""
    grants = parse_grants(package.members[GRANTS_FILE])
    if grants_digest(grants) != digest:
        raise Unverified("grants.cbor is not what was accepted")
    if SLOT_FILE in package.members:
        raise Unverified("a reader's package has slot.cbor, any other grants.cbor: this one has both")
    return grants


def own_grant(
    package: Package, reader: Device, entries: Sequence[AccessEntry], message: Message | None, assumed: list[str]
) -> Grants:
    """That of the reader who wrote the package. Raises Malformed, Unverified."""
    opened = [entry for entry in entries if entry.event is Event.OPEN and entry.device_id == reader.device_id]
    if not opened:
        raise Unverified("the package has neither grants.cbor nor an opening by the device that wrote it")
    if any(entry.event is Event.RECALL for entry in entries):
        raise Unverified("a recall is not a reader's to show")
    if SLOT_FILE in package.members:
        return ((reader.device_id, _own_slot(package, message, reader)),)
    granted = parse_portions(opened[0].detail)
    if granted[-1] >= (len(message.core.portions) if message is not None else MAX_PORTIONS):
        raise Unverified("keys left of portions that the message does not have")
    assumed.append("that the sender sealed to this reader what the log says was opened")
    return ((reader.device_id, granted),)


def _own_slot(package: Package, message: Message | None, reader: Device) -> tuple[int, ...]:
    if message is None:
        raise Unverified("slot.cbor: there is no message that it could be a slot of")
    encoded, index, proof = read_array(package.members[SLOT_FILE], 3, SLOT_FILE)
    slot = parse_slot(expect(encoded, bytes, SLOT_FILE), message.core)
    steps = tuple(expect(step, bytes, SLOT_FILE) for step in expect(proof, list, SLOT_FILE))
    leaf, at = leaf_hash(slot.encoded), expect(index, int, SLOT_FILE)
    verify_inclusion(leaf, at, message.slot_count, steps, message.slot_root)
    if slot.device_id != reader.device_id:
        raise Unverified("slot.cbor: of another device than wrote the package")
    return slot.granted
