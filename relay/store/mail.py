"""Telling the other processes of one database that there is mail: PostgreSQL's LISTEN and NOTIFY.

A notice is sent in the transaction that it speaks of, and arrives when that has committed. It carries devices in
hexadecimal, or nothing: "look, all of you". It is a wake-up and no more: who misses one notices at the next poll.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any

from sqlalchemy import Connection, Engine, bindparam, func, select

from .engine import is_shared
from .prepared import Prepared

_CHANNEL = "relay_mail"
_MOST = 240  # devices in one notice: PostgreSQL takes 8000 octets
_AGAIN = 1.0  # seconds between attempts to listen
_log = logging.getLogger(__name__)
_NOTIFY = Prepared(select(func.pg_notify(bindparam("channel"), bindparam("devices"))))


def notify(connection: Connection, device_ids: Iterable[bytes]) -> None:
    """Wake whoever waits for mail of these devices, in any process, once this transaction has committed."""
    named = sorted({each.hex() for each in device_ids})
    if named and is_shared(connection.engine):
        devices = ",".join(named) if len(named) <= _MOST else ""
        _NOTIFY.run(connection, [{"channel": _CHANNEL, "devices": devices}])


class Ear(threading.Thread):
    """Listens until told to stop; `heard` gets the devices of each notice, none for "all of you"."""

    def __init__(self, engine: Engine, heard: Callable[[list[bytes]], None]) -> None:
        super().__init__(name="relay-ear", daemon=True)
        self._engine, self._heard, self._ended = engine, heard, threading.Event()

    def stop(self) -> None:
        self._ended.set()
        if self.ident is not None:
            self.join()

    def run(self) -> None:
        while not self._ended.is_set():
            try:
                with closing(_own_connection(self._engine)) as connection:
                    connection.execute(f"LISTEN {_CHANNEL}")
                    self._heard([])  # what came while nobody listened
                    self._listen(connection)
            except self._engine.dialect.loaded_dbapi.Error:  # the database is away; mail is polled for meanwhile
                self._ended.wait(_AGAIN)
            except Exception:  # noqa: BLE001 - such as a notice that is not ours: anybody in the database may send one
                _log.exception("listening for mail")
                self._ended.wait(_AGAIN)

    def _listen(self, connection: Any) -> None:
        while not self._ended.is_set():
            for notice in connection.notifies(timeout=_AGAIN):
                self._heard([bytes.fromhex(each) for each in notice.payload.split(",") if each])


def _own_connection(engine: Engine) -> Any:
    arguments, named = engine.dialect.create_connect_args(engine.url)
    return engine.dialect.connect(*arguments, **named, autocommit=True)
