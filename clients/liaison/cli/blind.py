"""Blind copies: sent one by one once the message itself has gone."""

from __future__ import annotations

from collections.abc import Sequence

from liaison.client import Client
from liaison.desk import Desk
from liaison.plan import Plan
from liaison.waiting import Sent, Waiting
from relay.protocol.errors import LiaisonError

from .saying import say


def send_copies(client: Client, plan: Plan, sent: Sent, addresses: Sequence[str]) -> LiaisonError | None:
    """Send each copy whatever becomes of the others, and say what does; the answer is the first error."""
    first: LiaisonError | None = None
    for address in addresses:
        try:
            copy, state = Desk(client).send_blind(plan, sent, address), ""
        except Waiting as waits:
            copy, state, first = waits.sent, f" waits: {waits}", first or waits
        except LiaisonError as problem:
            say(f"no blind copy went to {address}: {problem}")
            first = first or problem
            continue
        say(f"blind copy {copy.message_id.hex()[:12]} to {', '.join(copy.released_to)}{state}")
    return first
