"""Snapshots that retention has archived, and an index by which it finds the prompts that no decision needs any more."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.columns import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No snapshot is archived yet."""
    op.add_column("snapshots", sa.Column("archived_at", UtcDateTime, nullable=True))
    op.create_index(op.f("ix_decisions_prompt_id"), "decisions", ["prompt_id"])


def downgrade() -> None:
    """Snapshots that were archived stay without their weights."""
    op.drop_index(op.f("ix_decisions_prompt_id"), "decisions")
    op.drop_column("snapshots", "archived_at")
