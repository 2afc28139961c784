"""Silent changes of models, as replicas find them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.columns import SafeText, Serial, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """It begins empty: replicas find anew what changed since the champion."""
    op.create_table(
        "drifts",
        sa.Column("model", SafeText, nullable=False),
        sa.Column("position", Serial, autoincrement=False, nullable=False),
        sa.Column("since", Serial, nullable=False),
        sa.Column("shift", sa.Double, nullable=False),
        sa.Column("detector", sa.Text, nullable=False),
        sa.Column("snapshot", Serial, nullable=False),
        sa.Column("detected_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("model", "position", name=op.f("pk_drifts")),
        sa.ForeignKeyConstraint(["snapshot"], ["snapshots.version"], name=op.f("fk_drifts_snapshot")),
    )


def downgrade() -> None:
    """What was found is forgotten."""
    op.drop_table("drifts")
