"""Rows of witnessing, in both directions: our logs' cosigned checkpoints, and the heads of others that we cosigned."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select

from relay.protocol.witness import NO_TREE, TreeHead

from .log import Log
from .log_schema import cosigned, witnessed


def cosigned_note(connection: Connection, log: Log) -> bytes | None:
    """The newest checkpoint of our log that met the policy."""
    return connection.scalar(select(cosigned.c.note).where(cosigned.c.log == log))


def put_cosigned(connection: Connection, log: Log, note: bytes) -> None:
    connection.execute(delete(cosigned).where(cosigned.c.log == log))
    connection.execute(insert(cosigned).values(log=int(log), note=note))


def last_head(connection: Connection, origin: str) -> TreeHead:
    """The tree of another log that we cosigned last."""
    row = connection.execute(select(witnessed.c.size, witnessed.c.root).where(witnessed.c.origin == origin)).first()
    return NO_TREE if row is None else TreeHead(row.size, bytes(row.root))


def put_head(connection: Connection, origin: str, head: TreeHead) -> None:
    connection.execute(delete(witnessed).where(witnessed.c.origin == origin))
    connection.execute(insert(witnessed).values(origin=origin, size=head.size, root=head.root))
