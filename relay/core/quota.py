"""Quotas and rates: what a principal and an office may ask of the relay.

The rules:
  - A bucket is one number, the moment at which it is full again, so that any process can go on from where another
    stopped. It is read and charged in the transaction of what it meters, under the lock of the log heads: it holds
    across workers and across restarts, and a batch that is rolled back charges nobody.
  - A refusal stages nothing. A submission that the rules refuse is charged all the same, and so is a denied opening.
  - IMMEDIATE and above have buckets of their own, of the same size: no amount of ROUTINE empties them.
  - What this process knows of the buckets is exact while nobody else has appended to a log; then it reads what was
    charged since. So an idle bucket costs nothing, and a batch costs one statement. Only a charge for what left no
    entry, and so nothing at all, may be overlooked by another process.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import bindparam, select
from sqlalchemy.dialects import postgresql, sqlite

from relay.pipeline.batch import Batch
from relay.protocol.directory import Device
from relay.protocol.errors import TooMany
from relay.protocol.header import Precedence
from relay.store.prepared import Prepared
from relay.store.schema import bucket

_MINUTE = 60_000_000  # microseconds, as buckets count
_Key = tuple[str, str]


class Metered(StrEnum):
    """What is counted, and the word for it."""

    MESSAGE = "messages"
    URGENT_MESSAGE = "urgent messages"
    OPEN = "opens"
    URGENT_OPEN = "urgent opens"
    CLAIM = "claimed keys"
    ALARM = "alarms"
    KEYS = "key batches"
    PUBLICATION = "publications"
    REVOCATION = "revocations"
    LOOK = "audit looks"
    HOLD = "words on holds"


_URGENT = {Metered.MESSAGE: Metered.URGENT_MESSAGE, Metered.OPEN: Metered.URGENT_OPEN}


@dataclass(frozen=True, slots=True)
class Rate:
    """So many a minute, and so many at once after a pause. None a minute is no limit."""

    per_minute: int
    burst: int

    def charged(self, level: int, cost: int, now: int) -> tuple[int, int]:
        """The level after taking `cost`, and for how many microseconds that is too early."""
        most = self.burst * _MINUTE // self.per_minute
        # A level further ahead than an empty bucket's was written under other limits, or before a clock was set back.
        begun = min(max(level, now), now + most)
        full = begun + min(cost, self.burst) * _MINUTE // self.per_minute
        return full, full - now - most


@dataclass(frozen=True, slots=True)
class Limits:
    """Per principal, per office, and the octets of large parts that an office may have here; 0 is no limit."""

    principal: dict[Metered, Rate]
    office: dict[Metered, Rate]
    office_octets: int


class Quota:
    """The buckets as this process knows them. Belongs to whoever runs the committer's jobs."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.office_octets = limits.office_octets
        self._levels: dict[_Key, int] = {}
        self._seen = -1  # entries of both logs up to which the levels are known

    def charge(self, batch: Batch, device: Device, what: Metered, precedence: Precedence | None, cost: int = 1) -> None:
        """Take from the principal's bucket and from its office's, or raise TooMany and take from neither."""
        if precedence is not None and precedence >= Precedence.IMMEDIATE:
            what = _URGENT.get(what, what)
        charges, taken = self._charges(batch), {}
        for owner, rates in ((device.address, self._limits.principal), (device.office, self._limits.office)):
            rate = rates.get(what)
            if rate is None or not rate.per_minute:
                continue
            key = (owner, what.value)
            taken[key], early = rate.charged(self._level(charges, key), cost, batch.now_ms * 1000)
            if early > 0:
                raise _too_many(owner, what, rate, early)
        charges.update(taken)

    def _level(self, charges: dict[_Key, int], key: _Key) -> int:
        return charges.get(key, self._levels.get(key, 0))

    def _charges(self, batch: Batch) -> dict[_Key, int]:
        """What this batch has charged so far; written and remembered together with it."""
        found = batch.charges
        if found is None:
            self._catch_up(batch)
            found = batch.charges = {}
            batch.closing.append(lambda: _write(batch, found))
            batch.settled.append(lambda: self._settle(batch, found))
        return found

    def _catch_up(self, batch: Batch) -> None:
        size = sum(batch.sizes.values())
        if size != self._seen:
            for owner, what, level in _CHARGED_SINCE.rows(batch.connection, size=self._seen):
                self._levels[owner, what] = level
            self._seen = size

    def _settle(self, batch: Batch, charges: dict[_Key, int]) -> None:
        self._levels.update(charges)
        self._seen = sum(batch.sizes.values()) + sum(map(len, batch.staged.values()))


def _write(batch: Batch, charges: dict[_Key, int]) -> None:
    if charges:
        size = sum(batch.sizes.values())
        rows = [
            {"owner": owner, "what": what, "level": level, "seen": size} for (owner, what), level in charges.items()
        ]
        _CHARGE[batch.connection.dialect.name].run(batch.connection, rows)


def _too_many(owner: str, what: Metered, rate: Rate, early: int) -> TooMany:
    wait = -(-early // 1_000_000)
    return TooMany(
        f"{owner} is limited to {rate.per_minute} {what} a minute",
        hint=f"try again in {wait} s",
        retry_after=wait,
    )


_CHARGED_SINCE = Prepared(
    select(bucket.c.owner, bucket.c.what, bucket.c.level).where(bucket.c.seen >= bindparam("size"))
)
_CHARGE = {
    name: Prepared(
        insert.on_conflict_do_update(
            index_elements=["owner", "what"], set_={"level": insert.excluded.level, "seen": insert.excluded.seen}
        )
    )
    for name, insert in (("postgresql", postgresql.insert(bucket)), ("sqlite", sqlite.insert(bucket)))
}
