"""Opening a database. SQLite: WAL, every commit on the disk, and no transaction that reads before it has the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from select import POLLIN, poll
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import IsolationLevel
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from relay.protocol.errors import LiaisonError, Unavailable

T = TypeVar("T")

DATABASE_AWAY = (OperationalError, InterfaceError, InternalError, PoolTimeout)  # PostgreSQL's read-only is internal
"""Gone, locked by another, full or read-only: nothing that the caller did, and trying again is safe."""

_SQLITE_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",  # a receipt is only given for what survives a power cut
    "PRAGMA foreign_keys=ON",
    "PRAGMA secure_delete=ON",  # what was recalled is zeroed in its page, not only unlinked
    "PRAGMA busy_timeout=30000",
    # 3.46 would index the rows that a long batch looks up by, and read a whole table past them; nothing else needs it.
    "PRAGMA automatic_index=OFF",
    "PRAGMA mmap_size=268435456",
    "PRAGMA cache_size=-8192",  # for each of six connections; the pages mapped above are read without it
)
_READ_ONCE = ("PRAGMA mmap_size=0",)


_POSTGRES = {
    # A link that went down says nothing: both ends must notice by themselves, within seconds.
    "connect_timeout": "3",
    "keepalives_idle": "3",
    "keepalives_interval": "1",
    "keepalives_count": "3",
    "tcp_user_timeout": "6000",
    # The server's end holds the lock of the heads for whoever was cut off, and everyone else waits for it.
    "options": "-c tcp_keepalives_idle=3 -c tcp_keepalives_interval=1 -c tcp_keepalives_count=3"
    " -c tcp_user_timeout=6000 -c idle_in_transaction_session_timeout=10000 -c lock_timeout=10000"
    # Else a statement on partitions is planned at each execution; which of them it needs is found out then, too.
    " -c plan_cache_mode=force_generic_plan",
}
"""libpq's own parameters; each may be given otherwise in the database's URL."""


def unavailable() -> Unavailable:
    """What a caller is told of DATABASE_AWAY."""
    return Unavailable("the database does not answer", hint="nothing was lost; try again in a moment")


@contextmanager
def reaching() -> Iterator[None]:
    """Tell the operator of DATABASE_AWAY, and of a database that is none or damaged, in the database's own words.

    The driver keeps the password out of them, and this the statement and its parameters.
    """
    try:
        yield
    except DATABASE_AWAY as problem:
        raise Unavailable(
            f"the database does not answer: {words_of(problem)}",
            hint="nothing was changed; is RELAY_DATABASE right, and nobody else at work on it?",
        ) from problem
    except DBAPIError as problem:
        raise LiaisonError(
            f"the database cannot be used: {words_of(problem)}", hint="is RELAY_DATABASE right, and the database whole?"
        ) from problem


def words_of(problem: SQLAlchemyError) -> str:
    """What the driver says of it, in a line."""
    return str(getattr(problem, "orig", None) or problem).partition("\n")[0]


def is_shared(engine: Engine) -> bool:
    """Whether several processes may serve from this database."""
    return engine.dialect.name != "sqlite"


def open_writer(url: str) -> Engine:
    """The engine of the one writer: a single connection whose transactions begin with the write lock."""
    return _open(url, begin="BEGIN IMMEDIATE", pool_size=1)


def open_readers(url: str) -> Engine:
    """The engine of everyone who only looks. What it writes all the same may be lost in a crash: used nonces.

    On PostgreSQL without transactions, which would show each statement another state anyway and cost two ways there
    and back. SQLite's transaction is one state, and costs no way.
    """
    return _open(url, begin="BEGIN", pool_size=4, options=" -c synchronous_commit=off", isolation_level="AUTOCOMMIT")


def with_reader(readers: Engine, find: Callable[[Connection], T]) -> T:
    """What `find` finds; once more, on a new connection, if its own turned out to be lost. Raises DATABASE_AWAY.

    To ask each connection first whether it lives costs as much as a look.
    """
    try:
        with readers.connect() as connection:
            return find(connection)
    except DBAPIError as problem:
        if not problem.connection_invalidated:
            raise
    readers.dispose()  # what ended one connection has ended those that idle beside it
    with readers.connect() as connection:
        return find(connection)


def open_snapshot(url: str) -> Engine:
    """The engine of one long look at one state, however much is written meanwhile.

    It reads each page once: a cache, and pages mapped into memory, would only grow with the database.
    """
    pragmas = (*_SQLITE_PRAGMAS, *_READ_ONCE)
    return _open(url, begin="BEGIN", pool_size=1, pragmas=pragmas, isolation_level="REPEATABLE READ")


def forget_erased(engine: Engine) -> bool:
    """Bring SQLite's file up to its write-ahead log and empty that: erased bytes stand in neither any more.

    False if somebody kept reading meanwhile: the next time will do. PostgreSQL is left to its operator (SPEC.md, 21).
    """
    if engine.dialect.name != "sqlite":
        return True
    connection = engine.raw_connection()
    try:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout={_PATIENCE}")  # writers wait while this waits for readers
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (busy, *_pages) = cursor.fetchone() or (1,)
        cursor.execute("PRAGMA busy_timeout=30000")
        return not busy
    finally:
        connection.close()


_PATIENCE = 1000  # ms


def _open(
    url: str,
    *,
    begin: str,
    pool_size: int,
    pragmas: Sequence[str] = _SQLITE_PRAGMAS,
    options: str = "",
    isolation_level: IsolationLevel = "READ COMMITTED",
) -> Engine:
    """`begin` and `pragmas` are SQLite's, `options` and `isolation_level` PostgreSQL's."""
    if make_url(url).get_backend_name() == "sqlite":
        return _open_sqlite(url, begin, pool_size, pragmas)
    wanted = _POSTGRES | {"options": _POSTGRES["options"] + options}
    try:
        engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            connect_args={name: value for name, value in wanted.items() if name not in make_url(url).query},
            isolation_level=isolation_level,
        )
    except ModuleNotFoundError as problem:
        raise LiaisonError(
            f"{problem.name} is not installed", hint="pip install 'liaison-relay[server,postgres]'"
        ) from problem

    @event.listens_for(engine, "checkout")
    def is_there(connection: Any, _record: Any, _proxy: Any) -> None:
        # To ask the server is a way there and back for each transaction. One that idles is sent nothing but its end.
        heard = poll()
        heard.register(connection, POLLIN)
        if heard.poll(0):
            raise DisconnectionError

    return engine


def _open_sqlite(url: str, begin: str, pool_size: int, pragmas: Sequence[str]) -> Engine:
    engine = create_engine(
        url,
        poolclass=QueuePool,
        pool_size=pool_size,
        max_overflow=0,
        connect_args={"check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late and without the lock
        for pragma in pragmas:
            connection.execute(pragma).close()

    @event.listens_for(engine, "begin")
    def take_the_lock(connection: Any) -> None:
        connection.exec_driver_sql(begin)

    return engine
