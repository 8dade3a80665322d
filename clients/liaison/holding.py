"""A security officer's word for or against a legal hold, and the relay's proof that it was taken."""

from __future__ import annotations

import time
from typing import NamedTuple

from relay.protocol.entry import Event, parse_logged_entry
from relay.protocol.errors import Unverified
from relay.protocol.hold import HOLD, Action, Hold, check_reason

from .client import Client


class Stated(NamedTuple):
    """What the log says of the word: which of how many it is."""

    word: int
    of: int

    @property
    def counts(self) -> bool:
        return self.word >= self.of


def state_hold(client: Client, action: Action, message_id: bytes, reason: str) -> Stated:
    """Sign and post; what the verified log entry says. Raises Unknown to whoever may not hold that message."""
    own = client.sync()
    stated = Hold(action, message_id, own.device_id, own.address, int(time.time()), check_reason(reason))
    signed = client.profile.signing.sign_object(HOLD, stated.payload())
    answer = client.transport.post(f"/v1/messages/{message_id.hex()}/holds", signed, client.trust.seen())
    entry = client.trust.verify_logged(parse_logged_entry(answer), client.transport)
    said, _, told = entry.detail.partition(": ")
    done, _, words = said.partition(" ")
    if (entry.event, entry.device_id, entry.message_id, done, told) != (
        Event.HOLD, own.device_id, message_id, action.value, reason,
    ):  # fmt: skip
        raise Unverified("the relay logged another hold than was stated")
    word, _, of = words.partition(" of ")
    if not (word.isdecimal() and of.isdecimal()):
        raise Unverified("the relay logged a hold without saying whose word it is")
    return Stated(int(word), int(of))
