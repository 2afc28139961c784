"""HNSW indexes (Malkov & Yashunin 2018) by hnswlib, with one thread and a fixed seed: equal rows give equal answers."""

from __future__ import annotations

from typing import Literal

import hnswlib
import numpy as np
from numpy.typing import NDArray

from agent.types import Vector

_M = 16
_EF_CONSTRUCTION = 100
_EF_SEARCH = 64
_SEED = 7


def build_index(
    embeddings: NDArray[np.float32], capacity: int | None = None, space: Literal["cosine", "l2"] = "cosine"
) -> hnswlib.Index:
    """An index over the rows of ``embeddings`` (n, d), labelled 0..n-1, with room for ``capacity`` rows (None: n)."""
    index = hnswlib.Index(space=space, dim=embeddings.shape[1])
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
