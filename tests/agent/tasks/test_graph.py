"""Rankings and their overlap (the graph itself is tested with `agent.fit`)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.tasks.graph import rank_biased_overlap, ranks

rankings = st.integers(1, 12).flatmap(lambda m: st.tuples(*[st.permutations(range(m))] * 2)).map(np.array)


def overlap(left: list[int], right: list[int], **persistence: float) -> float:
    return float(rank_biased_overlap(np.array([left]), np.array([right]), **persistence)[0])


@given(rankings)
def test_overlap_is_a_symmetric_similarity(pair: np.ndarray) -> None:
    left, right = pair
    assert 0.0 <= overlap(left, right) <= 1.0 + 1e-12
    assert overlap(left, right) == pytest.approx(overlap(right, left))
    assert overlap(left, left) == pytest.approx(1.0)


@given(rankings, st.randoms())
def test_the_names_of_the_models_do_not_matter(pair: np.ndarray, rnd: object) -> None:
    order = rnd.sample(range(pair.shape[1]), pair.shape[1])  # type: ignore[attr-defined]
    assert overlap(*pair[:, order]) == pytest.approx(overlap(*pair))


def test_the_top_weighs_more_than_the_bottom() -> None:
    same = [0, 1, 2, 3, 4]
    assert overlap(same, [1, 0, 2, 3, 4]) < overlap(same, [0, 1, 3, 2, 4]) < overlap(same, same)
    assert overlap(same, same[::-1]) < overlap(same, [1, 0, 2, 3, 4])


def test_less_persistence_is_more_top_weighted() -> None:
    other_best, same = [1, 0, 2, 3], [0, 1, 2, 3]
    assert overlap(same, other_best, persistence=0.2) < overlap(same, other_best, persistence=0.9)


def test_the_sum_by_hand() -> None:
    """Depths 1, 2, 3 agree on 0, 2 and 3 models, with weights 1, 1/2 and 1/4."""
    assert overlap([0, 1, 2], [1, 0, 2], persistence=0.5) == pytest.approx((0 + 0.5 + 0.25) / 1.75)


def test_pairs_are_compared_row_by_row() -> None:
    left, right = np.array([[0, 1], [0, 1]]), np.array([[0, 1], [1, 0]])
    equal, other = rank_biased_overlap(left, right)
    assert equal == pytest.approx(1.0) and other < 0.9


def test_ranks_start_at_the_best_and_ties_go_by_column() -> None:
    assert ranks(np.array([[0.1, 0.9, 0.5], [0.4, 0.4, 0.4], [0.2, 0.7, 0.7]])).tolist() == [
        [2, 0, 1], [0, 1, 2], [2, 0, 1],
    ]  # fmt: skip
