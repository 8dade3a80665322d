"""Bringing a database to the schema this version serves, and refusing to serve any other."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, insert, select

from relay.protocol.errors import LiaisonError

from .log import Log
from .schema import log_head, setting

_BESIDE = Path(__file__).parents[1] / "migrations"  # in the wheel
_CHECKOUT = Path(__file__).parents[2] / "migrations"


def _config(engine: Engine) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_BESIDE if _BESIDE.is_dir() else _CHECKOUT))
    config.attributes["engine"] = engine
    return config


def upgrade(engine: Engine, name: str) -> None:
    """Migrate to head; a new database gets the relay's `name` and two empty logs."""
    command.upgrade(_config(engine), "head")
    with engine.begin() as connection:
        if connection.scalar(select(setting.c.value).where(setting.c.name == "name")) is None:
            connection.execute(insert(setting), {"name": "name", "value": name})
            connection.execute(insert(log_head), [{"log": int(log), "size": 0} for log in Log])


def relay_name(engine: Engine) -> str:
    """The name chosen when the database was new. Raises LiaisonError if it was never migrated, or is of another age."""
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        head = ScriptDirectory.from_config(_config(engine)).get_current_head()
        if current != head:
            raise LiaisonError(
                f"the database is at revision {current}, this version serves {head}",
                hint="run: relay migrate",
            )
        return str(connection.scalar(select(setting.c.value).where(setting.c.name == "name")))
