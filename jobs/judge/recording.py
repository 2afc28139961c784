"""Answers that a job asked for, each recorded under a decision for its model, so that it is learned from as from any."""

from __future__ import annotations

from typing import Literal

import numpy as np

from agent.errors import NoCandidate
from agent.router import Router
from agent.types import RouteRequest
from jobs.calls.client import Answer
from jobs.context import JobContext
from store.decisions import DecisionLog, DecisionRecord, Outcome
from store.pool.file import PoolModel
from store.prompts import turns_of


class AnswerLog:
    """Records answers; the decisions are those of ``router``, which has every model that is asked."""

    def __init__(self, ctx: JobContext, router: Router) -> None:
        self._ctx = ctx
        self._router = router
        self._decisions = DecisionLog(ctx.database, ctx.writer, ctx.settings.store_prompts, ctx.clock)
        self._rng = np.random.default_rng(ctx.settings.seed)

    def record(
        self, id: str, kind: Literal["probe", "shadow"], text: str, model: PoolModel, answer: Answer
    ) -> str | None:
        """Record the decision for ``model`` to answer the prompt ``text``, and what the call came to; its id.

        None where the model could not have been chosen: the prompt is longer than its context, say.
        """
        turns = turns_of(text)
        request = RouteRequest(turns, candidates=(model.card.name,), explore=False)
        try:
            decision = self._router.route(self._ctx.encoder.encode([turns])[0], request, self._rng)
        except NoCandidate:
            return None
        record = DecisionRecord(
            id=id,
            created_at=self._ctx.clock(),
            decision=decision,
            encoder=self._router.snapshot.encoder,
            prompt=text,
            cost_quality_tradeoff=request.cost_quality_tradeoff,
            kind=kind,
            requested_model=model.card.name,
        )
        self._decisions.append(record).result()
        outcome = Outcome(
            status="ok",
            latency_ms=answer.latency_ms,
            input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens,
            cost_usd=answer.cost(model),
        )
        self._decisions.complete(record.id, outcome, decision.chosen.snapshot_cost).result()
        return record.id
