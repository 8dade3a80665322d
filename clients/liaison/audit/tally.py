"""What an auditor's verified entries add up to. Pure: no clock, no profile.

The rules:
  - an entry out of scope is counted as one, an erased one as one of those, and tells nothing else;
  - a denial is two entries with one request, one behind the other: it is counted once, with the rules of both;
  - what grows is sums, by office, day, device and label; of openings out of hours the first LISTED are kept;
  - days and hours are those of the zone that the auditor names.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from statistics import median

from relay.protocol.entry import AccessEntry, Event
from relay.protocol.errors import Malformed
from relay.protocol.grants import read_accept_detail

from .pulled import PulledEntry, local

MIN_DAYS = 5  # fewer active days say nothing about what is usual for a device
DEVIATIONS = 5
LISTED = 200  # of what is told one by one; the rest is a number
NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True)
class Volume:
    """A day on which a device did more than it usually does."""

    day: date
    address: str
    device_id: bytes
    count: int
    median: float
    deviation: float


@dataclass(slots=True)
class Tally:
    entries: int = 0
    withheld: int = 0
    erased: int = 0
    first: int | None = None  # milliseconds
    last: int | None = None
    released: Counter[str] = field(default_factory=Counter)  # by office
    opened: Counter[str] = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)
    precedences: Counter[str] = field(default_factory=Counter)  # of what was released
    labels: Counter[bytes] = field(default_factory=Counter)  # of what was released, by encoded label
    seen_labels: set[bytes] = field(default_factory=set)  # of every entry
    permitted_days: Counter[date] = field(default_factory=Counter)
    denied_days: Counter[date] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    out_of_hours: list[tuple[datetime, AccessEntry]] = field(default_factory=list)  # the first of them
    out_of_hours_count: int = 0
    volumes: list[Volume] = field(default_factory=list)


def tally(pulled: Iterable[PulledEntry], zone: tzinfo, hours: tuple[int, int]) -> Tally:
    """Add them up; `hours` are the first hour of work and the first after it."""
    sums, daily, addresses = Tally(), defaultdict[bytes, Counter[date]](Counter), dict[bytes, str]()
    denial, rules = None, frozenset[str]()
    for found in pulled:
        sums.entries += 1
        entry = found.entry
        if entry is None:
            sums.erased += found.is_erased
            sums.withheld += not found.is_erased
            continue
        at = local(entry.time, zone)
        _count(sums, entry, at, hours)
        if not entry.permitted:
            before, denial = denial, (entry.device_id, entry.request or found.index)
            again = denial == before
            sums.rules.update(set(entry.rules) - (rules if again else frozenset()))
            rules = frozenset(entry.rules)
            if again:
                continue
        sums.denied_days[at.date()] += not entry.permitted
        sums.permitted_days[at.date()] += entry.permitted
        sums.denied[_office(entry)] += not entry.permitted
        if entry.event is not Event.OPERATOR:
            daily[entry.device_id][at.date()] += 1
            addresses[entry.device_id] = entry.address
    sums.volumes = [
        each for device, days in sorted(daily.items()) for each in _unusual(device, addresses[device], days)
    ]
    return sums


def _count(sums: Tally, entry: AccessEntry, at: datetime, hours: tuple[int, int]) -> None:
    sums.first = entry.time if sums.first is None else min(sums.first, entry.time)
    sums.last = entry.time if sums.last is None else max(sums.last, entry.time)
    if entry.label is not None:
        sums.seen_labels.add(entry.label)
    if entry.event is Event.ACCEPT and entry.permitted:
        sums.released[_office(entry)] += 1
        sums.precedences[_precedence(entry)] += 1
        if entry.label is not None:
            sums.labels[entry.label] += 1
    elif entry.event is Event.OPEN and entry.permitted:
        sums.opened[_office(entry)] += 1
        if not hours[0] <= at.hour < hours[1]:
            sums.out_of_hours_count += 1
            if len(sums.out_of_hours) < LISTED:
                sums.out_of_hours.append((at, entry))


def _precedence(entry: AccessEntry) -> str:
    try:
        return read_accept_detail(entry.detail)[1].name.lower()
    except Malformed:
        return NOT_STATED


def _office(entry: AccessEntry) -> str:
    """The office of the one who acted; of a denial, `office` says only whose auditors may see the entry."""
    return entry.address.rpartition("@")[2] or entry.office


def _unusual(device: bytes, address: str, days: Counter[date]) -> list[Volume]:
    """Days far above the device's median, by the median absolute deviation, which outliers do not move."""
    if len(days) < MIN_DAYS:
        return []
    usual = median(days.values())
    deviation = median(abs(count - usual) for count in days.values())
    limit = usual + DEVIATIONS * max(deviation, 1)
    return [
        Volume(day, address, device, count, usual, deviation) for day, count in sorted(days.items()) if count > limit
    ]
