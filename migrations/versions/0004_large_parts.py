"""Large parts: uploads, and parts that lie outside the database.

Revision ID: 0002
Revises: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "upload",
        sa.Column("upload_id", sa.LargeBinary(length=16), nullable=False, comment="names its chunks in the store"),
        sa.Column("office", sa.String(length=63), nullable=False, comment="whose it is; to others it is not there"),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False, comment="SHA-256 of the sealed part"),
        sa.Column("length", sa.BigInteger(), nullable=False, comment="octets; counts against the office's quota"),
        sa.Column("device_id", sa.LargeBinary(length=16), nullable=False, comment="which began it"),
        sa.Column("begun", sa.BigInteger(), nullable=False, comment="seconds, of the last beginning"),
        sa.Column("complete", sa.Boolean(), nullable=False, comment="all chunks are durable and have the digest"),
        sa.PrimaryKeyConstraint("upload_id", name=op.f("pk_upload")),
        sa.UniqueConstraint("office", "digest", name=op.f("uq_upload_office_digest")),
    )
    with op.batch_alter_table("part") as batch:
        batch.alter_column(
            "sealed",
            existing_type=sa.LargeBinary(),
            nullable=True,
            comment="ciphertext; for holders of a slot that has left; null if uploaded",
            existing_comment="ciphertext; for holders of a slot that has left",
        )
        batch.add_column(
            sa.Column("upload_id", sa.LargeBinary(length=16), nullable=True, comment="where a large part lies")
        )
        batch.create_foreign_key(op.f("fk_part_upload_id"), "upload", ["upload_id"], ["upload_id"])
        batch.create_unique_constraint(op.f("uq_part_upload_id"), ["upload_id"])


def downgrade() -> None:
    with op.batch_alter_table("part") as batch:
        batch.drop_constraint(op.f("uq_part_upload_id"), type_="unique")
        batch.drop_constraint(op.f("fk_part_upload_id"), type_="foreignkey")
        batch.drop_column("upload_id")
        batch.alter_column(
            "sealed",
            existing_type=sa.LargeBinary(),
            nullable=False,
            comment="ciphertext; for holders of a slot that has left",
            existing_comment="ciphertext; for holders of a slot that has left; null if uploaded",
        )
    op.drop_table("upload")
