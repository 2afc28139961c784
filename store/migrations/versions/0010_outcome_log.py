"""The outcome log, from which the expected cost of calls is learned, and the failures of calls that feedback is about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.columns import SafeText, Serial

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Outcomes so far enter the log in the order in which their calls ended; feedback so far is as it was."""
    op.create_table(
        "outcome_log",
        sa.Column("seq", Serial, nullable=False, autoincrement=True),
        sa.Column("model", SafeText, nullable=False),
        sa.Column("task", Serial, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("output_tokens", Serial, nullable=True),
        sa.Column("latency_ms", sa.Double, nullable=True),
        sa.Column("cost_usd", sa.Double, nullable=True),
        sa.Column("snapshot_cost", sa.Double, nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_outcome_log")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_outcome_log_model_seq"), "outcome_log", ["model", "seq"])
    op.execute(
        "INSERT INTO outcome_log (model, task, status, output_tokens, latency_ms, cost_usd) "
        "SELECT d.model, d.task, o.status, o.output_tokens, o.latency_ms, o.cost_usd "
        "FROM outcomes o JOIN decisions d ON d.id = o.decision_id ORDER BY o.finished_at, o.decision_id"
    )
    op.add_column("feedback", sa.Column("failed", sa.Text, nullable=True))


def downgrade() -> None:
    """Both are forgotten."""
    op.drop_column("feedback", "failed")
    op.drop_index("ix_outcome_log_model_seq", "outcome_log")
    op.drop_table("outcome_log")
