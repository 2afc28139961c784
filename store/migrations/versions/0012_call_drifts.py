"""Drifts of calls (tokens, latency, failures), and the length of prompts as providers and the encoder count them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from store.columns import SafeText, Serial, UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_COLUMNS = "model, position, since, shift, detector, snapshot, detected_at"


def upgrade() -> None:
    """Drifts so far are of quality; of calls so far the lengths of prompts stay unknown."""
    _rebuild(
        "'quality' AS kind",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("snapshot", Serial, nullable=True),
        sa.PrimaryKeyConstraint("model", "kind", "position", name=op.f("pk_drifts")),
    )
    for name in ("input_tokens", "encoder_tokens"):
        op.add_column("outcome_log", sa.Column(name, Serial, nullable=True))


def downgrade() -> None:
    """Both are forgotten."""
    for name in ("input_tokens", "encoder_tokens"):
        op.drop_column("outcome_log", name)
    op.execute("DELETE FROM drifts WHERE kind <> 'quality'")
    _rebuild(
        None,
        sa.Column("snapshot", Serial, nullable=False),
        sa.PrimaryKeyConstraint("model", "position", name=op.f("pk_drifts")),
    )


def _rebuild(kind: str | None, *parts: sa.schema.SchemaItem) -> None:
    """The table with another key, and the rows that it held, with ``kind`` where it has that column."""
    op.execute(f"CREATE TABLE drifts_before AS SELECT {_COLUMNS} FROM drifts")
    op.drop_table("drifts")
    op.create_table(
        "drifts",
        sa.Column("model", SafeText, nullable=False),
        sa.Column("position", Serial, autoincrement=False, nullable=False),
        sa.Column("since", Serial, nullable=False),
        sa.Column("shift", sa.Double, nullable=False),
        sa.Column("detector", sa.Text, nullable=False),
        sa.Column("detected_at", UtcDateTime, nullable=False),
        *parts,
        sa.ForeignKeyConstraint(["snapshot"], ["snapshots.version"], name=op.f("fk_drifts_snapshot")),
    )
    to, of = (_COLUMNS, _COLUMNS) if kind is None else (f"{_COLUMNS}, kind", f"{_COLUMNS}, {kind}")
    op.execute(f"INSERT INTO drifts ({to}) SELECT {of} FROM drifts_before")
    op.drop_table("drifts_before")
