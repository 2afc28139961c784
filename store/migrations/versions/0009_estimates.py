"""Tasks that a decision's prompt may belong to, so that what its snapshot estimated need not be computed again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of earlier decisions they are not known."""
    op.add_column("decisions", sa.Column("tasks", sa.JSON, nullable=True))


def downgrade() -> None:
    """They are forgotten."""
    op.drop_column("decisions", "tasks")
