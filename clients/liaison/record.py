"""What a profile keeps of a message it sent or opened, as one encrypted record; attachments lie beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relay.protocol.canonical import decode, encode
from relay.protocol.envelope import Message, parse_message

from .home.cabinet import Cabinet
from .portions import PortionContent, PortionKind
from .sealed import SealedFile

IN, OUT = "in", "out"
OPEN, HANDLED, SENT, FAILED, DRAFTED = "open", "handled", "sent", "failed", "draft"
KEPT_APART = frozenset({PortionKind.ATTACHMENT, PortionKind.DRAFT})  # large contents, in blobs of their own


@dataclass(frozen=True, slots=True)
class Record:
    """A message as kept. `portions` are those this profile may read; an attachment's content is kept apart."""

    direction: str
    state: str
    encoded: bytes
    portions: dict[int, PortionContent]
    one_time: bool
    receipt_sent: bool
    refused: tuple[tuple[str, tuple[str, ...]], ...] = ()  # of a message sent: (address, rules)
    released_by: tuple[str, ...] = ()  # officers who signed beside the sender
    slot: bytes = b""  # of a message opened: [slot, index, [proof...]]; empty where an older program opened it

    @property
    def message(self) -> Message:
        return parse_message(self.encoded)

    def to_bytes(self) -> bytes:
        rows = [
            [
                index,
                int(p.kind),
                p.label,
                p.name,
                p.media_type,
                None if p.kind in KEPT_APART else p.content,
                p.apart.kept() if isinstance(p.apart, SealedFile) else None,
            ]
            for index, p in self.portions.items()
        ]
        refused = [[address, list(rules)] for address, rules in self.refused]
        return encode([
            1, self.direction, self.state, self.encoded, rows, self.one_time, self.receipt_sent, refused,
            list(self.released_by), self.slot,
        ])  # fmt: skip


def read_record(kept: bytes, parts: Path = Path()) -> Record:
    """Read what `to_bytes` wrote; large contents lie in the folder `parts`.

    It comes out of our own encrypted store, so its shape is taken as written.
    """
    _version, direction, state, encoded, rows, one_time, receipt_sent, refused, officers, *slot = decode(kept, "record")
    return Record(
        direction=direction,
        state=state,
        encoded=encoded,
        portions={row[0]: _portion(row, parts) for row in rows},
        one_time=one_time,
        receipt_sent=receipt_sent,
        refused=tuple((address, tuple(rules)) for address, rules in refused),
        released_by=tuple(officers),
        slot=slot[0] if slot else b"",
    )


def _portion(row: list[Any], parts: Path) -> PortionContent:
    _index, kind, label, name, media_type, content, apart = row
    file = SealedFile(parts, *apart) if apart is not None else None
    return PortionContent(PortionKind(kind), label, content or b"", name, media_type, file)


# --- In the cabinet


def keep(cabinet: Cabinet, message_id: bytes, record: Record) -> None:
    """Store a record, its large contents apart; joins the transaction around it."""
    with cabinet.transaction():
        cabinet.put_message(message_id, record.to_bytes())
        for index, portion in record.portions.items():
            if portion.kind in KEPT_APART and portion.apart is None:
                cabinet.put_part(message_id, index, portion.content)


def kept(cabinet: Cabinet, message_id: bytes) -> Record | None:
    """The record of a message with all its contents, or None."""
    found = cabinet.message(message_id)
    if found is None:
        return None
    record = read_record(found, cabinet.parts)
    portions = {
        index: replace(portion, content=cabinet.part(message_id, index) or b"")
        if portion.kind in KEPT_APART and portion.apart is None
        else portion
        for index, portion in record.portions.items()
    }
    return replace(record, portions=portions)


def all_kept(cabinet: Cabinet) -> Iterator[tuple[bytes, Record]]:
    """Every record, large contents left out."""
    for message_id, found in cabinet.messages():
        yield message_id, read_record(found, cabinet.parts)


def change(cabinet: Cabinet, message_id: bytes, **fields: Any) -> None:
    """Change fields of a record that is kept."""
    with cabinet.transaction():
        found = cabinet.message(message_id)
        if found is not None:
            cabinet.put_message(message_id, replace(read_record(found), **fields).to_bytes())
