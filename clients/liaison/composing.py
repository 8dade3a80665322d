"""What a person writes, made into portions and addressees: the body's paragraphs, then the attachments."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from relay.protocol.errors import Malformed, TooLarge
from relay.protocol.header import Addressee, AddresseeKind, MessageHandling, Precedence
from relay.protocol.identity import parse_address
from relay.protocol.label import Label, label_bytes

from .labels import LabelReader
from .portions import MAX_CONTENT, PlainFile, PortionContent, PortionKind

DEFAULT_LIFETIME = 30 * 86400  # seconds
LARGE = 15 * 1024 * 1024 // 16  # octets of a file from which on it is not held in memory


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file to send: its name, its content or where that lies, and its label if it is not the message's."""

    name: str
    content: bytes | Path
    label: str | None = None


@dataclass(frozen=True, slots=True)
class Enclosed:
    """What a message carries beside the sender's own words."""

    portions: tuple[PortionContent, ...] = ()
    originals: tuple[bytes, ...] = ()  # signed headers of the messages that it passes on
    consents: tuple[bytes, ...] = ()  # their originators', signed


NOTHING = Enclosed()


class Handling(TypedDict, total=False):
    """What a sender may say of a message's handling: the header's fields of these names."""

    precedence: Precedence
    info_precedence: Precedence  # not above the other
    references: Sequence[bytes]
    require_ack: bool
    originator_controlled: bool
    purpose: str
    message_type: str
    supersedes: tuple[bytes, str] | None


def handled(**stated: Unpack[Handling]) -> MessageHandling:
    """The handling as stated, ROUTINE unless it is, and for information ROUTINE at most unless it is.

    Without a DTG, which a message gets when it is sealed. Raises Malformed.
    """
    precedence = stated.get("precedence", Precedence.ROUTINE)
    unless_said = {"precedence": precedence, "info_precedence": min(precedence, Precedence.ROUTINE)}
    fields: dict[str, Any] = {**unless_said, **stated, "references": tuple(stated.get("references", ()))}
    handling = MessageHandling(dtg=0, **fields)
    if handling.info_precedence > precedence:
        raise Malformed(
            f"for information as {handling.info_precedence.name}, and for action only {precedence.name}",
            hint="nobody has a message more urgent for information than it is for action: raise --precedence too",
        )
    return handling


def composed(
    labels: LabelReader,
    banner: Label,
    subject: str,
    body: str,
    attachments: Iterable[Attachment | Path],
    enclosed: Enclosed,
) -> tuple[PortionContent, ...]:
    """The portions in the order in which they are read. Raises Malformed for a label, TooLarge."""
    portions = (*_written(labels, banner, subject, body), *_attached(labels, banner, attachments), *enclosed.portions)
    if sum(len(portion.content) for portion in portions) > MAX_CONTENT:
        raise TooLarge(f"the message has more than {MAX_CONTENT // (1024 * 1024)} MiB of content")
    return portions


def _written(labels: LabelReader, banner: Label, subject: str, body: str) -> Iterator[PortionContent]:
    for place, (label, text) in enumerate(labels.paragraphs(body, banner)):
        kind = PortionKind.PARAGRAPH if place else PortionKind.BODY
        yield PortionContent(kind, label_bytes(label), text.encode(), "" if place else subject)


def _attached(labels: LabelReader, banner: Label, attachments: Iterable[Attachment | Path]) -> Iterator[PortionContent]:
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
    return _each_once([Addressee(kind, address) for kind, addresses in rows for address in addresses])


def _each_once(addressees: Sequence[Addressee]) -> tuple[Addressee, ...]:
    """In order, each once, exemptions taken out of the others. Raises Malformed for none."""
    exempted = {each.address for each in addressees if each.kind is AddresseeKind.EXEMPTED}
    chosen: dict[str, Addressee] = {}
    for each in sorted(addressees, key=lambda a: (a.kind, a.address)):
        if each.kind is AddresseeKind.EXEMPTED or each.address not in exempted:
            chosen.setdefault(each.address, each)
    if all(each.kind is AddresseeKind.EXEMPTED for each in chosen.values()):
        raise Malformed("no addressee is left", hint="an empty list never means everyone")
    return tuple(sorted(chosen.values(), key=lambda a: (a.kind, a.address)))
