"""Joins: how a model that was added becomes one that requests are routed to, step by step, each with its time and reason.

A join begins in the transaction that brings the model into the pool. A model without one was in the pool when it was first
filled, or before Thalweg kept joins, and counts as adopted. A model that is removed and added again begins another join.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import func, null, select, update
from sqlalchemy.orm import Session

from agent.errors import InvalidInput
from store.columns import Clock, literal, utc_now
from store.database import Database
from store.tables import JoinEventTable, JoinTable, ModelTable

JoinState = Literal["added", "checked", "probing", "judging", "trial", "adopted", "declined", "failed"]
STATES: tuple[JoinState, ...] = get_args(JoinState)

_NEXT: dict[str, tuple[JoinState, ...]] = {
    "added": ("checked", "failed", "trial"),
    "checked": ("probing", "trial", "declined", "failed"),
    "probing": ("judging", "trial", "failed"),
    "judging": ("trial", "failed"),
    "trial": ("adopted", "declined"),
    "adopted": ("declined",),
    "declined": ("checked", "trial", "adopted"),
    "failed": ("added",),
}
"""What may follow a state."""

ONBOARDING: tuple[JoinState, ...] = ("added", "checked", "probing", "judging")
"""States in which a job has something to do."""

REVIEWED: tuple[JoinState, ...] = ("trial", "adopted", "declined")
"""States in which a job looks at a model again and again."""

UNROUTED: dict[str, str] = {
    "added": "it has joined and was not checked yet; a job does that within a minute, see `thalweg runs list`",
    "failed": "it failed",
}
"""States in which no request is sent to a model, and why."""

RESTING: dict[str, str] = {
    "checked": "it joins the pool, and is to be probed first",
    "probing": "it joins the pool, and is being probed",
    "judging": "it joins the pool, and its answers are being judged",
    "declined": "it joined and was declined",
}
"""States in which a model answers only requests that name it, and why."""


@dataclass(frozen=True, slots=True)
class Join:
    """A model's way into the pool.

    Parameters
    ----------
    id
        Grows from join to join.
    model
        Whose.
    state
        ``added`` to the pool, ``checked`` by a call, ``probing``: prompts are sent to it, ``judging``: its answers are
        scored, on ``trial``: it is explored, ``adopted`` or ``declined`` by what that showed; ``failed`` in a check.
    reason
        Why it is in that state.
    found
        What checks, probes and trial have found, by kind; JSON.
    started_at, updated_at
        When it joined, and when the state changed last.
    """

    id: int
    model: str
    state: JoinState
    reason: str
    found: Mapping[str, Any]
    started_at: datetime
    updated_at: datetime

    @property
    def unrouted_reason(self) -> str | None:
        """Why no request is sent to the model; None where they are."""
        why = UNROUTED.get(self.state)
        return why if why is None or self.state == "added" else f"{why}: {self.reason}"

    @property
    def resting_reason(self) -> str | None:
        """Why the model answers only requests that name it; None where it answers others too."""
        why = RESTING.get(self.state)
        return why if why is None or self.state != "declined" else f"{why}: {self.reason}"


@dataclass(frozen=True, slots=True)
class JoinEvent:
    """That a join came into a state, when and why."""

    state: JoinState
    reason: str
    at: datetime


class JoinStore:
    """Reads joins and moves them on; `store.pool.models.ModelPool` begins them."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def current(self, *states: JoinState) -> dict[str, Join]:
        """model -> its latest join, of the pool's models that have one; where ``states`` are given, of those in one of them."""
        defined = ModelTable.base.is_not(null()) | ModelTable.added
        with self._database.session() as session:
            pool = session.scalars(select(ModelTable.name).where(~ModelTable.removed, defined)).all()
            found = latest(session, pool).items()
        return {name: join for name, join in found if not states or join.state in states}

    def get(self, model: str) -> Join | None:
        """A model's latest join; None where it has none."""
        with self._database.session() as session:
            row = session.scalar(select(JoinTable).where(JoinTable.model == model).order_by(JoinTable.id.desc()))
            return None if row is None else _join(row)

    def events(self, join_id: int) -> list[JoinEvent]:
        """The states that a join went through, in order."""
        query = select(JoinEventTable).where(JoinEventTable.join == join_id).order_by(JoinEventTable.id)
        with self._database.session() as session:
            return [JoinEvent(literal(row.state), row.reason, row.at) for row in session.scalars(query)]

    def steps(self) -> dict[JoinState, int]:
        """state -> how often a join has come into it."""
        query = select(JoinEventTable.state, func.count()).group_by(JoinEventTable.state)
        with self._database.session() as session:
            return {literal(state): count for state, count in session.execute(query)}

    def move(self, join: Join, state: JoinState, reason: str, found: Mapping[str, Any] | None = None) -> Join | None:
        """Bring a join into a ``state``, where it is still in the one that ``join`` says; else None, and nothing changes.

        Replicas read the pool anew then. A model that may be routed to from now on takes the place of the one that it replaces.

        Parameters
        ----------
        found
            Adds to what is known.
        """
        assert state in _NEXT[join.state], f"a join does not go from {join.state} to {state}"
        with self._database.session(lock="models") as session:
            row = session.get(JoinTable, join.id)
            if row is None or row.state != join.state:
                return None
            now = self._clock()
            row.state, row.reason, row.updated_at = state, reason, now
            row.found = {**row.found, **(found or {})}
            session.add(JoinEventTable(join=row.id, state=state, reason=reason, at=now))
            newest = select(func.coalesce(func.max(ModelTable.revision), 0) + 1).scalar_subquery()
            session.execute(update(ModelTable).where(ModelTable.name == row.model).values(revision=newest))
            if join.state == "added" and state != "failed":
                _remove_replaced(session, row.model)
            session.commit()
            return _join(row)

    def note(self, join_id: int, found: Mapping[str, Any]) -> None:
        """Add to what is known, in whatever state."""
        with self._database.session(lock="models") as session:
            row = session.get(JoinTable, join_id)
            if row is None:
                raise InvalidInput(f"there is no join {join_id}", param="join")
            row.found = {**row.found, **found}
            session.commit()


@dataclass(frozen=True, slots=True)
class Beginning:
    """A ``model`` that begins to join, in which state and why."""

    model: str
    state: JoinState
    reason: str


def begin(session: Session, what: Beginning, now: datetime) -> None:
    """Begin a join in a transaction of the pool's."""
    fields = {"state": what.state, "reason": what.reason}
    row = JoinTable(model=what.model, found={}, started_at=now, updated_at=now, **fields)
    session.add(row)
    session.flush()
    session.add(JoinEventTable(join=row.id, at=now, **fields))


def _remove_replaced(session: Session, name: str) -> None:
    """Take the model that ``name`` replaces, if any, out of the pool."""
    model = session.get(ModelTable, name)
    replaced = None if model is None else {**(model.base or {}), **(model.patch or {})}.get("replaces")
    old = None if replaced is None else session.get(ModelTable, replaced)
    if old is not None:
        old.removed = True


def latest(session: Session, models: Sequence[str] | None = None) -> dict[str, Join]:
    """model -> its latest join, of those that have one."""
    newest = select(func.max(JoinTable.id)).group_by(JoinTable.model)
    query = select(JoinTable).where(JoinTable.id.in_(newest))
    if models is not None:
        query = query.where(JoinTable.model.in_(models))
    return {row.model: _join(row) for row in session.scalars(query)}


def _join(row: JoinTable) -> Join:
    return Join(row.id, row.model, literal(row.state), row.reason, row.found, row.started_at, row.updated_at)
