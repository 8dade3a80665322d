"""an index of the words about holds that stand, those that wait for a second one among them"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context, op
import sqlalchemy as sa

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

COLUMNS = ["office", "entry"]
BEFORE, AFTER = ("ix_hold_in_force", "standing = 2"), ("ix_hold_standing_entry", "standing > 0")


def upgrade() -> None:
    _exchange(BEFORE, AFTER)


def downgrade() -> None:
    _exchange(AFTER, BEFORE)


def _exchange(old: tuple[str, str], new: tuple[str, str]) -> None:
    where = sa.text(new[1])
    with _beside() as beside:
        op.drop_index(new[0], "hold", if_exists=True, **beside)  # of an attempt that ended
        op.create_index(new[0], "hold", COLUMNS, sqlite_where=where, postgresql_where=where, **beside)
        op.drop_index(old[0], "hold", if_exists=True, **beside)


@contextmanager
def _beside() -> Iterator[dict[str, bool]]:
    """On PostgreSQL beside whoever serves, unless everything is one transaction of the caller's."""
    if op.get_bind().dialect.name != "postgresql" or context.config.attributes.get("connection") is not None:
        yield {}
        return
    with op.get_context().autocommit_block():
        yield {"postgresql_concurrently": True}
