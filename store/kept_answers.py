"""Answers to requests that are kept until they are judged, with what is known of their decisions; then they are deleted.

Only where the settings ask for the judging of live answers, and prompts' texts are stored, does a replica keep any.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from agent.types import Candidate
from store.columns import Clock, utc_now
from store.database import Database
from store.prompts import insert_or_ignore
from store.tables import DecisionTable, FeedbackTable, KeptAnswerTable, OutcomeTable, PromptTable
from store.writer import GroupCommitter

PAGE = 1000
"""Answers that are looked at together, the latest first."""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """An answer, and the decision that it belongs to.

    Parameters
    ----------
    shadow
        Whether a second model is to answer too.
    prompt, prompt_id
        The conversation as `store.prompts.canonical` has it, and its id.
    candidates, explored, task
        Of the decision.
    ratings
        What users gave the answer so far, in [0, 1].
    """

    decision_id: str
    answer: str
    shadow: bool
    kept_at: datetime
    prompt: str
    prompt_id: str
    model: str
    candidates: tuple[Candidate, ...]
    explored: bool
    task: int
    ratings: tuple[float, ...]


class KeptAnswers:
    """Keeps answers, and lets them go; without a ``writer`` it keeps none."""

    def __init__(self, database: Database, writer: GroupCommitter | None = None, clock: Clock = utc_now) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._add = insert_or_ignore(KeptAnswerTable, database.dialect)

    def keep(self, decision_id: str, answer: str, *, shadow: bool) -> Future[None]:
        """Keep the answer that followed a decision."""
        row = {"decision_id": decision_id, "answer": answer, "shadow": shadow, "kept_at": self._clock()}

        def work(session: Session) -> None:
            session.connection().execute(self._add, row)

        assert self._writer is not None, "nothing is kept without a writer"
        return self._writer.submit(work)

    def any(self) -> bool:
        """Whether an answer waits."""
        with self._database.session() as session:
            return session.scalar(select(KeptAnswerTable.decision_id).limit(1)) is not None

    def waiting(self) -> list[KeptAnswer]:
        """The latest `PAGE` answers of which the prompt's text is known and the call did not fail, newest first."""
        k, d, f, o = KeptAnswerTable, DecisionTable, FeedbackTable, OutcomeTable
        query = (
            select(k.decision_id, k.answer, k.shadow, k.kept_at, PromptTable.text.label("prompt"), d.prompt_id, d.model,
                   d.candidates, d.explored, d.task)
            .join(d, d.id == k.decision_id)
            .join(PromptTable, PromptTable.id == d.prompt_id)
            .join(o, o.decision_id == d.id)
            .where(PromptTable.text.is_not(None), o.status == "ok")
            .order_by(k.kept_at.desc(), k.decision_id)
            .limit(PAGE)
        )  # fmt: skip
        given = select(f.decision_id, f.score).join(k, k.decision_id == f.decision_id)
        given = given.where(f.source == "user", f.other.is_(None)).order_by(f.seq)
        ratings: dict[str, list[float]] = {}
        with self._database.session() as session:
            for decision, score in session.execute(given):
                ratings.setdefault(decision, []).append(score)
            rows = session.execute(query).all()
        return [KeptAnswer(**row._asdict(), ratings=tuple(ratings.get(row.decision_id, ()))) for row in rows]

    def let_go(self, decision_ids: Sequence[str]) -> None:
        """Delete answers, which are judged."""
        self._delete(KeptAnswerTable.decision_id.in_(decision_ids))

    def expire(self, before: datetime) -> int:
        """Delete the answers that were kept earlier than this, judged or not; returns their number."""
        return self._delete(KeptAnswerTable.kept_at < before)

    def _delete(self, which: object) -> int:
        gone = delete(KeptAnswerTable).where(which)  # type: ignore[arg-type]
        with self._database.session(write=True) as session:
            n = session.execute(gone).rowcount  # type: ignore[attr-defined]
            session.commit()
        return int(n)
