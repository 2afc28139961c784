"""Trials of snapshots, and what their two snapshots chose in a decision."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.columns import SafeText, Serial, UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """No trial has run before."""
    op.create_table(
        "trials",
        sa.Column("id", Serial, nullable=False, autoincrement=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("champion", Serial, nullable=False),
        sa.Column("challenger", Serial, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("plan", sa.JSON, nullable=False),
        sa.Column("position", Serial, nullable=False),
        sa.Column("started_at", UtcDateTime, nullable=False),
        sa.Column("ended_at", UtcDateTime, nullable=True),
        sa.Column("reason", SafeText, nullable=False),
        sa.Column("report", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_trials")),
        sa.ForeignKeyConstraint(["champion"], ["snapshots.version"], name=op.f("fk_trials_champion")),
        sa.ForeignKeyConstraint(["challenger"], ["snapshots.version"], name=op.f("fk_trials_challenger")),
        sqlite_autoincrement=True,
    )
    _index("one_running_trial", "trials", "state", "state = 'running'", unique=True)
    _index("one_on_trial", "snapshots", "status", "status = 'trial'", unique=True)
    op.add_column("decisions", sa.Column("trial", Serial, nullable=True))
    op.add_column("decisions", sa.Column("trial_choice", sa.JSON, nullable=True))
    _index("ix_decisions_trial", "decisions", "trial", "trial IS NOT NULL", unique=False)


def _index(name: str, table: str, column: str, where: str, *, unique: bool) -> None:
    rows = sa.text(where)
    op.create_index(name, table, [column], unique=unique, sqlite_where=rows, postgresql_where=rows)


def downgrade() -> None:
    """Trials are forgotten, and a challenger on trial is rejected."""
    op.drop_index("ix_decisions_trial", "decisions")
    op.drop_column("decisions", "trial_choice")
    op.drop_column("decisions", "trial")
    op.execute("UPDATE snapshots SET status = 'rejected' WHERE status = 'trial'")
    op.drop_index("one_on_trial", "snapshots")
    op.drop_table("trials")
