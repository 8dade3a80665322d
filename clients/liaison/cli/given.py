"""What options say of a message: an attachment with its label, how long it may be read."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

from liaison.composing import DEFAULT_LIFETIME, Attachment
from relay.protocol.errors import Malformed

from .common import check_label_file, seconds_of


def attachment(text: str) -> Attachment:
    """FILE or FILE:LABEL; a file whose name has a colon wins over a label."""
    path, label = Path(text), None
    if not path.is_file() and ":" in text:
        name, _, label = text.rpartition(":")
        check_label_file(label)
        path = Path(name)
    return Attachment(path.name, path, label)


def lifetime(text: str | None) -> int:
    """Seconds from now until the given time, or for the given duration."""
    if text is None:
        return DEFAULT_LIFETIME
    if text[:-1].isdecimal() and text[-1].isalpha():
        left = seconds_of(text, "--expires")
    else:
        try:
            until = datetime.fromisoformat(text)
        except ValueError:
            raise Malformed(f"--expires {text!r} is no time", hint="12h, 7d or 2026-12-24T18:00Z") from None
        left = int((until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp() - time.time())
    if left <= 0:
        raise Malformed(f"--expires {text} leaves no time to read it")
    return left
