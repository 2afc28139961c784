"""What feedback after a position of the log speaks of: scores by model, and prompts far from every task."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import and_, func, select

from agent.types import UNKNOWN_TASK, Vector
from store.database import Database
from store.tables import DecisionTable, FeedbackTable, PromptTable


@dataclass(frozen=True, slots=True)
class ScoredPrompts:
    """How many prompts were scored, each once, and the embeddings of those of them that lie far from every task."""

    count: int
    strays: tuple[Vector, ...]


def scored_prompts(database: Database, *, snapshot: int, after: int, limit: int) -> ScoredPrompts:
    """The latest ``limit`` prompts that ``snapshot`` routed and that were scored after a position of the log."""
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
    stray = and_(PromptTable.id == latest.c.prompt_id, latest.c.task == UNKNOWN_TASK)
    query = select(PromptTable.embedding).select_from(latest).outerjoin(PromptTable, stray)
    with database.session() as session:
        embeddings = session.scalars(query).all()
    return ScoredPrompts(len(embeddings), tuple(e for e in embeddings if e is not None))


def scored_models(database: Database, *, after: int) -> dict[str, int]:
    """model -> how many rows of the log after a position score its answers."""
    f, d = FeedbackTable, DecisionTable
    query = select(d.model, func.count(f.seq)).join(d, d.id == f.decision_id).group_by(d.model)
    with database.session() as session:
        return {model: count for model, count in session.execute(query.where(f.seq > after, f.other.is_(None)))}
