"""indexes of the key packages that can be claimed, and of those that have ended"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context, op
import sqlalchemy as sa

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

IN_STOCK = sa.text("claimed_by IS NULL")
INDEXES = {
    "ix_key_package_claimable": (["device_id", "one_time", "not_after"], IN_STOCK),
    "ix_key_package_not_after": (["not_after"], None),
    "ix_key_package_batch": (["batch"], None),
}


def upgrade() -> None:
    with _beside() as beside:
        for name, (columns, where) in INDEXES.items():
            op.drop_index(name, "key_package", if_exists=True, **beside)  # of an attempt that ended
            op.create_index(name, "key_package", columns, sqlite_where=where, postgresql_where=where, **beside)
        op.drop_index("ix_key_package_stock", "key_package", if_exists=True, **beside)


def downgrade() -> None:
    op.create_index("ix_key_package_stock", "key_package", ["device_id", "one_time", "claimed_by"])
    for name in INDEXES:
        op.drop_index(name, "key_package")


@contextmanager
def _beside() -> Iterator[dict[str, bool]]:
    """On PostgreSQL beside whoever serves, unless everything is one transaction of the caller's."""
    if op.get_bind().dialect.name != "postgresql" or context.config.attributes.get("connection") is not None:
        yield {}
        return
    with op.get_context().autocommit_block():
        yield {"postgresql_concurrently": True}
