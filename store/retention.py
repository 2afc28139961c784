"""Retention: what the store lets go, in small transactions, so that writers wait for no more than one of them.

Never deleted are evaluations, the feedback that the next training or a replica's replay needs, and the weights of snapshots
that serve or may serve next. See `Retention` for each kind of rows.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Delete, Select, delete, func, or_, select, tuple_
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, aliased

from agent.online.outcomes import WINDOW
from store.database import Database
from store.disk import give_back, store_bytes
from store.drifts import MAX_DRIFTS
from store.outcomes import ranked
from store.tables import (
    DecisionTable,
    DriftTable,
    EvaluationTable,
    FeedbackTable,
    HeadTable,
    JobRunTable,
    JoinCallTable,
    KeptAnswerTable,
    OutcomeLogTable,
    OutcomeTable,
    PromptTable,
    SetAsideTable,
    SnapshotTable,
    TaskEventTable,
    TaskTable,
    TrialTable,
)
from store.trials import running_trial

BATCH = 200
"""Decisions per transaction."""

_IDS_A_QUERY = 500


@dataclass(frozen=True, slots=True)
class RetentionConfig:
    """What is kept; 0 for a number or for days means no limit, except for snapshots.

    Parameters
    ----------
    decisions, decision_days
        The latest decisions without feedback, and for how long; with their outcomes, and prompts that nothing else needs.
    feedback, feedback_days
        The latest rows of feedback, and for how long; with their decisions and prompts.
    rejected, retired
        The latest rejected snapshots, and former champions beside the champion's parent, whose weights are kept.
    history_days
        For how long runs of jobs, trials, calls that judged live answers, and what is left of rejected snapshots, are listed.
    answer_hours
        For how long an answer waits to be judged.
    """

    decisions: int = 250_000
    decision_days: float = 30.0
    feedback: int = 200_000
    feedback_days: float = 365.0
    rejected: int = 2
    retired: int = 3
    history_days: float = 90.0
    answer_hours: float = 24.0


@dataclass(slots=True)
class RetentionReport:
    """What was let go (or, of a dry run, would be): numbers of rows, ``archived`` snapshots, and the store's bytes before
    and after."""

    dry_run: bool
    decisions: int = 0
    feedback: int = 0
    prompts: int = 0
    archived: int = 0
    snapshots: int = 0
    trials: int = 0
    task_events: int = 0
    drifts: int = 0
    runs: int = 0
    outcome_log: int = 0
    kept_answers: int = 0
    calls: int = 0
    bytes_before: int = 0
    bytes_after: int = 0


class Retention:
    """Lets go what a `RetentionConfig` does not keep.

    - Decisions without feedback: by age and number, but none of the running trial.
    - Feedback, by decision: where every row of it is beyond age or number, lies at or before the positions of all
      snapshots that have weights (a replica that serves one reads what comes after). Of a prompt in the index of one of
      these, the decision that was rated last stays, and no earlier one: a prompt that is asked again and again does not
      keep all of them. The last row of the log stays, as its position is the log's head.
    - Prompts: with the last decision on them, where they have no evaluation.
    - Snapshots: of rejected ones and former champions but the latest, and of those that would have to read on from a row of
      feedback beyond its number, the weights; the row, with report and parent, stays.
      The champion, its parent, every challenger and the snapshots of a running trial keep theirs. What is left of a
      rejected one goes with the history. Of archived snapshots' task events those stay that tell more than that a task
      went on. Trials that have ended go with the history, but those beside the champion.
    - Answers that have waited too long to be judged. Drifts that training no longer reads, runs but the last of each job and
      state, calls that judged live answers, and of the outcome log what no stream holds any more.

    Parameters
    ----------
    dry_run
        Counts and changes nothing; prompts are not counted.
    pause
        Called with the seconds that a transaction took, so that others get their turn: half of the time.
    """

    def __init__(
        self,
        database: Database,
        config: RetentionConfig,
        now: datetime,
        *,
        dry_run: bool = False,
        pause: Callable[[float], object] = time.sleep,
        progress: Callable[[str, float], None] = lambda stage, share: None,
    ) -> None:
        self._database = database
        self._config = config
        self._now = now
        self._dry_run = dry_run
        self._pause = pause
        self._progress = progress
        self._report = RetentionReport(dry_run)

    def run(self) -> RetentionReport:
        """Let go what is beyond its time or number."""
        self._report.bytes_before = store_bytes(self._database)
        for share, (stage, work) in enumerate(
            {
                "snapshots": self._snapshots,
                "feedback": self._feedback,
                "decisions": self._decisions,
                "history": self._history,
                "disk": self._free_pages,
            }.items()
        ):
            self._progress(stage, share / 5)
            work()
        self._report.bytes_after = store_bytes(self._database)
        return self._report

    # Snapshots.

    def _snapshots(self) -> None:
        of = SnapshotTable
        with self._database.session() as session:
            parent = session.scalar(select(of.parent).where(of.status == "champion"))
            needed = {parent, *in_trial(session)}
            rows = session.execute(
                select(of.version, of.status, of.position).where(of.archived_at.is_(None)).order_by(*_LATEST_FIRST)
            ).all()
            too_old = self._beyond_number(session)
        for status, kept in (("rejected", self._config.rejected), ("retired", self._config.retired)):
            may_go = [(version, at) for version, s, at in rows if s == status and version not in needed]
            for i, (version, at) in enumerate(may_go):
                if i >= kept or at < too_old:
                    self._report.archived += self._dry_run
                    self._write(partial(self._archive, version))

    def _beyond_number(self, session: Session) -> int:
        """Position of the last row of feedback beyond its number; 0 where there is none."""
        if not self._config.feedback:
            return 0
        newest = select(FeedbackTable.seq).order_by(FeedbackTable.seq.desc())
        return session.scalar(newest.offset(self._config.feedback).limit(1)) or 0

    def _archive(self, version: int, session: Session) -> None:
        row = session.get_one(SnapshotTable, version)
        if row.status not in ("rejected", "retired") or version in in_trial(session):
            return  # promoted meanwhile
        self._report.archived += 1
        row.archived_at, row.tensors = self._now, b""
        row.meta = {key: value for key, value in row.meta.items() if key in ("format", "models", "n_scored")}
        session.execute(delete(HeadTable).where(HeadTable.snapshot == version))
        events, highest = TaskEventTable, select(func.max(TaskEventTable.task)).scalar_subquery()
        told = events.kind == "keep" if row.promoted_at is not None else events.task < highest  # ids are not used again
        self._report.task_events += _count(session.execute(delete(events).where(events.snapshot == version, told)))

    # Feedback.

    def _feedback(self) -> None:
        f = FeedbackTable
        with self._database.session() as session:
            floor = session.scalar(select(func.min(SnapshotTable.position)).where(SnapshotTable.archived_at.is_(None)))
            beyond: list[int | None] = [self._beyond_number(session)]
            if self._config.feedback_days:
                old = f.created_at < self._now - timedelta(days=self._config.feedback_days)
                beyond.append(session.scalar(select(func.max(f.seq)).where(old)))
            last = session.scalar(select(func.max(f.seq))) or 0
            upto = min(floor or 0, max(seq or 0 for seq in beyond), last - 1)
            if upto <= 0:
                return
            kept = self._last_of_indexed(session)
        later = aliased(FeedbackTable)
        query = (
            select(f.decision_id, func.max(f.seq).label("at"))
            .where(
                f.seq <= upto, ~select(later.seq).where(later.decision_id == f.decision_id, later.seq > upto).exists()
            )
            .group_by(f.decision_id)
        )
        for ids in self._pages(query, f.decision_id, keep=lambda row: row.at in kept):
            self._let_go(ids, scored=True)

    def _last_of_indexed(self, session: Session) -> set[int]:
        """The last rows of feedback on each of the prompts in the indexes of snapshots that have weights."""
        lists = session.scalars(
            select(SnapshotTable.meta["indexed_prompts"].as_json()).where(SnapshotTable.archived_at.is_(None))
        )
        indexed = {prompt for prompts in lists for prompt in prompts or ()}
        d, f = DecisionTable, FeedbackTable
        last = select(d.prompt_id, func.max(f.seq)).join(f, f.decision_id == d.id).group_by(d.prompt_id)
        return {seq for prompt, seq in session.execute(last) if prompt in indexed}

    # Decisions.

    def _decisions(self) -> None:
        d = DecisionTable
        unscored = ~select(FeedbackTable.seq).where(FeedbackTable.decision_id == d.id).exists()
        beyond: list[datetime] = []
        if self._config.decision_days:
            beyond.append(self._now - timedelta(days=self._config.decision_days))
        if self._config.decisions:
            newest = select(d.created_at).where(unscored).order_by(d.created_at.desc())
            with self._database.session() as session:
                if at := session.scalar(newest.offset(self._config.decisions).limit(1)):
                    beyond.append(at + timedelta(microseconds=1))
        if not beyond:
            return
        running = select(TrialTable.id).where(TrialTable.state == "running")  # counts all of its decisions
        on_trial = d.trial.is_not(None) & d.trial.in_(running)
        query = select(d.id, d.created_at).where(d.created_at < max(beyond), unscored, ~on_trial)
        for ids in self._pages(query, d.created_at, d.id):
            self._let_go(ids, scored=False)

    def _pages(
        self, query: Select[*tuple[Any, ...]], *keys: Any, keep: Callable[[Any], bool] = lambda row: False
    ) -> Iterator[list[str]]:
        """Ids of decisions, the first column of ``query``, `BATCH` at a time in the order of ``keys``; without ``keep``."""
        names, after = [key.key for key in keys], None
        while True:
            page = (
                query
                if after is None
                else query.where(tuple_(*keys) > tuple_(*after, types=[key.type for key in keys]))
            )
            with self._database.session() as session:
                rows = session.execute(page.order_by(*keys).limit(BATCH)).all()
            if ids := [row[0] for row in rows if not keep(row)]:
                yield ids
            if len(rows) < BATCH:
                return
            after = [getattr(rows[-1], name) for name in names]

    def _let_go(self, ids: Sequence[str], *, scored: bool) -> None:
        """Delete decisions with all that belongs to them; those that got feedback meanwhile stay, where not ``scored``."""
        f, d, o = FeedbackTable, DecisionTable, OutcomeTable
        if self._dry_run:
            self._report.decisions += len(ids)
            if scored:
                with self._database.session() as session:
                    rows = session.scalar(select(func.count()).where(f.decision_id.in_(ids)))
                    self._report.feedback += rows or 0
            return

        def work(session: Session) -> None:
            gone = set(ids)
            if scored:
                forget_feedback(session, session.scalars(select(f.seq).where(f.decision_id.in_(ids))).all())
                self._report.feedback += _count(session.execute(delete(f).where(f.decision_id.in_(ids))))
            else:
                gone -= set(session.scalars(select(f.decision_id).where(f.decision_id.in_(ids))))
            prompts = set(session.scalars(select(d.prompt_id).where(d.id.in_(gone))))
            session.execute(delete(KeptAnswerTable).where(KeptAnswerTable.decision_id.in_(gone)))
            session.execute(delete(o).where(o.decision_id.in_(gone)))
            self._report.decisions += _count(session.execute(delete(d).where(d.id.in_(gone))))
            self._report.prompts += _count(session.execute(delete(PromptTable).where(*_unused(prompts))))

        self._write(work, lock="feedback")  # feedback on one of them is taken before or refused after

    # The rest.

    def _history(self) -> None:
        since = self._now - timedelta(days=self._config.history_days)
        kept, call = KeptAnswerTable, JoinCallTable
        too_old = self._now - timedelta(hours=self._config.answer_hours)
        self._delete("kept_answers", kept.decision_id, kept.kept_at < too_old)
        r, other = JobRunTable, aliased(JobRunTable)
        last = ~select(other.id).where(other.job == r.job, other.state == r.state, other.id > r.id).exists()
        if self._config.history_days:
            ended = r.state.in_(("done", "failed", "skipped"))
            self._delete("runs", r.id, ended, r.requested_at < since, ~last)
            self._delete("calls", call.id, call.join.is_(None), call.booked_at < since)
            s, t, champion = SnapshotTable, TrialTable, aliased(SnapshotTable)
            beside = select(champion.version).where(champion.status == "champion", champion.version == t.champion)
            self._delete("trials", t.id, t.ended_at < since, ~beside.exists())
            self._delete("snapshots", s.version, s.status == "rejected", s.archived_at < since, ~_referred_to())
        d = DriftTable
        for of_log in (d.kind == "quality", d.kind != "quality"):
            with self._database.session() as session:
                newest = select(d.position).where(of_log).order_by(d.position.desc()).offset(MAX_DRIFTS).limit(1)
                beyond = session.scalar(newest)
            if beyond is not None:
                self._delete("drifts", d.position, d.position <= beyond, of_log)
        rows = ranked().subquery()
        self._delete(
            "outcome_log", OutcomeLogTable.seq, OutcomeLogTable.seq.in_(select(rows.c.seq).where(rows.c.age >= WINDOW))
        )

    def _delete(self, name: str, key: Any, *where: ColumnElement[bool]) -> None:
        with self._database.session() as session:
            keys = session.scalars(select(key).where(*where).order_by(key)).all()
        setattr(self._report, name, getattr(self._report, name) + len(keys))
        for start in range(0, len(keys), BATCH):
            gone = delete(key.class_).where(key.in_(keys[start : start + BATCH]), *where)
            self._write(partial(_execute, gone))

    def _write(self, work: Callable[[Session], object], lock: str = "snapshots") -> None:
        """Run ``work`` in a transaction, unless this is a dry run; a row that a new one refers to is left for the next time."""
        if self._dry_run:
            return
        started = time.perf_counter()
        try:
            with self._database.session(lock=lock) as session:
                work(session)
                session.commit()
        except IntegrityError:
            pass
        self._pause(time.perf_counter() - started)

    def _free_pages(self) -> None:
        if not self._dry_run:
            give_back(self._database, self._pause)


_LATEST_FIRST = (
    func.coalesce(SnapshotTable.promoted_at, SnapshotTable.created_at).desc(),
    SnapshotTable.version.desc(),
)


def in_trial(session: Session) -> set[int]:
    """Versions of the two snapshots of the running trial, if there is one."""
    trial = running_trial(session)
    return set() if trial is None else {trial.champion, trial.challenger}


def forget_feedback(session: Session, positions: Sequence[int]) -> None:
    """Delete what refers to rows of the feedback log by position."""
    session.execute(delete(SetAsideTable).where(SetAsideTable.seq.in_(positions)))


def _unused(prompts: set[str]) -> tuple[ColumnElement[bool], ...]:
    """Of ``prompts``, those with neither a decision nor an evaluation."""
    p = PromptTable
    return (
        p.id.in_(prompts),
        ~select(DecisionTable.id).where(DecisionTable.prompt_id == p.id).exists(),
        ~select(EvaluationTable.id).where(EvaluationTable.prompt_id == p.id).exists(),
    )


def _referred_to() -> ColumnElement[bool]:
    """Whether a row of any table refers to a snapshot."""
    other = aliased(SnapshotTable)
    columns = (
        *(other.parent, TaskEventTable.snapshot, TaskTable.spawned_in, TaskTable.retired_in, DriftTable.snapshot),
        *(TrialTable.champion, TrialTable.challenger),
    )
    return or_(*(select(column).where(column == SnapshotTable.version).exists() for column in columns))


def _execute(statement: Delete, session: Session) -> None:
    session.execute(statement)


def _count(result: Any) -> int:
    return int(result.rowcount)
