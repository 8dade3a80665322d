"""Exposure: which devices held a key to which portions of a message, when, and which never did.

From verified log entries alone, but for two things that the log holds by digest: the message's header (its ref is in
the accept entry, its signature is the sender's) and the devices that it was sealed to (the accept entry's detail).
`is_complete` says whether the auditor's scope holds every entry about the message: those of the originator's office do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from relay.protocol.canonical import expect, read_array
from relay.protocol.cose import verify_sign1
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.envelope import Message, parse_message
from relay.protocol.errors import Unknown, Unverified
from relay.protocol.grants import Grants, accept_detail, parse_grants, parse_portions
from relay.protocol.recall import read_recall_detail
from relay.protocol.warrant import judge_recall

from .audit.pulled import PulledEntry, utc
from .client import Client
from .trust import relayed


@dataclass(slots=True)
class Exposure:
    """What the log says of one message. Entries are (index, entry), in the order of the log."""

    message_id: bytes
    accepts: list[tuple[int, AccessEntry]] = field(default_factory=list)
    openings: dict[bytes, list[tuple[int, AccessEntry]]] = field(default_factory=dict)  # by device
    denials: list[tuple[int, AccessEntry]] = field(default_factory=list)
    recalls: list[tuple[int, AccessEntry]] = field(default_factory=list)
    acknowledgements: list[tuple[int, AccessEntry]] = field(default_factory=list)
    message: Message | None = None
    grants: Grants = ()

    @property
    def never(self) -> Grants:
        """Devices that were sealed to and never got the keys."""
        return tuple((device, granted) for device, granted in self.grants if device not in self.openings)

    @property
    def is_complete(self) -> bool:
        return self.message is not None

    def held(self) -> dict[bytes, tuple[int, AccessEntry, tuple[int, ...]]]:
        """Device → its first opening and the portions whose keys left with it or with a later one."""
        found = {}
        for device, openings in self.openings.items():
            index, first = openings[0]
            portions = {portion for _, entry in openings for portion in parse_portions(entry.detail)}
            found[device] = (index, first, tuple(sorted(portions)))
        return found

    def as_json(self) -> dict[str, Any]:
        core = self.message.core if self.message is not None else None
        addressed = core.reached if core else []
        return {
            "message_id": self.message_id.hex(),
            "message_ref": self.message.ref.hex() if self.message is not None else None,
            "complete": self.is_complete,
            "proof": "verified",  # nothing else gets here
            "accepted": [_at(*each) for each in self.accepts],
            "addressed": addressed,
            "held": [
                {"address": entry.address, "device": device.hex(), "portions": list(portions), **_at(index, entry)}
                for device, (index, entry, portions) in sorted(self.held().items(), key=lambda item: item[1][0])
            ],
            "never": [{"device": device.hex(), "portions": list(granted)} for device, granted in self.never],
            "recalls": [_at(*each) | _why(each[1]) for each in self.recalls],
            "denied": [
                {
                    "address": entry.address,
                    "device": entry.device_id.hex(),
                    "rules": list(entry.rules),
                    **_at(index, entry),
                }
                for index, entry in self.denials
            ],
        }


def exposure(client: Client, entries: Iterable[PulledEntry], message_id: bytes) -> Exposure:
    """The exposure of one message from entries that were verified. Raises Unknown, Unverified."""
    (found,) = exposures(entries, [message_id])
    if not (found.accepts or found.openings or found.denials):
        raise Unknown("the access log has no entry of this message in your scope", hint="first: liaison audit pull")
    if found.accepts:
        complete(client, found)
    return found


def exposures(entries: Iterable[PulledEntry], message_ids: Sequence[bytes]) -> list[Exposure]:
    """The same for many messages in one walk over the log; without their headers."""
    found = {message_id: Exposure(message_id) for message_id in message_ids}
    for pulled in entries:
        entry = pulled.entry
        if entry is None or entry.message_id not in found or entry.message_id is None:
            continue
        _take(found[entry.message_id], pulled.index, entry)
    return list(found.values())


def _take(found: Exposure, index: int, entry: AccessEntry) -> None:
    if entry.event is Event.ACCEPT:
        found.accepts.append((index, entry))
    elif entry.event is Event.OPEN:
        if found.recalls:
            raise Unverified(f"entry {index}: the message was opened after its recall, entry {found.recalls[0][0]}")
        found.openings.setdefault(entry.device_id, []).append((index, entry))
    elif entry.event is Event.DENY:
        found.denials.append((index, entry))
    elif entry.event is Event.RECALL:
        read_recall_detail(entry.detail)
        found.recalls.append((index, entry))
    elif entry.event is Event.ACKNOWLEDGE:
        found.acknowledgements.append((index, entry))


def complete(client: Client, found: Exposure) -> None:
    """Add header and devices, verified against the one accept entry. Raises Unverified, Unknown."""
    if len(found.accepts) != 1:
        raise Unverified(f"the access log has {len(found.accepts)} accept entries of this message")
    ((_, accept),) = found.accepts
    answer = client.transport.get(f"/v1/audit/messages/{found.message_id.hex()}")
    with relayed():
        encoded, listed = read_array(answer, 2, "audit message")
        message = parse_message(expect(encoded, bytes, "audit message: message"))
        grants = parse_grants(expect(listed, bytes, "audit message: grants"))
        sender = client.trust.directory.devices.get(message.core.sender_device)
        stated = accept_detail(grants, message.core.handling.precedence)
        if message.ref != accept.message_ref or sender is None or stated != accept.detail:
            raise Unverified("the relay shows another message, or other devices, than it accepted")
        verify_sign1(message.signed, sender.signature_public)
        for _index, entry in found.recalls:
            judge_recall(entry, sender.address, client.trust.directory)
        for device, (index, _first, portions) in found.held().items():
            if portions != dict(grants).get(device):
                raise Unverified(f"entry {index}: keys left that were not sealed to this device")
    found.message, found.grants = message, grants


def _at(index: int, entry: AccessEntry) -> dict[str, Any]:
    return {"index": index, "time": utc(entry.time)}


def _why(entry: AccessEntry) -> dict[str, Any]:
    told = read_recall_detail(entry.detail)
    kind = "spill" if told.spill else "recall"
    return {"kind": kind, "by": entry.address, "held": told.held, "reason": told.reason}
