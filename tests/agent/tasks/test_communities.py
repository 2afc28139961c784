"""Leiden finds planted communities, and members of small ones are moved to the nearest large one."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from agent.tasks.graph import absorb_small, leiden


def planted(sizes: tuple[int, ...], inside: float = 0.9, across: float = 0.02, seed: int = 0) -> sparse.csr_matrix:
    """A graph of groups of these sizes, dense inside."""
    group = np.repeat(np.arange(len(sizes)), sizes)
    same = group[:, None] == group[None]
    edge = np.triu(np.random.default_rng(seed).random(same.shape) < np.where(same, inside, across), 1)
    return sparse.csr_matrix((edge | edge.T).astype(float))


def test_planted_groups_are_found_and_numbered_by_falling_size() -> None:
    sizes = (12, 40, 25)
    labels = leiden(planted(sizes), 1.0, seed=0)
    assert labels.tolist() == np.repeat([2, 0, 1], sizes).tolist() and labels.dtype == np.int64


def test_a_higher_resolution_finds_more_and_smaller_groups() -> None:
    graph = planted((40, 40), inside=0.3, across=0.05)
    counts = [leiden(graph, resolution, seed=0).max() for resolution in (0.5, 1.5, 4.0)]
    assert counts == sorted(counts) and counts[0] < counts[-1]


def test_equal_seeds_give_equal_partitions() -> None:
    graph = planted((30, 30, 30), inside=0.3, across=0.1)
    assert (leiden(graph, 2.0, seed=5) == leiden(graph, 2.0, seed=5)).all()


def test_weights_decide() -> None:
    """A ring of four whose opposite edges are strong."""
    edges = sparse.csr_matrix(([5, 1, 5, 1], ([0, 1, 2, 3], [1, 2, 3, 0])), shape=(4, 4), dtype=float)
    labels = leiden((edges + edges.T).tocsr(), 1.0, seed=0)
    assert labels[0] == labels[1] != labels[2] == labels[3]


def test_a_prompt_without_any_edge_is_a_community_of_its_own() -> None:
    graph = sparse.block_diag([planted((10,), inside=1.0), sparse.csr_matrix((2, 2))]).tocsr()
    labels = leiden(graph, 1.0, seed=0)
    assert len(labels) == 12 and sorted(np.bincount(labels)) == [1, 1, 10]


def test_a_graph_without_edges_is_one_community() -> None:
    assert leiden(sparse.csr_matrix((5, 5)), 1.0, seed=0).tolist() == [0] * 5


def test_every_number_below_the_count_is_used() -> None:
    labels = leiden(planted((9, 9, 9, 9), across=0.1), 3.0, seed=1)
    assert (np.bincount(labels) > 0).all() and (np.diff(np.bincount(labels)) <= 0).all()


# --- small communities


def test_members_of_small_communities_go_to_the_nearest_large_one() -> None:
    embeddings = np.array([[1, 0]] * 3 + [[0, 1]] * 3 + [[0.9, 0.1], [0.1, 0.9]], np.float32)
    labels = np.array([0, 0, 0, 1, 1, 1, 2, 2])
    assert absorb_small(labels, embeddings, 3).tolist() == [0, 0, 0, 1, 1, 1, 0, 1]


def test_large_communities_are_renumbered_without_gaps() -> None:
    embeddings = np.array([[1, 0]] * 2 + [[0, 1]] * 3, np.float32)
    assert absorb_small(np.array([0, 1, 2, 2, 2]), embeddings, 2).tolist() == [0, 0, 0, 0, 0]
    embeddings = np.array([[1, 0]] * 3 + [[0, 1]] * 3, np.float32)
    assert absorb_small(np.array([0, 0, 1, 2, 2, 2]), embeddings, 2).tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("smallest", [1, 3, 4, 100])
def test_none_is_below_the_smallest_size_unless_all_are_one(smallest: int) -> None:
    rng = np.random.default_rng(0)
    labels = np.unique(rng.integers(0, 9, 40), return_inverse=True)[1]
    out = absorb_small(labels, rng.standard_normal((40, 5)).astype(np.float32), smallest)
    assert np.bincount(out).min() >= min(smallest, 40)
    if smallest == 1:
        assert (out == labels).all()
