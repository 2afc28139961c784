"""What a model that joined has changed since: reads the decisions, the scores of their answers and what they cost."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from math import isfinite
from typing import Any

from sqlalchemy import select

from agent.evaluation.effect import LoggedChoice, RealisedEffect, realised_effect
from agent.evaluation.off_policy import Value
from agent.feedback.state import latest_ratings, ledger_after
from agent.snapshot import Snapshot
from jobs.context import JobContext
from store.tables import DecisionTable, OutcomeTable

LATEST = 2000
"""Decisions that are read at most, the latest."""

AUTO = "auto"


def read_effect(ctx: JobContext, champion: Snapshot, model: str, since: datetime) -> RealisedEffect:
    """The effect of ``model`` by the latest decisions since a time, of requests that named no model.

    Scores are calibrated by the ledger as it was when the champion was trained.
    """
    d = DecisionTable
    query = (
        select(d.id, d.model, d.candidates, d.position, OutcomeTable.cost_usd)
        .outerjoin(OutcomeTable, OutcomeTable.decision_id == d.id)
        .where(d.created_at >= since, d.kind == "chat", d.requested_model == AUTO)
        .order_by(d.created_at.desc(), d.id)
        .limit(LATEST)
    )
    with ctx.database.session() as session:
        rows = session.execute(query).all()
    first = min((row.position for row in rows), default=0)
    ids = {row.id for row in rows}
    ratings = [o for o in ctx.feedback.between(first, ctx.feedback.head()) if o.decision_id in ids and o.other is None]
    by_decision = (replace(o, prompt_id=o.decision_id) for o in latest_ratings(ratings))
    scores = ledger_after(champion, ()).mean_scores(by_decision)
    choices = []
    for row in rows:
        score = scores.get((row.id, row.model))
        known = {} if score is None else {"score": score.value, "score_weight": score.weight}
        choices.append(LoggedChoice(row.model, row.candidates, usd=row.cost_usd, **known))
    return realised_effect(model, choices)


def as_json(effect: RealisedEffect, since: datetime) -> dict[str, Any]:
    """What a join keeps of it."""
    values = {name: _value(getattr(effect, name)) for name in ("quality", "usd", "others_error")}
    return {"since": since.isoformat(), "requests": effect.requests, "answered": effect.answered, **values}


def _value(value: Value) -> dict[str, Any]:
    known = isfinite(value.stderr)
    return asdict(value) | {"mean": value.mean if known else None, "stderr": value.stderr if known else None}
