"""Nearest prompts, and means of their scores.

`NeighbourIndex` searches the leading principal directions of the prompts for candidates by hnswlib (Malkov & Yashunin 2018,
never an all-pairs matrix) and ranks them by `agent.encoding.similarity`: with 64 directions as many of the true nearest are
found as with all 550, in half the time. Prompts are added by one thread with a fixed seed, so that equal prompts in equal
order give equal answers.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import hnswlib
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from agent.encoding.similarity import Matrix, Representation, similarity
from agent.examples import Scores
from agent.types import Array

_M = 16


_EF_CONSTRUCTION = 40


_LEAST_EF = 32


_SEED = 7


_THREADS, _MANY = 2, 1000
"""So many threads search for as many prompts or more at once; what is found does not depend on it."""


POOL = 2
"""Candidates ranked per neighbour wanted."""


_CHUNK = 32
"""Rows ranked at a time: what is gathered for them stays in a processor's cache."""


class Neighbours(NamedTuple):
    """The k nearest rows of each of n prompts: ``rows`` (n, k) and their ``similarity`` (n, k), nearest first."""

    rows: NDArray[np.int64]
    similarity: Matrix

    def first(self, k: int) -> Neighbours:
        """The nearest ``k`` only."""
        return Neighbours(self.rows[:, :k], self.similarity[:, :k])


class NeighbourIndex:
    """Finds neighbours among ``points`` (n, w), prompts as ``representation`` transforms them.

    Parameters
    ----------
    representation, points
        Of the rows 0..n-1.
    capacity
        Most rows; those beyond n are added by `put`. None: n.
    """

    def __init__(self, representation: Representation, points: Matrix, capacity: int | None = None) -> None:
        n, capacity = len(points), max(capacity or 0, len(points), 1)
        self._representation = representation
        self._points = points
        if capacity > n:
            self._points = np.empty((capacity, points.shape[1]), np.float32)  # what is not used takes no memory
            self._points[:n] = points
        self._size = 0
        self._index = hnswlib.Index(space="l2", dim=representation.search.shape[1])
        self._index.init_index(max_elements=capacity, M=_M, ef_construction=_EF_CONSTRUCTION, random_seed=_SEED)
        self._index.set_num_threads(1)
        self._add(np.arange(n), points)

    def __len__(self) -> int:
        return self._size

    def put(self, row: int, point: NDArray[np.float32]) -> None:
        """Set the ``point`` (w,) of a ``row``: one that there is, or the next."""
        self._points[row] = point
        self._add(np.array([row]), point[None])

    def _add(self, rows: NDArray[np.int64], points: Matrix) -> None:
        if len(rows):
            self._index.add_items(points @ self._representation.search, rows)  # an existing row is replaced
            self._size = max(self._size, int(rows[-1]) + 1)

    def find(self, x: Matrix, k: int, exclude_self: bool = False) -> Neighbours:
        """The ``k`` points most similar to each row of ``x`` (q, w); fewer where there are fewer.

        ``exclude_self``: ``x`` are the points themselves, and each row is left out of its own list.
        """
        k = min(k, self._size - exclude_self)
        if k <= 0 or not len(x):
            return Neighbours(np.zeros((len(x), max(k, 0)), np.int64), np.zeros((len(x), max(k, 0)), np.float32))
        pool = self._candidates(x @ self._representation.search, min(POOL * k + exclude_self, self._size))
        parts = [slice(start, start + _CHUNK) for start in range(0, len(x), _CHUNK)]
        ranked = [self._ranked(x[part], pool[part], k, part.start if exclude_self else None) for part in parts]
        return ranked[0] if len(ranked) == 1 else Neighbours(*map(np.concatenate, zip(*ranked)))

    def _ranked(self, x: Matrix, pool: NDArray[np.int64], k: int, first: int | None) -> Neighbours:
        """The ``k`` of each row's ``pool`` (q, c) most similar to ``x`` (q, w): the rows from ``first`` on, where given."""
        near = similarity(x, self._points[pool], self._representation)  # (q, c)
        if first is not None:
            near = np.where(pool == np.arange(first, first + len(pool))[:, None], -1.0, near)
        order = (-near).argsort(axis=1, kind="stable")[:, :k]
        each = np.arange(len(pool))[:, None]
        return Neighbours(pool[each, order], np.maximum(near[each, order], 0.0))

    def _candidates(self, queries: Matrix, count: int) -> NDArray[np.int64]:
        """(q, count) rows near to each of ``queries`` (q, g)."""
        self._index.set_ef(max(count, _LEAST_EF))
        try:
            threads = _THREADS if len(queries) >= _MANY else 1
            found: NDArray[np.int64] = self._index.knn_query(queries, k=count, num_threads=threads)[0].astype(np.int64)
        except RuntimeError:  # it reaches fewer, as where many points are equal
            points = self._points[: self._size] @ self._representation.search
            squares = np.einsum("ng,ng->n", points, points)
            found = np.array([np.argsort(squares - 2.0 * points @ q, kind="stable")[:count] for q in queries])
        return found


def shrunk_mean(total: Array, count: Array, prior: Array, strength: float) -> Array:
    """(n, m) mean scores, shrunk to ``prior``, by an effect of the prompt on all models and one of each model.

    ``total`` and ``count`` (n, m) are weighted sums of scores and of their weights. ``prior``, (n, m) or (m,), weighs like
    ``strength`` scores.
    """
    gap = total - count * prior
    prompt_effect = gap.sum(axis=1, keepdims=True) / (count.sum(axis=1, keepdims=True) + strength)
    out: Array = prior + prompt_effect + (gap - count * prompt_effect) / (count + strength)
    return out


def neighbour_means(neighbours: Neighbours, scores: Scores, prior: Array, power: float, strength: float) -> Array:
    """(n, m) `shrunk_mean` of the scores of each training prompt's neighbours, weighted by `kernel_weight`."""
    matrix = neighbour_matrix(neighbours.rows, kernel_weight(neighbours.similarity, power))
    return shrunk_mean(matrix @ (scores.score_weight * scores.value), matrix @ scores.score_weight, prior, strength)


def neighbour_matrix(rows: NDArray[np.int64], weight: NDArray[np.float64]) -> sparse.csr_matrix:
    """(n, n) matrix that adds up each prompt's neighbours ``rows`` (n, k) by ``weight`` (n, k)."""
    n, k = rows.shape
    return sparse.csr_matrix((weight.ravel(), rows.ravel(), np.arange(n + 1) * k), shape=(n, n))


def kernel_weight(similarity: NDArray[np.float32], power: float) -> Array:
    """(n, k) ``(similarity / that of the nearest) ** power``: the nearest weighs 1."""
    if similarity.shape[1] == 0:
        return np.zeros(similarity.shape)
    top = np.maximum(similarity[:, :1], 1e-9).astype(np.float64)
    return np.maximum(similarity / top, 1e-9) ** power


def hash64(text: str) -> int:
    """A hash to 64 bits: uniform, and equal in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
