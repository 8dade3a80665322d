"""A security officer's word for or against a legal hold, and the relay's proof that it was taken."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

from relay.protocol.cose import parse_sign1
from relay.protocol.entry import Event, parse_logged_entry
from relay.protocol.errors import Unverified
from relay.protocol.hold import HOLD, Action, Hold, check_reason, hold_body, read_hold

from .client import Client
from .trust import relayed


class Stated(NamedTuple):
    """What the log says of the word: which of how many it is."""

    word: int
    of: int
    destroyed: bool  # what was recalled meanwhile, and only kept because of this hold

    @property
    def counts(self) -> bool:
        return self.word >= self.of


def state_hold(client: Client, action: Action, message_id: bytes, reason: str) -> Stated:
    """Sign and post; what the verified log entry says. Raises Unknown to whoever may not hold that message."""
    return post_hold(client, sign_hold(client, action, message_id, reason))


def sign_hold(client: Client, action: Action, message_id: bytes, reason: str) -> bytes:
    """One's word, to be posted at once, or with the approvals of others."""
    own = client.sync()
    stated = Hold(action, message_id, own.device_id, own.address, int(time.time()), check_reason(reason))
    return client.profile.signing.sign_object(HOLD, stated.payload())


def post_hold(client: Client, signed: bytes, approvals: Sequence[bytes] = ()) -> Stated:
    """Post one's word; what the verified log entry says."""
    client.sync()
    stated = read_hold(parse_sign1(signed, HOLD))
    path, body = f"/v1/messages/{stated.message_id.hex()}/holds", hold_body(signed, approvals)
    answer = client.transport.post(path, body, client.trust.seen())
    with relayed():
        entry = client.trust.verify_logged(parse_logged_entry(answer), client.transport)
    said, _, told = entry.detail.partition(": ")
    done, _, words = said.partition(" ")
    if (entry.event, entry.device_id, entry.message_id, done, told) != (
        Event.HOLD, client.profile.signing.device_id, stated.message_id, stated.action.value, stated.reason,
    ):  # fmt: skip
        raise Unverified("the relay logged another hold than was stated")
    word, _, rest = words.partition(" of ")
    of, _, destroyed = rest.partition(" ")
    if not (word.isdecimal() and of.isdecimal()):
        raise Unverified("the relay logged a hold without saying whose word it is")
    return Stated(int(word), int(of), destroyed == "destroyed")
