"""Feedback that compares two models, and the API key that posted it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.columns import SafeText

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Rows from before are scores, posted by nobody in particular."""
    op.add_column("feedback", sa.Column("other", SafeText, nullable=True))
    op.add_column("feedback", sa.Column("key", SafeText, nullable=True))


def downgrade() -> None:
    """Comparisons go: without ``other`` they would read as scores."""
    op.execute("DELETE FROM feedback WHERE other IS NOT NULL")
    op.drop_column("feedback", "key")
    op.drop_column("feedback", "other")
