"""Blind copies: asked about while nothing has gone, and sent one by one once the message itself has."""

from __future__ import annotations

from collections.abc import Sequence

from liaison.client import Client
from liaison.desk import Desk
from liaison.outgoing import Sent
from liaison.plan import Plan
from liaison.waiting import Waiting
from relay.protocol.errors import LiaisonError, Refused

from .common import say


def check_copies(copies: Sequence[Plan]) -> None:
    """Raise Refused, naming the addressee, while nothing has gone yet."""
    for copy in copies:
        if copy.is_for_nobody:
            address = copy.verdicts[0].addressee.address
            raise Refused(f"{address} may not be given a blind copy", rules=copy.verdicts[0].rules)
        copy.require_unaided()


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
