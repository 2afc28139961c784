"""Nearest prompts, and means of their scores.

`NeighbourIndex` searches the leading principal directions of the training prompts for candidates (`agent.index.cells`, never
an all-pairs matrix) and ranks them by `agent.encoding.similarity`: with 64 directions as many of the true nearest are found
as with all 550, in half the time. `build_index` and `nearest` wrap hnswlib (Malkov & Yashunin 2018), to which prompts can be
added one by one, with one thread and a fixed seed, so that equal rows give equal answers.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import hnswlib
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from agent.encoding.similarity import Matrix, Representation, similarity
from agent.examples import Scores
from agent.index.cells import CellIndex
from agent.types import Array, Vector

_M = 16


_EF_CONSTRUCTION = 40


_EF_SEARCH = 64


_SEED = 7


def build_index(embeddings: NDArray[np.float32], capacity: int | None = None) -> hnswlib.Index:
    """An index by cosine over the rows of ``embeddings`` (n, d), labelled 0..n-1, with room for ``capacity`` rows (None: n)."""
    index = hnswlib.Index(space="cosine", dim=embeddings.shape[1])
    index.init_index(
        max_elements=max(capacity or len(embeddings), 1),
        M=_M,
        ef_construction=_EF_CONSTRUCTION,
        random_seed=_SEED,
        allow_replace_deleted=True,
    )
    index.set_num_threads(1)
    index.set_ef(_EF_SEARCH)
    if len(embeddings):
        index.add_items(embeddings, np.arange(len(embeddings)))
    return index


def nearest(index: hnswlib.Index, queries: NDArray[np.float32], k: int) -> tuple[NDArray[np.int64], Vector]:
    """Labels and 1 - distance of the ``k`` (or as many as there are) nearest rows, each (q, k), nearest first."""
    k = min(k, index.get_current_count())
    if k == 0:
        return np.zeros((len(queries), 0), np.int64), np.zeros((len(queries), 0), np.float32)
    index.set_ef(max(_EF_SEARCH, 2 * k))
    labels, distances = index.knn_query(queries, k=k)
    return labels.astype(np.int64), (1.0 - distances).astype(np.float32)


POOL = 2
"""Candidates ranked per neighbour wanted."""


_CHUNK = 32
"""Rows ranked at a time: what is gathered for them stays in a processor's cache."""


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The k nearest rows of each of n prompts: ``rows`` (n, k) and their ``similarity`` (n, k), nearest first."""

    rows: NDArray[np.int64]
    similarity: Matrix

    def first(self, k: int) -> Neighbours:
        """The nearest ``k`` only."""
        return Neighbours(self.rows[:, :k], self.similarity[:, :k])


class NeighbourIndex:
    """Finds neighbours among ``points`` (n, w), prompts as ``representation`` transforms them."""

    def __init__(self, representation: Representation, points: Matrix) -> None:
        self._representation = representation
        self._points = points
        self._index = CellIndex(points @ representation.search)

    def find(self, x: Matrix, k: int, exclude_self: bool = False, apart: bool = False) -> Neighbours:
        """The ``k`` points most similar to each row of ``x`` (q, w); fewer where there are fewer.

        ``exclude_self``: ``x`` are the points themselves, and each row is left out of its own list.
        ``apart``: what is found for a row does not depend on the others, but for rounding.
        """
        k = min(k, len(self._points) - exclude_self)
        count = min(POOL * k + exclude_self, len(self._points))
        pool = self._index.find(x @ self._representation.search, count, apart)
        rows, close = np.empty((len(x), k), np.int64), np.empty((len(x), k), np.float32)
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            found = pool[part]
            near = similarity(x[part], self._points[found], self._representation)  # (chunk, pool)
            if exclude_self:
                near = np.where(found == np.arange(start, start + len(found))[:, None], -1.0, near)
            order = np.argsort(-near, axis=1, kind="stable")[:, :k]
            each = np.arange(len(found))[:, None]
            rows[part] = found[each, order]
            close[part] = np.maximum(near[each, order], 0.0)
        return Neighbours(rows, close)


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
