"""Caution: a model of which little is known beside the others does not lead, and nothing changes for the others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from agent.choice.newcomers import CautionConfig, caution, uncertainty_caution, unproven

NEW, OLD = np.array([False, False, True]), np.zeros(3, bool)


def test_where_nothing_is_known_of_any_all_are_alike() -> None:
    assert uncertainty_caution(np.full(3, 0.3), np.zeros(3)).tolist() == [0.0, 0.0, 0.0]
    assert unproven(np.array([7.0, 3.0, 0.0]), NEW).tolist() == [False, False, False]


def test_the_bound_rises_with_its_scores() -> None:
    sd = np.array([0.05, 0.1, 0.3])
    fresh, half, proven = (uncertainty_caution(sd, np.array([100.0, 0.0, n])) for n in (0.0, 4.0, 8.0))
    assert fresh.tolist() == pytest.approx([0.0, 0.0, 1.645 * 0.2]) and half[2] == pytest.approx(fresh[2] / 2)
    assert proven.tolist() == [0.0, 0.0, 0.0]


def test_one_that_was_added_is_held_back_beside_any_that_is_proven_and_others_beside_half() -> None:
    one, most = np.array([20.0, 0.0, 0.0]), np.array([20.0, 9.0, 0.0])
    assert unproven(one, NEW).tolist() == [False, False, True] and not unproven(one, OLD).any()
    assert unproven(most, OLD).tolist() == unproven(most, NEW).tolist() == [False, False, True]
    assert not unproven(np.array([20.0, 9.0, 8.0]), NEW).any()


def test_what_is_held_back_ranks_behind_whatever_its_figures_say() -> None:
    utility, held_back = np.array([0.6, 0.5, 0.99]), NEW
    lowered = utility - caution(utility, np.zeros(3), held_back)
    assert lowered.argmax() == 0 and lowered[:2].tolist() == [0.6, 0.5] and lowered[2] == pytest.approx(0.5)


@given(
    arrays(np.float64, 6, elements=st.floats(-1e6, 1.0)),
    arrays(np.float64, 6, elements=st.floats(0.001, 0.5)),
    arrays(np.float64, 6, elements=st.integers(0, 20).map(float)),
    arrays(np.bool_, 6),
)
def test_some_model_is_always_known_and_only_the_others_are_lowered(
    utility: np.ndarray, sd: np.ndarray, scores: np.ndarray, added: np.ndarray
) -> None:
    uncertain, held_back = uncertainty_caution(sd, scores), unproven(scores, added)
    known = (uncertain == 0.0) & ~held_back
    lowered_by = caution(utility, uncertain, held_back)
    assert known.any() and (lowered_by[known] == 0.0).all() and (lowered_by >= 0.0).all()
    assert not (held_back & (scores >= CautionConfig().proven)).any()
    assert not held_back[(utility - lowered_by).argmax()]
