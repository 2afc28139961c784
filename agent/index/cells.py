"""Candidates of a search by k-means cells: an inverted file (Sivic & Zisserman 2003; Jegou, Douze & Schmid 2011).

Points are kept cell by cell, so that the distances of all queries of a cell are one matrix product. Cells have `CELL` points
on average and a search looks at some `CANDIDATES` points, however many there are: the time a query is constant but for the
choice of the cell. Where there are no more points than that, the answer is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Matrix = NDArray[np.float32]

CELL = 256
"""Mean number of points of a cell. One of more than twice as many is cut into pieces."""

CANDIDATES = 8192
"""Points looked at: those of the cells nearest to the mean of the queries of one cell, until there are so many."""

_SAMPLED = 32
"""Points a cell from which the centroids are made."""

_ROUNDS = 5
_CHUNK = 256


class CellIndex:
    """Finds the points of least Euclidean distance among ``points`` (n, g), n > 0.

    Examples
    --------
    >>> CellIndex(np.eye(3, dtype=np.float32)).find(np.eye(3, dtype=np.float32)[1:2], 1).tolist()
    [[1]]
    """

    def __init__(self, points: Matrix) -> None:
        centroids = _centroids(points)
        cell = _cells(points, centroids)
        sizes = np.bincount(cell, minlength=len(centroids))
        pieces = -(-sizes // (2 * CELL))  # how many a cell is cut into, 0 where it is empty
        self._centroids = np.repeat(centroids, pieces, axis=0)
        self._rows = np.argsort(cell, kind="stable")  # (n,)
        self._points = points[self._rows]
        self._squares = np.einsum("ng,ng->n", self._points, self._points)
        cut = [np.linspace(0, size, count + 1).astype(np.int64)[1:] for size, count in zip(sizes, pieces) if size]
        first = np.cumsum(sizes) - sizes
        self._ends = np.concatenate([start + ends for start, ends in zip(first[sizes > 0], cut)])  # (cells,)
        self._starts = np.concatenate([[0], self._ends[:-1]])

    def find(self, queries: Matrix, count: int, apart: bool = False) -> NDArray[np.int64]:
        """(q, count) rows of the points nearest to each of ``queries`` (q, g), in any order; ``count`` is at most n.

        ``apart``: the points that are looked at for a query do not depend on the others.
        """
        out = np.empty((len(queries), count), np.int64)
        for asked, near in self._groups(queries, apart):
            rows, squares = (_parts(array, near) for array in (self._rows, self._squares))
            ends = np.cumsum([part.stop - part.start for part in near]).tolist()
            for start in range(0, len(asked), _CHUNK):
                x = queries[asked[start : start + _CHUNK]]
                distance = np.empty((len(x), len(rows)), np.float32)
                for part, first, end in zip(near, [0, *ends], ends):
                    distance[:, first:end] = x @ self._points[part].T
                distance *= -2.0
                distance += squares
                best = np.argpartition(distance, count - 1, axis=1)[:, :count]
                out[asked[start : start + _CHUNK]] = rows[best]
        return out

    def _groups(self, queries: Matrix, apart: bool = False) -> Iterator[tuple[NDArray[np.int64], list[slice]]]:
        """The queries of each cell (``apart``: each query), with the parts of the points among which they search."""
        if len(self._rows) <= CANDIDATES:
            yield np.arange(len(queries)), [slice(0, len(self._rows))]
            return
        cell = _cells(queries, self._centroids)
        by_cell = np.argsort(cell, kind="stable")
        sizes = self._ends - self._starts
        borders = np.arange(1, len(cell)) if apart else np.flatnonzero(np.diff(cell[by_cell])) + 1
        for asked in np.split(by_cell, borders):
            gap = self._centroids - queries[asked].mean(axis=0)
            order = np.argsort(np.einsum("cg,cg->c", gap, gap), kind="stable")
            enough = int(np.searchsorted(np.cumsum(sizes[order]), CANDIDATES)) + 1
            yield asked, [slice(self._starts[c], self._ends[c]) for c in order[:enough]]


def _parts(array: NDArray[Any], parts: list[slice]) -> NDArray[Any]:
    """Those of its first axis, side by side; a view where there is one."""
    return array[parts[0]] if len(parts) == 1 else np.concatenate([array[part] for part in parts])


def _cells(points: Matrix, centroids: Matrix) -> NDArray[np.int64]:
    """(n,) the nearest of ``centroids`` (c, g) to each of ``points`` (n, g)."""
    half = np.einsum("cg,cg->c", centroids, centroids) / 2
    cell = np.empty(len(points), np.int64)
    for start in range(0, len(points), _CHUNK):
        part = slice(start, start + _CHUNK)
        np.argmin(half - points[part] @ centroids.T, axis=1, out=cell[part])
    return cell


def _centroids(points: Matrix) -> Matrix:
    """(c, g) by Lloyd's algorithm on points at equal steps, from points at equal steps; equal points give equal centroids."""
    count = max(len(points) // CELL, 1)
    sample = points[:: max(len(points) // (count * _SAMPLED), 1)]
    centroids = sample[:: max(len(sample) // count, 1)][:count]
    for _ in range(_ROUNDS):
        cell = _cells(sample, centroids)
        member = sparse.csr_matrix((np.ones(len(cell), np.float32), (cell, np.arange(len(cell)))), (count, len(cell)))
        size = np.bincount(cell, minlength=count)[:, None]
        centroids = np.where(size > 0, member @ sample / np.maximum(size, 1), centroids).astype(np.float32)
    return centroids
