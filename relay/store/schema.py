"""What the relay remembers. The signed bytes are the truth; every other column is an index over them.

Nothing here can be read by the relay that a label's holder would mind: parts are sealed, subjects and file
names are inside the parts. Column comments say what a column means and who may see it.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    String,
    Table,
    UniqueConstraint,
    text,
)

from .log_schema import metadata as metadata  # noqa: PLC0414 - exported here, where it has all tables

# SQLite only auto-numbers a column that is declared INTEGER.
_Serial = BigInteger().with_variant(Integer, "sqlite")


def _of_message(**given: Any) -> Column[bytes]:
    place = ForeignKey("message_place.message_id", ondelete="CASCADE")
    return Column("message_id", LargeBinary(16), place, **given)


def _day() -> Column[int]:
    # The default: what an earlier version accepts, while it still serves, lies in the first partition.
    return Column("day", Integer, nullable=False, server_default="0", comment="as in message_place")


def _of_some(where: str, name: str, *columns: str) -> Index:
    return Index(name, *columns, sqlite_where=text(where), postgresql_where=text(where))


setting = Table(
    "setting",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", String(1024), nullable=False, comment="the relay's own name and the like; public"),
)

document = Table(
    "document",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True, comment="SHA-256 of the bytes"),
    Column("content", LargeBinary, nullable=False, comment="a policy file; for every enrolled device"),
)

key_batch = Table(
    "key_batch",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("device_id", LargeBinary(16), nullable=False),
    Column("encoded", LargeBinary, nullable=False, comment="signed by the device; for whoever claims of it"),
)

key_package = Table(
    "key_package",
    metadata,
    Column("ref", LargeBinary(32), primary_key=True),
    Column("device_id", LargeBinary(16), nullable=False),
    Column("batch", LargeBinary(32), ForeignKey("key_batch.digest"), nullable=False),
    Column("encoded", LargeBinary, nullable=False),
    Column("one_time", Boolean, nullable=False),
    Column("not_after", BigInteger, nullable=False, comment="seconds"),
    Column("claimed_by", LargeBinary(16), comment="the device that may seal to it; null while in stock"),
    Column("used_by", LargeBinary(16), comment="the message that was sealed to it"),
    # Claimed ones stay until they end, and are as many as messages: whoever claims must not walk over them.
    _of_some("claimed_by IS NULL", "ix_key_package_claimable", "device_id", "one_time", "not_after"),
    Index("ix_key_package_not_after", "not_after"),
    Index("ix_key_package_batch", "batch"),
)

# On PostgreSQL the tables that grow are partitioned: store/partitions.py. A key that is declared here without the
# partition's column has it there as well, for a partitioned table's keys must; `message_place` is why that is enough.
message_place = Table(
    "message_place",
    metadata,
    Column("message_id", LargeBinary(16), primary_key=True, comment="chosen by the sender"),
    Column("sender_device", LargeBinary(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("digest", LargeBinary(32), nullable=False, comment="SHA-256 of the submission: same id, same bytes?"),
    Column("entry", BigInteger, nullable=False, comment="index of its accept entry in the access log"),
    Column("day", Integer, nullable=False, comment="of acceptance, since 1970: where its rows lie; 0 before 0009"),
    UniqueConstraint("sender_device", "seq"),
)

message = Table(
    "message",
    metadata,
    _of_message(primary_key=True, comment="chosen by the sender"),
    Column("ref", LargeBinary(32), nullable=False, comment="SHA-256 of the signed bytes"),
    Column("digest", LargeBinary(32), nullable=False, comment="SHA-256 of the submission: same id, same bytes?"),
    Column("sender_device", LargeBinary(16), nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("precedence", SmallInteger, nullable=False),
    Column("expires", BigInteger, nullable=False, comment="seconds"),
    Column("encoded", LargeBinary, nullable=False, comment="the message as received; for holders of a slot"),
    Column("endorsements", LargeBinary, nullable=False, comment="releasing officers' signatures, as received"),
    Column("entry", BigInteger, nullable=False, comment="index of its accept entry in the access log"),
    Column("grants", LargeBinary, comment="which device was sealed which portions; outlives the slots; for auditors"),
    _day(),
    Index("ix_message_expires", "expires"),
)

bucket = Table(
    "bucket",
    metadata,
    Column("owner", String(255), primary_key=True, comment="an address, or an office"),
    Column("what", String(16), primary_key=True, comment="what is metered: relay/core/quota.py"),
    Column(
        "level", BigInteger, nullable=False, comment="stored: octets; else the microsecond at which it is full again"
    ),
    Column("seen", BigInteger, nullable=False, comment="entries of both logs when it was last charged"),
    Index("ix_bucket_seen", "seen"),
)

upload = Table(
    "upload",
    metadata,
    Column("upload_id", LargeBinary(16), primary_key=True, comment="names its chunks in the store"),
    Column("office", String(63), nullable=False, comment="whose it is; to others it is not there"),
    Column("digest", LargeBinary(32), nullable=False, comment="SHA-256 of the sealed part"),
    Column("length", BigInteger, nullable=False, comment="octets; counts against the office's quota"),
    Column("device_id", LargeBinary(16), nullable=False, comment="which began it"),
    Column("begun", BigInteger, nullable=False, comment="seconds, of the last beginning"),
    Column("complete", Boolean, nullable=False, comment="all chunks are durable and have the digest"),
    UniqueConstraint("office", "digest"),
    Index("ix_upload_used", "office", "length"),  # the quota's sum looks at nothing else
)

part = Table(
    "part",
    metadata,
    _of_message(primary_key=True),
    Column("idx", SmallInteger, primary_key=True),
    Column("sealed", LargeBinary, comment="ciphertext; for holders of a slot that has left; null if uploaded"),
    Column("upload_id", LargeBinary(16), ForeignKey("upload.upload_id"), comment="where a large part lies"),
    _day(),
    Index("ix_part_upload_id", "upload_id"),
)

slot = Table(
    "slot",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True, comment="the reader's inbox cursor"),
    _of_message(nullable=False),
    Column("device_id", LargeBinary(16), nullable=False, comment="the reader"),
    Column("position", SmallInteger, nullable=False, comment="index of the slot under slot_root"),
    Column(
        "precedence",
        SmallInteger,
        nullable=False,
        server_default="1",  # an earlier version that still serves does not know it
        comment="the message's, for serving the urgent first",
    ),
    Column("encoded", LargeBinary, comment="leaves only with its log entry; null once recalled or expired"),
    Column("kept", LargeBinary, comment="of a recalled message while it is held; never leaves"),
    Column("proof", LargeBinary, nullable=False, comment="inclusion under slot_root, hashes of 32 octets"),
    Column("released", BigInteger, comment="index of the first open entry; null while nobody held the keys"),
    _day(),
    UniqueConstraint("message_id", "device_id", "day"),
    Index("ix_slot_device", "device_id", "id"),
    # IMMEDIATE and above: few, so that finding them among many costs next to nothing.
    _of_some("precedence >= 3", "ix_slot_urgent", "device_id", "id"),
)

nonce = Table(
    "nonce",
    metadata,
    Column("device_id", LargeBinary(16), primary_key=True),
    Column("nonce", LargeBinary(16), primary_key=True, comment="of a signed request, where several processes serve"),
    Column("expires", BigInteger, nullable=False, comment="seconds; of no use a while after"),
)

hold = Table(
    "hold",
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    _of_message(nullable=False),
    Column("office", String(63), nullable=False, comment="whose hold it is"),
    Column("device_id", LargeBinary(16), nullable=False),
    Column("address", String(128), nullable=False, comment="the officer who stated it"),
    Column("completes", Boolean, nullable=False, comment="the second word: from here on held, or no longer"),
    Column("encoded", LargeBinary, nullable=False, comment="signed by the officer; for auditors"),
    Column("entry", BigInteger, nullable=False, comment="index of its entry in the access log"),
    Column(
        "standing",
        SmallInteger,
        nullable=False,
        server_default="2",  # what an earlier version takes, while it still serves, keeps rather than not
        comment="0 past, 1 waits for a second word, 2 its office holds the message",
    ),
    Column("ref", LargeBinary(32), comment="what names the word: the same again?"),
    Index("ix_hold_message", "message_id", "office"),
    Index("ix_hold_ref", "ref"),
    _of_some("standing > 0", "ix_hold_standing", "message_id", "office"),
    _of_some("standing > 0", "ix_hold_standing_entry", "office", "entry"),
)

alarm = Table(
    "alarm",
    metadata,
    Column("device_id", LargeBinary(16), primary_key=True, comment="whose finding it is"),
    Column(
        "directory_index",
        BigInteger,
        primary_key=True,
        autoincrement=False,
        comment="the directory entry it is about",
    ),
    Column("office", String(63), nullable=False, comment="the finder's; its officers read it"),
    Column("encoded", LargeBinary, nullable=False, comment="signed by the finder"),
    Column("entry", BigInteger, nullable=False, comment="index of its entry in the access log"),
    Index("ix_alarm_office", "office", "entry"),
)

receipt = Table(
    "receipt",
    metadata,
    _of_message(primary_key=True),
    Column("device_id", LargeBinary(16), primary_key=True),
    Column("state", String(16), primary_key=True, comment="opened or acknowledged"),
    Column(
        "encoded",
        LargeBinary,
        nullable=False,
        comment="signed by the reader; for the originator and auditors",
    ),
    Column("entry", BigInteger, nullable=False),
)

recall = Table(
    "recall",
    metadata,
    _of_message(primary_key=True),
    Column("digest", LargeBinary(32), primary_key=True, comment="SHA-256 of the refs of its words: the same again?"),
    Column("spill", Boolean, nullable=False),
    Column("encoded", LargeBinary, nullable=False, comment="the signed recalls, as received; for auditors"),
    Column("entry", BigInteger, nullable=False, comment="index of its entry in the access log"),
)
