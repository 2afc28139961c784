"""The feedback log: append-only, in one order for all replicas.

A replica reads the log from the last row that it has read, so rows must be committed in the order of ``seq``: one that was
committed later with a lower number would never be read. PostgreSQL's sequences do not guarantee that order; therefore
appends take a lock before they get their numbers, and hold it until the commit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, Self, get_args

import orjson
from sqlalchemy import Connection, LargeBinary, Row, Text, bindparam, cast, func, insert, select, type_coerce
from sqlalchemy.orm import Session

from agent.errors import InvalidInput
from agent.feedback.checks import defect
from agent.observations import Observation, SetAside
from agent.types import Source, snapshot_estimate
from store.columns import Clock, clean, literal, trial_choice, utc_now
from store.database import Database
from store.packing import read_candidates
from store.prompts import ENCODED, encoded, table
from store.tables import DecisionTable, FeedbackTable, OutcomeTable, PromptTable
from store.writer import GroupCommitter

Thumb = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class FeedbackEvent:
    """A score of an answer, or a comparison of two models' answers.

    Parameters
    ----------
    decision_id
        The decision that chose the answer's model.
    score
        In [0, 1]. Of a comparison: 1 where the answer is preferred, 0 where that of ``other`` is, 0.5 for a tie.
    source
        ``user``, ``judge``, ``implicit``, or ``evaluation``: a true score.
    rater
        Name within the source; a later event of the same (decision, source, rater, other) revises the earlier one.
    comment
        Free text; nothing is learned from it.
    idempotency_key
        The client's id of the event: an event that is sent again under it is not recorded again.
    thumb
        What the rater gave, where it was a thumb instead of a number.
    other
        The model that the answer was compared with, a candidate of the decision; None for a score.
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
    """What was done with an event: ``seq`` is its position in the log (for a duplicate, that of the recorded event),
    ``reason`` says why it was refused, and ``param`` names the field at fault."""

    status: Literal["recorded", "revised", "duplicate", "refused"]
    seq: int | None
    reason: str | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class FeedbackRow:
    """A row of the log with the answer's model; ``revises`` is the score that it replaced."""

    seq: int
    created_at: datetime
    model: str
    event: FeedbackEvent
    revises: float | None


class FeedbackLog:
    """Appends feedback and reads it; without a ``writer`` it only reads."""

    def __init__(self, database: Database, writer: GroupCommitter | None = None, clock: Clock = utc_now) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock

    def append(self, events: Sequence[FeedbackEvent]) -> Future[list[Receipt]]:
        """Write events, all durable when the future resolves; one receipt per event, in their order."""

        def work(session: Session) -> list[Receipt]:
            self._database.lock(session, "feedback")
            return _append(session, events, self._clock())

        assert self._writer is not None, "this log was opened for reading"
        return self._writer.submit(work)

    def tail(
        self, after: int, limit: int = 1000, encoder: str | None = None, trial: int | None = None
    ) -> list[Observation]:
        """The ``limit`` observations after position ``after``, in order; fewer at the log's end, or without unreadable rows.

        Where ``encoder`` is given, only those whose prompts it encoded; where ``trial`` is, only those of its decisions.
        """
        return [row for row in self.page(after, limit, encoder, trial) if isinstance(row, Observation)]

    def page(
        self, after: int, limit: int = 1000, encoder: str | None = None, trial: int | None = None
    ) -> list[Observation | SetAside]:
        """The same with what nothing is learned from, as set aside: rows that cannot be read, because their decision is no
        JSON or lacks what it needs, and ratings of calls that had failed, which say nothing of the model's quality."""
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
                FeedbackTable.failed,
                DecisionTable.prompt_id,
                DecisionTable.model,
                DecisionTable.propensity,
                DecisionTable.task,
                type_coerce(DecisionTable.candidates, LargeBinary).label("candidates"),
                DecisionTable.trial,
                cast(DecisionTable.trial_choice, Text).label("trial_choice"),
                DecisionTable.snapshot,
                cast(DecisionTable.tasks, Text).label("tasks"),
                DecisionTable.neighbourhood,
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
        if trial is not None:
            query = query.where(DecisionTable.trial == trial)
        with self._database.session() as session:
            rows: Sequence[Row[*tuple[Any, ...]]] = session.execute(query).all()
        return [_readable(row) for row in rows]

    def between(self, after: int, upto: int, trial: int | None = None) -> list[Observation]:
        """The observations after position ``after``, up to and including position ``upto``, in order, without odd values.

        Where ``trial`` is given, only those of its decisions.
        """
        found: list[Observation] = []
        while after < upto and (page := self.page(after, trial=trial)):
            found += [row for row in page if isinstance(row, Observation) and row.seq <= upto and defect(row) is None]
            after = page[-1].seq
        return found

    def head(self) -> int:
        """The last position; 0 where the log is empty."""
        with self._database.session() as session:
            return session.scalar(select(func.max(FeedbackTable.seq))) or 0

    def count_since(self, seq: int) -> int:
        """Number of rows after a position."""
        with self._database.session() as session:
            return session.scalar(select(func.count()).where(FeedbackTable.seq > seq)) or 0

    def list(self, *, decision_id: str | None = None, limit: int = 100) -> list[FeedbackRow]:
        """The latest rows, newest first; where ``decision_id`` is given, of that decision."""
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
                        decision_id=row.decision_id,
                        score=row.score,
                        source=literal(row.source),
                        rater=row.rater,
                        comment=row.comment,
                        idempotency_key=row.idempotency_key,
                        thumb=literal(row.thumb),
                        other=row.other,
                        key=row.key or "",
                    ),
                    revises=row.revises,
                )
                for row, model in session.execute(query)
            ]


def _readable(row: Row[*tuple[Any, ...]]) -> Observation | SetAside:
    if row.failed is not None:
        return SetAside(row.seq, f"its call had failed ({row.failed}), which says nothing of the model's quality")
    try:
        return _observation(row)
    except Exception as error:  # of any kind: the next rows are read all the same
        return SetAside(row.seq, f"its decision cannot be read ({type(error).__name__}: {error})")


def _observation(row: Row[*tuple[Any, ...]]) -> Observation:
    ranked = read_candidates(row.candidates)
    rated = {c.model: c for c in ranked if c.model in (row.model, row.other)}
    expected = {model: c.expected for model, c in rated.items()}
    tasks = None if row.tasks is None else dict(orjson.loads(row.tasks))
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
        actions=tuple(c.action for c in ranked if c.excluded is None),
        encoder=row.encoder,
        trial=trial_choice(row.trial, row.trial_choice),
        estimate=snapshot_estimate(row.snapshot, row.task, tasks, rated.values(), row.neighbourhood),
    )


# Built once: building and compiling them would cost each append more than running them.
_f, _d = table(FeedbackTable).c, table(DecisionTable).c
_KNOWN = select(_d.id).where(_d.id.in_(bindparam("decisions", expanding=True)))
_RANKED = select(_d.id, _d.model, _d.candidates).where(_d.id.in_(bindparam("decisions", expanding=True)))
_USED = select(_f.idempotency_key, _f.decision_id, _f.seq).where(
    _f.idempotency_key.in_(bindparam("keys", expanding=True))
)
_SCORES = (
    select(_f.decision_id, _f.source, _f.rater, _f.other, _f.score)
    .where(_f.decision_id.in_(bindparam("decisions", expanding=True)))
    .order_by(_f.seq)
)
_o = table(OutcomeTable).c
_FAILED = select(_o.decision_id, _o.status).where(
    _o.decision_id.in_(bindparam("decisions", expanding=True)), _o.status != "ok"
)
_ADD = insert(table(FeedbackTable)).returning(_f.seq, sort_by_parameter_order=True)


def _append(session: Session, events: Sequence[FeedbackEvent], now: datetime) -> list[Receipt]:
    """Check each event against the log and the events before it, then insert the new ones in one statement."""
    connection = session.connection()
    known = _Known.read(connection, events)
    rows: list[dict[str, Any]] = []
    receipts = []
    for event in events:
        row = _row(event, now)
        receipt = known.refusal_or_duplicate(row)
        if receipt is None:
            receipt = known.accept(row, place=-1 - len(rows))
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
    """What events are checked against: the log, and the events that were accepted so far.

    Parameters
    ----------
    decisions
        Ids of the events' decisions that exist.
    ranked
        decision -> the models that its answer can be compared with, for decisions of comparisons.
    used
        idempotency key -> its decision and position in the log; for the new row i, -1 - i.
    scores
        (decision, source, rater, other) -> the latest score.
    failed
        decision -> how its call failed, as far as its outcome is known by now.
    """

    decisions: set[str]
    ranked: Mapping[str, Sequence[str]]
    used: dict[str, tuple[str, int]]
    scores: dict[tuple[str, str, str, str | None], float]
    failed: Mapping[str, str]

    @classmethod
    def read(cls, connection: Connection, events: Sequence[FeedbackEvent]) -> Self:
        """Read what ``events`` refer to."""
        decisions = list({clean(event.decision_id) for event in events})
        keys = list({clean(event.idempotency_key) for event in events if event.idempotency_key})
        compared = list({clean(event.decision_id) for event in events if event.other is not None})
        known = set(connection.execute(_KNOWN, {"decisions": decisions}).scalars())
        used = connection.execute(_USED, {"keys": keys}).all() if keys else []
        ranked = connection.execute(_RANKED, {"decisions": compared}).all() if compared else []
        return cls(
            decisions=known,
            ranked={id: [c.model for c in candidates if c.model != model] for id, model, candidates in ranked},
            used={key: (decision, seq) for key, decision, seq in used},
            scores={tuple(key): score for *key, score in connection.execute(_SCORES, {"decisions": list(known)})},
            failed={decision: status for decision, status in connection.execute(_FAILED, {"decisions": list(known)})},
        )

    def refusal_or_duplicate(self, row: Mapping[str, Any]) -> Receipt | None:
        """The receipt of a row that is not to be inserted, else None."""
        decision, other, key = row["decision_id"], row["other"], row["idempotency_key"]
        if decision not in self.decisions:
            return Receipt("refused", None, f"no decision has the id {decision!r}", "decision_id")
        if other is not None and other not in self.ranked[decision]:
            models = ", ".join(self.ranked[decision]) or "none"
            return Receipt(
                "refused", None, f"the decision ranked no {other!r} beside its own model; give one of {models}", "other"
            )
        if key not in self.used:
            return None
        owner, seq = self.used[key]
        if owner == decision:
            return Receipt("duplicate", seq)
        reason = f"idempotency_key {key!r} was used for another decision; make a new one"
        return Receipt("refused", None, reason, "idempotency_key")

    def accept(self, row: dict[str, Any], place: int) -> Receipt:
        """The receipt of a row that is to be inserted; sets its ``revises`` and ``failed``."""
        key = (row["decision_id"], row["source"], row["rater"], row["other"])
        row["revises"] = self.scores.get(key)
        row["failed"] = self.failed.get(row["decision_id"])
        self.scores[key] = row["score"]
        if row["idempotency_key"] is not None:
            self.used[row["idempotency_key"]] = (row["decision_id"], place)
        return Receipt("recorded" if row["revises"] is None else "revised", place)
