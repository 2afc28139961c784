"""Stage 1's classifier: which task a prompt belongs to, by the vote of its nearest remembered prompts.

A vote counts as similarity, relative to the nearest, to a power; the power is fitted on training prompts left out of their
own vote, by log loss, so that the shares are probabilities that mean what they say. A prompt outside every task's radius
is *unknown*.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.index.neighbours import kernel_weight
from agent.types import Array

POWERS = (2.0, 4.0, 8.0, 16.0)
_FLOOR = 1e-3


def vote(similarity: NDArray[np.float32], power: float) -> Array:
    """(n, k) weight of each neighbour's vote, rows sum to 1, from (n, k) similarities, nearest first."""
    weight = kernel_weight(similarity, power)
    shares: Array = weight / weight.sum(axis=1, keepdims=True)
    return shares


def memberships(weight: Array, labels: NDArray[np.int64], tasks: int) -> Array:
    """(n, tasks) probabilities from (n, k) ``weight`` of neighbours whose tasks are ``labels`` (n, k)."""
    n = len(weight)
    cell = (np.arange(n)[:, None] * tasks + labels).ravel()
    return np.bincount(cell, weight.ravel(), n * tasks).reshape(n, tasks).astype(np.float64)


def calibrate(similarity: NDArray[np.float32], agree: NDArray[np.bool_]) -> float:
    """The power at which the vote of others best foretells a prompt's own task.

    Parameters
    ----------
    similarity
        (n, k) to the neighbours of each prompt, itself left out.
    agree
        (n, k) whether the neighbour is of the prompt's own task.
    """

    def loss(power: float) -> float:
        return float(-np.log((vote(similarity, power) * agree).sum(axis=1) + _FLOOR).mean())

    return min(POWERS, key=loss)


def radii(closeness: NDArray[np.float32], labels: NDArray[np.int64], share: float = 0.005) -> NDArray[np.float32]:
    """(T,) least cosine to its centroid at which a prompt may still belong to a task.

    Parameters
    ----------
    closeness
        (n, T) cosine of training prompts and centroids.
    labels
        (n,) their tasks.
    share
        Share of a task's own prompts that may fall outside.
    """
    own = closeness[np.arange(len(labels)), labels]
    spread = [np.quantile(own[labels == t], share) for t in range(closeness.shape[1])]
    return np.asarray(np.asarray(spread) - 0.1, np.float32)
