"""The signals that decide whether an early refresh is due, read from the feedback log after a position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import and_, func, select

from agent.evaluation.refresh_rule import RECENT, RefreshRuleConfig, RefreshSignals, refresh_reason
from agent.types import UNKNOWN_TASK, Vector
from store.database import Database
from store.drifts import DriftStore
from store.feedback import FeedbackLog
from store.snapshots import SnapshotStore
from store.tables import DecisionTable, FeedbackTable, PromptTable


def refresh_reason_now(
    database: Database, snapshots: SnapshotStore, log: FeedbackLog, read: int, *, most: int
) -> str | None:
    """`refresh_reason` by the feedback after position ``read`` of the log, or after the champion's own where that is later.

    Only scored prompts count as outliers, each once: a refresh learns from no others, so that unscored ones would make
    one refresh after another due. ``most`` as in `RefreshRuleConfig`.
    """
    champion = snapshots.champion()
    read = read if champion is None else max(read, champion.position)
    signals = RefreshSignals(scores=0, feedback=log.count_since(read))
    if champion is not None:
        embeddings = scored_prompts(database, snapshot=champion.version, after=read, limit=RECENT)
        drifts = DriftStore(database).latest(after=read)
        signals = replace(
            signals,
            scores=champion.scores,
            decisions=len(embeddings),
            outliers=tuple(e for e in embeddings if e is not None),
            drifted={m: scored_models(database, after=found.drift.since - 1).get(m, 0) for m, found in drifts.items()},
            newcomers={m: n for m, n in scored_models(database, after=read).items() if m not in champion.models},
        )
    return refresh_reason(signals, RefreshRuleConfig(most=most))


def scored_prompts(database: Database, *, snapshot: int, after: int, limit: int) -> Sequence[Vector | None]:
    """The latest ``limit`` prompts that ``snapshot`` routed and that were scored after a position of the log.

    Each once: its (d,) embedding where it lies far from every task, else None.
    """
    f, d = FeedbackTable, DecisionTable
    latest = (
        select(d.prompt_id, d.task)
        .join(f, f.decision_id == d.id)
        .where(f.seq > after, f.other.is_(None), d.snapshot == snapshot)
        .group_by(d.prompt_id, d.task)
        .order_by(func.max(f.seq).desc())
        .limit(limit)
        .subquery()
    )
    outlier = and_(PromptTable.id == latest.c.prompt_id, latest.c.task == UNKNOWN_TASK)
    query = select(PromptTable.embedding).select_from(latest).outerjoin(PromptTable, outlier)
    with database.session() as session:
        return session.scalars(query).all()


def scored_models(database: Database, *, after: int) -> dict[str, int]:
    """model -> number of scores of its answers in the log after a position."""
    f, d = FeedbackTable, DecisionTable
    query = select(d.model, func.count(f.seq)).join(d, d.id == f.decision_id).group_by(d.model)
    with database.session() as session:
        return {model: count for model, count in session.execute(query.where(f.seq > after, f.other.is_(None)))}
