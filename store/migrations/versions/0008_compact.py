"""Candidates and evidence of decisions as compressed bytes; what is there already stays JSON, and is read as such."""

from __future__ import annotations

import orjson
import sqlalchemy as sa
from alembic import op

from store.packing import decompressed, read_candidates, read_json

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS = ("candidates", "evidence")
PAGE = 500


def upgrade() -> None:
    """SQLite keeps bytes in a column that is declared as JSON."""
    if op.get_context().dialect.name == "postgresql":
        changes = (f"ALTER COLUMN {name} TYPE bytea USING convert_to({name}::text, 'UTF8')" for name in COLUMNS)
        op.execute(f"ALTER TABLE decisions {', '.join(changes)}")


def downgrade() -> None:
    """Everything is JSON again, prompts' features are not compressed."""
    postgres = op.get_context().dialect.name == "postgresql"
    connection, last = op.get_bind(), ""
    rows = sa.table("decisions", sa.column("id"), *(sa.column(name, sa.LargeBinary) for name in COLUMNS))
    columns = {name: sa.bindparam(f"new_{name}", type_=sa.LargeBinary if postgres else sa.Text) for name in COLUMNS}
    update = rows.update().where(rows.c.id == sa.bindparam("row_id")).values(columns)
    while found := connection.execute(rows.select().where(rows.c.id > last).order_by(rows.c.id).limit(PAGE)).all():
        pages = [(id, orjson.dumps(read_candidates(c)), orjson.dumps(read_json(e))) for id, c, e in found]
        values = [{"row_id": id, "new_candidates": c, "new_evidence": e} for id, c, e in pages]
        if not postgres:
            values = [{name: v.decode() if isinstance(v, bytes) else v for name, v in row.items()} for row in values]
        connection.execute(update, values)
        last = found[-1].id
    if postgres:
        changes = (f"ALTER COLUMN {name} TYPE json USING convert_from({name}, 'UTF8')::json" for name in COLUMNS)
        op.execute(f"ALTER TABLE decisions {', '.join(changes)}")
    _features()


def _features() -> None:
    connection, last = op.get_bind(), ""
    rows = sa.table("prompts", sa.column("id"), sa.column("features", sa.LargeBinary))
    update = rows.update().where(rows.c.id == sa.bindparam("row_id")).values(features=sa.bindparam("new"))
    while found := connection.execute(rows.select().where(rows.c.id > last).order_by(rows.c.id).limit(PAGE)).all():
        connection.execute(update, [{"row_id": id, "new": decompressed(features)} for id, features in found])
        last = found[-1].id
