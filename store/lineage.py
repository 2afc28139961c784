"""Lineage of the tasks: their names, parents and successors, and the events of each snapshot that explain them.

Every published snapshot keeps its events. The table of tasks follows the champions only, so a task of a rejected snapshot
is not in it; after a rollback, the tasks of the older champion are no longer retired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, insert, select
from sqlalchemy.orm import Session

from agent.snapshot import LineageEvent, Snapshot
from store.columns import literal
from store.database import Database
from store.prompts import table
from store.tables import SnapshotTable, TaskEventTable, TaskTable


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task that a champion has had.

    Parameters
    ----------
    spawned_in, retired_in
        Versions of the first champion that has it, and of the first later one that has not; None where it is not retired.
    parents
        Ids of the tasks that it split from.
    successor
        Id of the task that it merged into; None where there is none.
    """

    id: int
    name: str
    spawned_in: int
    parents: tuple[int, ...]
    successor: int | None
    retired_in: int | None
    created_at: datetime
    updated_at: datetime

    @property
    def retired_at(self) -> datetime | None:
        """When it was retired; None where it is not."""
        return None if self.retired_in is None else self.updated_at


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """An event of a snapshot that was made ``at`` a time; ``promoted`` where that snapshot was ever the champion."""

    snapshot: int
    at: datetime
    promoted: bool
    event: LineageEvent

    @property
    def why(self) -> str:
        """The event's figures in a sentence."""
        prompts = self._figure("prompts", "{:,.0f} prompts", "prompts")
        parents = " and ".join(map(str, self.event.parents))
        match self.event.kind:
            case "spawn" if parents:
                share = self._figure("share_from_parent", "{:.0%}", "some")
                return f"{prompts} became a task of their own, {share} of them from task {parents}"
            case "spawn":
                return f"{prompts} that belonged to no task became one"
            case "keep":
                return f"{prompts} continue it, with an overlap of {self._figure('overlap', '{:.0%}', 'unknown size')}"
            case "merge":
                return f"{self._figure('share', '{:.0%}', 'most')} of its prompts went to task {parents}"
            case "retire":
                return f"no task took enough of its {prompts}"

    def _figure(self, name: str, form: str, missing: str) -> str:
        return form.format(self.event.figures[name]) if name in self.event.figures else missing


class TaskLineage:
    """Reads the tasks and their events."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def events(self, task: int) -> list[TaskEvent]:
        """The events of one task, oldest first."""
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

    def get(self, task: int) -> TaskRow | None:
        """One task, retired or not; None where no champion ever had it."""
        with self._database.session() as session:
            row = session.get(TaskTable, task)
        return None if row is None else _row(row)

    def list(self, *, include_retired: bool = False) -> list[TaskRow]:
        """The tasks by id; the retired ones only where they are asked for."""
        query = select(TaskTable).order_by(TaskTable.id)
        if not include_retired:
            query = query.where(TaskTable.retired_in.is_(None))
        with self._database.session() as session:
            return [_row(row) for row in session.scalars(query)]

    def next_id(self) -> int:
        """The first task id that no snapshot has used, promoted or not."""
        highest = (select(func.max(column)) for column in (TaskTable.id, TaskEventTable.task))
        with self._database.session() as session:
            return max([-1, *(id for query in highest if (id := session.scalar(query)) is not None)]) + 1


def record_events(session: Session, version: int, events: Sequence[LineageEvent]) -> None:
    """Keep the events of snapshot ``version``."""
    if events:
        rows = [
            {"snapshot": version, "kind": e.kind, "task": e.task, "parents": e.parents, "figures": e.figures}
            for e in events
        ]
        session.connection().execute(insert(table(TaskEventTable)), rows)


def snapshot_events(session: Session, version: int) -> tuple[LineageEvent, ...]:
    """A snapshot's events, as they were recorded."""
    query = select(TaskEventTable).where(TaskEventTable.snapshot == version).order_by(TaskEventTable.id)
    return tuple(_event(row) for row in session.scalars(query))


def update_tasks(session: Session, champion: Snapshot, now: datetime) -> None:
    """Bring the table of tasks up to date with a new champion."""
    rows = {row.id: row for row in session.scalars(select(TaskTable))}
    current = {task.id for task in champion.tasks}
    successors = {event.task: event.parents[0] for event in champion.lineage if event.kind == "merge" and event.parents}
    for task in champion.tasks:
        row = rows.get(task.id)
        if row is None:
            made = TaskTable(id=task.id, name=task.name, spawned_in=champion.version, parents=task.parents)
            made.created_at = made.updated_at = now
            session.add(made)
        elif row.name != task.name or row.retired_in is not None:
            row.name, row.retired_in, row.successor, row.updated_at = task.name, None, None, now
    for row in rows.values():
        if row.id not in current and row.retired_in is None:
            row.retired_in, row.successor, row.updated_at = champion.version, successors.get(row.id), now


def _row(row: TaskTable) -> TaskRow:
    fields = {name: getattr(row, name) for name in TaskRow.__dataclass_fields__}
    return TaskRow(**(fields | {"parents": tuple(row.parents)}))


def _event(row: TaskEventTable) -> LineageEvent:
    return LineageEvent(literal(row.kind), row.task, tuple(row.parents), row.figures)
