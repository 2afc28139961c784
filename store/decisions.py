"""The decision log: decisions with all that was known when they were made, and the outcomes of their calls."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from agent.errors import UnknownDecision
from agent.types import Candidate, Decision, Evidence, TaskAssignment
from store.columns import Clock, trial_choice, trial_choice_json, utc_now
from store.database import Database
from store.outcomes import APPEND
from store.prompts import ENCODED, encoded, insert_or_ignore, prompt_row, table
from store.settings import PromptsSetting
from store.tables import DecisionTable, OutcomeTable, PromptTable
from store.writer import GroupCommitter


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRecord:
    """A decision and the request that it answered.

    Parameters
    ----------
    id
        Unique; the client gets it with the answer.
    created_at
        With a time zone.
    decision
        With its candidates, evidence and encoded prompt.
    encoder
        Fingerprint of the encoder that made ``decision.encoded``.
    prompt
        `store.prompts.canonical` of the conversation, whatever the setting: the log leaves the text out where it is not
        to be stored. None where it is not known.
    key
        Name of the API key.
    session
        The client's id of the conversation.
    cost_quality_tradeoff
        The request's ``cost_quality_tradeoff``.
    kind
        ``chat`` where the model was called, ``route`` where only the decision was requested, ``probe`` where a job called
        the model that joins, or one that it is compared with, ``shadow`` where it asked a second model.
    requested_model
        As the client wrote it.
    """

    id: str
    created_at: datetime
    decision: Decision
    encoder: str
    prompt: str | None = None
    key: str | None = None
    session: str | None = None
    cost_quality_tradeoff: float = 0.8
    kind: Literal["chat", "route", "probe", "shadow"] = "chat"
    requested_model: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the call that followed a decision ended; None where a figure is not known.

    Parameters
    ----------
    status
        ``cancelled`` where the client went away before the answer ended.
    latency_ms
        From the request to the end of the answer.
    error
        The upstream's message, where it failed.
    """

    status: Literal["ok", "error", "timeout", "cancelled"]
    latency_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    error: str | None = None


class DecisionLog:
    """Appends decisions and reads them.

    Parameters
    ----------
    prompts
        ``embedding``: prompts' texts are not stored.
    """

    def __init__(
        self, database: Database, writer: GroupCommitter, prompts: PromptsSetting = "full", clock: Clock = utc_now
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._prompts = prompts
        self._add_prompt = insert_or_ignore(PromptTable, database.dialect)
        self._add_decision = insert_or_ignore(DecisionTable, database.dialect)

    def append(self, record: DecisionRecord) -> Future[None]:
        """Write a decision; it is durable when the future resolves. A known id changes nothing."""
        prompt = prompt_row(record.prompt, record.encoder, record.decision.encoded, self._prompts, record.created_at)
        row = _row(record, prompt["id"])

        def work(session: Session) -> None:
            connection = session.connection()
            connection.execute(self._add_prompt, prompt)
            connection.execute(self._add_decision, row)

        return self._writer.submit(work)

    def complete(self, decision_id: str, outcome: Outcome, snapshot_cost: float | None = None) -> Future[None]:
        """Write an outcome, in place of an earlier one of the same decision; the first one enters the outcome log.

        The future raises `UnknownDecision` where there is no such decision.

        Parameters
        ----------
        snapshot_cost
            USD that the snapshot's cost model expected, see `agent.types.Candidate`; None or 0 where it knew none.
        """
        row = asdict(outcome) | {"decision_id": decision_id, "finished_at": self._clock()}
        logged = {
            f"log_{name}": row[name] for name in ("status", "output_tokens", "latency_ms", "cost_usd", "input_tokens")
        }
        logged |= {"log_snapshot_cost": snapshot_cost or None, "decision_id": decision_id}

        def work(session: Session) -> None:
            self._database.lock(session, "feedback")  # see `store.outcomes`
            connection = session.connection()
            known = table(OutcomeTable).c.decision_id == decision_id
            if connection.execute(table(OutcomeTable).update().where(known), row).rowcount:
                return
            try:
                connection.execute(table(OutcomeTable).insert(), row)
            except IntegrityError as error:
                raise UnknownDecision(f"no decision has the id {decision_id!r}", param="decision_id") from error
            connection.execute(APPEND, logged)

        return self._writer.submit(work)

    def get(self, decision_id: str) -> DecisionRecord | None:
        """A decision as it was appended; None where there is none of that id.

        Numbers that were not finite are NaN, and the prompt is as it was encoded first.
        """
        with self._database.session() as session:
            row = session.execute(_SELECT.where(DecisionTable.id == decision_id)).one_or_none()
        return None if row is None else _record(row)

    def models(self, ids: Sequence[str]) -> dict[str, str]:
        """decision id -> the model that it chose, for the ids that are known; at most a few thousand ids."""
        if not ids:
            return {}
        with self._database.session() as session:
            found = session.execute(select(DecisionTable.id, DecisionTable.model).where(DecisionTable.id.in_(ids)))
            return {id: model for id, model in found}

    def outcome(self, decision_id: str) -> Outcome | None:
        """The outcome of a decision's call; None where it is not known (yet)."""
        with self._database.session() as session:
            row = session.get(OutcomeTable, decision_id)
        return None if row is None else Outcome(**{name: getattr(row, name) for name in Outcome.__dataclass_fields__})

    def recent(self, limit: int = 50) -> list[DecisionRecord]:
        """The latest decisions, newest first."""
        latest = _SELECT.order_by(DecisionTable.created_at.desc(), DecisionTable.id).limit(limit)
        with self._database.session() as session:
            return [_record(row) for row in session.execute(latest)]

    def choices(self, limit: int) -> list[tuple[int, tuple[Candidate, ...]]]:
        """Task and candidates of the latest requests that were routed, newest first; those that named a model are left out."""
        d = DecisionTable
        routed = d.kind.in_(("chat", "route")) & (d.requested_model == "auto")
        latest = select(d.task, d.candidates).where(routed).order_by(d.created_at.desc(), d.id).limit(limit)
        with self._database.session() as session:
            return [(row.task, row.candidates) for row in session.execute(latest)]


_SELECT: Select[*tuple[Any, ...]] = select(
    *table(DecisionTable).c, PromptTable.encoder, PromptTable.text, *ENCODED
).join(PromptTable, PromptTable.id == DecisionTable.prompt_id)


def _row(record: DecisionRecord, prompt_id: str) -> dict[str, Any]:
    decision = record.decision
    return {
        "id": record.id,
        "created_at": record.created_at,
        "kind": record.kind,
        "prompt_id": prompt_id,
        "model": decision.model,
        "requested_model": record.requested_model,
        "key": record.key,
        "session": record.session,
        "cost_quality_tradeoff": record.cost_quality_tradeoff,
        "snapshot": decision.snapshot,
        "position": decision.position,
        "propensity": float(decision.chosen.propensity),
        "explored": bool(decision.explored),
        "task": int(decision.task.id),
        "task_name": decision.task.name,
        "task_probability": float(decision.task.probability),
        "candidates": decision.candidates,  # packed by the column
        "evidence": decision.evidence,
        "why": decision.why,
        "trial": None if decision.trial is None else decision.trial.trial,
        "trial_choice": trial_choice_json(decision.trial),
        "tasks": None if decision.tasks is None else list(decision.tasks.items()),
        "neighbourhood": decision.neighbourhood,
    }


def _record(row: Row[*tuple[Any, ...]]) -> DecisionRecord:
    decision = Decision(
        model=row.model,
        candidates=row.candidates,
        task=TaskAssignment(row.task, row.task_name, row.task_probability),
        evidence=tuple(Evidence(**e) for e in row.evidence),
        snapshot=row.snapshot,
        position=row.position,
        encoded=encoded(row),
        explored=row.explored,
        why=row.why,
        trial=trial_choice(row.trial, row.trial_choice),
        tasks=None if row.tasks is None else dict(row.tasks),
        neighbourhood=row.neighbourhood,
    )
    return DecisionRecord(
        id=row.id,
        created_at=row.created_at,
        decision=decision,
        encoder=row.encoder,
        prompt=row.text,
        key=row.key,
        session=row.session,
        cost_quality_tradeoff=row.cost_quality_tradeoff,
        kind=row.kind,
        requested_model=row.requested_model,
    )
