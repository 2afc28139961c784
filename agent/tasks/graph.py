"""The graph of prompts that are alike in content and in which models do well on them, and its communities: the tasks.

A k-nearest-neighbour graph whose edge weights join the similarity of `agent.encoding.similarity` with *preference*
similarity: the rank-biased overlap of the two prompts' model rankings (Webber, Moffat & Zobel 2010, eq. 23 truncated and
renormalised, so that equal rankings give 1). Scores are sparse, so a prompt's ranking is by scores smoothed over its
neighbours (`agent.index.neighbours.neighbour_means`; arXiv 2603.19415, sec. 3). Communities are found by Leiden (Traag,
Waltman & van Eck 2019).
"""

from __future__ import annotations

import graspologic_native
import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from agent.index.neighbours import Neighbours

RBO_PERSISTENCE = 0.7
"""Top-weightedness of the overlap: the first three ranks hold about 80 % of the weight."""


RBO_DEPTH = 5
"""Ranks compared."""


def rank_biased_overlap(
    left: NDArray[np.int64], right: NDArray[np.int64], persistence: float = RBO_PERSISTENCE
) -> NDArray[np.float64]:
    """(pairs,) rank-biased overlap of pairs of rankings to `RBO_DEPTH`, in [0, 1]; 1 where they are equal.

    ``left`` and ``right`` (pairs, m) are the ranks (0 = best) of m models. A lower ``persistence`` in (0, 1) is more
    top-weighted.
    """
    total = np.zeros(len(left))
    norm = 0.0
    for depth in range(1, min(left.shape[1], RBO_DEPTH) + 1):
        weight = persistence ** (depth - 1)
        agreement = ((left < depth) & (right < depth)).sum(axis=1) / depth
        total += weight * agreement
        norm += weight
    return total / norm


def ranks(quality: NDArray[np.float64]) -> NDArray[np.int64]:
    """The rank of each model by row, 0 = best; ties by column, so that equal rows rank equally."""
    return np.argsort(np.argsort(-quality, axis=1, kind="stable"), axis=1, kind="stable")


def prompt_graph(neighbours: Neighbours, smoothed: NDArray[np.float64], preference: float) -> sparse.csr_matrix:
    """(n, n) symmetric weights above 0, without loops; twice as heavy where each prompt is the other's neighbour.

    ``smoothed`` (n, m) are finite smoothed scores; ``preference`` in [0, 1] weighs preference similarity.
    """
    n, k = neighbours.rows.shape
    source = np.repeat(np.arange(n), k)
    target = neighbours.rows.ravel()
    weight = np.clip(neighbours.similarity.ravel().astype(np.float64), 1e-3, 1.0) ** 2
    if preference > 0.0 and smoothed.shape[1] > 1:
        rank = ranks(np.round(smoothed, 3))
        weight *= 1.0 - preference + preference * rank_biased_overlap(rank[source], rank[target])
    graph = sparse.csr_matrix((weight, (source, target)), shape=(n, n))
    symmetric = (graph + graph.T).tocsr()
    symmetric.sort_indices()
    return symmetric


def leiden(graph: sparse.csr_matrix, resolution: float, seed: int) -> NDArray[np.int64]:
    """(n,) community of each node of a symmetric ``graph`` with weights above 0, numbered from 0 by falling size.

    A higher ``resolution`` (of the modularity) finds more and smaller communities. Equal seeds give equal partitions.
    """
    if graph.nnz == 0:
        return np.zeros(graph.shape[0], np.int64)
    _, found = graspologic_native.leiden_csr(
        graph.indptr.astype(np.int64),
        graph.indices.astype(np.int32),
        graph.data.astype(np.float64),
        graph.shape[0],
        resolution=resolution,
        iterations=2,
        seed=seed,
    )
    raw = np.full(graph.shape[0], -1, np.int64)
    raw[np.fromiter(found.keys(), np.int64, len(found))] = np.fromiter(found.values(), np.int64, len(found))
    isolated = raw < 0
    raw[isolated] = raw.max() + 1 + np.arange(isolated.sum())
    _, compact, size = np.unique(raw, return_inverse=True, return_counts=True)
    order = np.argsort(np.argsort(-size, kind="stable"), kind="stable")
    return order[compact].astype(np.int64)


def absorb_small(labels: NDArray[np.int64], embeddings: NDArray[np.float32], smallest: int) -> NDArray[np.int64]:
    """Labels with the members of communities below ``smallest`` prompts moved to the nearest centroid of a larger one.

    Where none is large enough, all prompts are one task.
    """
    size = np.bincount(labels)
    large = np.flatnonzero(size >= smallest)
    if len(large) == 0:
        return np.zeros_like(labels)
    centroids = np.stack([embeddings[labels == c].mean(axis=0) for c in large])
    centroids /= np.linalg.norm(centroids, axis=1, keepdims=True)
    outlier = np.flatnonzero(size[labels] < smallest)
    position = np.full(len(size), -1, np.int64)
    position[large] = np.arange(len(large))
    out = position[labels]
    out[outlier] = (embeddings[outlier] @ centroids.T).argmax(axis=1)
    return out
