"""Whether the entries of a log are dated as they stand: by those in front of them, and by the times in signatures.

The rules:
  - an entry is not dated before the latest of those in front of it;
  - nor before the time in a signature over the tree that it was appended to: it was not there yet;
  - nor after the time in a signature over a tree that holds it: it was there already;
  - each by more than the tolerance: the hosts of one relay have clocks of their own, a witness answers after a while;
  - an entry out of scope has no time to compare.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

TOLERANCE = 60_000  # milliseconds; as long as a signed request is good
CLOCKS_APART = 300  # seconds by which two parties' clocks may differ


class Mark(NamedTuple):
    """A signature's word: the tree had this size at this time."""

    size: int
    time: int  # seconds since 1970


def goes_back(time: int, latest: int) -> bool:
    """Whether this is before the latest of those in front, in milliseconds."""
    return time < latest - TOLERANCE


class Dating:
    """One walk over a log. `misdated` says of the first entry that is dated where it does not stand."""

    def __init__(self, marks: Iterable[Mark] = (), latest: int = 0, log: str = "access") -> None:
        self.latest = latest  # milliseconds; of those in front
        self.misdated: str | None = None
        self._log = log
        self._ahead = sorted(marks)  # trees that hold what comes next
        self._behind: Mark | None = None  # the latest signature over a tree that does not
        self._settle()

    def add(self, mark: Mark) -> None:
        self._ahead = sorted([*self._ahead, mark])
        self._settle()

    def _settle(self) -> None:
        self._over = min(self._ahead, key=lambda mark: mark.time, default=None)

    def take(self, index: int, time: int) -> None:
        """The next entry in scope, dated `time` in milliseconds."""
        while self._ahead and self._ahead[0].size <= index:
            passed = self._ahead.pop(0)
            self._behind = max(self._behind or passed, passed, key=lambda mark: mark.time)
            self._settle()
        if self.misdated is None and (wrong := self._wrong(time)):
            self.misdated = f"entry {index} of the {self._log} log is dated {wrong}"
        self.latest = max(self.latest, time)

    def _wrong(self, time: int) -> str:
        if goes_back(time, self.latest):
            return "before an earlier one"
        if self._behind is not None and time < self._behind.time * 1000 - TOLERANCE:
            return f"before a tree of {self._behind.size} entries, without it, was signed"
        if self._over is not None and time > self._over.time * 1000 + TOLERANCE:
            return f"after a tree of {self._over.size} entries, with it, was signed"
        return ""
