"""Rows of the two logs: heads, entries, tile hashes, checkpoints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

from sqlalchemy import Connection, bindparam, insert, select, update

from .prepared import Prepared
from .schema import checkpoint, log_entry, log_head, log_node


class Log(IntEnum):
    DIRECTORY = 1
    ACCESS = 2


_SIZES = select(log_head.c.log, log_head.c.size)


def sizes(connection: Connection) -> dict[Log, int]:
    return {Log(row.log): row.size for row in connection.execute(_SIZES)}


_LOCK_SIZES = Prepared(_SIZES.order_by(log_head.c.log).with_for_update())
_SET_SIZE = Prepared(update(log_head).where(log_head.c.log == bindparam("which")).values(size=bindparam("reached")))
_ADD_ENTRIES, _ADD_NODES = Prepared(insert(log_entry)), Prepared(insert(log_node))
_ADD_CHECKPOINT = Prepared(insert(checkpoint))


def lock_sizes(connection: Connection) -> dict[Log, int]:
    """The heads, held until the transaction ends. SQLite holds its one lock already and ignores the clause."""
    return {Log(log): size for log, size in _LOCK_SIZES.rows(connection)}


def set_size(connection: Connection, log: Log, size: int) -> None:
    _SET_SIZE.run(connection, [{"which": int(log), "reached": size}])


def add_entries(connection: Connection, rows: Sequence[dict[str, object]]) -> None:
    _ADD_ENTRIES.run(connection, rows)


def add_nodes(connection: Connection, rows: Sequence[dict[str, object]]) -> None:
    if rows:
        _ADD_NODES.run(connection, rows)


def hashes(connection: Connection, log: Log, level: int, first: int, count: int) -> list[bytes]:
    """`count` consecutive hashes of a tile level: leaf hashes at level 0, roots of full tiles above."""
    if level == 0:
        wanted = select(log_entry.c.leaf_hash).where(
            log_entry.c.log == log, log_entry.c.idx >= first, log_entry.c.idx < first + count
        )
        return list(connection.scalars(wanted.order_by(log_entry.c.idx)))
    nodes = select(log_node.c.hash).where(
        log_node.c.log == log,
        log_node.c.level == level,
        log_node.c.idx >= first,
        log_node.c.idx < first + count,
    )
    return list(connection.scalars(nodes.order_by(log_node.c.idx)))


def entries(
    connection: Connection, log: Log, first: int, count: int
) -> Iterable[tuple[int, bytes | None, bytes, str, str]]:
    """(index, entry or None once erased, leaf hash, office, concerns), in order."""
    columns = (
        log_entry.c.idx,
        log_entry.c.entry,
        log_entry.c.leaf_hash,
        log_entry.c.office,
        log_entry.c.concerns,
    )
    wanted = select(*columns).where(log_entry.c.log == log, log_entry.c.idx >= first, log_entry.c.idx < first + count)
    return [tuple(row) for row in connection.execute(wanted.order_by(log_entry.c.idx))]


def entry(connection: Connection, log: Log, index: int) -> bytes | None:
    wanted = select(log_entry.c.entry).where(log_entry.c.log == log, log_entry.c.idx == index)
    return connection.scalar(wanted)


def add_checkpoint(connection: Connection, log: Log, size: int, note: bytes) -> None:
    _ADD_CHECKPOINT.run(connection, [{"log": int(log), "size": size, "note": note}])


def checkpoint_at(connection: Connection, log: Log, size: int) -> bytes | None:
    return connection.scalar(select(checkpoint.c.note).where(checkpoint.c.log == log, checkpoint.c.size == size))


def first_checkpoint_after(connection: Connection, log: Log, index: int) -> bytes | None:
    """The checkpoint of the commit that appended entry `index`: the smallest tree that holds it."""
    wanted = select(checkpoint.c.note).where(checkpoint.c.log == log, checkpoint.c.size > index)
    return connection.scalar(wanted.order_by(checkpoint.c.size).limit(1))
