"""What options say of a message: an attachment with its label."""

from __future__ import annotations

from pathlib import Path

from liaison.composing import Attachment

from .common import check_label_file


def attachment(text: str) -> Attachment:
    """FILE or FILE:LABEL; a file whose name has a colon wins over a label."""
    path, label = Path(text), None
    if not path.is_file() and ":" in text:
        name, _, label = text.rpartition(":")
        check_label_file(label)
        path = Path(name)
    return Attachment(path.name, path, label)
