"""How the parts are weighed: task means, heads and neighbours, by how well each foretells scores it never saw.

A convex combination (Wolpert 1992, Breiman 1996) fitted to estimates that did not see the prompt's scores. Errors are
taken about what a prompt is for all models alike, since only differences decide, and a model counts as far as it competes
on the prompt. The weights lean to equal ones as firmly as the noise of the scores demands: no part dominates that has not
proven better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import nnls

from agent.examples import Scores
from agent.experts.general_heads import competition_weights
from agent.tasks.means import Variances, prompt_share
from agent.types import Array

OPEN = 0.1
"""Standard deviation of a weight around an equal share, before any score."""


def fit_stack(parts: Sequence[Array], scores: Scores, variances: Variances, penalties: Sequence[Array]) -> Array:
    """(p,) weights of the parts, summing to 1.

    Parameters
    ----------
    parts
        (n, m) estimates that did not see the prompt's own scores.
    scores
        Of the n prompts.
    variances
        Of the scores.
    penalties
        Costs (m,) in units of quality at which competition is judged.
    """
    plain = np.mean(parts, axis=0)
    play = np.mean([competition_weights(plain - p) for p in penalties], axis=0)
    weight = scores.score_weight * play / play.max(axis=1, keepdims=True)  # the leader counts in full
    share = prompt_share(weight, variances)

    def product(left: Array, right: Array) -> float:
        shared = (weight * left).sum(axis=1) * (weight * right).sum(axis=1) * share
        return float((weight * left * right).sum() - shared.sum())

    apart, rest = [part - plain for part in parts], scores.residual(plain)
    gram = np.array([[product(a, b) for b in apart] for a in apart])
    ridge = variances.noise / OPEN**2
    target = np.array([product(a, rest) for a in apart]) + ridge / len(parts)
    root = np.linalg.cholesky(gram + ridge * np.eye(len(parts)))
    firm = 1e3 * np.sqrt(np.trace(gram) + ridge)  # holds the sum at 1
    weights: Array = nnls(
        np.vstack([root.T, np.full(len(parts), firm)]), np.append(np.linalg.solve(root, target), firm)
    )[0]
    weights /= weights.sum()
    return weights


def combine(weights: Array, parts: Sequence[Array]) -> Array:
    """(n, m) weighted mean of the parts."""
    out: Array = np.tensordot(weights, np.stack(list(parts)), axes=1)
    return out
