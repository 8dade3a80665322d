"""buckets of quotas and rate limits"""

from alembic import op
import sqlalchemy as sa

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "bucket",
        sa.Column("owner", sa.String(length=255), nullable=False, comment="an address, or an office"),
        sa.Column("what", sa.String(length=16), nullable=False, comment="what is metered: relay/core/quota.py"),
        sa.Column(
            "level",
            sa.BigInteger(),
            nullable=False,
            comment="stored: octets; else the microsecond at which it is full again",
        ),
        sa.Column("seen", sa.BigInteger(), nullable=False, comment="entries of both logs when it was last charged"),
        sa.PrimaryKeyConstraint("owner", "what", name=op.f("pk_bucket")),
    )
    op.create_index("ix_bucket_seen", "bucket", ["seen"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_bucket_seen", table_name="bucket")
    op.drop_table("bucket")
