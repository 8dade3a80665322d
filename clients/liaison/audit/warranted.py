"""Whether holds and recalls in a log were ordered by those whose signed words stand in them, and holds were obeyed.

Each is judged by the directory as it was when it was logged, replayed beside the log. The hosts of one relay have
clocks of their own: what does not hold at the entry's time may hold as the directory was a little before or after.
That a word is logged once, and that nothing held is destroyed, is seen as far back as the walk goes: in a pull to the
last one, in `verify` to the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from relay.protocol.dating import TOLERANCE
from relay.protocol.directory import Directory
from relay.protocol.entry import WARRANTED, AccessEntry, parse_directory_entry
from relay.protocol.errors import Unverified
from relay.protocol.warrant import Holders, spent_by, verify_warrant


class Warrants:
    """One walk over a log. `fault` says of the first entry that nobody who may had ordered."""

    def __init__(self, changes: Callable[[int], Iterator[bytes]]) -> None:
        """`changes` are the entries of the verified directory log from an index on."""
        self.fault: str | None = None
        self._changes = changes
        self._directory = Directory()
        self._spent = set[bytes]()
        self._holders = Holders()

    def take(self, index: int, entry: AccessEntry) -> None:
        """The next entry in scope."""
        if self.fault is not None:
            return
        try:
            if entry.event in WARRANTED:
                self._verify(entry)
                self._spend(spent_by(entry))
            self._holders.take(entry)
        except Unverified as problem:
            self.fault = f"entry {index} of the access log is not borne out: {problem}"

    def _spend(self, words: bytes) -> None:
        if words in self._spent:
            raise Unverified("its warrant was used before")
        self._spent.add(words)

    def _verify(self, entry: AccessEntry) -> None:
        try:
            verify_warrant(entry, _replayed(self._directory, self._until(self._directory, entry.time)))
        except Unverified:
            directory = _replayed(Directory(), self._until(Directory(), entry.time - TOLERANCE))
            later = self._until(directory, entry.time + TOLERANCE)
            while not _bears_out(directory, entry):
                if (change := next(later, None)) is None:
                    raise
                directory.apply(change)

    def _until(self, directory: Directory, time: int) -> Iterator[bytes]:
        """The changes that this directory lacks, up to the last one of a time in milliseconds or before."""
        later = list[bytes]()
        for each in self._changes(directory.size):
            dated = parse_directory_entry(each).time
            later.append(each)
            if dated <= time:
                yield from later
                later.clear()
            elif dated > time + TOLERANCE:
                return  # nor is any one behind it of that time: no directory has one that goes back


def _replayed(directory: Directory, changes: Iterator[bytes]) -> Directory:
    for each in changes:
        directory.apply(each)
    return directory


def _bears_out(directory: Directory, entry: AccessEntry) -> bool:
    try:
        verify_warrant(entry, directory)
    except Unverified:
        return False
    return True
