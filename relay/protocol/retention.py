"""When a message and a log entry may be destroyed, and the record that says they were.

The rules:
  - a message goes when the period that its originator's policy gives its classification has passed since it expired;
    a policy that says nothing gives DEFAULT_RETENTION;
  - an entry goes when every office that may read it lets it go; a policy that says nothing keeps it for ever, and so
    does an entry without a label;
  - a policy, a label or a classification that is not known keeps both.

A Destruction is the `detail` of a `destroy` entry, in the same transaction as what it names:

    messages=2 entries=5-9,12 policies=<sha-256>,<sha-256>
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .entry import AccessEntry, Event
from .errors import Malformed
from .label import Label, fold
from .policy import Policy

DEFAULT_RETENTION = 30 * 86400
EVERYONE = "*"
"""In an entry's `office`: every auditor may read it. No office has that name."""

_RUN, _DIGEST = r"[0-9]{1,18}(?:-[0-9]{1,18})?", r"[0-9a-f]{64}"
_RECORD = re.compile(
    rf"messages=(0|[1-9][0-9]{{0,8}}) entries=((?:{_RUN}(?:,{_RUN})*)?) policies=((?:{_DIGEST}(?:,{_DIGEST})*)?)"
)


def message_end(policy: Policy | None, label: Label | None, expires: int) -> int | None:
    """When a message that expires then is to be destroyed; None for not, as far as anybody knows."""
    if policy is None or label is None or policy.classification(label.classification) is None:
        return None
    period = _period(policy.extensions.retention, label)
    return expires + (DEFAULT_RETENTION if period is None else period)


def entry_end(policies: Sequence[Policy | None], label: Label | None, time: int) -> int | None:
    """When an entry of that time is to be destroyed, under the policies of all offices that may read it."""
    ends = []
    for policy in policies:
        if policy is None or label is None or policy.classification(label.classification) is None:
            return None
        period = _period(policy.extensions.entry_retention, label)
        if period is None:
            return None
        ends.append(time + period)
    return max(ends, default=None)


def _period(periods: tuple[tuple[str | None, int], ...], label: Label) -> int | None:
    named = {None if name is None else fold(name): seconds for name, seconds in periods}
    return named.get(fold(label.classification), named.get(None))


@dataclass(frozen=True, slots=True)
class Destruction:
    """What one transaction destroyed: how many messages, which entries of the access log, under which policies."""

    messages: int
    entries: tuple[int, ...]
    policies: tuple[bytes, ...]

    def detail(self) -> str:
        runs = ",".join(str(first) if first == last else f"{first}-{last}" for first, last in _runs(self.entries))
        return f"messages={self.messages} entries={runs} policies={','.join(each.hex() for each in self.policies)}"


def parse_destruction(detail: str) -> Destruction:
    """Read the detail of a `destroy` entry. Raises Malformed for any but the one way to write it."""
    found = _RECORD.fullmatch(detail)
    if found is None:
        raise Malformed("destruction record: not in its form")
    messages, runs, policies = found.groups()
    digests = tuple(bytes.fromhex(each) for each in policies.split(",") if each)
    entries = tuple(sorted(set(_indexes(run for run in runs.split(",") if run))))
    record = Destruction(int(messages), entries, digests)
    if record.detail() != detail:
        raise Malformed("destruction record: entries not in ascending order, or twice")
    return record


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

    def read(self, index: int, entry: AccessEntry) -> None:
        """A record accounts for what stands in front of it. Raises Malformed for one that is not in its form."""
        if entry.event is Event.DESTROY:
            for each in parse_destruction(entry.detail).entries:
                if each < index:
                    self.account(each)

    def left(self) -> Iterator[int]:
        """Those that no record has named."""
        for place, octet in enumerate(self._bits):
            if octet:
                yield from (8 * place + bit for bit in range(8) if octet >> bit & 1)

    def first(self) -> int | None:
        return next(self.left(), None)


def _runs(indexes: Iterable[int]) -> Iterator[tuple[int, int]]:
    first = last = None
    for index in sorted(indexes):
        if first is None or last is None:
            first = last = index
        elif index == last + 1:
            last = index
        else:
            yield first, last
            first = last = index
    if first is not None and last is not None:
        yield first, last


def _indexes(runs: Iterable[str]) -> list[int]:
    found: list[int] = []
    for run in runs:
        first, _, last = run.partition("-")
        start, end = int(first), int(last or first)
        if not 0 <= end - start < MAX_DESTROYED - len(found):
            raise Malformed(
                f"destruction record: more than {MAX_DESTROYED} entries, or a run that ends before it begins"
            )
        found += range(start, end + 1)
    return found


MAX_DESTROYED = 256  # entries in one record
