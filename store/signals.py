"""The signals that decide whether a refresh, or another look at the models that joined, is due."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, and_, func, select

from agent.evaluation.refresh_rule import RECENT, RefreshRuleConfig, RefreshSignals, refresh_reason
from agent.types import UNKNOWN_TASK, Vector
from store.database import Database
from store.drifts import DriftStore
from store.feedback import FeedbackLog
from store.runs import Run
from store.snapshots import SnapshotStore
from store.tables import DecisionTable, EvaluationTable, FeedbackTable, ModelTable, PromptTable, SnapshotTable


def refresh_reason_now(
    database: Database, snapshots: SnapshotStore, log: FeedbackLog, last: Run | None, config: RefreshRuleConfig
) -> str | None:
    """`refresh_reason` by the feedback after what was read last: by the refresh ``last``, or for the champion if later.

    Only scored prompts count as outliers, each once: a refresh learns from no others, so that unscored ones would make
    one refresh after another due.
    """
    result = last.result if last and last.result else {}
    champion, read, known = snapshots.champion(), int(result.get("position", 0)), int(result.get("n_scored", 0))
    if champion is None:
        return refresh_reason(RefreshSignals(known=known, feedback=log.count_since(read)), config)
    trained, read = champion.position, max(read, champion.position)
    embeddings = scored_prompts(database, snapshot=champion.version, after=read, limit=RECENT)
    earlier = scored_prompts(database, snapshot=champion.version, after=trained, upto=read, limit=RECENT)
    drifts = DriftStore(database).latest(after=read)
    new, before = scored_models(database, after=read), scored_models(database, after=trained, upto=read)
    signals = RefreshSignals(
        known=max(known, champion.n_scored),
        feedback=log.count_since(read),
        decisions=len(embeddings),
        outliers=tuple(e for e in embeddings if e is not None),
        drifted={m: scored_models(database, after=found.drift.since - 1).get(m, 0) for m, found in drifts.items()},
        newcomers={m: n for m, n in new.items() if m not in champion.models},
        read_outliers=sum(e is not None for e in earlier),
        read_newcomers={m: n for m, n in before.items() if m not in champion.models},
    )
    return refresh_reason(signals, config)


def anything_new(database: Database, log: FeedbackLog, last: Run | None) -> bool:
    """Whether a refresh would read anything that the finished refresh ``last`` did not: feedback, evaluations, models."""
    if last is None or last.result is None or last.started_at is None:
        return True
    if log.head() > int(last.result.get("position", 0)):
        return True
    with database.session() as session:
        times = [session.scalar(select(func.max(at))) for at in (EvaluationTable.created_at, ModelTable.updated_at)]
    return any(changed is not None and changed > last.started_at for changed in times)


def last_change(database: Database) -> datetime | None:
    """When the champion or the pool changed last; None where there is neither. A model's coming a step further is no change."""
    promoted = select(func.max(SnapshotTable.promoted_at)).where(SnapshotTable.status == "champion")
    with database.session() as session:
        times = [session.scalar(promoted), session.scalar(select(func.max(ModelTable.updated_at)))]
    return max((at for at in times if at is not None), default=None)


def scored_prompts(
    database: Database, *, snapshot: int, after: int, upto: int | None = None, limit: int
) -> Sequence[Vector | None]:
    """The latest ``limit`` prompts that ``snapshot`` routed and that were scored after a position of the log, up to another.

    Each once: its (d,) embedding where it lies far from every task, else None.
    """
    f, d = FeedbackTable, DecisionTable
    latest = (
        select(d.prompt_id, d.task)
        .join(f, f.decision_id == d.id)
        .where(f.seq > after, f.other.is_(None), d.snapshot == snapshot, *_upto(upto))
        .group_by(d.prompt_id, d.task)
        .order_by(func.max(f.seq).desc())
        .limit(limit)
        .subquery()
    )
    outlier = and_(PromptTable.id == latest.c.prompt_id, latest.c.task == UNKNOWN_TASK)
    query = select(PromptTable.embedding).select_from(latest).outerjoin(PromptTable, outlier)
    with database.session() as session:
        return session.scalars(query).all()


def scored_models(database: Database, *, after: int, upto: int | None = None) -> dict[str, int]:
    """model -> number of scores of its answers in the log after a position, up to another."""
    f, d = FeedbackTable, DecisionTable
    query = select(d.model, func.count(f.seq)).join(d, d.id == f.decision_id).group_by(d.model)
    with database.session() as session:
        return {
            model: count
            for model, count in session.execute(query.where(f.seq > after, f.other.is_(None), *_upto(upto)))
        }


def _upto(position: int | None) -> list[ColumnElement[bool]]:
    return [] if position is None else [FeedbackTable.seq <= position]
