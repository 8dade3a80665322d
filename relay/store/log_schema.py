"""The logs as the relay stores them: entries, what stands over them, the checkpoints of others that it cosigned."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, LargeBinary, MetaData, SmallInteger, String, Table

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

log_head = Table(
    "log_head",
    metadata,
    Column("log", SmallInteger, primary_key=True, comment="1 directory, 2 access"),
    Column("size", BigInteger, nullable=False, comment="entries; locking this row is the right to append"),
)

log_entry = Table(
    "log_entry",
    metadata,
    Column("log", SmallInteger, primary_key=True),
    Column("idx", BigInteger, primary_key=True, comment="0-based, without a gap"),
    Column("leaf_hash", LargeBinary(32), nullable=False, comment="public"),
    Column("entry", LargeBinary, comment="the bytes behind the leaf; null once their retention is over"),
    Column("office", String(63), nullable=False, comment="access log: the actor's office; scopes auditors"),
    Column("concerns", String(63), nullable=False, comment="access log: the other office in the event"),
)

log_node = Table(
    "log_node",
    metadata,
    Column("log", SmallInteger, primary_key=True),
    Column(
        "level",
        SmallInteger,
        primary_key=True,
        comment="tile level, 1 and up; level 0 is log_entry.leaf_hash",
    ),
    Column("idx", BigInteger, primary_key=True),
    Column("hash", LargeBinary(32), nullable=False, comment="root of the full tile below; public"),
)

checkpoint = Table(
    "checkpoint",
    metadata,
    Column("log", SmallInteger, primary_key=True),
    Column("size", BigInteger, primary_key=True),
    Column("note", LargeBinary, nullable=False, comment="the signed note, as every caller gets it; public"),
)

cosigned = Table(
    "cosigned",
    metadata,
    Column("log", SmallInteger, primary_key=True),
    Column("note", LargeBinary, nullable=False, comment="the newest checkpoint that met our witness policy; public"),
)

witnessed = Table(
    "witnessed",
    metadata,
    Column("origin", String(255), primary_key=True, comment="a log of others, whose checkpoints we cosign"),
    Column("size", BigInteger, nullable=False, comment="of the last tree that we cosigned"),
    Column("root", LargeBinary(32), nullable=False),
)
