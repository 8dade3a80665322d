"""Sending once: a key of the caller's stands for one message, from the transaction that seals it on.

Whoever got no answer asks again with the same key, as often as need be, also of a gateway that was killed
meanwhile, and gets the receipt of what was sealed then. Keys are kept as long as messages are.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any

from liaison.as_json import kept_sent_json, refused_json
from liaison.client import Client
from liaison.outgoing import Refusals
from liaison.plan import Plan
from liaison.record import FAILED, read_record
from liaison.release import Verdict
from liaison.sealed import SealedFile
from liaison.waiting import Waiting
from relay.protocol.canonical import encode, read_array
from relay.protocol.envelope import Submission, parse_message
from relay.protocol.errors import Conflict, Malformed, Refused, TooMany, Unavailable

from .asked import plan_arguments

# draft-ietf-httpapi-idempotency-key-header: a structured field's string; without its quotes it is taken too
_KEY = re.compile(r'(?P<quote>"?)(?P<key>[!#-\[\]-~]{1,128})(?P=quote)')


class ToNobody(Refused):
    """The rules leave nobody; `refused` names each addressee, with the rules against it."""

    def __init__(self, why: Refused, refused: Sequence[Verdict]) -> None:
        super().__init__(str(why), hint=why.hint, rules=why.rules)
        self.refused = refused_json(refused)


def read_key(field: str) -> str:
    """The key in the field Idempotency-Key. Raises Malformed."""
    found = _KEY.fullmatch(field)
    if found is None:
        hint = "a text of the caller's own for each message, the same whenever it is asked again"
        raise Malformed("Idempotency-Key: none of 1 to 128 visible ASCII characters", hint=hint)
    return found["key"]


def send_once(client: Client, key: str, asked: dict[str, Any]) -> dict[str, Any]:
    """Send what is asked, or find what was sent under this key; the receipt, as `send --json` has it.

    Raises Conflict for a key that stands for something else, or for a message that the relay will not have.
    """
    name, digest = f"sent under key {key}", sha256(json.dumps(asked, sort_keys=True).encode()).digest()
    kept = client.profile.cabinet.pin(name)
    if kept is None:
        return _receipt(client, _send(client, asked, name, digest))
    stated, message_id = read_array(kept, 2, "cabinet: key of a message")
    if stated != digest:
        raise Conflict("another message was sent under this key", hint="each message has a key of its own")
    with suppress(Unavailable, TooMany):  # where it waits, it goes now
        client.sync()
    return _receipt(client, message_id)


def _send(client: Client, asked: dict[str, Any], name: str, digest: bytes) -> bytes:
    """Plan, seal and post; the message's id, also where it waits."""
    plan, cabinet = client.plan(**plan_arguments(asked)), client.profile.cabinet
    _require_reader(plan)
    keep = client.keeper(plan)

    def keep_under_key(sealed: Submission, refused: Refusals, apart: Mapping[int, SealedFile]) -> None:
        if cabinet.pin(name) is not None:
            raise Conflict("another process of this profile has just sent a message under this key", hint="ask again")
        cabinet.put_pin(name, encode([digest, parse_message(sealed.message).core.message_id]))
        keep(sealed, refused, apart)

    try:
        return client.outgoing().release(plan, int(time.time()), keep_under_key).message_id
    except Waiting as waiting:
        return waiting.sent.message_id


def _require_reader(plan: Plan) -> None:
    plan.require_unaided()
    try:
        plan.require_reader()
    except Refused as why:
        raise ToNobody(why, plan.refused) from None


def _receipt(client: Client, message_id: bytes) -> dict[str, Any]:
    cabinet = client.profile.cabinet
    kept = cabinet.message(message_id)
    assert kept is not None  # noqa: S101 - the key was bound in the transaction that kept it
    record = read_record(kept)
    if record.state == FAILED:
        hint = "it is not posted again; to send it after all, take another key"
        raise Conflict(f"message {message_id.hex()} was sealed under this key, and has not been sent", hint=hint)
    return kept_sent_json(record, waits=cabinet.waits(message_id))
