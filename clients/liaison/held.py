"""Which messages are held now, since when, by whose words: for an office's security officers as the relay proves it,
for an auditor from the log that he has verified.

The rules:
  - an entry of a hold counts as far as the signed words in it bear it out (warranted.py), which hold the reasons too;
  - a relay can leave out a hold that an officer asks for, or show one that has been lifted: his answer has entries, not
    all of them. An auditor's has every entry in his scope.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from relay.protocol.approval import APPROVAL, read_approval
from relay.protocol.canonical import read_array
from relay.protocol.cose import parse_sign1
from relay.protocol.entry import AccessEntry, Event
from relay.protocol.errors import Malformed, Unverified
from relay.protocol.hold import HOLD, Action, Hold, read_hold
from relay.protocol.warrant import Holders, counts

from .audit.pulled import PulledEntry, utc
from .audit.warranted import Warrants
from .client import Client
from .proven import proven
from .trust import DIRECTORY, relayed


@dataclass(frozen=True, slots=True)
class Held:
    """A hold in force: the entry of the word that made it count."""

    index: int
    entry: AccessEntry
    words: tuple[Hold, ...]
    approvers: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        words = [(each.address, each.device_id.hex(), utc(each.at * 1000), each.reason) for each in self.words]
        return {
            "message_id": (self.entry.message_id or b"").hex(),
            "office": self.entry.office,
            "since": utc(self.entry.time),
            "entry": self.index,
            "words": [dict(zip(("address", "device", "at", "reason"), each, strict=True)) for each in words],
            "approved_by": list(self.approvers),
        }


def held_by_office(client: Client, office: str) -> list[Held]:
    """The holds of one's own office, as the relay proves them. Raises Unverified; Refused to who is told of none."""
    warrants = Warrants(lambda start: client.profile.cabinet.entries(DIRECTORY, start))
    held, after = dict[bytes, Held](), 0
    while found := _page(client, after):
        for index, entry in found:
            warrants.take(index, entry)
            if warrants.fault is not None:
                raise Unverified(warrants.fault)
            with relayed():
                each = _held(index, entry)
            message_id = entry.message_id or b""
            if each is None or entry.office != office or message_id in held or index < after:
                raise Unverified(f"entry {index} of the access log is no hold of {office}, or no other one")
            held[message_id], after = each, index + 1
    return list(held.values())


def _page(client: Client, after: int) -> list[tuple[int, AccessEntry]]:
    answer = client.transport.get("/v1/holds", after=after)
    with relayed():
        note, rows = read_array(answer, 2, "holds")
        found = proven(client, note, rows)[0] if rows else []
    return [(each.index, each.entry) for each in found if each.entry is not None]


def held_in_log(entries: Iterable[PulledEntry]) -> list[Held]:
    """The holds in force of all offices in an auditor's scope, from entries that were verified.

    Raises Unverified for one that was not obeyed.
    """
    found, holders = dict[tuple[str, bytes], Held](), Holders()
    for pulled in entries:
        if (entry := pulled.entry) is None:
            continue
        holders.take(entry)
        if entry.event is not Event.HOLD or not counts(entry):
            continue
        found.pop((entry.office, entry.message_id or b""), None)
        if (held := _held(pulled.index, entry)) is not None:
            found[entry.office, entry.message_id or b""] = held
    return list(found.values())


def _held(index: int, entry: AccessEntry) -> Held | None:
    """The hold that this entry makes count, if it is one."""
    if entry.event is not Event.HOLD or not counts(entry):
        return None
    first, *others = entry.warrant
    words, approvers = [read_hold(parse_sign1(first, HOLD))], list[str]()
    for each in others:
        try:
            words.append(read_hold(parse_sign1(each, HOLD)))
        except Malformed:
            approvers.append(read_approval(parse_sign1(each, APPROVAL).payload).address)
    return Held(index, entry, tuple(words), tuple(approvers)) if words[0].action is Action.PLACE else None
