"""Statements compiled once per database and run on the driver's own cursor.

SQLAlchemy writes the SQL and owns the connection and the transaction; going through its execution for each
statement of each batch would cost more than the database does. Parameters and columns are octets, text, integers
and null, which both drivers take and give as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Any

from sqlalchemy import CTE, ClauseElement, Connection, bindparam, column, values
from sqlalchemy.engine.interfaces import Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.types import TypeEngine

_AT_ONCE = 256  # keys or rows in one statement: databases limit the parameters
_VALUES = "VALUES "
_STYLE = {"sqlite": "qmark", "postgresql": "numeric_dollar"}
_NUMBERED = re.compile(r"\$([0-9]+)")


class Prepared:
    """A statement to be run many times: for rows of parameters, or over a list of keys."""

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[tuple[str, int], tuple[str, tuple[str, ...]]] = {}
        self._constants: dict[str, Any] = {}  # which SQLAlchemy has made parameters of its own, such as a limit

    def run(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Execute for every row of parameters; for many at a time, where they stand behind one VALUES."""
        sql, names = self._sql(connection.dialect, rows[0])
        values = [tuple([row[name] for name in names]) for row in rows]
        if _VALUES not in sql:
            _sent(connection, sql, values, many=True)
            return
        # A driver gives the interpreter away at each execution, and must wait to get it back.
        while values:
            some, values = values[: (count := _power(min(len(values), _AT_ONCE)))], values[count:]
            flat = [value for row in some for value in row]
            _sent(connection, self._sql_of_rows(connection.dialect, sql, count), flat)

    def rows(self, connection: Connection, **parameters: Any) -> list[tuple[Any, ...]]:
        """The rows that it selects."""
        sql, names = self._sql(connection.dialect, parameters)
        every = self._constants | parameters
        return _fetched(connection, _sent(connection, sql, tuple([every[name] for name in names])))

    def rows_of(self, connection: Connection, keys: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        """The rows found by any of `keys`: octets, for a parameter `keys`, or tuples, for rows that are `given`.

        Asked for at once, and taken when they are gone through.
        """
        asked = list(self._asked(connection, keys))
        return chain.from_iterable(_fetched(connection, cursor) for cursor in asked)

    def _asked(self, connection: Connection, keys: Sequence[Any]) -> Iterator[Any]:
        for start in range(0, len(keys), _AT_ONCE):
            some = list(keys[start : start + _AT_ONCE])
            # Filled up to a power of two: a few statements serve any number of keys.
            missing = (1 << (len(some) - 1).bit_length()) - len(some)
            if isinstance(some[0], tuple):
                some += [(None,) * len(some[0])] * missing  # null equals nothing
                sql, _names = self._sql(connection.dialect, {})
                whole = self._sql_of_rows(connection.dialect, sql, len(some))
                yield _sent(connection, whole, tuple([part for key in some for part in key]))
            else:
                some += some[-1:] * missing
                yield _sent(connection, self._sql_of(connection.dialect, some), tuple(some))

    def _sql(self, dialect: Dialect, parameters: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
        found = self._compiled.get((dialect.name, 0))
        if found is None:
            compiled = _compiled(self._statement, dialect, list(parameters))
            self._constants |= {name: value for name, value in compiled.params.items() if value is not None}
            found = self._compiled[dialect.name, 0] = (str(compiled), tuple(compiled.positiontup or ()))
        return found

    def _sql_of_rows(self, dialect: Dialect, sql: str, count: int) -> str:
        found = self._compiled.get((dialect.name, count))
        if found is None:
            found = self._compiled[dialect.name, count] = (_with_rows(sql, count), ())
        return found[0]

    def _sql_of(self, dialect: Dialect, keys: list[Any]) -> str:
        found = self._compiled.get((dialect.name, len(keys)))
        if found is None:
            expanded = _compiled(self._statement, dialect, None).construct_expanded_state({"keys": keys})
            found = self._compiled[dialect.name, len(keys)] = (expanded.statement, ())
        return found[0]


def given(**columns: TypeEngine[Any]) -> CTE:
    """Rows of parameters of these names, to update or to look up by many at a time.

    Looked up as `(a, b) IN (VALUES ...)`, four of them or more have SQLite read the whole table.
    """
    names = [column(name, kind) for name, kind in columns.items()]
    return values(*names, name="given").data([tuple(map(bindparam, columns))]).cte()


def _with_rows(sql: str, count: int) -> str:
    """The statement with its one row of VALUES repeated."""
    begin = end = sql.index(_VALUES) + len(_VALUES)
    depth = 0
    while depth or end == begin:
        depth += {"(": 1, ")": -1}.get(sql[end], 0)
        end += 1
    row = sql[begin:end]
    width = len(_NUMBERED.findall(row))
    rows = (_NUMBERED.sub(lambda found, of=of: f"${int(found[1]) + of * width}", row) for of in range(count))  # type: ignore[misc]
    return sql[:begin] + ", ".join(rows) + sql[end:]


def _power(count: int) -> int:
    """The largest power of two up to `count`: a few statements serve any number of rows."""
    return 1 << (count.bit_length() - 1)


def _compiled(statement: ClauseElement, dialect: Dialect, columns: list[str] | None) -> SQLCompiler:
    positional = type(dialect)(paramstyle=_STYLE[dialect.name])  # type: ignore[call-arg]  # every dialect of ours takes it
    compiled = statement.compile(dialect=positional, column_keys=columns)
    assert isinstance(compiled, SQLCompiler)  # noqa: S101 - what a select, an insert and an update compile to
    return compiled


@contextmanager
def together(connection: Connection) -> Iterator[None]:
    """Send what is asked for in here without waiting for the answers to what was sent before.

    PostgreSQL's pipeline: one way there and back for all of it. A statement that failed shows later, where rows are
    taken or at the end. Only for statements of this module: SQLAlchemy's own execution takes an answer that is still
    to come for none. SQLite, which is no way off, is asked one by one.
    """
    if connection.dialect.name == "sqlite":
        yield
        return
    driver: Any = connection.connection.driver_connection
    try:
        with driver.pipeline():
            yield
    except connection.dialect.loaded_dbapi.Error as problem:
        raise _told(connection, None, problem) from problem


def _cursor(connection: Connection) -> Any:
    if connection.dialect.name == "sqlite":
        return connection.connection.cursor()
    # Numbered parameters as PostgreSQL has them: psycopg would take a statement of many rows to pieces each time.
    psycopg: Any = connection.dialect.loaded_dbapi
    return psycopg.RawCursor(connection.connection.driver_connection)


def _sent(connection: Connection, sql: str, parameters: Any, *, many: bool = False) -> Any:
    cursor = _cursor(connection)
    try:
        (cursor.executemany if many else cursor.execute)(sql, parameters)
    except connection.dialect.loaded_dbapi.Error as problem:
        raise _told(connection, sql, problem) from problem
    return cursor


def _fetched(connection: Connection, cursor: Any) -> list[tuple[Any, ...]]:
    try:
        return list(cursor.fetchall())
    except connection.dialect.loaded_dbapi.Error as problem:
        raise _told(connection, None, problem) from problem


def _told(connection: Connection, sql: str | None, problem: Any) -> DBAPIError:
    """As SQLAlchemy would have it: one tree of errors for both drivers, and a broken connection is let go."""
    driver = connection.dialect.loaded_dbapi
    lost = connection.dialect.is_disconnect(problem, connection.connection.driver_connection, None)
    if lost:
        connection.invalidate(problem)
    told: DBAPIError = DBAPIError.instance(
        sql, None, problem, driver.Error, connection_invalidated=lost, dialect=connection.dialect
    )
    return told
