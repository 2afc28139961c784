"""Answers that are kept until they are judged, and calls that no join makes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.columns import SafeText, Serial, UtcDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_LIVE = sa.text('"join" IS NULL')


def upgrade() -> None:
    """No answer is kept yet."""
    op.create_table(
        "kept_answers",
        sa.Column("decision_id", SafeText, nullable=False),
        sa.Column("answer", SafeText, nullable=False),
        sa.Column("shadow", sa.Boolean, nullable=False),
        sa.Column("kept_at", UtcDateTime, nullable=False),
        sa.PrimaryKeyConstraint("decision_id", name=op.f("pk_kept_answers")),
        sa.ForeignKeyConstraint(["decision_id"], ["decisions.id"], name=op.f("fk_kept_answers_decision_id")),
    )
    op.create_index(op.f("ix_kept_answers_kept_at"), "kept_answers", ["kept_at"])
    with op.batch_alter_table("join_calls", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.alter_column("join", existing_type=Serial, nullable=True)
    op.create_index(
        "one_live_call_a_subject", "join_calls", ["role", "subject"], unique=True, sqlite_where=_LIVE,
        postgresql_where=_LIVE,
    )  # fmt: skip


def downgrade() -> None:
    """Kept answers are deleted, and what judging live answers has cost is forgotten."""
    op.drop_index("one_live_call_a_subject", "join_calls")
    op.execute('DELETE FROM join_calls WHERE "join" IS NULL')
    with op.batch_alter_table("join_calls", table_kwargs={"sqlite_autoincrement": True}) as batch:
        batch.alter_column("join", existing_type=Serial, nullable=False)
    op.drop_table("kept_answers")
