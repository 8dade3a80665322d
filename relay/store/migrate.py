"""Bringing a database to the schema this version serves, and refusing to serve any other."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, insert, select

from relay.protocol.errors import LiaisonError

from .engine import reaching
from .log import Log
from .log_schema import log_head
from .schema import setting

_BESIDE = Path(__file__).parents[1] / "migrations"  # in the wheel
_CHECKOUT = Path(__file__).parents[2] / "migrations"


def _config(engine: Engine) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_BESIDE if _BESIDE.is_dir() else _CHECKOUT))
    config.attributes["engine"] = engine
    return config


def upgrade(engine: Engine, name: str) -> None:
    """Migrate to head; a new database gets the relay's `name` and two empty logs."""
    with reaching():
        command.upgrade(_config(engine), "head")
        with engine.begin() as connection:
            if connection.scalar(select(setting.c.value).where(setting.c.name == "name")) is None:
                connection.execute(insert(setting), {"name": "name", "value": name})
                connection.execute(insert(log_head), [{"log": int(log), "size": 0} for log in Log])


def revision_of(connection: Connection) -> str | None:
    """The revision of this database; None if it was never migrated."""
    return MigrationContext.configure(connection).get_current_revision()


def build(connection: Connection, revision: str) -> None:
    """The schema of that revision, within the caller's transaction. Raises LiaisonError for one of a later version."""
    config = _config(connection.engine)
    config.attributes["connection"] = connection
    if revision not in {"head"} | {each.revision for each in ScriptDirectory.from_config(config).walk_revisions()}:
        raise LiaisonError(f"revision {revision} is of a later version", hint="use the version that wrote it")
    command.upgrade(config, revision)


def relay_name(engine: Engine) -> str:
    """The name chosen when the database was new. Raises LiaisonError if it was never migrated or is of another age."""
    with reaching(), engine.connect() as connection:
        current = revision_of(connection)
        head = ScriptDirectory.from_config(_config(engine)).get_current_head()
        if current != head:
            raise LiaisonError(
                f"the database is at revision {current}, this version serves {head}",
                hint="run: relay migrate",
            )
        return str(connection.scalar(select(setting.c.value).where(setting.c.name == "name")))
