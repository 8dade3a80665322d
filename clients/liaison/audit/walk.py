"""What one walk over the access log keeps of what it has passed: the tree's edge, what does not hold, the erased."""

from __future__ import annotations

from dataclasses import dataclass, field

from relay.protocol.actor import verify_actor
from relay.protocol.dating import Dating
from relay.protocol.directory import Directory
from relay.protocol.errors import Unverified
from relay.protocol.merkle import Edge
from relay.protocol.retention import Erased

from .pulled import PulledEntry
from .warranted import Warrants


@dataclass(slots=True)
class Walk:
    """From the first entry on. `dating` is by our own view, `others` by what others were shown.

    `directory` has everybody whose entries there are; `false_actor` says of the first that is not its device's.
    """

    dating: Dating
    warrants: Warrants
    directory: Directory
    others: Dating = field(default_factory=Dating)
    erased: Erased = field(default_factory=Erased)
    false_actor: str | None = None
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
        try:
            verify_actor(entry, self.directory)
        except Unverified as problem:
            self.false_actor = self.false_actor or f"entry {pulled.index} of the access log is not borne out: {problem}"
        self.erased.read(pulled.index, entry)
