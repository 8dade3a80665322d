"""Which message a draft is, for who drafted it: by either of its ids, and by his own copies.

A draft has two ids: that of the message to be, under which it is posted once it is released, and that of the message
that carries it to the releasing officers. The link is what the carrier, which its sender signed and kept, has inside.
Whether it was released, when and by whom the log proves: by the accept entry of the very message that was drafted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from relay.protocol.canonical import expect, expect_bytes, read_array
from relay.protocol.envelope import Submission, parse_message, parse_submission
from relay.protocol.errors import Refused

from .client import Client
from .portions import PortionKind
from .record import DRAFTED, FAILED, OUT, Record, kept, read_record
from .tracking import Tracked, look_up


@dataclass(frozen=True, slots=True)
class OwnDraft:
    """What was drafted here: the id of the message, that of its carrier, and its own copy.

    `released`, in what follows, is what the log proves of the message: nothing while nobody has released it.
    """

    message_id: bytes
    carrier: bytes | None  # None where nothing has gone to the officers
    record: Record

    def standing(self, released: Tracked | None) -> bytes:
        """The id of what there is of it: the message, or while nobody has released it the carrier."""
        return self.message_id if released is not None or self.carrier is None else self.carrier

    def as_json(self, released: Tracked | None) -> dict[str, Any]:
        """What a row of `track` says of it besides."""
        carrier, release = self.carrier.hex() if self.carrier is not None else None, None
        if released is not None:
            index, entry = released.accepted
            release = {"index": index, "time": entry.time, "by": entry.address}
        return {"message_id": self.message_id.hex(), "draft": carrier, "released": release}


def own_draft(client: Client, message_id: bytes) -> OwnDraft | None:
    """The draft of one's own that has this id or was carried under it; None for every other message."""
    record, carrier = _own(client, message_id), None
    if record is not None and (inner := carried(client, message_id, record)) is not None:
        message_id, carrier, record = inner, message_id, _own(client, inner)
    if record is None or record.state != DRAFTED:
        return None
    return OwnDraft(message_id, carrier or next(carriers_of(client, message_id), None), record)


def to_take_back(client: Client, draft: OwnDraft, named: bytes) -> bytes:
    """What a recall under one of a draft's ids is of: what was released, or the carrier while nothing was.

    Under the carrier's id it is of the carrier too, once what was released has been taken back. Nothing of the draft
    that waits here is posted for it. Raises as `Client.sync` does, Unverified.
    """
    client.sync(but=draft.carrier or b"")
    released = look_up(client, draft.record)
    if named == draft.carrier and released is not None and released.recalled is not None:
        return named
    return draft.standing(released)


def _own(client: Client, message_id: bytes) -> Record | None:
    found = client.profile.cabinet.message(message_id)
    record = read_record(found) if found is not None else None
    return record if record is not None and record.direction == OUT else None


def unpack(record: Record) -> tuple[Submission, tuple[bytes, ...]]:
    """The submission that a message carries, and its content keys. Raises Refused if it is no draft, Malformed."""
    packed = next((each for each in record.portions.values() if each.kind is PortionKind.DRAFT), None)
    if packed is None:
        raise Refused("this message is not a draft to be released", rules=("draft",))
    encoded, keys = read_array(packed.content, 2, "draft")
    submission = parse_submission(expect(encoded, bytes, "draft: submission"))
    return submission, tuple(expect_bytes(key, 32, "draft: key") for key in expect(keys, list, "draft: keys"))


def carried(client: Client, carrier: bytes, record: Record) -> bytes | None:
    """The id of the draft in a message of one's own, which has this record; None if it carries none."""
    if record.direction != OUT or all(each.kind is not PortionKind.DRAFT for each in record.portions.values()):
        return None
    whole = kept(client.profile.cabinet, carrier)  # a record alone has no large contents
    return parse_message(unpack(whole or record)[0].message).core.message_id


def carriers_of(client: Client, message_id: bytes) -> Iterator[bytes]:
    """The messages of one's own that carry this draft to releasing officers, newest first."""
    for carrier, record in reversed(list(client.records())):
        if record.state != FAILED and carried(client, carrier, record) == message_id:
            yield carrier
