"""Rows of the feedback log that were set aside."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.columns import SafeText, Serial, UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """It begins empty: replicas find again what they set aside since the champion."""
    op.create_table(
        "set_aside",
        sa.Column("seq", Serial, autoincrement=False, nullable=False),
        sa.Column("reason", SafeText, nullable=False),
        sa.Column("snapshot", Serial, nullable=False),
        sa.Column("set_aside_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_set_aside")),
    )


def downgrade() -> None:
    """What was set aside is forgotten."""
    op.drop_table("set_aside")
