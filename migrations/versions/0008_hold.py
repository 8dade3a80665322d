"""legal hold"""

from alembic import op
import sqlalchemy as sa

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hold",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("message_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("office", sa.String(length=63), nullable=False, comment="whose hold it is"),
        sa.Column("device_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column("address", sa.String(length=128), nullable=False, comment="the officer who stated it"),
        sa.Column(
            "completes", sa.Boolean(), nullable=False, comment="the second word: from here on held, or no longer"
        ),
        sa.Column("encoded", sa.LargeBinary(), nullable=False, comment="signed by the officer; for auditors"),
        sa.Column("entry", sa.BigInteger(), nullable=False, comment="index of its entry in the access log"),
        sa.ForeignKeyConstraint(
            ["message_id"], ["message.message_id"], name=op.f("fk_hold_message_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_hold")),
    )
    op.create_index("ix_hold_message", "hold", ["message_id", "office"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_hold_message", table_name="hold")
    op.drop_table("hold")
