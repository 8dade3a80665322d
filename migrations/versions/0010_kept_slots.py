"""slots that a hold keeps from a recall"""

from alembic import op
import sqlalchemy as sa

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "slot",
        sa.Column(
            "kept", sa.LargeBinary(), nullable=True, comment="of a recalled message while it is held; never leaves"
        ),
    )


def downgrade() -> None:
    op.drop_column("slot", "kept")
