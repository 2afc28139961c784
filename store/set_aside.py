"""Rows of the feedback log that were set aside: every replica sets the same ones aside, and the store keeps each once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from agent.observations import SetAside
from store.columns import utc_now
from store.database import Database
from store.prompts import insert_or_ignore
from store.tables import DecisionTable, FeedbackTable, SetAsideTable


@dataclass(frozen=True, slots=True)
class SetAsideRow:
    """A row that was set aside: where, why and when, by which snapshot's router, and what the row says of which answer."""

    seq: int
    reason: str
    snapshot: int
    set_aside_at: datetime
    decision_id: str
    model: str
    score: float
    source: str
    rater: str


class SetAsideStore:
    """Records rows that were set aside, and lists them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, snapshot: int, rows: Sequence[SetAside]) -> None:
        """Store the rows that are not stored yet; ``snapshot`` is the version of the router that set them aside."""
        if not rows:
            return
        now = utc_now()
        values = [{"seq": r.seq, "reason": r.reason, "snapshot": snapshot, "set_aside_at": now} for r in rows]
        with self._database.session(write=True) as session:
            session.connection().execute(insert_or_ignore(SetAsideTable, self._database.dialect), values)
            session.commit()

    def count(self, *, after: int = 0) -> int:
        """Number of rows after a position of the log."""
        with self._database.session() as session:
            return session.scalar(select(func.count()).where(SetAsideTable.seq > after)) or 0

    def list(self, *, after: int = 0, limit: int = 100) -> list[SetAsideRow]:
        """The latest ``limit`` rows after a position of the log, newest first."""
        t, f, d = SetAsideTable, FeedbackTable, DecisionTable
        columns = (t.seq, t.reason, t.snapshot, t.set_aside_at, f.decision_id, d.model, f.score, f.source, f.rater)
        query = select(*columns).join(f, f.seq == t.seq).join(d, d.id == f.decision_id).where(t.seq > after)
        with self._database.session() as session:
            return [SetAsideRow(*row) for row in session.execute(query.order_by(t.seq.desc()).limit(limit))]
