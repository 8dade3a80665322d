"""What a sender is told of a message: who it went to, or that it is sealed and kept, and waits for the relay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relay.protocol.errors import LiaisonError, Unavailable

if TYPE_CHECKING:
    from .release import Verdict  # which loads the HTTP client: help does without

NOT_YET = -1  # the index of a message without an accept entry


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a message: who it went to, who was refused and by which rules."""

    message_id: bytes
    dtg: int
    released_to: tuple[str, ...]
    refused: tuple[Verdict, ...]
    index: int  # of its accept entry in the access log
    last_resort: tuple[str, ...]  # addresses whose one-time keys had run out

    @property
    def waits(self) -> bool:
        """Whether it is sealed, and the relay has not taken it yet."""
        return self.index == NOT_YET


class Waiting(Unavailable):
    """It goes with the next command. Sending it again would be a second message."""

    def __init__(self, answer: LiaisonError, sent: Sent) -> None:
        waits = f"message {sent.message_id.hex()} is sealed and waits; it goes with your next command"
        super().__init__(str(answer), hint=f"{waits}; do not send it again")
        self.sent = sent  # as it will be; its index is NOT_YET
