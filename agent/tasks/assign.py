"""Task probabilities of a prompt, by a weighted vote of its nearest training prompts.

A neighbour's weight is its similarity, relative to the nearest's, to a power; the power is fitted by log loss on training
prompts that have no vote of their own, so that the probabilities are calibrated. A prompt outside every task's radius has
no known task.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agent.index.neighbours import kernel_weight
from agent.types import Array

POWERS = (2.0, 4.0, 8.0, 16.0)
_FLOOR = 1e-3


def vote_weights(similarity: NDArray[np.float32], power: float) -> Array:
    """(n, k) weight of each neighbour's vote, rows sum to 1, from (n, k) similarities, nearest first."""
    weight = kernel_weight(similarity, power)
    out: Array = weight / weight.sum(axis=1, keepdims=True)
    return out


def task_probabilities(weight: Array, labels: NDArray[np.int64], tasks: int) -> Array:
    """(n, tasks) probabilities from (n, k) `vote_weights` of neighbours whose tasks are ``labels`` (n, k)."""
    n = len(weight)
    cell = (np.arange(n)[:, None] * tasks + labels).ravel()
    return np.bincount(cell, weight.ravel(), n * tasks).reshape(n, tasks).astype(np.float64)


def fit_vote_power(similarity: NDArray[np.float32], same_task: NDArray[np.bool_]) -> float:
    """The power of `POWERS` with the least log loss of prompts' own tasks.

    ``similarity`` (n, k) is of each prompt's neighbours, itself left out; ``same_task`` (n, k) where they share its task.
    """

    def loss(power: float) -> float:
        return float(-np.log((vote_weights(similarity, power) * same_task).sum(axis=1) + _FLOOR).mean())

    return min(POWERS, key=loss)


def radii(cosine: NDArray[np.float32], labels: NDArray[np.int64], share: float = 0.005) -> NDArray[np.float32]:
    """(T,) least cosine to its centroid at which a prompt may still belong to a task.

    It lies 0.1 below the quantile ``share`` of the cosines of the task's own prompts. ``cosine`` (n, T) is of training prompts
    and centroids, ``labels`` (n,) are the prompts' tasks.
    """
    own = cosine[np.arange(len(labels)), labels]
    quantiles = [np.quantile(own[labels == t], share) for t in range(cosine.shape[1])]
    return np.asarray(np.asarray(quantiles) - 0.1, np.float32)
