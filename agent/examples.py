"""Training data: prompts with the scores, weights and costs of models on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.types import Array


@dataclass(frozen=True, slots=True)
class Scores:
    """(n, m) ``value`` of each score and its ``score_weight`` in [0, 1], an evaluation's being 1; both 0 where not observed."""

    value: Array
    score_weight: Array

    @classmethod
    def of(cls, examples: Examples) -> Scores:
        """All scores of ``examples``."""
        return cls(np.nan_to_num(examples.scores, nan=0.0), examples.score_weight)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(n, m) which scores have a weight above 0."""
        return self.score_weight > 0.0

    @property
    def complete(self) -> bool:
        """Whether every model has an evaluation on every prompt."""
        return bool((self.score_weight == 1.0).all())

    def without(self, rows: NDArray[np.bool_]) -> Scores:
        """The same with the scores of ``rows`` (n,) hidden."""
        return Scores(self.value, np.where(rows[:, None], 0.0, self.score_weight))

    def residual(self, estimate: Array) -> Array:
        """(n, m) score less ``estimate``, 0 where not observed."""
        return np.where(self.seen, self.value - estimate, 0.0)


@dataclass(frozen=True, slots=True)
class Examples:
    """n prompts with what is known of m models on them.

    Parameters
    ----------
    ids
        One a prompt, unique.
    embeddings
        (n, d) unit vectors.
    features
        (n, f) of `agent.encoding.features`.
    scores
        (n, m) in [0, 1], NaN where not observed; calibrated feedback may lie outside. Never imputed.
    models
        m names, the columns.
    costs
        (n, m) USD, NaN where unknown; None where no cost is known at all.
    prior
        (n, m) expected quality before any observation (from published figures), NaN where there is none; or None.
    texts
        n texts for naming tasks, "" where the prompt is not stored.
    weights
        (n, m) of the scores, beside an evaluation's 1, in [0, 1]; None: all are evaluations.
    """

    ids: tuple[str, ...]
    embeddings: NDArray[np.float32]
    features: NDArray[np.float32]
    scores: NDArray[np.float64]
    models: tuple[str, ...]
    costs: NDArray[np.float64] | None = None
    prior: NDArray[np.float64] | None = None
    texts: tuple[str, ...] = ()
    weights: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def score_weight(self) -> NDArray[np.float64]:
        """(n, m) weight of each score, 0 where not observed."""
        seen = ~np.isnan(self.scores)
        return seen.astype(np.float64) if self.weights is None else np.where(seen, self.weights, 0.0)


def join(parts: Sequence[Examples]) -> Examples:
    """The union of the parts' prompts and models; of the same pair, scores are averaged by weight, costs and priors plainly."""
    parts = [p for p in parts if len(p)]
    models = tuple(dict.fromkeys(m for p in parts for m in p.models))
    first: dict[str, tuple[Examples, int]] = {}  # id -> where it comes first
    for part in parts:
        for i, name in enumerate(part.ids):
            first.setdefault(name, (part, i))
    ids = tuple(first)
    row, column = {v: k for k, v in enumerate(ids)}, {v: k for k, v in enumerate(models)}

    def united(name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(ids, models) means, NaN where nothing is known, and the sum of weights."""
        total, score_weight = np.zeros((len(ids), len(models))), np.zeros((len(ids), len(models)))
        for part in parts:
            values = getattr(part, name)
            if values is not None:
                at = np.ix_([row[i] for i in part.ids], [column[m] for m in part.models])
                known = part.score_weight if name == "scores" else np.isfinite(values).astype(np.float64)
                total[at] += known * np.where(known > 0, values, 0.0)
                score_weight[at] += known
        mean = np.full(total.shape, np.nan)
        np.divide(total, score_weight, out=mean, where=score_weight > 0)
        return mean, score_weight

    (scores, score_weight), (costs, _), (prior, _) = united("scores"), united("costs"), united("prior")
    return Examples(
        ids=ids,
        embeddings=np.stack([p.embeddings[i] for p, i in first.values()]),
        features=np.stack([p.features[i] for p, i in first.values()]),
        scores=scores,
        models=models,
        costs=None if np.isnan(costs).all() else costs,
        prior=None if np.isnan(prior).all() else prior,
        texts=tuple(p.texts[i] if p.texts else "" for p, i in first.values()),
        weights=None if all(p.weights is None for p in parts) else np.minimum(score_weight, 1.0),
    )
