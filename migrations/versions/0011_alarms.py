"""alarms about the directory"""

from alembic import op
import sqlalchemy as sa

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "alarm",
        sa.Column("device_id", sa.LargeBinary(length=16), nullable=False, comment="whose finding it is"),
        sa.Column("directory_index", sa.BigInteger(), nullable=False, comment="the directory entry it is about"),
        sa.Column("office", sa.String(length=63), nullable=False, comment="the finder's; its officers read it"),
        sa.Column("encoded", sa.LargeBinary(), nullable=False, comment="signed by the finder"),
        sa.Column("entry", sa.BigInteger(), nullable=False, comment="index of its entry in the access log"),
        sa.PrimaryKeyConstraint("device_id", "directory_index", name=op.f("pk_alarm")),
    )
    op.create_index("ix_alarm_office", "alarm", ["office", "entry"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_alarm_office", table_name="alarm")
    op.drop_table("alarm")
