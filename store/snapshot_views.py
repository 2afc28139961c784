"""The JSON form of snapshots and of their trials, the same for HTTP and the command line, each with why it is what it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Self

from pydantic import Field

from agent.trial import TrialKind
from store.columns import utc_now
from store.snapshots import DEMOTED, SnapshotRow, Status
from store.trials import SECONDS_A_DAY, State, TrialRow
from store.views import View


class TrialView(View):
    """A trial, see `store.trials.TrialRow`: its bounds, its figures at the last look, and why it runs or why it ended.

    Figures are of the requests on which the two snapshots differ: utility of the challenger less that of the champion.
    """

    id: int
    kind: TrialKind
    champion: int
    challenger: int
    state: State
    started_at: datetime
    ended_at: datetime | None
    position: int = Field(description="head of the feedback log at the start")
    share: float = Field(description="of the requests on which the two differ, those that a coin decides")
    max_scored: float = Field(description="it ends at so many scored requests")
    max_decisions: int = Field(description="it ends at so many requests, scored or not")
    max_regret: float = Field(description="it ends when it was expected to have cost so much utility")
    ends_at: datetime = Field(description="it ends then at the latest")
    days_left: float | None = Field(description="null once it has ended")
    decisions: int
    scored: int
    expected_regret: float
    difference: float | None = Field(description="null before two are scored")
    stderr: float | None
    lower: float | None = Field(description="limits of the difference, at every look together")
    upper: float | None
    why: str

    @classmethod
    def of(cls, trial: TrialRow, now: datetime | None = None) -> Self:
        """The view of ``trial`` at a time with a zone; the clock's where None."""
        plan, report, days_left = trial.plan.config, trial.report, None
        if trial.state == "running":
            days_left = max((trial.ends_at - (now or utc_now())).total_seconds() / SECONDS_A_DAY, 0.0)
        known = report.get("stderr") is not None and math.isfinite(report["stderr"])
        figures = {name: report[name] if known else None for name in ("stderr", "lower", "upper")}
        return cls(
            id=trial.id, kind=trial.kind, champion=trial.champion, challenger=trial.challenger, state=trial.state,
            started_at=trial.started_at, ended_at=trial.ended_at, position=trial.position, share=plan.share,
            max_scored=plan.most, max_decisions=plan.most_decisions, max_regret=plan.max_regret, ends_at=trial.ends_at,
            days_left=days_left, decisions=report.get("decisions", 0), scored=report.get("n", 0),
            expected_regret=report.get("expected_regret", 0.0), difference=report["mean"] if known else None,
            why=trial.why, **figures,
        )  # fmt: skip


class SnapshotView(View):
    """A snapshot without its weights; ``tasks`` and ``heads`` are counts, ``report`` is the gate's."""

    version: int
    status: Status
    created_at: datetime
    created_by: str
    promoted_at: datetime | None
    reason: str | None = Field(description="why it was last promoted")
    why: str = Field(description="why it has its status")
    trial: TrialView | None = Field(description="its last trial, or the last hold-back that it was promoted with")
    position: int
    parent: int | None
    encoder: str
    tasks: int
    heads: int
    report: dict[str, Any]

    @classmethod
    def of(cls, row: SnapshotRow, trial: TrialRow | None = None) -> Self:
        """The view of ``row``; ``trial`` is the last one that tried it."""
        fields = {name: getattr(row, name) for name in SnapshotRow.__dataclass_fields__}
        return cls(**fields, why=_why(row, trial), trial=None if trial is None else TrialView.of(trial))

    @classmethod
    def of_all(cls, rows: Sequence[SnapshotRow], trials: Sequence[TrialRow]) -> list[Self]:
        """The views of ``rows``, in their order; ``trials`` are the newest first."""
        last: dict[int, TrialRow] = {}
        for trial in trials:
            last.setdefault(trial.tried, trial)
        return [cls.of(row, last.get(row.version)) for row in rows]


def _why(row: SnapshotRow, trial: TrialRow | None) -> str:
    """Why a snapshot has its status, for people."""
    if row.status != "champion" and DEMOTED in row.report:
        return str(row.report[DEMOTED].get("reason", ""))
    if trial is not None and trial.kind == "trial" and row.status in ("trial", "rejected"):
        return trial.why
    published = str(row.report.get("reason", ""))
    promoted = published if row.promoted_by_publication or row.reason is None else row.reason
    if trial is None or trial.kind != "hold-back":
        return promoted
    return f"{promoted}, {trial.stands}" if trial.state == "running" else f"{promoted}; {trial.reason}"
