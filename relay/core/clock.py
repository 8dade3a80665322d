"""Whether the relay's clock is to be believed by what cannot be undone: a sweep.

The rules:
  - the latest time that a sweep went by is kept in the database, whichever process it was of; before the first sweep
    it is the time in the newest checkpoint of the access log;
  - a clock that is further ahead of it than `LEAP` is not believed until it is set, or the operator vouches for it;
  - what the logs state later does not count: a clock that is ahead dates all that is committed by it;
  - a clock that is behind is believed, since by it less is due, and it moves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import delete, insert, select

from relay.logkeys import LogKeys
from relay.pipeline.batch import Batch
from relay.protocol.errors import Unavailable
from relay.store.log import Log, checkpoint_at
from relay.store.schema import setting

LEAP = 7 * 86400  # seconds; more than the longest time between sweeps that can be set
_SWEPT = "swept at"  # the setting, in seconds since 1970


class ClockAhead(Unavailable):
    """A clock that nothing is destroyed by. The relay's log has this name, and no error's words."""


@dataclass(frozen=True, slots=True)
class SweepClock:
    """Asked in each transaction of a sweep: a clock can leap between two of them."""

    keys: LogKeys
    origin: str  # of the access log

    def believe(self, batch: Batch) -> None:
        """Go by the batch's time. Raises ClockAhead."""
        latest = self._latest(batch)
        if (ahead := batch.now - latest) > LEAP:
            raise ClockAhead(
                f"the relay's clock is {ahead // 86400} days ahead of its last sweep; nothing was destroyed",
                hint="set the clock; if it is right, and no sweep was for so long: relay sweep --trust-clock",
            )
        _keep(batch, max(latest, batch.now))

    def vouch(self, batch: Batch) -> None:
        """Go by the batch's time, whatever the last one was."""
        _keep(batch, batch.now)

    def _latest(self, batch: Batch) -> int:
        swept = batch.connection.scalar(select(setting.c.value).where(setting.c.name == _SWEPT))
        if swept is not None:
            return int(swept)
        note = checkpoint_at(batch.connection, Log.ACCESS, batch.sizes[Log.ACCESS])
        return self.keys.signed_at(self.origin, note or b"")


def _keep(batch: Batch, swept: int) -> None:
    batch.connection.execute(delete(setting).where(setting.c.name == _SWEPT))
    batch.connection.execute(insert(setting).values(name=_SWEPT, value=str(swept)))
