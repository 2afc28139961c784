"""The decision log: what was chosen, with all that was known then; durable before the answer goes out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import Row, Select, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from agent.errors import UnknownDecision
from agent.types import Candidate, Decision, Evidence, TaskAssignment
from store.columns import utc_now
from store.database import Database
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
        As the client is told; unique.
    created_at
        Aware.
    decision
        With its candidates, evidence and encoded prompt.
    encoder
        Fingerprint of the encoder that made ``decision.encoded``.
    prompt
        `store.prompts.canonical` of the conversation. Give it whatever the setting: the log drops the text itself
        where it may not be kept.
    key
        Name of the API key.
    session
        The client's name for the conversation.
    tradeoff
        The request's ``cost_quality_tradeoff``.
    kind
        ``chat`` where the model was called, ``route`` where only the decision was asked for.
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
    tradeoff: float = 0.8
    kind: Literal["chat", "route"] = "chat"
    requested_model: str = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a decision's call; None where it is not known.

    Parameters
    ----------
    status
        ``cancelled`` where the client went away before the answer ended.
    latency_ms
        From request to the answer's end.
    error
        The upstream's own words, where it failed.
    """

    status: Literal["ok", "error", "timeout", "cancelled"]
    latency_ms: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost_usd: float | None = None
    error: str | None = None


class DecisionLog:
    """Appends decisions and gives them back whole.

    Parameters
    ----------
    database, writer
        Where to, and by whom.
    prompts
        ``embedding`` keeps no prompt's text.
    """

    def __init__(self, database: Database, writer: GroupCommitter, prompts: PromptsSetting = "full") -> None:
        self._database = database
        self._writer = writer
        self._prompts = prompts
        self._add_prompt = insert_or_ignore(PromptTable, database.dialect)
        self._add_decision = insert_or_ignore(DecisionTable, database.dialect)

    def append(self, record: DecisionRecord) -> Future[None]:
        """Write a decision; it is durable when the future resolves. The same id again changes nothing."""
        prompt = prompt_row(record.prompt, record.encoder, record.decision.encoded, self._prompts, record.created_at)
        row = _row(record, prompt["id"])

        def work(session: Session) -> None:
            connection = session.connection()
            connection.execute(self._add_prompt, prompt)
            connection.execute(self._add_decision, row)

        return self._writer.submit(work)

    def complete(self, decision_id: str, outcome: Outcome) -> Future[None]:
        """Write what came of a call; a later word replaces an earlier one.

        The future raises `UnknownDecision` where there is no such decision.
        """
        row = {
            "decision_id": decision_id,
            "status": outcome.status,
            "latency_ms": outcome.latency_ms,
            "input_tokens": outcome.input_tokens,
            "output_tokens": outcome.output_tokens,
            "cost_usd": outcome.cost_usd,
            "error": outcome.error,
            "finished_at": utc_now(),
        }

        def work(session: Session) -> None:
            connection = session.connection()
            known = table(OutcomeTable).c.decision_id == decision_id
            if connection.execute(table(OutcomeTable).update().where(known), row).rowcount:
                return
            try:
                connection.execute(table(OutcomeTable).insert(), row)
            except IntegrityError as error:
                raise UnknownDecision(f"no decision has the id {decision_id!r}", param="decision_id") from error

        return self._writer.submit(work)

    def get(self, decision_id: str) -> DecisionRecord | None:
        """A decision as it was appended; None where there is none of that id.

        A number that was not finite comes back as NaN, and the prompt as it was encoded when it was first seen.
        """
        with self._database.session() as session:
            row = session.execute(_SELECT.where(DecisionTable.id == decision_id)).one_or_none()
        return None if row is None else _record(row)

    def models(self, ids: Sequence[str]) -> dict[str, str]:
        """decision id -> the model that it chose, for those that there are; at most a few thousand ids."""
        if not ids:
            return {}
        with self._database.session() as session:
            found = session.execute(select(DecisionTable.id, DecisionTable.model).where(DecisionTable.id.in_(ids)))
            return {id: model for id, model in found}

    def outcome(self, decision_id: str) -> Outcome | None:
        """What came of a decision's call; None where nothing is known (yet)."""
        with self._database.session() as session:
            row = session.get(OutcomeTable, decision_id)
        if row is None:
            return None
        return Outcome(
            status=row.status,  # type: ignore[arg-type]
            latency_ms=row.latency_ms,
            input_tokens=row.input_tokens,
            output_tokens=row.output_tokens,
            cost_usd=row.cost_usd,
            error=row.error,
        )

    def recent(self, limit: int = 50) -> list[DecisionRecord]:
        """The latest decisions, newest first."""
        latest = _SELECT.order_by(DecisionTable.created_at.desc(), DecisionTable.id).limit(limit)
        with self._database.session() as session:
            return [_record(row) for row in session.execute(latest)]


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
        "tradeoff": record.tradeoff,
        "snapshot": decision.snapshot,
        "position": decision.position,
        "propensity": float(decision.chosen.propensity),
        "explored": bool(decision.explored),
        "task": int(decision.task.id),
        "task_name": decision.task.name,
        "task_probability": float(decision.task.probability),
        "candidates": decision.candidates,  # dataclasses, which orjson writes as objects
        "evidence": decision.evidence,
        "why": decision.why,
    }


def _record(row: Row[*tuple[Any, ...]]) -> DecisionRecord:
    decision = Decision(
        model=row.model,
        candidates=candidates(row.candidates),
        task=TaskAssignment(row.task, row.task_name, row.task_probability),
        evidence=tuple(Evidence(**e) for e in row.evidence),
        snapshot=row.snapshot,
        position=row.position,
        encoded=encoded(row),
        explored=row.explored,
        why=row.why,
    )
    return DecisionRecord(
        id=row.id,
        created_at=row.created_at,
        decision=decision,
        encoder=row.encoder,
        prompt=row.text,
        key=row.key,
        session=row.session,
        tradeoff=row.tradeoff,
        kind=row.kind,
        requested_model=row.requested_model,
    )


_NUMBERS = ("quality", "stderr", "cost", "utility", "propensity")


def candidates(rows: Sequence[dict[str, Any]]) -> tuple[Candidate, ...]:
    """The column ``candidates`` of a decision. JSON has no NaN or infinity: null stands where a number was not finite."""
    return tuple(Candidate(**(row | {n: math.nan for n in _NUMBERS if row[n] is None})) for row in rows)
