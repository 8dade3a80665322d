"""The inbox: what a profile opened before, and what waits for it at the relay."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from relay.protocol.canonical import expect, read_array
from relay.protocol.envelope import Message, parse_message
from relay.protocol.errors import LiaisonError, Malformed
from relay.protocol.header import Precedence

from .incoming import Incoming
from .labels import LabelReader
from .record import HANDLED, OPEN
from .trust import relayed

UNREAD = "unread"
STATES = (UNREAD, OPEN, HANDLED)


@dataclass(frozen=True, slots=True)
class InboxItem:
    """A message in the inbox; its header has been verified, or `problem` says why not."""

    message_id: bytes
    message: Message
    state: str  # unread, open, handled
    precedence: Precedence  # for this reader
    marking: str
    problem: str = ""


def item_of(incoming: Incoming, labels: LabelReader, message: Message, state: str, problem: str = "") -> InboxItem:
    """The line of a message in this state, with the marking of the whole of it."""
    core = message.core
    marking = labels.marking(labels.heading(core))
    return InboxItem(core.message_id, message, state, incoming.precedence_for(core), marking, problem)


def waiting(incoming: Incoming, labels: LabelReader, wait: float, kept: Collection[bytes]) -> Iterator[InboxItem]:
    """What the relay has for this device and is not `kept`, oldest first; `wait` seconds for new mail if it has none.

    From the beginning each time: what the rules did not permit when it came may be listed since.
    """
    after = 0
    while True:
        answer = incoming.transport.get("/v1/inbox", after=after, wait=wait)
        with relayed():
            cursor, page = _parse_page(answer)
            unread = [each for each in map(parse_message, page) if each.core.message_id not in kept]
        for message in unread:
            wait = 0
            yield item_of(incoming, labels, message, UNREAD, _problem(incoming, message))
        if not page or cursor <= after:
            return
        after = cursor


def urgent_first(items: Iterable[InboxItem]) -> list[InboxItem]:
    """As they are listed: the most urgent first, then the oldest."""
    return sorted(items, key=lambda item: (-item.precedence, item.message.core.created))


def _problem(incoming: Incoming, message: Message) -> str:
    try:
        incoming.verify_header(message.encoded)
    except LiaisonError as error:
        return str(error)
    return ""


def _parse_page(answer: bytes) -> tuple[int, list[bytes]]:
    """A page of the inbox: where it ends, and its messages."""
    cursor, rows = read_array(answer, 2, "inbox")
    messages = []
    for row in expect(rows, list, "inbox"):
        if type(row) is not list or len(row) != 2:
            raise Malformed("inbox: an item is a cursor and a message")
        expect(row[0], int, "inbox: cursor")
        messages.append(expect(row[1], bytes, "inbox: message"))
    return expect(cursor, int, "inbox: cursor"), messages
