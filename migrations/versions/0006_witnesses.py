"""witnesses"""

from alembic import op
import sqlalchemy as sa

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "cosigned",
        sa.Column("log", sa.SmallInteger(), nullable=False),
        sa.Column(
            "note",
            sa.LargeBinary(),
            nullable=False,
            comment="the newest checkpoint that met our witness policy; public",
        ),
        sa.PrimaryKeyConstraint("log", name=op.f("pk_cosigned")),
    )
    op.create_table(
        "witnessed",
        sa.Column(
            "origin", sa.String(length=255), nullable=False, comment="a log of others, whose checkpoints we cosign"
        ),
        sa.Column("size", sa.BigInteger(), nullable=False, comment="of the last tree that we cosigned"),
        sa.Column("root", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("origin", name=op.f("pk_witnessed")),
    )


def downgrade() -> None:
    op.drop_table("witnessed")
    op.drop_table("cosigned")
