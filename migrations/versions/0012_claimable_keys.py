"""an index of the key packages that can be claimed, instead of one over all that there ever were"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context, op
import sqlalchemy as sa

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

IN_STOCK = sa.text("claimed_by IS NULL")


def upgrade() -> None:
    with _beside() as beside:
        op.drop_index("ix_key_package_claimable", "key_package", if_exists=True, **beside)  # of an attempt that ended
        op.create_index(
            "ix_key_package_claimable", "key_package", ["device_id", "one_time", "not_after"],
            sqlite_where=IN_STOCK, postgresql_where=IN_STOCK, **beside,
        )  # fmt: skip
        op.drop_index("ix_key_package_stock", "key_package", if_exists=True, **beside)


def downgrade() -> None:
    op.create_index("ix_key_package_stock", "key_package", ["device_id", "one_time", "claimed_by"])
    op.drop_index("ix_key_package_claimable", "key_package")


@contextmanager
def _beside() -> Iterator[dict[str, bool]]:
    """On PostgreSQL beside whoever serves, unless everything is one transaction of the caller's."""
    if op.get_bind().dialect.name != "postgresql" or context.config.attributes.get("connection") is not None:
        yield {}
        return
    with op.get_context().autocommit_block():
        yield {"postgresql_concurrently": True}
