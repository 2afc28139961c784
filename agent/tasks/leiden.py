"""Communities of a weighted graph, by Leiden (Traag, Waltman & van Eck 2019); those of the prompt graph are the tasks."""

from __future__ import annotations

import graspologic_native
import numpy as np
from numpy.typing import NDArray
from scipy import sparse


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
