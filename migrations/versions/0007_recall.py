"""recall"""

from alembic import op
import cbor2
import sqlalchemy as sa

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "message",
        sa.Column(
            "grants",
            sa.LargeBinary(),
            comment="which device was sealed which portions; outlives the slots; for auditors",
        ),
    )
    op.create_table(
        "recall",
        sa.Column("message_id", sa.LargeBinary(length=16), nullable=False),
        sa.Column(
            "digest",
            sa.LargeBinary(length=32),
            nullable=False,
            comment="SHA-256 of the refs of its words: the same again?",
        ),
        sa.Column("spill", sa.Boolean(), nullable=False),
        sa.Column("encoded", sa.LargeBinary(), nullable=False, comment="the signed recalls, as received; for auditors"),
        sa.Column("entry", sa.BigInteger(), nullable=False, comment="index of its entry in the access log"),
        sa.ForeignKeyConstraint(
            ["message_id"], ["message.message_id"], name=op.f("fk_recall_message_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("message_id", "digest", name=op.f("pk_recall")),
    )
    fill_grants(op.get_bind())


def fill_grants(connection: sa.Connection) -> None:
    """For messages that are here already, from their slots; all of them still have theirs at this revision."""
    message = sa.table("message", sa.column("message_id"), sa.column("grants"))
    slot = sa.table("slot", sa.column("message_id"), sa.column("device_id"), sa.column("encoded"))
    for message_id in connection.scalars(sa.select(message.c.message_id)).all():
        wanted = sa.select(slot.c.device_id, slot.c.encoded).where(slot.c.message_id == message_id)
        rows = connection.execute(wanted.order_by(slot.c.device_id)).all()
        grants = [[bytes(device_id), cbor2.loads(bytes(encoded))[2]] for device_id, encoded in rows]
        changed = sa.update(message).where(message.c.message_id == message_id)
        connection.execute(changed.values(grants=cbor2.dumps(grants, canonical=True)))


def downgrade() -> None:
    op.drop_table("recall")
    op.drop_column("message", "grants")
