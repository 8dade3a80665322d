"""How long, as people write it: a duration, or the time when it is over."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from relay.protocol.errors import Malformed

_LONGEST = 36525 * 86400
_MOST_DIGITS = 20


def seconds_of(text: str, option: str) -> int:
    """A duration such as 90s, 30m, 4h or 2d. Raises Malformed."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    if not text[:-1].isdecimal() or text[-1] not in units:
        raise Malformed(f"{option} {text!r:.40} is no duration", hint="such as 30m, 4h or 2d")
    if len(text) > _MOST_DIGITS or (seconds := int(text[:-1]) * units[text[-1]]) > _LONGEST:
        raise Malformed(f"{option} {text!r:.40} is longer than a hundred years")
    return seconds


def lifetime(text: str, option: str) -> int:
    """Seconds from now until the given time, or for the given duration. Raises Malformed."""
    if text[:-1].isdecimal() and text[-1].isalpha():
        left = seconds_of(text, option)
    else:
        try:
            until = datetime.fromisoformat(text)
        except ValueError:
            raise Malformed(f"{option} {text!r:.40} is no time", hint="12h, 7d or 2026-12-24T18:00Z") from None
        left = int((until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - time.time())
    if left <= 0:
        raise Malformed(f"{option} {text} leaves no time to read it")
    return left
