"""The search by cells finds what a search of all points finds, and looks at a bounded number of them."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from agent.index import cells
from agent.index.cells import CellIndex


def clustered(n: int, groups: int = 40, width: int = 8, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((groups, width))[rng.integers(0, groups, n)] + 0.3 * rng.standard_normal((n, width))
    return points.astype(np.float32)


def nearest(points: NDArray[np.float32], queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    return np.argsort(((queries[:, None, :] - points) ** 2).sum(axis=2), axis=1)[:, :count]


def recall(found: NDArray[np.int64], right: NDArray[np.int64]) -> float:
    return float(np.mean([len(np.intersect1d(a, b)) / len(b) for a, b in zip(found, right, strict=True)]))


@pytest.mark.parametrize("n", [1, 2, 7, 700])
def test_of_few_points_the_nearest_are_found_exactly(n: int) -> None:
    points, queries = clustered(n), clustered(30, seed=1)
    count = min(5, n)
    assert recall(CellIndex(points).find(queries, count), nearest(points, queries, count)) == 1.0


@pytest.mark.parametrize("like_the_points", [True, False])
def test_of_many_points_nearly_all_of_the_nearest_are_found(
    like_the_points: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells, "CELL", 32)
    monkeypatch.setattr(cells, "CANDIDATES", 1024)
    points = clustered(6000)
    queries = points[:200] if like_the_points else clustered(200, seed=1)
    index, right = CellIndex(points), nearest(points, queries, 20)
    alone = np.concatenate([index.find(queries[i : i + 1], 20) for i in range(len(queries))])
    assert recall(index.find(queries, 20), right) > 0.95
    assert recall(alone, right) > 0.95


def test_a_search_looks_at_a_bounded_number_of_points_however_alike_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "CELL", 16)
    monkeypatch.setattr(cells, "CANDIDATES", 128)
    points = np.concatenate([np.ones((4000, 4), np.float32), clustered(500, width=4)])
    index = CellIndex(points)
    searched = [sum(part.stop - part.start for part in near) for _, near in index._groups(points)]
    assert max(searched) <= cells.CANDIDATES + 2 * cells.CELL
    assert (points[index.find(points[:1], 20)[0]] == 1.0).all()
