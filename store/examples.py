"""From scores by (prompt, model) to the arrays that training reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from agent.examples import Examples
from agent.feedback.ledger import Ledger
from agent.types import Drift
from store.database import Database
from store.tables import DecisionTable, FeedbackTable, PromptTable

_IDS_A_QUERY = 10_000
"""Databases bound the number of parameters of a statement."""


class Score(NamedTuple):
    """What one model scored (and cost, in USD, where known) on one prompt; several on the same pair are averaged."""

    prompt: str
    model: str
    score: float
    cost: float | None = None


def feedback_examples(
    database: Database, encoder: str, upto: int, ledger: Ledger | None = None, drifts: Sequence[Drift] = ()
) -> Examples:
    """What feedback says, up to position ``upto`` of the log.

    Of each (decision, source, rater) the latest score counts, calibrated, weighed and rationed by ``ledger`` (None: one
    that has heard nothing yet); their weighted means by prompt and model are the examples' scores, which may lie outside
    [0, 1], and their weights together, up to 1, the examples' weights. A comparison is no score. Scores from before a model
    changed (``drifts``) are moved by the change and count for little.
    """
    ledger = ledger or Ledger()
    f, d = FeedbackTable, DecisionTable
    ratings = (
        select(func.min(f.seq).label("first"), func.max(f.seq).label("last"))
        .where(f.seq <= upto, f.other.is_(None))
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
        heard = ledger.mean_scores(session.execute(query), drifts)
        examples = assemble(session, [Score(*pair, word.value) for pair, word in heard.items()])
    row, column = ({name: i for i, name in enumerate(names)} for names in (examples.ids, examples.models))
    weights = np.zeros(examples.scores.shape)
    for (prompt, model), word in heard.items():
        weights[row[prompt], column[model]] = word.weight
    return replace(examples, weights=weights)


def assemble(session: Session, scores: Sequence[Score], models: Sequence[str] | None = None) -> Examples:
    """Lay scores out as (prompts, models), beside the prompts' embeddings, features and texts.

    Parameters
    ----------
    scores
        Of prompts that one encoder encoded.
    models
        The columns; prompts without a score in any of them are left out. None for every model in ``scores``.
    """
    columns = tuple(sorted({s.model for s in scores}) if models is None else models)
    column = {model: j for j, model in enumerate(columns)}
    scores = [s for s in scores if s.model in column]
    ids = tuple(sorted({s.prompt for s in scores}))
    place = {prompt: i for i, prompt in enumerate(ids)}
    rows = np.array([place[s.prompt] for s in scores], np.int64)
    cols = np.array([column[s.model] for s in scores], np.int64)
    shape = (len(ids), len(columns))
    costs = _mean(shape, rows, cols, np.array([np.nan if s.cost is None else s.cost for s in scores], np.float64))

    found = {}
    for start in range(0, len(ids), _IDS_A_QUERY):
        query = select(PromptTable.id, PromptTable.embedding, PromptTable.features, PromptTable.text)
        for row in session.execute(query.where(PromptTable.id.in_(ids[start : start + _IDS_A_QUERY]))):
            found[row.id] = row
    prompts = [found[i] for i in ids]
    return Examples(
        ids=ids,
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
    """(prompts, models) means of the values that are known, NaN where there is none."""
    known = ~np.isnan(values)
    total, count = np.zeros(shape), np.zeros(shape)
    np.add.at(total, (rows[known], cols[known]), values[known])
    np.add.at(count, (rows[known], cols[known]), 1.0)
    mean = np.full(shape, np.nan)
    np.divide(total, count, out=mean, where=count > 0)
    return mean
