"""What one walk over the access log keeps of what it has passed: the tree's edge, times, warrants, the erased."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.protocol.entry import Event
from relay.protocol.merkle import Edge
from relay.protocol.retention import parse_destruction

from .dating import Dating
from .pulled import PulledEntry
from .warranted import Warrants


class Erased:
    """Entries that were erased, until a later record names them. One bit for an entry: most of an old log is erased."""

    def __init__(self) -> None:
        self._bits = bytearray()

    def add(self, index: int) -> None:
        self._bits.extend(bytes(max(0, index // 8 + 1 - len(self._bits))))
        self._bits[index // 8] |= 1 << index % 8

    def account(self, index: int) -> None:
        if index // 8 < len(self._bits):
            self._bits[index // 8] &= ~(1 << index % 8)

    def first(self) -> int | None:
        """The first that no record has named."""
        for place, octet in enumerate(self._bits):
            if octet:
                return 8 * place + (octet & -octet).bit_length() - 1
        return None


@dataclass(slots=True)
class Walk:
    """From the first entry on. `dating` is by our own view, `others` by what others were shown."""

    dating: Dating
    warrants: Warrants
    others: Dating = field(default_factory=Dating)
    erased: Erased = field(default_factory=Erased)
    _edge: Edge = field(default_factory=Edge)

    @property
    def size(self) -> int:
        return self._edge.size

    def root(self) -> bytes:
        return self._edge.root()

    def pass_over(self, leaf: bytes) -> None:
        """An entry that was verified before."""
        self._edge.append(leaf)

    def take(self, pulled: PulledEntry) -> None:
        """The next entry."""
        self._edge.append(pulled.leaf_hash)
        if pulled.is_erased:
            self.erased.add(pulled.index)
        if (entry := pulled.entry) is None:
            return
        self.dating.take(pulled.index, entry.time)
        self.others.take(pulled.index, entry.time)
        self.warrants.take(pulled.index, entry)
        if entry.event is Event.DESTROY:
            for each in parse_destruction(entry.detail).entries:
                if each < pulled.index:
                    self.erased.account(each)
