"""When entries of the access log may next be due, as far as somebody has looked: a sweep reads what may be due by now.

The rules:
  - a page that was looked at is not read again before the first time at which any entry of it can be due;
  - policies decide that: under others than it was looked at, all of it is forgotten;
  - it is memory: a process that has just started looks at all once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.protocol.publication import PublishedPolicy

NEVER = 1 << 62
PAGE = 256  # entries


@dataclass(slots=True)
class Outlook:
    """Of whole pages, by the number of their first entry."""

    _under: Sequence[PublishedPolicy] = ()
    _again: dict[int, int] = field(default_factory=dict)

    def under(self, policies: Sequence[PublishedPolicy]) -> None:
        """These are in force now."""
        if policies != self._under:
            self._under, self._again = policies, {}

    def note(self, page: range, again: int) -> None:
        """No entry of it is due before then, in seconds. One that still grows is looked at each time."""
        if len(page) == PAGE:
            self._again[page.start] = again

    def may_be_due(self, page: range, now: int) -> bool:
        return self._again.get(page.start, 0) <= now
