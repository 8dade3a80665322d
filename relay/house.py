"""Setting a relay up from its settings: the data folder, the keys, the database, the Relay."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from sqlalchemy import make_url

from relay.batch import Answer, Batch, Job
from relay.committer import Committer
from relay.core import Relay
from relay.core.retention import Swept
from relay.logkeys import LogKeys, load_log_keys
from relay.settings import Settings
from relay.store.engine import open_readers, open_writer
from relay.store.migrate import relay_name, upgrade


def prepare_data(settings: Settings) -> LogKeys:
    """Make the data folder, readable by its owner only, and the relay's keys on first use."""
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return load_log_keys(settings.data / "log-keys.json")


def migrate(settings: Settings) -> None:
    """Bring the database to this version's schema; name the relay if the database is new."""
    prepare_data(settings)
    engine = open_writer(settings.database_url)
    upgrade(engine, settings.name or f"relay-{secrets.token_hex(4)}")
    engine.dispose()


def open_relay(settings: Settings) -> Relay:
    """A relay ready to `start`. SQLite migrates itself; another database is migrated by `relay migrate` first."""
    keys = prepare_data(settings)
    if make_url(settings.database_url).get_backend_name() == "sqlite":
        migrate(settings)
    writer, readers = open_writer(settings.database_url), open_readers(settings.database_url)
    try:
        return Relay(writer, readers, keys, relay_name(readers))
    except BaseException:
        writer.dispose()
        readers.dispose()
        raise


def sweep(settings: Settings) -> Swept:
    """Destroy what is due, beside a relay that may be serving."""
    relay = open_relay(settings)
    relay.start()
    try:
        return asyncio.run(relay.sweep())
    finally:
        relay.close()


def commit_alone(settings: Settings, run: Callable[[Batch], Answer]) -> object:
    """Run a job as the operator, beside a relay that may be serving; raise what it raises."""
    keys = prepare_data(settings)
    writer, readers = open_writer(settings.database_url), open_readers(settings.database_url)
    try:
        (outcome,) = Committer(writer, readers, keys, relay_name(readers)).commit([Job(run)])
    finally:
        writer.dispose()
        readers.dispose()
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
