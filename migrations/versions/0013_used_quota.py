"""index of what an office's uploads add up to"""

from collections.abc import Iterator
from contextlib import contextmanager

from alembic import context, op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

NAME = "ix_upload_used"


def upgrade() -> None:
    with _beside() as beside:
        op.drop_index(NAME, "upload", if_exists=True, **beside)  # of an attempt that ended
        op.create_index(NAME, "upload", ["office", "length"], **beside)


def downgrade() -> None:
    op.drop_index(NAME, "upload")


@contextmanager
def _beside() -> Iterator[dict[str, bool]]:
    """On PostgreSQL beside whoever serves, unless everything is one transaction of the caller's."""
    if op.get_bind().dialect.name != "postgresql" or context.config.attributes.get("connection") is not None:
        yield {}
        return
    with op.get_context().autocommit_block():
        yield {"postgresql_concurrently": True}
