"""The feedback log: append-only, in an order that all replicas agree on.

A replica learns by reading the log from where it stopped, so the order of ``seq`` must be the order of commits: a row
that committed late with an early number would never be read. On PostgreSQL, whose sequences promise no such thing,
appends take a lock before they draw their numbers and hold it until they have committed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from sqlalchemy import Connection, Row, bindparam, func, insert, select
from sqlalchemy.orm import Session

from agent.errors import InvalidInput
from agent.types import Observation, Source
from store.columns import clean, utc_now
from store.database import Database
from store.prompts import ENCODED, encoded, table
from store.tables import DecisionTable, FeedbackTable, PromptTable
from store.writer import GroupCommitter

Thumb = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """Somebody's word on an answer.

    Parameters
    ----------
    decision_id
        Of the answer.
    score
        In [0, 1]. Of a comparison: 1 where the answer is preferred, 0 where that of ``other`` is, 0.5 for a tie.
    source
        ``user``, ``judge`` or ``implicit``.
    rater
        Who among the source; the same (decision, source, rater, other) again revises, it does not vote twice.
    comment
        For people.
    idempotency_key
        The client's own name for this event: sent twice, it is recorded once.
    thumb
        The form in which it came, where that was no number.
    other
        The model that the answer was compared with, one that the decision ranked; None for a score.
    key
        Name of the API key that posted it; "" where none was needed.
    """

    decision_id: str
    score: float
    source: Source
    rater: str = ""
    comment: str = ""
    idempotency_key: str | None = None
    thumb: Thumb | None = None
    other: str | None = None
    key: str = ""

    def __post_init__(self) -> None:
        if not 0.0 <= self.score <= 1.0:
            raise InvalidInput(f"score is {self.score}; give a number from 0 (bad) to 1 (good)", param="score")
        if self.source not in get_args(Source):
            raise InvalidInput(f"source is {self.source!r}; give one of {', '.join(get_args(Source))}", param="source")


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of an event: ``seq`` is its place in the log (of the first one for a duplicate), ``reason`` why it
    was refused."""

    status: Literal["recorded", "revised", "duplicate", "refused"]
    seq: int | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """A row of the log for people to read; ``revises`` is the score that it replaced."""

    seq: int
    created_at: datetime
    model: str
    event: FeedbackEvent
    revises: float | None


class FeedbackLog:
    """Appends feedback and tails it.

    Parameters
    ----------
    database, writer
        Where to, and by whom.
    """

    def __init__(self, database: Database, writer: GroupCommitter) -> None:
        self._database = database
        self._writer = writer

    def append(self, events: Sequence[FeedbackEvent]) -> Future[list[Receipt]]:
        """Write events, all of them durable when the future resolves; one receipt an event, in their order."""

        def work(session: Session) -> list[Receipt]:
            self._database.lock(session, "feedback")
            return _append(session, events)

        return self._writer.submit(work)

    def tail(self, after: int, limit: int = 1000) -> list[Observation]:
        """The observations that follow position ``after``, in order; shorter than ``limit`` at the log's end."""
        query = (
            select(
                FeedbackTable.seq,
                FeedbackTable.decision_id,
                FeedbackTable.score,
                FeedbackTable.source,
                FeedbackTable.rater,
                FeedbackTable.revises,
                FeedbackTable.other,
                FeedbackTable.key,
                DecisionTable.prompt_id,
                DecisionTable.model,
                DecisionTable.propensity,
                DecisionTable.task,
                DecisionTable.candidates,
                *ENCODED,
            )
            .join(DecisionTable, DecisionTable.id == FeedbackTable.decision_id)
            .join(PromptTable, PromptTable.id == DecisionTable.prompt_id)
            .where(FeedbackTable.seq > after)
            .order_by(FeedbackTable.seq)
            .limit(limit)
        )
        with self._database.session() as session:
            rows: Sequence[Row[*tuple[Any, ...]]] = session.execute(query).all()
        return [_observation(row) for row in rows]

    def head(self) -> int:
        """The last position; 0 where the log is empty."""
        with self._database.session() as session:
            return session.scalar(select(func.max(FeedbackTable.seq))) or 0

    def count_since(self, seq: int) -> int:
        """How many rows follow a position."""
        with self._database.session() as session:
            return session.scalar(select(func.count()).where(FeedbackTable.seq > seq)) or 0

    def list(self, *, decision_id: str | None = None, limit: int = 100) -> list[FeedbackRow]:
        """The latest rows, newest first; of one decision where it is named."""
        query = (
            select(FeedbackTable, DecisionTable.model)
            .join(DecisionTable, DecisionTable.id == FeedbackTable.decision_id)
            .order_by(FeedbackTable.seq.desc())
            .limit(limit)
        )
        if decision_id is not None:
            query = query.where(FeedbackTable.decision_id == decision_id)
        with self._database.session() as session:
            return [
                FeedbackRow(
                    seq=row.seq,
                    created_at=row.created_at,
                    model=model,
                    event=FeedbackEvent(
                        row.decision_id,
                        row.score,
                        row.source,  # type: ignore[arg-type]
                        row.rater,
                        row.comment,
                        row.idempotency_key,
                        row.thumb,  # type: ignore[arg-type]
                        row.other,
                        row.key or "",
                    ),
                    revises=row.revises,
                )
                for row, model in session.execute(query)
            ]


def _observation(row: Row[*tuple[Any, ...]]) -> Observation:
    return Observation(
        seq=row.seq,
        decision_id=row.decision_id,
        prompt_id=row.prompt_id,
        model=row.model,
        score=row.score,
        source=row.source,
        rater=row.rater,
        encoded=encoded(row),
        propensity=row.propensity,
        revises=row.revises,
        expected=_expected(row.candidates, row.model),
        task=row.task,
        other=row.other,
        expected_other=_expected(row.candidates, row.other),
        key=row.key or "",
    )


def _expected(candidates: Sequence[dict[str, Any]], model: str | None) -> float:
    """The quality at which a decision's candidates put a model; NaN where it is not among them, or was not finite."""
    quality = next((c["quality"] for c in candidates if c["model"] == model), None)
    return math.nan if quality is None else float(quality)


# Built once, so that an append does not pay for building and compiling them.
_f, _d = table(FeedbackTable).c, table(DecisionTable).c
_KNOWN = select(_d.id).where(_d.id.in_(bindparam("decisions", expanding=True)))
_RANKED = select(_d.id, _d.model, _d.candidates).where(_d.id.in_(bindparam("decisions", expanding=True)))
_USED = select(_f.idempotency_key, _f.decision_id, _f.seq).where(
    _f.idempotency_key.in_(bindparam("keys", expanding=True))
)
_SAID = (
    select(_f.decision_id, _f.source, _f.rater, _f.other, _f.score)
    .where(_f.decision_id.in_(bindparam("decisions", expanding=True)))
    .order_by(_f.seq)
)
_ADD = insert(table(FeedbackTable)).returning(_f.seq, sort_by_parameter_order=True)


def _append(session: Session, events: Sequence[FeedbackEvent]) -> list[Receipt]:
    """Judge each event against the log and the events before it, then insert what is new in one statement."""
    decisions = list({clean(event.decision_id) for event in events})
    keys = list({clean(event.idempotency_key) for event in events if event.idempotency_key})
    connection = session.connection()
    known = set(connection.execute(_KNOWN, {"decisions": decisions}).scalars())
    used: dict[str, tuple[str, int]] = {}  # key -> (decision, seq, or -1 - index among the new rows)
    if keys:
        used = {key: (decision, seq) for key, decision, seq in connection.execute(_USED, {"keys": keys})}
    said = connection.execute(_SAID, {"decisions": list(known)})
    latest = {(decision, source, rater, other): score for decision, source, rater, other, score in said}
    ranked = _ranked(connection, {clean(event.decision_id) for event in events if event.other is not None})

    rows: list[dict[str, Any]] = []
    receipts: list[Receipt] = []
    now = utc_now()
    for event in events:
        decision, rater = clean(event.decision_id), clean(event.rater)
        other = None if event.other is None else clean(event.other)
        key = clean(event.idempotency_key) if event.idempotency_key else None
        if decision not in known:
            receipts.append(Receipt("refused", None, f"no decision has the id {decision!r}"))
            continue
        if other is not None and other not in ranked[decision]:
            receipts.append(Receipt("refused", None, _not_comparable(other, ranked[decision])))
            continue
        if key is not None and key in used:
            owner, seq = used[key]
            receipts.append(
                Receipt("duplicate", seq)
                if owner == decision
                else Receipt("refused", None, f"idempotency_key {key!r} was used for another decision; make a new one")
            )
            continue
        place = -1 - len(rows)
        if key is not None:
            used[key] = (decision, place)
        revises = latest.get((decision, event.source, rater, other))
        latest[decision, event.source, rater, other] = event.score
        receipts.append(Receipt("recorded" if revises is None else "revised", place))
        rows.append(
            {
                "decision_id": decision,
                "score": event.score,
                "source": event.source,
                "rater": rater,
                "comment": event.comment,
                "thumb": event.thumb,
                "idempotency_key": key,
                "revises": revises,
                "created_at": now,
                "other": other,
                "key": event.key or None,
            }
        )
    if not rows:
        return receipts
    seqs = list(connection.execute(_ADD, rows).scalars())
    return [
        Receipt(receipt.status, seqs[-1 - receipt.seq]) if receipt.seq is not None and receipt.seq < 0 else receipt
        for receipt in receipts
    ]


def _ranked(connection: Connection, decisions: set[str]) -> dict[str, list[str]]:
    """decision -> the models that its answer can be compared with: every other one that it ranked."""
    if not decisions:
        return {}
    rows = connection.execute(_RANKED, {"decisions": list(decisions)})
    return {id: [c["model"] for c in candidates if c["model"] != model] for id, model, candidates in rows}


def _not_comparable(other: str, ranked: Sequence[str]) -> str:
    return (
        f"the decision did not rank {other!r} beside its own model; compare with one of {', '.join(ranked) or 'none'}"
    )
