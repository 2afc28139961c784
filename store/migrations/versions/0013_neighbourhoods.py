"""The neighbourhood that a decision found its prompt in, so that learning from its ratings needs no search."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.columns import Serial

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of earlier decisions they are not known."""
    op.add_column("decisions", sa.Column("neighbourhood", Serial, nullable=True))


def downgrade() -> None:
    """They are forgotten."""
    op.drop_column("decisions", "neighbourhood")
