"""Reference answers beside evaluations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Of the evaluations so far no right answer is known."""
    op.add_column("evaluations", sa.Column("reference", sa.JSON, nullable=True))


def downgrade() -> None:
    """They are forgotten."""
    op.drop_column("evaluations", "reference")
