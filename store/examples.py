"""Examples for training, from scores in the database: those of evaluations as imported, those of feedback calibrated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from agent.examples import Examples
from agent.feedback.checks import readable
from agent.feedback.ledger import Ledger
from agent.observations import Drift
from store.database import Database
from store.tables import DecisionTable, FeedbackTable, OutcomeTable, PromptTable

_IDS_A_QUERY = 10_000
"""Databases limit the number of parameters of a statement."""


class Score(NamedTuple):
    """Score in [0, 1] of a model on a prompt, and its cost in USD where known."""

    prompt: str
    model: str
    score: float
    cost: float | None = None


def to_examples(session: Session, scores: Sequence[Score], models: Sequence[str] | None = None) -> Examples:
    """``scores`` as a (prompts, models) array, with the prompts' embeddings, features and texts.

    A prompt whose embedding or features cannot be read is left out.

    Parameters
    ----------
    scores
        Of prompts that one encoder encoded; those of the same prompt and model are averaged.
    models
        The columns; prompts without a score of any of them are left out. None for every model in ``scores``.
    """
    columns = tuple(sorted({s.model for s in scores}) if models is None else models)
    column = {model: j for j, model in enumerate(columns)}
    found: list[Row[*tuple[Any, ...]]] = []
    ids = sorted({s.prompt for s in scores if s.model in column})
    for start in range(0, len(ids), _IDS_A_QUERY):
        query = select(PromptTable.id, PromptTable.embedding, PromptTable.features, PromptTable.text)
        found += session.execute(query.where(PromptTable.id.in_(ids[start : start + _IDS_A_QUERY])))
    fits = readable([p.embedding for p in found]) & readable([p.features for p in found])
    prompts = sorted((p for p, fit in zip(found, fits) if fit), key=lambda p: str(p.id))
    row = {p.id: i for i, p in enumerate(prompts)}
    scores = [s for s in scores if s.model in column and s.prompt in row]
    rows = np.array([row[s.prompt] for s in scores], np.int64)
    cols = np.array([column[s.model] for s in scores], np.int64)
    shape = (len(prompts), len(columns))
    costs = _mean(shape, rows, cols, np.array([np.nan if s.cost is None else s.cost for s in scores], np.float64))
    return Examples(
        ids=tuple(p.id for p in prompts),
        embeddings=np.stack([p.embedding for p in prompts]) if prompts else np.zeros((0, 0), np.float32),
        features=np.stack([p.features for p in prompts]) if prompts else np.zeros((0, 0), np.float32),
        scores=_mean(shape, rows, cols, np.array([s.score for s in scores], np.float64)),
        models=columns,
        costs=None if np.isnan(costs).all() else costs,
        texts=tuple(p.text or "" for p in prompts),
    )


def _mean(
    shape: tuple[int, int], rows: NDArray[np.int64], cols: NDArray[np.int64], values: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(prompts, models) means of the values, of those that are not NaN; NaN where there is none."""
    known = ~np.isnan(values)
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (rows[known], cols[known]), values[known])
    np.add.at(count, (rows[known], cols[known]), 1.0)
    mean = np.full(shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean


def feedback_examples(
    database: Database, encoder: str, upto: int, ledger: Ledger | None = None, drifts: Sequence[Drift] = ()
) -> Examples:
    """The scores of the feedback log up to position ``upto``, for prompts that ``encoder`` encoded.

    Of each (decision, source, rater) the latest score counts; comparisons, and ratings of calls that had failed, do not.
    ``ledger`` (None: one that has learned nothing) calibrates and weights them. An example's score is their weighted mean by
    prompt and model, which may lie outside [0, 1]; its weight is the sum of theirs, at most 1. Scores from before a model
    changed (``drifts``) are shifted by the change and weigh little. Its cost is the mean of what the calls cost.
    """
    ledger = ledger or Ledger()
    f, d = FeedbackTable, DecisionTable
    ratings = (
        select(func.min(f.seq).label("first"), func.max(f.seq).label("last"))
        .where(f.seq <= upto, f.other.is_(None), f.failed.is_(None))
        .group_by(f.decision_id, f.source, f.rater)
        .subquery()
    )
    query = (
        # A revision stands where its first rating stood, or one of a score from before a drift would count as new.
        select(ratings.c.first.label("seq"), f.score, f.source, f.rater, f.key, d.task, d.prompt_id, d.model)
        .join(ratings, ratings.c.last == f.seq)
        .join(d, d.id == f.decision_id)
        .join(PromptTable, PromptTable.id == d.prompt_id)
        .where(PromptTable.encoder == encoder)
        .order_by(ratings.c.first)
    )
    with database.session() as session:
        means = ledger.mean_scores(session.execute(query), drifts)
        costs = _costs(session, encoder, upto)
        examples = to_examples(session, [Score(*pair, mean.value, costs.get(pair)) for pair, mean in means.items()])
    row, column = ({name: i for i, name in enumerate(names)} for names in (examples.ids, examples.models))
    weights = np.zeros(examples.scores.shape)
    for (prompt, model), mean in means.items():
        if prompt in row:  # else it cannot be read
            weights[row[prompt], column[model]] = mean.weight
    return replace(examples, weights=weights)


def _costs(session: Session, encoder: str, upto: int) -> dict[tuple[str, str], float]:
    """(prompt, model) -> mean USD of the answered calls that were rated, where it is known."""
    f, d, o = FeedbackTable, DecisionTable, OutcomeTable
    rated = select(f.decision_id).where(f.seq <= upto)
    query = (
        select(d.prompt_id, d.model, func.avg(o.cost_usd))
        .join(o, o.decision_id == d.id)
        .join(PromptTable, PromptTable.id == d.prompt_id)
        .where(PromptTable.encoder == encoder, o.status == "ok", o.cost_usd.is_not(None), d.id.in_(rated))
        .group_by(d.prompt_id, d.model)
    )
    return {(prompt, model): float(cost) for prompt, model, cost in session.execute(query)}
