"""The field's words for columns and JSON keys, and the parts of a candidate's estimate with their weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TASKS = {"born_in": "spawned_in", "born_from": "parents", "merged_into": "successor"}
RENAMED = (
    ("task_events", "evidence", "figures"),
    ("decisions", "tradeoff", "cost_quality_tradeoff"),
)
PAGE = 500


def upgrade() -> None:
    """Rename; where a value was not kept in older rows, null stands for it."""
    _rename_tasks(TASKS)
    for table, old, new in RENAMED:
        op.alter_column(table, old, new_column_name=new)
    _rewrite("snapshots", "version", "report", _report)
    _rewrite("decisions", "id", "candidates", lambda found: [_candidate(c) for c in found])


def _rename_tasks(names: dict[str, str]) -> None:
    """Rename the columns of ``tasks``, and with the first of them its foreign key."""
    first, renamed = next(iter(names.items()))
    with op.batch_alter_table("tasks") as tasks:
        tasks.drop_constraint(f"fk_tasks_{first}", type_="foreignkey")
        for old, new in names.items():
            tasks.alter_column(old, new_column_name=new)
    with op.batch_alter_table("tasks") as tasks:  # SQLite: a table is copied, and knows its new columns only then
        tasks.create_foreign_key(op.f(f"fk_tasks_{renamed}"), "snapshots", [renamed], ["version"])


def _rewrite(table: str, key: str, column: str, change: Callable[[Any], Any]) -> None:
    """Apply ``change`` to a column of JSON, a page of rows at a time."""
    rows = sa.table(table, sa.column(key), sa.column(column, sa.JSON))
    id, value = rows.c[key], rows.c[column]
    connection, last = op.get_bind(), None
    while True:
        page = sa.select(id, value).order_by(id).limit(PAGE)
        found = connection.execute(page if last is None else page.where(id > last)).all()
        changed = [(row_id, old, change(old)) for row_id, old in found]
        update = rows.update().where(id == sa.bindparam("row_id")).values({value: sa.bindparam("new")})
        if values := [{"row_id": row_id, "new": new} for row_id, old, new in changed if new != old]:
            connection.execute(update, values)
        if len(found) < PAGE:
            return
        last = found[-1][0]


def _report(report: Any) -> Any:
    """Of a snapshot that was rolled back: why, as ``demoted``."""
    if "deposed" not in report:
        return report
    demoted = {"successor" if key == "heir" else key: value for key, value in report["deposed"].items()}
    return {key: value for key, value in report.items() if key != "deposed"} | {"demoted": demoted}


def _candidate(candidate: dict[str, Any]) -> dict[str, Any]:
    """Parts as {"estimate", "weight"}, weights not being known; ``caution`` and lambda times cost as fields."""
    parts = dict(candidate["parts"])
    shrinkage, quality, utility = parts.pop("caution", 0.0), candidate["quality"], candidate["utility"]
    known = None not in (shrinkage, quality, utility)
    return candidate | {
        "parts": {name: {"estimate": estimate, "weight": None} for name, estimate in parts.items()},
        "shrinkage": shrinkage,
        "cost_penalty": quality + shrinkage - utility if known else None,
    }


def downgrade() -> None:
    """The columns' names only: JSON stays in the newer form."""
    for table, old, new in RENAMED:
        op.alter_column(table, new, new_column_name=old)
    _rename_tasks({new: old for old, new in TASKS.items()})
