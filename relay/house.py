"""Setting a relay up from its settings: the data folder, the keys, the database, the Relay."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import Engine, make_url
from sqlalchemy.exc import DBAPIError

from relay.core import Relay
from relay.core.quota import Limits, Metered, Quota, Rate
from relay.core.register import name_approvers
from relay.core.retention import Swept
from relay.core.uploads import Chunks
from relay.core.witness import WitnessDesk
from relay.logkeys import LogKeys, load_log_keys
from relay.pipeline.batch import Answer, Batch, Job
from relay.pipeline.committer import Committer
from relay.protocol.approval import Approvers, Matter, devices_of_people, read_approvers
from relay.protocol.errors import LiaisonError, Unavailable, Unverified, named
from relay.protocol.tlog import Checkpoint
from relay.protocol.witness import WitnessKeys, parse_logs
from relay.protocol.witness_policy import parse_witness_policy, require_own_logs
from relay.settings import Settings
from relay.store.blobs import open_blobs
from relay.store.engine import open_readers, open_snapshot, open_writer, reaching, words_of
from relay.store.log import Log
from relay.store.migrate import relay_name, upgrade
from relay.store.partitions import Widths, tend
from relay.upkeep.check import check_database
from relay.upkeep.logwalk import Fault, Progress


def prepare_data(settings: Settings) -> LogKeys:
    """Make the data folder, readable by its owner only, and the relay's keys on first use."""
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    return load_log_keys(settings.data / "log-keys.json")


def held_keys(settings: Settings) -> LogKeys:
    """The relay's keys, which must be there: new ones would be another relay's."""
    path = settings.data / "log-keys.json"
    if not path.exists():
        raise LiaisonError(f"{path} is not there", hint="a backup never has it: copy it from where it is kept")
    return load_log_keys(path)


def held_relay(settings: Settings) -> LogKeys:
    """The keys of the relay that is there. None is made: in a mistyped folder it would be another, with other keys."""
    url = make_url(settings.database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise LiaisonError(
            f"{url.database} is not there", hint="is --data right? relay serve and relay migrate make a new relay"
        )
    return held_keys(settings)


def migrate(settings: Settings) -> None:
    """Bring the database to this version's schema; name the relay if the database is new."""
    prepare_data(settings)
    engine = open_writer(settings.database_url)
    try:
        upgrade(engine, settings.name or f"relay-{secrets.token_hex(4)}")
        _tend_partitions(engine, widths(settings))
    finally:
        engine.dispose()


def _tend_partitions(engine: Engine, widths: Widths) -> None:
    """As the sweeper does, but nobody comes after who tries again."""
    try:
        tended = tend(engine, int(time.time()) // 86400, widths)
    except DBAPIError as problem:
        raise LiaisonError(
            f"the partitions were not tended: {words_of(problem)}", hint="run it as the owner of the tables"
        ) from problem
    if not tended:
        raise Unavailable("the partitions were not tended: a reader is in the way", hint="run it again")


def open_relay(settings: Settings) -> Relay:
    """A relay ready to `start`. SQLite migrates itself; another database is migrated by `relay migrate` first."""
    keys = prepare_data(settings)
    if make_url(settings.database_url).get_backend_name() == "sqlite":
        migrate(settings)
    writer, readers = open_writer(settings.database_url), open_readers(settings.database_url)
    try:
        chunks, quota = Chunks(open_blobs(settings.parts_place)), Quota(limits(settings))
        relay = Relay(writer, readers, keys, relay_name(readers), chunks, quota)
        relay.sweeper.widths = widths(settings)
        _take_up_witnessing(relay, settings)
        return relay  # noqa: TRY300 - what fails above closes the database
    except BaseException:
        writer.dispose()
        readers.dispose()
        raise


def reopen_relay(settings: Settings) -> Relay:
    """For a command of the operator's, beside a relay that may be serving. Raises LiaisonError where there is none."""
    held_relay(settings)
    return open_relay(settings)


def widths(settings: Settings) -> Widths:
    """How much a new partition holds."""
    return Widths(settings.partition_days, settings.partition_entries)


def limits(settings: Settings) -> Limits:
    """The quotas as they are configured."""
    principal = Rate(settings.quota_messages, settings.quota_burst)
    office = Rate(settings.quota_office_messages, settings.quota_office_burst)
    publications = Rate(settings.quota_publications, settings.quota_publications_burst)
    flat = (settings.quota_opens, settings.quota_claims, settings.quota_key_batches)
    opens, claims, batches = (Rate(rate, rate) for rate in flat)
    return Limits(
        {
            Metered.MESSAGE: principal,
            Metered.URGENT_MESSAGE: principal,
            Metered.OPEN: opens,
            Metered.URGENT_OPEN: opens,
            Metered.CLAIM: claims,
            Metered.ALARM: principal,
            Metered.KEYS: batches,
            Metered.LOOK: principal,
            Metered.HOLD: publications,
        },
        {
            Metered.MESSAGE: office,
            Metered.URGENT_MESSAGE: office,
            Metered.ALARM: office,
            Metered.LOOK: office,
            Metered.PUBLICATION: publications,
            Metered.REVOCATION: publications,
        },
        settings.quota_office_octets,
    )


def read_checkpoints(keys: LogKeys, name: str, notes: Sequence[tuple[str, bytes]]) -> list[Checkpoint]:
    """Checkpoints that others hold, each with its file's name: signed by this relay's keys for one of its logs."""
    origins = [f"{name}/{log.name.lower()}" for log in Log]
    found = []
    for file, note in notes:
        with named(file):
            origin = note.split(b"\n", 1)[0].decode(errors="replace")
            if origin not in origins:
                raise Unverified(f"a checkpoint of {origin!r:.80}, and this relay's logs are {' and '.join(origins)}")
            found.append(keys.read_checkpoint(origin, note))
    return found


def check_all(settings: Settings, notes: Sequence[tuple[str, bytes]], progress: Progress) -> Iterator[Fault]:
    """Every fault of the database as it is now. A relay may be serving it."""
    keys, engine = held_relay(settings), open_snapshot(settings.database_url)
    try:
        name = relay_name(engine)
        with reaching(), engine.connect() as connection:
            seen, blobs = read_checkpoints(keys, name, notes), open_blobs(settings.parts_place)
            yield from check_database(connection, keys, name, seen, progress, blobs)
    finally:
        engine.dispose()


def witness_keys(settings: Settings, name: str) -> WitnessKeys:
    """The keys with which a relay cosigns other logs, made on first use; not those that sign its own."""
    keys = load_log_keys(settings.data / "witness-keys.json")
    return WitnessKeys(f"{name}/witness", keys.ed25519, keys.mldsa44)


def _take_up_witnessing(relay: Relay, settings: Settings) -> None:
    if settings.witness_logs is not None:
        logs = parse_logs(settings.witness_logs.read_text())
        if logs.keys() & set(relay.origins.values()):
            raise LiaisonError("a relay is no witness of its own logs", hint="have others cosign them")
        relay.witness_desk = WitnessDesk(witness_keys(settings, relay.name), logs)
    if settings.witness_policy is not None:
        relay.witness_policy = parse_witness_policy(settings.witness_policy.read_bytes())
        require_own_logs(relay.witness_policy, relay.vkeys)


def sweep(settings: Settings, *, trust_clock: bool) -> Swept:
    """Destroy what is due, beside a relay that may be serving. Raises ClockAhead, unless the operator trusts it."""
    with closing(reopen_relay(settings)) as relay:
        relay.start()
        return asyncio.run(relay.sweeper.sweep(trust_clock=trust_clock))


def draft_approvers(settings: Settings, people: Sequence[str], needed: int) -> bytes:
    """The relay's own list of approvers, to follow the one in force; it holds once it is set."""
    now = int(time.time())
    with closing(reopen_relay(settings)) as relay:
        directory = relay.judge().directory
        known, named = directory.approvers_of(""), devices_of_people(directory, people, now)
    version = (known.version if known is not None else 0) + 1
    encoded = Approvers("", version, ((Matter.ADMISSION, needed),), named, now).payload()
    read_approvers(encoded)  # what nobody would accept is not asked for
    return encoded


def set_approvers(settings: Settings, encoded: bytes, approvals: Sequence[bytes]) -> None:
    """Put the relay's own list of approvers in force. Raises Refused where the old one's people have not approved."""
    commit_alone(settings, lambda batch: name_approvers(batch, encoded, approvals))


def commit_alone(settings: Settings, run: Callable[[Batch], Answer]) -> object:
    """Run a job as the operator, beside a relay that may be serving; raise what it raises."""
    keys = held_relay(settings)
    writer, readers = open_writer(settings.database_url), open_readers(settings.database_url)
    try:
        (outcome,) = Committer(writer, readers, keys, relay_name(readers)).commit([Job(run)])
    finally:
        writer.dispose()
        readers.dispose()
    if outcome.error is not None:
        raise outcome.error
    return outcome.value
