"""Words about legal holds, found by what they are good for now: however many an office has said, few of them stand."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Any

from sqlalchemy import Connection, Row, select, text, update

from .schema import hold


class Standing(IntEnum):
    """What a word is good for, as its column `standing` says."""

    PAST = 0
    WAITS = 1  # for a second one
    HOLDS = 2  # its office holds the message


_STANDS = hold.c.standing > text("0")  # as the indexes have it
_HOLDS = hold.c.standing == text("2")


def standing_words(connection: Connection, message_id: bytes, office: str) -> Sequence[Row[Any]]:
    """The words of an office about a message that are not past, in order."""
    wanted = select(hold).where(hold.c.message_id == message_id, hold.c.office == office, _STANDS)
    return connection.execute(wanted.order_by(hold.c.id)).all()


def pass_over(connection: Connection, words: Sequence[Row[Any]]) -> None:
    """These words are past."""
    ids = [row.id for row in words]
    connection.execute(update(hold).where(hold.c.id.in_(ids)).values(standing=Standing.PAST))


def is_known(connection: Connection, ref: bytes) -> bool:
    """Whether this very word has been taken."""
    return connection.scalar(select(hold.c.id).where(hold.c.ref == ref).limit(1)) is not None


def held(connection: Connection, message_ids: Sequence[bytes]) -> set[bytes]:
    """Those of the messages on which any office has a hold."""
    found = connection.scalars(select(hold.c.message_id).where(hold.c.message_id.in_(message_ids), _HOLDS))
    return {bytes(message_id) for message_id in found}


def holders(connection: Connection, message_id: bytes) -> set[str]:
    """The offices that hold the message."""
    return set(connection.scalars(select(hold.c.office).where(hold.c.message_id == message_id, _HOLDS)))


def standing_entries(connection: Connection, office: str, after: int, count: int) -> Sequence[int]:
    """The entries, from `after` on, of an office's words that are not past, in order."""
    wanted = select(hold.c.entry).where(hold.c.office == office, hold.c.entry >= after, _STANDS)
    return connection.scalars(wanted.order_by(hold.c.entry).limit(count)).all()
