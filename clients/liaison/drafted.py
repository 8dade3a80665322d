"""The link between a draft and the message that carries it to the releasing officers: what the carrier has inside."""

from __future__ import annotations

from collections.abc import Iterator

from relay.protocol.canonical import expect, expect_bytes, read_array
from relay.protocol.envelope import Submission, parse_message, parse_submission
from relay.protocol.errors import Refused

from .client import Client
from .portions import PortionKind
from .record import FAILED, OUT, Record, kept


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
