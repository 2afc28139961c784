"""The feedback log: append-only, in an order that all replicas agree on.

A replica learns by reading the log from where it stopped, so the order of ``seq`` must be the order of commits: a row
that committed late with an early number would never be read. On PostgreSQL, whose sequences promise no such thing,
appends take a lock before they draw their numbers and hold it until they have committed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Self, get_args

from sqlalchemy import Connection, Row, bindparam, func, insert, select
from sqlalchemy.orm import Session

from agent.errors import InvalidInput
from agent.types import Observation, Source
from store.columns import clean, utc_now
from store.database import Database
from store.decisions import candidates
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
    """What became of an event.

    ``seq`` is its place in the log (of the first one for a duplicate), ``reason`` why it was refused and ``param`` the
    field at fault.
    """

    status: Literal["recorded", "revised", "duplicate", "refused"]
    seq: int | None
    reason: str | None = None
    param: str | None = None


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

    def tail(self, after: int, limit: int = 1000, encoder: str | None = None) -> list[Observation]:
        """The observations that follow position ``after``, in order; shorter than ``limit`` at the log's end.

        Only those whose prompts ``encoder`` encoded, where it is named.
        """
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
                PromptTable.encoder,
                *ENCODED,
            )
            .join(DecisionTable, DecisionTable.id == FeedbackTable.decision_id)
            .join(PromptTable, PromptTable.id == DecisionTable.prompt_id)
            .where(FeedbackTable.seq > after)
            .order_by(FeedbackTable.seq)
            .limit(limit)
        )
        if encoder is not None:
            query = query.where(PromptTable.encoder == encoder)
        with self._database.session() as session:
            rows: Sequence[Row[*tuple[Any, ...]]] = session.execute(query).all()
        return [_observation(row) for row in rows]

    def between(self, after: int, upto: int) -> list[Observation]:
        """The observations that follow position ``after``, up to and with position ``upto``, in order."""
        found: list[Observation] = []
        while page := self.tail(found[-1].seq if found else after):
            found += [o for o in page if o.seq <= upto]
            if page[-1].seq >= upto:
                break
        return found

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
    weighed = candidates(row.candidates)
    expected = {c.model: c.quality for c in weighed}
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
        expected=expected.get(row.model, math.nan),
        task=row.task,
        other=row.other,
        expected_other=expected.get(row.other, math.nan),
        key=row.key or "",
        actions=tuple(c.action for c in weighed if c.excluded is None),
        encoder=row.encoder,
    )


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
    connection = session.connection()
    known = _Known.read(connection, events)
    now = utc_now()
    rows: list[dict[str, Any]] = []
    receipts = []
    for event in events:
        row = _row(event, now)
        receipt = known.refusal_or_duplicate(row)
        if receipt is None:
            receipt = known.take(row, place=-1 - len(rows))
            rows.append(row)
        receipts.append(receipt)
    seqs = list(connection.execute(_ADD, rows).scalars()) if rows else []
    return [r if r.seq is None or r.seq > 0 else replace(r, seq=seqs[-1 - r.seq]) for r in receipts]


def _row(event: FeedbackEvent, now: datetime) -> dict[str, Any]:
    return {
        "decision_id": clean(event.decision_id),
        "score": event.score,
        "source": event.source,
        "rater": clean(event.rater),
        "comment": event.comment,
        "thumb": event.thumb,
        "idempotency_key": clean(event.idempotency_key) if event.idempotency_key else None,
        "created_at": now,
        "other": None if event.other is None else clean(event.other),
        "key": event.key or None,
    }


@dataclass(frozen=True, slots=True)
class _Known:
    """What events are judged against; grows with the events that are taken.

    Parameters
    ----------
    decisions
        Those that there are, of the ones that are named.
    ranked
        decision -> the models that its answer can be compared with, where an event compares.
    used
        idempotency key -> its decision and place in the log; a place among the new rows is -1 - its index.
    said
        (decision, source, rater, other) -> the latest score.
    """

    decisions: set[str]
    ranked: Mapping[str, Sequence[str]]
    used: dict[str, tuple[str, int]]
    said: dict[tuple[str, str, str, str | None], float]

    @classmethod
    def read(cls, connection: Connection, events: Sequence[FeedbackEvent]) -> Self:
        """Look up all that ``events`` touch."""
        decisions = list({clean(event.decision_id) for event in events})
        keys = list({clean(event.idempotency_key) for event in events if event.idempotency_key})
        compared = list({clean(event.decision_id) for event in events if event.other is not None})
        known = set(connection.execute(_KNOWN, {"decisions": decisions}).scalars())
        used = connection.execute(_USED, {"keys": keys}).all() if keys else []
        ranked = connection.execute(_RANKED, {"decisions": compared}).all() if compared else []
        return cls(
            decisions=known,
            ranked={id: [c["model"] for c in candidates if c["model"] != model] for id, model, candidates in ranked},
            used={key: (decision, seq) for key, decision, seq in used},
            said={tuple(who): score for *who, score in connection.execute(_SAID, {"decisions": list(known)})},
        )

    def refusal_or_duplicate(self, row: Mapping[str, Any]) -> Receipt | None:
        """The receipt of a row that is not to be inserted; None for one that is."""
        decision, other, key = row["decision_id"], row["other"], row["idempotency_key"]
        if decision not in self.decisions:
            return Receipt("refused", None, f"no decision has the id {decision!r}", "decision_id")
        if other is not None and other not in self.ranked[decision]:
            choice = ", ".join(self.ranked[decision]) or "none"
            return Receipt(
                "refused", None, f"the decision ranked no {other!r} beside its own model; give one of {choice}", "other"
            )
        if key not in self.used:
            return None
        owner, seq = self.used[key]
        if owner == decision:
            return Receipt("duplicate", seq)
        reason = f"idempotency_key {key!r} was used for another decision; make a new one"
        return Receipt("refused", None, reason, "idempotency_key")

    def take(self, row: dict[str, Any], place: int) -> Receipt:
        """The receipt of a row that is inserted, which learns here what it revises."""
        who = (row["decision_id"], row["source"], row["rater"], row["other"])
        row["revises"] = self.said.get(who)
        self.said[who] = row["score"]
        if row["idempotency_key"] is not None:
            self.used[row["idempotency_key"]] = (row["decision_id"], place)
        return Receipt("recorded" if row["revises"] is None else "revised", place)
