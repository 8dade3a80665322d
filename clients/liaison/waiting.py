"""What a sender is told of a message that is sealed and kept, and that the relay has not taken yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from relay.protocol.errors import LiaisonError, Unavailable

if TYPE_CHECKING:
    from .outgoing import Sent


class Waiting(Unavailable):
    """It goes with the next command. Sending it again would be a second message."""

    def __init__(self, answer: LiaisonError, sent: Sent) -> None:
        waits = f"message {sent.message_id.hex()} is sealed and waits; it goes with your next command"
        super().__init__(str(answer), hint=f"{waits}; do not send it again")
        self.sent = sent  # as it will be; its index is NOT_YET
