"""Which messages are held now, since when, by whose words, and which word waits for a second one: for an office's
security officers as the relay proves it, for an auditor from the log that he has verified.

The rules:
  - an entry of a hold counts as far as the signed words in it bear it out (warranted.py), which hold the reasons too;
  - a relay can leave out a hold that an officer asks for, or show one that has been lifted: his answer has entries, not
    all of them. An auditor's has every entry in his scope.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from relay.protocol.approval import APPROVAL, Matter, read_approval
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
class Word:
    """The entry of a word, the words that it rests on, its own first, and who approved it."""

    index: int
    entry: AccessEntry
    words: tuple[Hold, ...]
    approvers: tuple[str, ...]

    @property
    def counts(self) -> bool:
        return counts(self.entry)

    @property
    def action(self) -> Action:
        return self.words[0].action


@dataclass(frozen=True, slots=True)
class Held:
    """What an office has said of one message: the word that made it count, one that waits for a second, or both."""

    message_id: bytes
    office: str
    by: Word | None
    waits: Word | None = None  # to place what is not held, or to lift what is

    def as_json(self) -> dict[str, Any]:
        return {
            "message_id": self.message_id.hex(),
            "office": self.office,
            "held": self.by is not None,
            "since": utc(self.by.entry.time) if self.by is not None else None,
            "entry": self.by.index if self.by is not None else None,
            "words": [_told(each) for each in self.by.words] if self.by is not None else [],
            "approved_by": list(self.by.approvers) if self.by is not None else [],
            "waits": {"action": self.waits.action.value, **_told(self.waits.words[0])} if self.waits else None,
        }


def _told(word: Hold) -> dict[str, Any]:
    return {
        "address": word.address,
        "device": word.device_id.hex(),
        "at": utc(word.at * 1000),
        "reason": word.reason,
    }


def held_by_office(client: Client, office: str) -> list[Held]:
    """What the own office holds, or has one word about, as the relay proves it.

    Raises Unverified; Refused to who is told of none.
    """
    warrants = Warrants(lambda start: client.profile.cabinet.entries(DIRECTORY, start))
    found, until, after = dict[bytes, Held](), dict[bytes, int](), 0  # until: how long the log was when it was read
    while page := _page(client, after):
        size = client.trust.seen()
        for index, entry in page:
            warrants.take(index, entry)
            if warrants.fault is not None:
                raise Unverified(warrants.fault)
            with relayed():
                word = _word(index, entry)
            message_id = entry.message_id or b""
            said = found.get(message_id)
            if word is not None and said is not None and index >= until[message_id]:
                said = _undone(said, word)
            if word is None or entry.office != office or index < after or not _follows(word, said):
                raise Unverified(f"entry {index} of the access log is no hold of {office}, or no other one")
            found[message_id], until[message_id], after = _after(said, word), size, index + 1
    return _standing(found.values(), client)


def _undone(said: Held, word: Word) -> Held | None:
    """What is left of what stood on an earlier page, given a word that was not in the log then: a relay shows none of
    those between, by which the one was lifted or the other lapsed.
    """
    return replace(said, waits=None) if word.action is Action.LIFT else None


def _follows(word: Word, said: Held | None) -> bool:
    """Whether the word can stand behind what stands already: once held, or said, it is not said again."""
    if word.counts or word.action is Action.PLACE:
        return word.action is Action.PLACE and (said is None or (word.counts and said.by is None))
    return said is not None and said.by is not None and said.waits is None


def _after(said: Held | None, word: Word) -> Held:
    message_id, office = word.entry.message_id or b"", word.entry.office
    if word.counts:
        return Held(message_id, office, word if word.action is Action.PLACE else None)
    return Held(message_id, office, said.by if said is not None else None, word)


def _standing(found: Iterable[Held], client: Client) -> list[Held]:
    """Without the words that wait for nothing: whose device is no longer valid, or who needs approvals by now, has to
    say so again.
    """
    directory, now = client.trust.directory, int(time.time())

    def waits(word: Word) -> bool:
        approvers = directory.approvers_of(word.entry.office)
        takes_approvals = approvers is not None and approvers.threshold(Matter.HOLD) > 0
        return not takes_approvals and directory.device(word.entry.device_id, now) is not None

    valid = [each if each.waits is None or waits(each.waits) else replace(each, waits=None) for each in found]
    return [each for each in valid if each.by is not None or each.waits is not None]


def _page(client: Client, after: int) -> list[tuple[int, AccessEntry]]:
    answer = client.transport.get("/v1/holds", after=after)
    with relayed():
        note, rows = read_array(answer, 2, "holds")
        found = proven(client, note, rows)[0] if rows else []
    return [(each.index, each.entry) for each in found if each.entry is not None]


def held_in_log(entries: Iterable[PulledEntry], client: Client) -> list[Held]:
    """The same of all offices in an auditor's scope, from entries that were verified.

    Raises Unverified for a hold that was not obeyed.
    """
    found, holders = dict[tuple[str, bytes], Held](), Holders()
    for pulled in entries:
        if (entry := pulled.entry) is None:
            continue
        holders.take(entry)
        message_id = entry.message_id or b""
        if entry.event is Event.EXPIRE:  # one for each office that had said something of the message
            for office in (entry.office, entry.concerns):
                found.pop((office, message_id), None)
        if (word := _word(pulled.index, entry)) is None:
            continue
        said = entry.office, message_id
        found[said] = _after(found.pop(said, None), word)
    return _standing(found.values(), client)


def _word(index: int, entry: AccessEntry) -> Word | None:
    """The word that a hold's entry says."""
    if entry.event is not Event.HOLD:
        return None
    first, *others = entry.warrant
    words, approvers = [read_hold(parse_sign1(first, HOLD))], list[str]()
    for each in others:
        try:
            words.append(read_hold(parse_sign1(each, HOLD)))
        except Malformed:
            approvers.append(read_approval(parse_sign1(each, APPROVAL).payload).address)
    return Word(index, entry, tuple(words), tuple(approvers))
