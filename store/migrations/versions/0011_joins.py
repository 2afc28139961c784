"""Joins of models: states, reasons and times, and the calls that they make."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.columns import SafeText, Serial, UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The models that are there have no join, and count as adopted."""
    op.create_table(
        "joins",
        sa.Column("id", Serial, nullable=False, autoincrement=True),
        sa.Column("model", SafeText, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", SafeText, nullable=False),
        sa.Column("found", sa.JSON, nullable=False),
        sa.Column("started_at", UtcDateTime, nullable=False),
        sa.Column("updated_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_joins")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_joins_model_id"), "joins", ["model", "id"])
    op.create_table(
        "join_events",
        sa.Column("id", Serial, nullable=False, autoincrement=True),
        sa.Column("join", Serial, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reason", SafeText, nullable=False),
        sa.Column("at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_join_events")),
        sa.ForeignKeyConstraint(["join"], ["joins.id"], name=op.f("fk_join_events_join")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_join_events_join"), "join_events", ["join"])
    op.create_table(
        "join_calls",
        sa.Column("id", Serial, nullable=False, autoincrement=True),
        sa.Column("join", Serial, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("subject", SafeText, nullable=False),
        sa.Column("model", SafeText, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("reserved_usd", sa.Double, nullable=False),
        sa.Column("cost_usd", sa.Double, nullable=True),
        sa.Column("input_tokens", Serial, nullable=True),
        sa.Column("output_tokens", Serial, nullable=True),
        sa.Column("latency_ms", sa.Double, nullable=True),
        sa.Column("answer", SafeText, nullable=True),
        sa.Column("error", SafeText, nullable=True),
        sa.Column("decision_id", SafeText, nullable=True),
        sa.Column("booked_at", UtcDateTime, nullable=False),
        sa.Column("finished_at", UtcDateTime, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_join_calls")),
        sa.ForeignKeyConstraint(["join"], ["joins.id"], name=op.f("fk_join_calls_join")),
        sqlite_autoincrement=True,
    )
    op.create_index("one_call_a_subject", "join_calls", ["join", "role", "subject"], unique=True)


def downgrade() -> None:
    """Joins are forgotten."""
    op.drop_table("join_calls")
    op.drop_table("join_events")
    op.drop_table("joins")
