"""Whether holds and recalls in a log were ordered by those whose signed words stand in them.

Each is judged by the directory as it was when it was logged, replayed beside the log. The hosts of one relay have
clocks of their own: what does not hold at the entry's time may hold by a change that is dated a little later.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from relay.protocol.directory import Directory
from relay.protocol.entry import WARRANTED, AccessEntry, parse_directory_entry
from relay.protocol.errors import Unverified
from relay.protocol.warrant import verify_warrant

from .dating import TOLERANCE


class Warrants:
    """One walk over a log. `fault` says of the first entry that nobody who may had ordered."""

    def __init__(self, changes: Callable[[int], Iterator[bytes]]) -> None:
        """`changes` are the entries of the verified directory log from an index on."""
        self.fault: str | None = None
        self._changes = changes
        self._directory = Directory()

    def take(self, index: int, entry: AccessEntry) -> None:
        """The next entry in scope."""
        if entry.event not in WARRANTED or self.fault is not None:
            return
        try:
            try:
                verify_warrant(entry, self._replayed(self._directory, entry.time))
            except Unverified:
                verify_warrant(entry, self._replayed(Directory(), entry.time + TOLERANCE))
        except Unverified as problem:
            self.fault = f"entry {index} of the access log is not borne out: {problem}"

    def _replayed(self, directory: Directory, time: int) -> Directory:
        """The directory with all that was in it at this time, in milliseconds."""
        for encoded in self._changes(directory.size):
            if parse_directory_entry(encoded).time > time:
                break
            directory.apply(encoded)
        return directory
