"""The lives of tasks: born, renamed, merged and retired as champions follow one another.

Every published snapshot leaves its events; the table of tasks follows the champions only, so a rejected challenger's
tasks never lived. A rollback brings the tasks of the older champion back to life.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from agent.snapshot import LineageEvent, Snapshot
from store.columns import utc_now
from store.database import Database
from store.prompts import table
from store.tables import SnapshotTable, TaskEventTable, TaskTable


@dataclass(frozen=True, slots=True)
class TaskLife:
    """A task's record; ``retired_in`` is the champion since which it is gone, ``merged_into`` the task that took it."""

    id: int
    name: str
    born_in: int
    born_from: tuple[int, ...]
    merged_into: int | None
    retired_in: int | None
    created_at: datetime
    updated_at: datetime

    @property
    def retired_at(self) -> datetime | None:
        """When it was retired; None while it lives."""
        return None if self.retired_in is None else self.updated_at


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """A `LineageEvent`, and the snapshot that it belongs to: made ``at``; it counts where that was ever ``promoted``."""

    snapshot: int
    at: datetime
    promoted: bool
    event: LineageEvent

    @property
    def why(self) -> str:
        """The evidence in a sentence."""
        prompts = self._figure("prompts", "{:,.0f} prompts", "prompts")
        kin = " and ".join(map(str, self.event.parents))
        match self.event.kind:
            case "spawn" if kin:
                share = self._figure("share_from_parent", "{:.0%}", "some")
                return f"{prompts} became a task of their own, {share} of them from task {kin}"
            case "spawn":
                return f"{prompts} that belonged to no task became one"
            case "keep":
                return f"{prompts} continue it, with an overlap of {self._figure('overlap', '{:.0%}', 'unknown size')}"
            case "merge":
                return f"{self._figure('share', '{:.0%}', 'most')} of its prompts went to task {kin}"
            case "retire":
                return f"no task took enough of its {prompts}"

    def _figure(self, name: str, form: str, otherwise: str) -> str:
        """A figure of the evidence, where it was kept."""
        return form.format(self.event.evidence[name]) if name in self.event.evidence else otherwise


class TaskLineage:
    """Reads what became of every task."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def events(self, task: int) -> list[TaskEvent]:
        """What became of one task, snapshot by snapshot."""
        query = (
            select(TaskEventTable, SnapshotTable.created_at, SnapshotTable.promoted_at)
            .join(SnapshotTable, SnapshotTable.version == TaskEventTable.snapshot)
            .where(TaskEventTable.task == task)
            .order_by(TaskEventTable.id)
        )
        with self._database.session() as session:
            return [
                TaskEvent(row.snapshot, made, promoted is not None, _event(row))
                for row, made, promoted in session.execute(query)
            ]

    def get(self, task: int) -> TaskLife | None:
        """One task, whether it lives or not; None where no champion ever had it."""
        with self._database.session() as session:
            row = session.get(TaskTable, task)
        return None if row is None else _life(row)

    def list(self, *, include_retired: bool = False) -> list[TaskLife]:
        """The tasks that live, by id; those that once did too, on demand."""
        query = select(TaskTable).order_by(TaskTable.id)
        if not include_retired:
            query = query.where(TaskTable.retired_in.is_(None))
        with self._database.session() as session:
            return [_life(row) for row in session.scalars(query)]


def record_events(session: Session, version: int, events: Sequence[LineageEvent]) -> None:
    """Keep a snapshot's events."""
    if not events:
        return
    rows = [
        {"snapshot": version, "kind": e.kind, "task": e.task, "parents": e.parents, "evidence": e.evidence}
        for e in events
    ]
    session.connection().execute(insert(table(TaskEventTable)), rows)


def snapshot_events(session: Session, version: int) -> tuple[LineageEvent, ...]:
    """A snapshot's events, as they were recorded."""
    query = select(TaskEventTable).where(TaskEventTable.snapshot == version).order_by(TaskEventTable.id)
    return tuple(_event(row) for row in session.scalars(query))


def adopt(session: Session, champion: Snapshot) -> None:
    """Make the table of tasks say what a new champion says."""
    now = utc_now()
    lives = {row.id: row for row in session.scalars(select(TaskTable))}
    living = {task.id for task in champion.tasks}
    successors = {event.task: event.parents[0] for event in champion.lineage if event.kind == "merge" and event.parents}
    for task in champion.tasks:
        row = lives.get(task.id)
        if row is None:
            session.add(
                TaskTable(
                    id=task.id,
                    name=task.name,
                    born_in=champion.version,
                    born_from=task.parents,
                    created_at=now,
                    updated_at=now,
                )
            )
        elif row.name != task.name or row.retired_in is not None:
            row.name, row.retired_in, row.merged_into, row.updated_at = task.name, None, None, now
    for row in lives.values():
        if row.id not in living and row.retired_in is None:
            row.retired_in, row.merged_into, row.updated_at = champion.version, successors.get(row.id), now


def _life(row: TaskTable) -> TaskLife:
    fields = {name: getattr(row, name) for name in TaskLife.__dataclass_fields__}
    return TaskLife(**(fields | {"born_from": tuple(row.born_from)}))


def _event(row: TaskEventTable) -> LineageEvent:
    return LineageEvent(row.kind, row.task, tuple(row.parents), row.evidence)  # type: ignore[arg-type]
