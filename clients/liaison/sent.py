"""What this profile has sent: its own copies, and of the newest what the relay proves of each, one look a message."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from relay.protocol.errors import LiaisonError, TooMany, Unavailable
from relay.protocol.header import Core

from .chain import EvidenceKind
from .client import Client
from .record import FAILED, OUT, Record
from .tracking import WAITS, Tracked, look_up, unposted

ACCEPTED, RECALLED, EXPIRED = "accepted", "recalled", "expired"


@dataclass(frozen=True, slots=True)
class SentItem:
    """A message that was sent. How many addressees opened and acknowledged it is None where nobody could be asked."""

    core: Core
    marking: str
    subject: str
    state: str  # waiting, failed, draft, accepted, recalled, expired
    opened: int | None
    acknowledged: int | None

    @property
    def addressees(self) -> list[str]:
        """Who shall have it."""
        return self.core.reached


@dataclass(frozen=True, slots=True)
class SentItems:
    """The newest first, how many older ones there are, and why the relay was not asked about all of these."""

    items: Sequence[SentItem]
    older: int
    problem: LiaisonError | None


def sent_items(client: Client, count: int) -> SentItems:
    """The newest `count` messages of this profile, also where no relay answers. Raises what else `Client.sync` does."""
    problem: LiaisonError | None = None
    try:
        client.sync()
    except (Unavailable, TooMany) as answer:
        client.trust.load()  # markings have their policies offline too
        problem = answer
    sent, items = [record for _, record in client.records() if record.direction == OUT], []
    for record in reversed(sent[-count:]):
        tracked = None
        if problem is None and unposted(client, record) not in {WAITS, FAILED}:
            try:
                tracked = look_up(client, record)
            except LiaisonError as answer:
                problem = answer  # of the others it is not asked: what was sent is listed in any case
                client.tell(f"message {record.message.core.message_id.hex()} was not looked up: {answer}")
        items.append(_item(client, record, tracked))
    return SentItems(items, max(0, len(sent) - count), problem)


def _item(client: Client, record: Record, tracked: Tracked | None) -> SentItem:
    core, head = record.message.core, record.portions.get(0)
    return SentItem(
        core=core,
        marking=client.labels.marking(client.labels.heading(core)),
        subject=head.name if head is not None else "",
        state=_state(core, tracked, unposted(client, record)),
        opened=tracked.count(EvidenceKind.RETRIEVAL) if tracked is not None else None,
        acknowledged=tracked.count(EvidenceKind.ACKNOWLEDGEMENT) if tracked is not None else None,
    )


def _state(core: Core, tracked: Tracked | None, here: str) -> str:
    if tracked is not None and tracked.recalled is not None:
        return RECALLED
    if tracked is None and here in {WAITS, FAILED}:
        return here
    if core.expires <= time.time():
        return EXPIRED
    return ACCEPTED if tracked is not None else here or ACCEPTED
