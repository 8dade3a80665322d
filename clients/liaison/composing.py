"""What a person writes, made into portions and addressees: the body's paragraphs, then the attachments."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from relay.protocol.header import Addressee, AddresseeKind
from relay.protocol.identity import parse_address
from relay.protocol.label import Label, label_bytes

from .labels import LabelReader
from .outgoing import check_addressees
from .portions import PlainFile, PortionContent, PortionKind

MAX_CONTENT = 32 * 1024 * 1024  # octets in memory, all portions together; a large file is not
LARGE = 15 * 1024 * 1024 // 16  # octets of a file from which on it is not held in memory


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file to send: its name, its content or where that lies, and its label if it is not the message's."""

    name: str
    content: bytes | Path
    label: str | None = None


def composed(
    labels: LabelReader, banner: Label, subject: str, body: str, attachments: Iterable[Attachment | Path]
) -> Iterator[PortionContent]:
    """The portions in the order in which they are read."""
    for place, (label, text) in enumerate(labels.paragraphs(body, banner)):
        kind = PortionKind.PARAGRAPH if place else PortionKind.BODY
        yield PortionContent(kind, label_bytes(label), text.encode(), "" if place else subject)
    for item in attachments:
        attached = Attachment(item.name, item) if isinstance(item, Path) else item
        label = labels.read(attached.label) if attached.label else banner
        media_type = mimetypes.guess_type(attached.name)[0] or "application/octet-stream"
        portion = PortionContent(PortionKind.ATTACHMENT, label_bytes(label), b"", attached.name, media_type)
        if isinstance(attached.content, bytes):
            yield replace(portion, content=attached.content)
        elif (size := attached.content.stat().st_size) <= LARGE:
            yield replace(portion, content=attached.content.read_bytes())
        else:
            yield replace(portion, apart=PlainFile(attached.content, size))


def addressed(to: Sequence[str], info: Sequence[str], exempt: Sequence[str]) -> tuple[Addressee, ...]:
    """For action, for information, and who is not to have it. Raises Malformed."""
    rows = ((AddresseeKind.ACTION, to), (AddresseeKind.INFO, info), (AddresseeKind.EXEMPTED, exempt))
    for _, addresses in rows:
        for address in addresses:
            parse_address(address)
    return check_addressees([Addressee(kind, address) for kind, addresses in rows for address in addresses])
