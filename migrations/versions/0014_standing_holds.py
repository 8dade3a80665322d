"""which words about a hold stand, and the name of each"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context, op
import sqlalchemy as sa

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

INDEXES = {
    "ix_hold_ref": (["ref"], None),
    "ix_hold_standing": (["message_id", "office"], sa.text("standing > 0")),
    "ix_hold_in_force": (["office", "entry"], sa.text("standing = 2")),
}
# A word that counts is past once another one does, one that waits once there is any behind it; the newest that counts
# holds if they are odd in number.
STANDING = """
UPDATE hold SET standing = CASE
    WHEN EXISTS (
        SELECT 1 FROM hold AS later WHERE later.message_id = hold.message_id AND later.office = hold.office
            AND later.id > hold.id AND (later.completes OR NOT hold.completes)
    ) THEN 0
    WHEN NOT completes THEN 1
    WHEN (
        SELECT count(*) FROM hold AS every WHERE every.message_id = hold.message_id AND every.office = hold.office
            AND every.completes
    ) % 2 = 1 THEN 2
    ELSE 0 END
"""


def upgrade() -> None:
    comment = "0 past, 1 waits for a second word, 2 its office holds the message"
    op.add_column("hold", sa.Column("standing", sa.SmallInteger(), nullable=False, server_default="2", comment=comment))
    op.add_column("hold", sa.Column("ref", sa.LargeBinary(length=32), comment="what names the word: the same again?"))
    op.execute(STANDING)
    with _beside() as beside:
        for name, (columns, where) in INDEXES.items():
            op.drop_index(name, "hold", if_exists=True, **beside)  # of an attempt that ended
            op.create_index(name, "hold", columns, sqlite_where=where, postgresql_where=where, **beside)


def downgrade() -> None:
    for name in INDEXES:
        op.drop_index(name, "hold")
    op.drop_column("hold", "ref")
    op.drop_column("hold", "standing")


@contextmanager
def _beside() -> Iterator[dict[str, bool]]:
    """On PostgreSQL beside whoever serves, unless everything is one transaction of the caller's."""
    if op.get_bind().dialect.name != "postgresql" or context.config.attributes.get("connection") is not None:
        yield {}
        return
    with op.get_context().autocommit_block():
        yield {"postgresql_concurrently": True}
