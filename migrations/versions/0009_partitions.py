"""partitions of messages and log, on PostgreSQL; on both databases the place of a message

No big table is rewritten: what is there becomes the first partition of its table. All that takes long (indexes, and the
checks that let a table be attached without a scan) is done beside whoever serves, each step in a transaction of its own
that may be run again. At the end the tables change places, in one transaction with the writers standing aside.

The earlier version serves on: its messages have no day and lie in the first partition, and two triggers keep
`message_place` for it. They go in the next release.
"""

import time
from collections.abc import Iterator

from alembic import context, op
import sqlalchemy as sa
from sqlalchemy.exc import OperationalError

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

MARGIN = 1 << 20  # entries that may be appended while this runs
OWNED = ("receipt", "recall", "hold")  # a message's rows in tables that stay as they are
KEYS = {
    "log_entry": ("log", "idx"),
    "checkpoint": ("log", "size"),
    "message": ("message_id", "day"),
    "part": ("message_id", "idx", "day"),
    "slot": ("id", "day"),
}
BY_DAY = ("message", "part", "slot")
INDEXES = {  # of a new parent: name, columns, condition
    "message": [("ix_message_expires", "expires", "")],
    "part": [("ix_part_upload_id", "upload_id", "")],
    "slot": [
        ("ix_slot_device", "device_id, id", ""),
        ("ix_slot_urgent", "device_id, id", "WHERE precedence >= 3"),
    ],
    "log_entry": [],
    "checkpoint": [],
}
FOR_THE_EARLIER_VERSION = """
CREATE OR REPLACE FUNCTION message_placed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO message_place (message_id, sender_device, seq, digest, entry, day)
    VALUES (NEW.message_id, NEW.sender_device, NEW.seq, NEW.digest, NEW.entry, NEW.day) ON CONFLICT DO NOTHING;
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION message_gone() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    DELETE FROM message_place WHERE message_id = OLD.message_id;
    RETURN OLD;
END $$;
DROP TRIGGER IF EXISTS message_placed ON message;
DROP TRIGGER IF EXISTS message_gone ON message;
CREATE TRIGGER message_placed BEFORE INSERT ON message FOR EACH ROW EXECUTE FUNCTION message_placed();
CREATE TRIGGER message_gone AFTER DELETE ON message FOR EACH ROW EXECUTE FUNCTION message_gone()
"""
HOLDING = "SELECT FROM log_head FOR UPDATE; "  # no writer is between two of the tables; only before what is brief
FILL = """INSERT INTO message_place (message_id, sender_device, seq, digest, entry, day)
SELECT message_id, sender_device, seq, digest, entry, 0 FROM message WHERE true ON CONFLICT DO NOTHING"""


def upgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _place()
        op.execute(FILL)
        _rebuild("message_place")
        op.drop_index("ix_log_entry_office", "log_entry")  # the log is read by index only
        return
    _place()
    size = op.get_bind().scalar(sa.text("SELECT size FROM log_head WHERE log = 2"))
    end = 0 if size is None else size if _is_alone() else size + MARGIN
    for statement in _beside(end):
        _run(statement)
    _stand_aside()
    for statement in _swap(end):
        op.execute(statement)


def _place() -> None:
    op.create_table(
        "message_place",
        sa.Column("message_id", sa.LargeBinary(length=16), nullable=False, comment="chosen by the sender"),
        sa.Column("sender_device", sa.LargeBinary(length=16), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column(
            "digest",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="SHA-256 of the submission: same id, same bytes?",
        ),
        sa.Column("entry", sa.BigInteger(), nullable=False, comment="index of its accept entry in the access log"),
        sa.Column(
            "day", sa.Integer(), nullable=False, comment="of acceptance, since 1970: where its rows lie; 0 before 0009"
        ),
        sa.PrimaryKeyConstraint("message_id", name=op.f("pk_message_place")),
        sa.UniqueConstraint("sender_device", "seq", name=op.f("uq_message_place_sender_device_seq")),
        if_not_exists=True,
    )


def _rebuild(parent: str) -> None:
    """SQLite, where nobody serves meanwhile: children first, so that nothing falls with the old `message`."""
    for table in ("part", "slot", *OWNED, "message"):
        with op.batch_alter_table(table) as batch:
            if table != "message":
                batch.drop_constraint(op.f(f"fk_{table}_message_id"), type_="foreignkey")
            batch.create_foreign_key(
                op.f(f"fk_{table}_message_id"), parent, ["message_id"], ["message_id"], ondelete="CASCADE"
            )
            if table in BY_DAY:
                batch.add_column(_day())
            if table == "message":
                batch.drop_constraint(op.f("uq_message_sender_device_seq"), type_="unique")
            if table == "part":
                batch.drop_constraint(op.f("uq_part_upload_id"), type_="unique")
                batch.create_index(op.f("ix_part_upload_id"), ["upload_id"])
            if table == "slot":
                batch.drop_constraint(op.f("uq_slot_message_id_device_id"), type_="unique")
                batch.create_unique_constraint(
                    op.f("uq_slot_message_id_device_id_day"), ["message_id", "device_id", "day"]
                )


def _day() -> sa.Column[int]:
    return sa.Column("day", sa.Integer(), nullable=False, server_default="0", comment="as in message_place")


def _is_alone() -> bool:
    """A restore: everything is one transaction of the caller's, and nobody serves."""
    return context.config.attributes.get("connection") is not None


def _run(statement: str) -> None:
    if _is_alone():
        op.execute(statement.replace(" CONCURRENTLY", ""))
        return
    with op.get_context().autocommit_block():
        op.execute(statement)


def _beside(end: int) -> Iterator[str]:
    """Beside whoever serves. Each may be run again."""
    for table in BY_DAY:
        yield f"{HOLDING}ALTER TABLE {table} ADD COLUMN IF NOT EXISTS day integer NOT NULL DEFAULT 0"
        yield f"COMMENT ON COLUMN {table}.day IS 'as in message_place'"
    yield HOLDING + FOR_THE_EARLIER_VERSION
    yield FILL
    yield (
        "DELETE FROM message_place WHERE NOT EXISTS "
        "(SELECT FROM message WHERE message.message_id = message_place.message_id)"
    )
    for table in (*BY_DAY, *OWNED):
        yield f"{HOLDING}ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_placed"
        yield (
            f"{HOLDING}ALTER TABLE {table} ADD CONSTRAINT {table}_placed FOREIGN KEY (message_id) "
            "REFERENCES message_place (message_id) ON DELETE CASCADE NOT VALID"
        )
        yield f"ALTER TABLE {table} VALIDATE CONSTRAINT {table}_placed"
    unique = {f"{table}_key": (table, ", ".join(KEYS[table])) for table in BY_DAY}
    unique["slot_once"] = ("slot", "message_id, device_id, day")
    for name, (table, columns) in unique.items():
        yield f"DROP INDEX CONCURRENTLY IF EXISTS {name}"
        yield f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {table} ({columns})"
    yield "DROP INDEX CONCURRENTLY IF EXISTS part_upload"
    yield "CREATE INDEX CONCURRENTLY part_upload ON part (upload_id)"
    for table in KEYS:
        within = "day < 1" if table in BY_DAY else f"log < 2 OR log = 2 AND {KEYS[table][1]} < {end}"
        yield f"{HOLDING}ALTER TABLE {table} DROP CONSTRAINT IF EXISTS {table}_within"
        yield f"{HOLDING}ALTER TABLE {table} ADD CONSTRAINT {table}_within CHECK ({within}) NOT VALID"
        yield f"ALTER TABLE {table} VALIDATE CONSTRAINT {table}_within"


def _stand_aside() -> None:
    """Hold the heads, so that no writer is in the middle of anything, then all tables at once, waiting for none."""
    connection, until = op.get_bind(), time.monotonic() + 3
    connection.execute(sa.text("SELECT FROM log_head FOR UPDATE"))
    while True:
        try:
            with connection.begin_nested():
                tables = ", ".join((*KEYS, *OWNED, "message_place"))
                connection.execute(sa.text(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE NOWAIT"))
        except OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _swap(end: int) -> Iterator[str]:
    for table in OWNED:
        yield f"ALTER TABLE {table} DROP CONSTRAINT fk_{table}_message_id"
        yield f"ALTER TABLE {table} RENAME CONSTRAINT {table}_placed TO fk_{table}_message_id"
    for table in ("part", "slot"):
        yield f"ALTER TABLE {table} DROP CONSTRAINT fk_{table}_message_id"
    yield "DROP INDEX ix_log_entry_office"  # the log is read by index only
    yield "ALTER TABLE part DROP CONSTRAINT uq_part_upload_id"
    yield "ALTER TABLE slot DROP CONSTRAINT uq_slot_message_id_device_id"
    yield "ALTER TABLE slot ADD CONSTRAINT slot_once UNIQUE USING INDEX slot_once"
    yield "ALTER TABLE message DROP CONSTRAINT uq_message_sender_device_seq"
    yield "DROP TRIGGER message_gone ON message"
    for table, keys in KEYS.items():
        yield from _become_first(table, keys, end)
    yield "ALTER SEQUENCE slot_id_seq OWNED BY slot.id"
    yield "CREATE TRIGGER message_gone AFTER DELETE ON message FOR EACH ROW EXECUTE FUNCTION message_gone()"


def _become_first(table: str, keys: tuple[str, ...], last: int) -> Iterator[str]:
    """The table that is there becomes the first partition of one that has its name."""
    first = f"{table}_first"
    yield f"ALTER TABLE {table} RENAME TO {first}"
    for name, _columns, _where in INDEXES[table]:
        if name != "ix_part_upload_id":
            yield f"ALTER INDEX {name} RENAME TO {first}{name.removeprefix(f'ix_{table}')}"
    by, start, end = "log, " + keys[1], "MINVALUE, MINVALUE", f"2, {last}"
    if table in BY_DAY:
        by, start, end = "day", "MINVALUE", "1"
        yield f"ALTER TABLE {first} DROP CONSTRAINT pk_{table}"
        yield f"ALTER TABLE {first} ADD CONSTRAINT {table}_key PRIMARY KEY USING INDEX {table}_key"
    else:
        yield f"ALTER TABLE {first} RENAME CONSTRAINT pk_{table} TO {first}_key"
    yield (
        f"CREATE TABLE {table} (LIKE {first} INCLUDING DEFAULTS INCLUDING COMMENTS INCLUDING STORAGE, "
        f"CONSTRAINT pk_{table} PRIMARY KEY ({', '.join(keys)})) PARTITION BY RANGE ({by})"
    )
    if table in BY_DAY:
        yield (
            f"ALTER TABLE {table} ADD CONSTRAINT fk_{table}_message_id FOREIGN KEY (message_id) "
            "REFERENCES message_place (message_id) ON DELETE CASCADE"
        )
    if table == "part":
        yield "ALTER TABLE part ADD CONSTRAINT fk_part_upload_id FOREIGN KEY (upload_id) REFERENCES upload (upload_id)"
    if table == "slot":
        yield "ALTER TABLE slot ADD CONSTRAINT uq_slot_message_id_device_id_day UNIQUE (message_id, device_id, day)"
    for name, columns, where in INDEXES[table]:
        yield f"CREATE INDEX {name} ON {table} ({columns}) {where}"
    yield f"ALTER TABLE {table} ATTACH PARTITION {first} FOR VALUES FROM ({start}) TO ({end})"
    yield f"ALTER TABLE {first} DROP CONSTRAINT {table}_within"
    yield f"CREATE TABLE {table}_default PARTITION OF {table} DEFAULT"


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.create_index("ix_log_entry_office", "log_entry", ["log", "office", "idx"])
        _rebuild_as_before()
    else:
        op.execute("DROP FUNCTION message_placed, message_gone CASCADE")
        for table in (*BY_DAY, *OWNED):
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT fk_{table}_message_id")
        for table, keys in KEYS.items():
            _become_plain(table, [key for key in keys if key != "day"])
        op.create_unique_constraint("uq_message_sender_device_seq", "message", ["sender_device", "seq"])
        op.create_unique_constraint("uq_part_upload_id", "part", ["upload_id"])
        op.create_foreign_key("fk_part_upload_id", "part", "upload", ["upload_id"], ["upload_id"])
        op.create_unique_constraint("uq_slot_message_id_device_id", "slot", ["message_id", "device_id"])
        op.create_index("ix_log_entry_office", "log_entry", ["log", "office", "idx"])
        for table in ("part", "slot", *OWNED):
            name = f"fk_{table}_message_id"
            op.create_foreign_key(name, table, "message", ["message_id"], ["message_id"], ondelete="CASCADE")
    op.drop_table("message_place")


def _become_plain(table: str, keys: list[str]) -> None:
    like = "INCLUDING DEFAULTS INCLUDING COMMENTS INCLUDING STORAGE"
    op.execute(f"CREATE TABLE {table}_plain (LIKE {table} {like})")
    op.execute(f"INSERT INTO {table}_plain TABLE {table}")
    if table == "slot":
        op.execute("ALTER SEQUENCE slot_id_seq OWNED BY slot_plain.id")
    op.execute(f"DROP TABLE {table}")
    op.execute(f"ALTER TABLE {table}_plain RENAME TO {table}")
    if table in BY_DAY:
        op.drop_column(table, "day")
    op.create_primary_key(f"pk_{table}", table, keys)
    for name, columns, where in INDEXES[table]:
        if name != "ix_part_upload_id":
            op.execute(f"CREATE INDEX {name} ON {table} ({columns}) {where}")


def _rebuild_as_before() -> None:
    with op.batch_alter_table("message") as batch:
        batch.drop_constraint(op.f("fk_message_message_id"), type_="foreignkey")
        batch.drop_column("day")
        batch.create_unique_constraint(op.f("uq_message_sender_device_seq"), ["sender_device", "seq"])
    for table in ("part", "slot", *OWNED):
        with op.batch_alter_table(table) as batch:
            if table == "part":
                batch.drop_index(op.f("ix_part_upload_id"))
                batch.create_unique_constraint(op.f("uq_part_upload_id"), ["upload_id"])
            if table == "slot":
                batch.drop_constraint(op.f("uq_slot_message_id_device_id_day"), type_="unique")
                batch.create_unique_constraint(op.f("uq_slot_message_id_device_id"), ["message_id", "device_id"])
            if table in BY_DAY:
                batch.drop_column("day")
            batch.drop_constraint(op.f(f"fk_{table}_message_id"), type_="foreignkey")
            batch.create_foreign_key(
                op.f(f"fk_{table}_message_id"), "message", ["message_id"], ["message_id"], ondelete="CASCADE"
            )
