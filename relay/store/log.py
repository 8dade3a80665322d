"""Rows of the two logs: heads, entries, tile hashes, checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, insert, select, update

from relay.protocol.errors import LiaisonError

from .log_schema import checkpoint, log_entry, log_head, log_node
from .prepared import Prepared

OPERATOR_LOOKS = "the operator finds with `relay check` what does not hold; see SPEC.md, Operations"


class Log(IntEnum):
    DIRECTORY = 1
    ACCESS = 2


_HEADS = select(log_head.c.log, log_head.c.size)
_SIZES, _LOCK_SIZES = Prepared(_HEADS), Prepared(_HEADS.order_by(log_head.c.log).with_for_update())
_SET_SIZE = Prepared(update(log_head).where(log_head.c.log == bindparam("which")).values(size=bindparam("reached")))
_ADD_ENTRIES, _ADD_NODES = Prepared(insert(log_entry)), Prepared(insert(log_node))
_ADD_CHECKPOINT = Prepared(insert(checkpoint))


def sizes(connection: Connection) -> dict[Log, int]:
    """How many entries each log has. Raises LiaisonError where the heads are not those of our two logs."""
    return _by_log(_SIZES.rows(connection))


def lock_sizes(connection: Connection) -> dict[Log, int]:
    """The heads, held until the transaction ends. SQLite holds its one lock already and ignores the clause."""
    return _by_log(_LOCK_SIZES.rows(connection))


def _by_log(rows: list[tuple[Any, ...]]) -> dict[Log, int]:
    found: dict[int, int] = dict(rows)
    if found.keys() != set(Log):
        raise LiaisonError(f"the database has the heads of logs {sorted(found)}", hint=OPERATOR_LOOKS)
    return {log: found[log] for log in Log}


def set_size(connection: Connection, log: Log, size: int) -> None:
    _SET_SIZE.run(connection, [{"which": int(log), "reached": size}])


def add_entries(connection: Connection, rows: Sequence[dict[str, object]]) -> None:
    _ADD_ENTRIES.run(connection, rows)


def add_nodes(connection: Connection, rows: Sequence[dict[str, object]]) -> None:
    if rows:
        _ADD_NODES.run(connection, rows)


def _range(of_log: ColumnElement[int], index: ColumnElement[int]) -> tuple[ColumnElement[bool], ...]:
    return (of_log == bindparam("which"), index >= bindparam("first"), index < bindparam("end"))


_LEAVES = Prepared(
    select(log_entry.c.leaf_hash).where(*_range(log_entry.c.log, log_entry.c.idx)).order_by(log_entry.c.idx)
)
_NODES = Prepared(
    select(log_node.c.hash)
    .where(*_range(log_node.c.log, log_node.c.idx), log_node.c.level == bindparam("level"))
    .order_by(log_node.c.idx)
)
_ENTRIES = Prepared(
    select(log_entry.c.idx, log_entry.c.entry, log_entry.c.leaf_hash, log_entry.c.office, log_entry.c.concerns)
    .where(*_range(log_entry.c.log, log_entry.c.idx))
    .order_by(log_entry.c.idx)
)
_CHECKPOINT = Prepared(
    select(checkpoint.c.note).where(checkpoint.c.log == bindparam("which"), checkpoint.c.size == bindparam("size"))
)
_NEXT_CHECKPOINT = Prepared(
    select(checkpoint.c.note)
    .where(checkpoint.c.log == bindparam("which"), checkpoint.c.size > bindparam("size"))
    .order_by(checkpoint.c.size)
    .limit(1)
)


def hashes(connection: Connection, log: Log, level: int, first: int, count: int) -> list[bytes]:
    """`count` consecutive hashes of a tile level: leaf hashes at level 0, roots of full tiles above."""
    wanted = {"which": int(log), "first": first, "end": first + count}
    found = _NODES.rows(connection, level=level, **wanted) if level else _LEAVES.rows(connection, **wanted)
    return [bytes(digest) for (digest,) in found]


def entries(
    connection: Connection, log: Log, first: int, count: int
) -> Sequence[tuple[int, bytes | None, bytes, str, str]]:
    """(index, entry or None once erased, leaf hash, office, concerns), in order."""
    return _ENTRIES.rows(connection, which=int(log), first=first, end=first + count)


def entry(connection: Connection, log: Log, index: int) -> bytes | None:
    """None if there is none, or no more."""
    found = entries(connection, log, index, 1)
    return found[0][1] if found else None


def add_checkpoint(connection: Connection, log: Log, size: int, note: bytes) -> None:
    _ADD_CHECKPOINT.run(connection, [{"log": int(log), "size": size, "note": note}])


def checkpoint_at(connection: Connection, log: Log, size: int) -> bytes | None:
    return _only(_CHECKPOINT.rows(connection, which=int(log), size=size))


def first_checkpoint_after(connection: Connection, log: Log, index: int) -> bytes | None:
    """The checkpoint of the commit that appended entry `index`: the smallest tree that holds it."""
    return _only(_NEXT_CHECKPOINT.rows(connection, which=int(log), size=index))


def _only(rows: list[tuple[Any, ...]]) -> bytes | None:
    return rows[0][0] if rows else None
