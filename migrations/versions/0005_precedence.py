"""the precedence of a slot"""

from alembic import op
import sqlalchemy as sa

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

URGENT = sa.text("precedence >= 3")


def upgrade() -> None:
    precedence = sa.Column(
        "precedence",
        sa.SmallInteger(),
        nullable=False,
        server_default="1",
        comment="the message's, for serving the urgent first",
    )
    op.add_column("slot", precedence)
    op.execute(
        "UPDATE slot SET precedence = "
        "(SELECT message.precedence FROM message WHERE message.message_id = slot.message_id)"
    )
    op.create_index("ix_slot_urgent", "slot", ["device_id", "id"], sqlite_where=URGENT, postgresql_where=URGENT)


def downgrade() -> None:
    op.drop_index("ix_slot_urgent", "slot")
    op.drop_column("slot", "precedence")
