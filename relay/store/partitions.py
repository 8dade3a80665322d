"""Partitions of what grows, on PostgreSQL: there before they are needed, dropped when nothing is left in them.

The rules:
  - messages, their parts and slots lie by the day of acceptance, the log's entries and checkpoints by index;
  - ranges follow one another, so that widths may change; the catalogue says how far they reach;
  - nothing is refused for want of a partition: what lies beyond the last one goes to the default one, and what is
    found there becomes a partition of its own;
  - a range of days goes some days after its end, as clocks differ. What still comes for it lies in the default one
    until it expires, with all that is there beside it, and new ranges begin behind that;
  - changes are made holding the heads, so that no writer is in the middle of anything, and give up at once where a
    reader is in the way: they are due weeks before they are needed;
  - none of the log is dropped: its hashes stay when its entries are gone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sqlalchemy import ColumnClause, Connection, Engine, column, func, select, table, true
from sqlalchemy.exc import OperationalError

from .engine import is_shared
from .log import Log, lock_sizes, sizes

BY_DAY, BY_INDEX = ("message", "part", "slot"), {"log_entry": "idx", "checkpoint": "size"}
_LATE = 3  # days
_PATIENCE = "SET LOCAL lock_timeout = '300ms'"  # writers wait while this waits


class Widths(NamedTuple):
    """How much a new partition holds."""

    days: int
    entries: int


class _Reach(NamedTuple):
    """How far a table's partitions are to reach from where it stands now."""

    table: str
    now: int  # today, or the size of the log
    width: int
    column: str
    prefix: str = ""  # of a bound: the access log is the second of two

    @property
    def default(self) -> str:
        return f"{self.table}_default"


def tend(engine: Engine, today: int, widths: Widths) -> bool:
    """Make what will be needed, drop what is over and empty. False if somebody was in the way: try again later."""
    if not is_shared(engine):
        return True
    # The log first, and by itself: what may be wrong with the messages does not keep it from growing.
    tended = [_tend(engine, changes, today, widths) for changes in (_log_changes, _message_changes)]
    return all(tended)


def _tend(engine: Engine, changes: _Changes, today: int, widths: Widths) -> bool:
    with engine.connect() as connection:
        if not list(changes(connection, sizes(connection), today, widths)):
            return True
    try:
        # readers have no transactions of their own
        with engine.execution_options(isolation_level="READ COMMITTED").begin() as connection:
            connection.exec_driver_sql(_PATIENCE)
            _change(connection, changes, today, widths)
    except OperationalError:
        return False
    return True


def change(connection: Connection, today: int, widths: Widths) -> None:
    """The same in a transaction of the caller's."""
    for changes in (_log_changes, _message_changes):
        _change(connection, changes, today, widths)


def _change(connection: Connection, changes: _Changes, today: int, widths: Widths) -> None:
    for statement in list(changes(connection, lock_sizes(connection), today, widths)):
        connection.exec_driver_sql(statement)


_Changes = Callable[[Connection, dict[Log, int], int, Widths], Iterator[str]]


def _log_changes(connection: Connection, size: dict[Log, int], _today: int, widths: Widths) -> Iterator[str]:
    for grown, by in BY_INDEX.items():
        access = size.get(Log.ACCESS, 0)
        yield from _ahead(connection, _Reach(grown, access, widths.entries, by, f"{int(Log.ACCESS)}, "))


def _message_changes(connection: Connection, _size: dict[Log, int], today: int, widths: Widths) -> Iterator[str]:
    for grown in BY_DAY:
        yield from _ahead(connection, _Reach(grown, today, widths.days, "day"))
        for name, (first, end) in _ranges(connection, grown).items():
            # What has no beginning takes in whatever is older than any range.
            if first is not None and end + _LATE <= today and not _holds_any(connection, name):
                yield f"DROP TABLE {name}"


def _ahead(connection: Connection, reach: _Reach) -> Iterator[str]:
    grown = reach.table
    end = max(end for _first, end in _ranges(connection, grown).values())
    lowest, highest = _extent(connection, reach)
    if lowest < end <= highest:
        end = highest + 1
    elif lowest >= end:
        first, end = end, max(end, reach.now, highest) + reach.width
        yield f"ALTER TABLE {grown} DETACH PARTITION {reach.default}"
        yield f"ALTER TABLE {reach.default} RENAME TO {grown}_{first}"
        yield _attach(reach, first, end)
        yield f"CREATE TABLE {reach.default} PARTITION OF {grown} DEFAULT"
    while end < reach.now + 2 * reach.width:
        first, end = end, max(end, reach.now) + reach.width
        # Apart and then attached: that waits for nobody who reads or writes the table meanwhile.
        yield f"CREATE TABLE {grown}_{first} (LIKE {grown} INCLUDING ALL)"
        yield _attach(reach, first, end)


def _attach(reach: _Reach, first: int, end: int) -> str:
    bounds = f"FROM ({reach.prefix}{first}) TO ({reach.prefix}{end})"
    return f"ALTER TABLE {reach.table} ATTACH PARTITION {reach.table}_{first} FOR VALUES {bounds}"


_CHILDREN = """SELECT relname, pg_get_expr(relpartbound, pg_class.oid)
FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid WHERE inhparent = to_regclass(%(grown)s)"""
_BOUND = re.compile(r"'?(\d+|MINVALUE)'?\) TO \((?:'\d+', )?'?(\d+)'?\)$")


def _ranges(connection: Connection, grown: str) -> dict[str, tuple[int | None, int]]:
    """By name of a partition (first or None, end); the default one has none."""
    rows = connection.exec_driver_sql(_CHILDREN, {"grown": grown})
    bounds = {name: found for name, bound in rows if (found := _BOUND.search(bound))}
    return {name: (None if each[1] == "MINVALUE" else int(each[1]), int(each[2])) for name, each in bounds.items()}


def _extent(connection: Connection, reach: _Reach) -> tuple[int, int]:
    """The lowest and the highest in the default partition; (-1, -1) if it is empty."""
    where: ColumnClause[int] = column(reach.column)
    ask = select(func.coalesce(func.min(where), -1), func.coalesce(func.max(where), -1))
    lowest, highest = connection.execute(ask.select_from(table(reach.default))).one()
    return lowest, highest


def _holds_any(connection: Connection, name: str) -> bool:
    return connection.scalar(select(true()).select_from(table(name)).limit(1)) is not None
