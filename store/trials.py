"""Trials: a challenger, or the predecessor of a new champion, tried live beside the champion; at most one at a time.

A trial runs from the transaction that published its snapshot to the one that ends it. Whatever makes another snapshot the
champion ends it in the same transaction, so that a running trial is always one of the champion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from math import isfinite
from typing import Any, Literal

from sqlalchemy import ColumnElement, and_, func, select, update
from sqlalchemy.orm import Session

from agent.evaluation.trial import TrialConfig
from agent.trial import Trial, TrialKind
from store.columns import literal
from store.database import Database
from store.tables import DecisionTable, FeedbackTable, SnapshotTable, TrialTable

Settled = Literal["promoted", "rejected", "let go", "ended"]
State = Literal["running", Settled]

SECONDS_A_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class TrialPlan:
    """What is fixed when a trial starts: its test, its share of traffic and its bounds, of which ``max_days`` is its time."""

    config: TrialConfig
    max_days: float


@dataclass(frozen=True, slots=True)
class TrialRow:
    """A trial of ``challenger`` beside ``champion``, which are versions of snapshots.

    Parameters
    ----------
    kind
        ``hold-back``: the challenger is the champion's predecessor.
    state
        What became of the challenger: ``promoted`` in the champion's place, ``rejected`` (of a hold-back: the champion
        is proven better), ``let go`` after its time; ``ended`` by a person or by another champion.
    plan
        Fixed at the start.
    position
        Head of the feedback log at the start.
    reason
        Why it was started; once it has ended, why it ended.
    report
        Its figures at the last look, an `agent.evaluation.trial.TrialReport`; {} before the first.
    """

    id: int
    kind: TrialKind
    champion: int
    challenger: int
    state: State
    plan: TrialPlan
    position: int
    started_at: datetime
    ended_at: datetime | None
    reason: str
    report: Mapping[str, Any]

    @property
    def trial(self) -> Trial:
        """What routing needs to know of it."""
        config = self.plan.config
        return Trial(self.id, self.kind, self.champion, self.challenger, config.share, config.max_regret)

    @property
    def tried(self) -> int:
        """The snapshot that the trial is about: the challenger, or the champion that is held back."""
        return self.champion if self.kind == "hold-back" else self.challenger

    @property
    def ends_at(self) -> datetime:
        """When it ends at the latest."""
        return self.started_at + timedelta(days=self.plan.max_days)

    @property
    def stands(self) -> str:
        """How a running trial stands, for people."""
        figures, stderr = "fewer than two scored requests on which the two differ", self.report.get("stderr")
        if stderr is not None and isfinite(stderr):
            figures = f"difference {self.report['mean']:+.4f} +- {stderr:.4f} over {self.report['n']:,} scored requests"
        return f"nothing is proven yet ({figures})"

    @property
    def why(self) -> str:
        """Why it runs and how it stands; why it ended, once it has."""
        if self.state != "running":
            return self.reason
        what = f"on trial beside snapshot {self.champion}"
        if self.kind == "hold-back":
            what = f"kept on hold-back against snapshot {self.challenger}"
        return f"{what}, {self.stands}"


@dataclass(frozen=True, slots=True)
class TrialTotals:
    """Decisions of a trial, the scored and the others, and the sum of their expected regret."""

    decisions: int
    expected_regret: float


class TrialStore:
    """Reads trials and keeps their figures; `store.snapshots.SnapshotStore` starts and ends them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def running(self) -> TrialRow | None:
        """The trial that runs. One indexed query, which replicas make each second."""
        with self._database.session() as session:
            row = running_trial(session)
        return None if row is None else _row(row)

    def beside(self, champion: int) -> list[TrialRow]:
        """The trials of challengers beside a champion that run, or that neither promoted theirs nor were cut short."""
        tried = and_(TrialTable.champion == champion, TrialTable.kind == "trial")
        states = TrialTable.state.in_(("running", "rejected", "let go"))
        with self._database.session() as session:
            return [_row(row) for row in session.scalars(select(TrialTable).where(tried, states))]

    def totals(self, trial: int) -> TrialTotals:
        """Of the decisions of a trial so far."""
        regret: ColumnElement[float] = DecisionTable.trial_choice["expected_regret"].as_float()
        query = select(func.count(), func.sum(regret)).where(DecisionTable.trial == trial)
        with self._database.session() as session:
            count, expected_regret = session.execute(query).one()
        return TrialTotals(count, expected_regret or 0.0)

    def list(self, limit: int = 100) -> list[TrialRow]:
        """The latest trials, newest first."""
        with self._database.session() as session:
            rows = session.scalars(select(TrialTable).order_by(TrialTable.id.desc()).limit(limit)).all()
        return [_row(row) for row in rows]

    def keep_figures(self, trial: int, report: Mapping[str, Any]) -> bool:
        """Replace the figures of a running trial; False where it has ended."""
        running = update(TrialTable).where(TrialTable.id == trial, TrialTable.state == "running")
        with self._database.session(write=True) as session:
            kept = session.connection().execute(running.values(report=dict(report))).rowcount > 0
            session.commit()
        return kept


def start_trial(
    session: Session, kind: TrialKind, *, champion: int, challenger: int, plan: TrialPlan, reason: str, now: datetime
) -> None:
    """Begin a trial; the caller has ended the one before."""
    position = session.scalar(select(func.max(FeedbackTable.seq))) or 0
    session.add(
        TrialTable(
            kind=kind, champion=champion, challenger=challenger, state="running", plan=asdict(plan), position=position,
            started_at=now, reason=reason, report={},
        )
    )  # fmt: skip
    session.flush()


def running_trial(session: Session) -> TrialTable | None:
    """The row of the trial that runs."""
    return session.scalar(select(TrialTable).where(TrialTable.state == "running"))


def close_trial(session: Session, row: TrialTable, state: Settled, reason: str, now: datetime) -> None:
    """End a running trial; a challenger on trial is rejected, until whoever promotes it does so."""
    row.state, row.reason, row.ended_at = state, reason, now
    session.flush()
    left = (SnapshotTable.version == row.challenger) & (SnapshotTable.status == "trial")
    session.execute(update(SnapshotTable).where(left).values(status="rejected"))


def _row(row: TrialTable) -> TrialRow:
    return TrialRow(
        id=row.id, kind=literal(row.kind), champion=row.champion, challenger=row.challenger, state=literal(row.state),
        plan=TrialPlan(TrialConfig(**row.plan["config"]), row.plan["max_days"]), position=row.position,
        started_at=row.started_at, ended_at=row.ended_at, reason=row.reason, report=row.report,
    )  # fmt: skip
