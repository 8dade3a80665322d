"""nonces of requests, where several processes serve"""

from alembic import op
import sqlalchemy as sa

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "nonce",
        sa.Column("device_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column(
            "nonce",
            sa.LargeBinary(length=16),
            nullable=False,
            comment="of a signed request, where several processes serve",
        ),
        sa.Column("expires", sa.BigInteger(), nullable=False, comment="seconds; of no use a while after"),
        sa.PrimaryKeyConstraint("device_id", "nonce", name=op.f("pk_nonce")),
    )


def downgrade() -> None:
    op.drop_table("nonce")
