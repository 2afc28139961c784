"""Candidate sets: the fewest top models that cover a task."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.experts.task_heads import candidate_set

SURE = np.zeros(4)
MEAN = np.array([0.2, 0.8, 0.6, 0.4])


@pytest.mark.parametrize(
    ("preferred", "coverage", "expected"),
    [
        ([1, 1, 1, 1], 0.8, (1,)),
        ([1, 1, 2, 2], 0.8, (1, 2)),
        ([1, 1, 2, 2], 0.4, (1,)),
        ([1, 1, 2, 2], 0.5, (1, 2)),
        ([0, 0, 0, 0], 0.8, (1, 2, 3, 0)),
        ([1, 2, 3, 0], 1.0, (1, 2, 3, 0)),
        ([], 0.8, (1, 2, 3, 0)),
    ],
    ids=["one is enough", "two", "low bar", "must exceed", "only the worst", "all", "no prompts"],
)
def test_the_shortest_prefix_by_mean_that_covers_more_than_the_share(
    preferred: list[int], coverage: float, expected: tuple[int, ...]
) -> None:
    assert candidate_set(np.array(preferred, np.int64), MEAN, SURE, coverage) == expected


def test_a_model_within_its_standard_error_of_the_worst_stays_in() -> None:
    unsure = np.array([0.0, 0.0, 0.15, 0.3])
    assert candidate_set(np.array([1] * 9), MEAN, unsure) == (1,)
    assert candidate_set(np.array([1] * 9), MEAN, unsure + 0.06) == (1, 2, 3)


@given(st.data())
def test_it_covers_is_sorted_and_starts_with_the_best(data: st.DataObject) -> None:
    m, n = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 40))
    mean = np.array(data.draw(st.lists(st.floats(0, 1), min_size=m, max_size=m)))
    preferred = np.array(data.draw(st.lists(st.integers(0, m - 1), min_size=n, max_size=n)))
    coverage = data.draw(st.floats(0.05, 0.99))
    chosen = candidate_set(preferred, mean, np.zeros(m), coverage)
    assert np.isin(preferred, chosen).mean() > coverage
    assert len(set(chosen)) == len(chosen) and chosen[0] == mean.argmax()
    assert (np.diff(mean[list(chosen)]) <= 0).all()
    wider = candidate_set(preferred, mean, np.full(m, 0.1), coverage)
    assert set(chosen) <= set(wider)
