"""What a profile keeps of a message it sent or opened, as one encrypted record; attachments lie beside it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from relay.protocol.canonical import decode, encode
from relay.protocol.envelope import Message, parse_message

from .portions import PortionContent, PortionKind

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

    @property
    def message(self) -> Message:
        return parse_message(self.encoded)

    def with_state(self, state: str) -> Record:
        return replace(self, state=state)

    def to_bytes(self) -> bytes:
        rows = [
            [
                index,
                int(p.kind),
                p.label,
                p.name,
                p.media_type,
                None if p.kind in KEPT_APART else p.content,
            ]
            for index, p in self.portions.items()
        ]
        refused = [[address, list(rules)] for address, rules in self.refused]
        return encode([
            1, self.direction, self.state, self.encoded, rows, self.one_time, self.receipt_sent, refused,
            list(self.released_by),
        ])  # fmt: skip


def read_record(kept: bytes) -> Record:
    """Read what `to_bytes` wrote. It comes out of our own encrypted store, so its shape is taken as written."""
    _version, direction, state, encoded, rows, one_time, receipt_sent, refused, officers = decode(kept, "record")
    return Record(
        direction=direction,
        state=state,
        encoded=encoded,
        portions={row[0]: _portion(row) for row in rows},
        one_time=one_time,
        receipt_sent=receipt_sent,
        refused=tuple((address, tuple(rules)) for address, rules in refused),
        released_by=tuple(officers),
    )


def _portion(row: list[Any]) -> PortionContent:
    _index, kind, label, name, media_type, content = row
    return PortionContent(PortionKind(kind), label, content or b"", name, media_type)
