"""The remembered prompts most like a given one, by the composite similarity of `agent.encoding.similarity`.

An HNSW index over the leading principal directions of the joined blocks finds candidates (never an all-pairs matrix); the
composite similarity ranks them. In 64 directions it finds as many of the true nearest as in all 550, twice as fast.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.encoding.similarity import Blocks, Matrix, similarity
from agent.index.prompts import build_index, nearest

POOL = 2
"""Candidates ranked per neighbour wanted."""

_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The k nearest rows of each of n prompts: ``rows`` (n, k) and their composite ``similarity`` (n, k), nearest first."""

    rows: NDArray[np.int64]
    similarity: Matrix

    def first(self, k: int) -> Neighbourhood:
        """The nearest ``k`` only."""
        return Neighbourhood(self.rows[:, :k], self.similarity[:, :k])


class Nearby:
    """Finds neighbours among ``points`` (n, w), rows of joined ``blocks``."""

    def __init__(self, blocks: Blocks, points: Matrix) -> None:
        self._blocks = blocks
        self._points = points
        self._index = build_index(points @ blocks.search, space="l2")

    def __len__(self) -> int:
        return len(self._points)

    def find(self, x: Matrix, k: int, own: bool = False) -> Neighbourhood:
        """The ``k`` points most alike to each row of ``x`` (q, w); fewer where there are fewer.

        Parameters
        ----------
        own
            ``x`` are the points themselves: leave each row out of its own list.
        """
        k = min(k, len(self) - own)
        pool, _ = nearest(self._index, x @ self._blocks.search, min(POOL * k + own, len(self)))
        rows, close = np.empty((len(x), k), np.int64), np.empty((len(x), k), np.float32)
        for start in range(0, len(x), _CHUNK):
            part = slice(start, start + _CHUNK)
            found = pool[part]
            alike = similarity(x[part], self._points[found], self._blocks)  # (chunk, pool)
            if own:
                alike = np.where(found == np.arange(start, start + len(found))[:, None], -1.0, alike)
            order = np.argsort(-alike, axis=1, kind="stable")[:, :k]
            each = np.arange(len(found))[:, None]
            rows[part] = found[each, order]
            close[part] = np.maximum(alike[each, order], 0.0)
        return Neighbourhood(rows, close)
