"""What scores nearby say: averages that lean on what is expected, and do not take an easy place for a good model.

Where only some models were scored, the others would lose by a neighbourhood of easy prompts and win by one of hard ones.
So what all scores nearby have in common moves every model, and only the rest tells models apart. With every model scored
on every prompt it makes no difference to their order.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from agent.examples import Scores
from agent.index.neighbours import Neighbourhood
from agent.tasks.assign import evidence_weight

Array = NDArray[np.float64]


def lean(total: Array, count: Array, base: Array, strength: float) -> Array:
    """(n, m) averages.

    Parameters
    ----------
    total, count
        (n, m) weighted sums of scores and of their weights.
    base
        (n, m) or (m,) what is expected; weighs like ``strength`` scores.
    """
    gap = total - count * base
    ease = gap.sum(axis=1, keepdims=True) / (count.sum(axis=1, keepdims=True) + strength)
    out: Array = base + ease + (gap - count * ease) / (count + strength)
    return out


def around(hood: Neighbourhood, scores: Scores, base: Array, power: float, strength: float) -> Array:
    """(n, m) what the neighbours of each training prompt scored, a neighbour counting as similarity to a ``power``."""
    reach = spread(hood.rows, evidence_weight(hood.similarity, power))
    return lean(reach @ (scores.trust * scores.value), reach @ scores.trust, base, strength)


def spread(rows: NDArray[np.int64], weight: NDArray[np.float64]) -> sparse.csr_matrix:
    """(n, n) matrix that adds up each prompt's neighbours ``rows`` (n, k) by ``weight`` (n, k)."""
    n, k = rows.shape
    return sparse.csr_matrix((weight.ravel(), rows.ravel(), np.arange(n + 1) * k), shape=(n, n))
