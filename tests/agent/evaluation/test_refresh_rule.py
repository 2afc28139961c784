"""When an early refresh is due, by what has come in."""

from __future__ import annotations

import numpy as np
import pytest

from agent.evaluation.refresh_rule import RefreshSignals, refresh_reason


def around(centre: int, n: int, noise: float = 0.1) -> tuple[np.ndarray, ...]:
    """``n`` unit vectors about one axis."""
    rng = np.random.default_rng(centre)
    vectors = np.eye(32)[centre] + noise * rng.standard_normal((n, 32))
    return tuple((v / np.linalg.norm(v)).astype(np.float32) for v in vectors)


@pytest.mark.parametrize(
    ("known", "feedback", "due"),
    [(0, 15, False), (0, 16, True), (40, 19, False), (40, 20, True), (9000, 4499, False), (9000, 4500, True)],
)
def test_feedback_is_enough_beside_what_was_known(known: int, feedback: int, due: bool) -> None:
    reason = f"{feedback:,} new feedback rows, beside {known:,} scored prompts known before"
    assert refresh_reason(RefreshSignals(known, feedback)) == (reason if due else None)


def test_refreshes_get_rarer_the_more_is_known() -> None:
    rows, trained, at = 0, 0, []
    while rows < 100_000:
        rows += 1
        if refresh_reason(RefreshSignals(trained, rows - trained)):
            trained = rows
            at.append(rows)
    assert at[:6] == [16, 32, 48, 72, 108, 162]
    assert len(at) == 21, "200 where 500 rows always call one"


def test_newcomers_and_outliers_that_were_read_in_vain_must_grow_too() -> None:
    assert refresh_reason(RefreshSignals(9000, 60, newcomers={"new": 40}, read_newcomers={"new": 80}))
    assert refresh_reason(RefreshSignals(9000, 60, newcomers={"new": 40}, read_newcomers={"new": 81})) is None
    assert refresh_reason(RefreshSignals(9000, 60, newcomers={"new": 40}, read_newcomers={"other": 900}))
    assert refresh_reason(RefreshSignals(9000, 60, 100, around(3, 30), read_outliers=60))
    assert refresh_reason(RefreshSignals(9000, 60, 100, around(3, 30), read_outliers=61)) is None


def test_outliers_call_a_refresh_only_where_they_are_clustered() -> None:
    lonely = tuple(np.linalg.qr(np.random.default_rng(0).standard_normal((32, 32)))[0].astype(np.float32))
    assert refresh_reason(RefreshSignals(9000, 0, 100, lonely)) is None
    assert refresh_reason(RefreshSignals(9000, 0, 100, around(3, 29))) is None
    reason = refresh_reason(RefreshSignals(9000, 0, 100, around(3, 40) + lonely[10:]))
    assert reason == "40 of the latest 100 prompts lie close together, far from every task"
    assert refresh_reason(RefreshSignals(9000, 0, 1000, around(3, 40))) is None, "4 % of the traffic"


def test_two_small_groups_of_outliers_count_together() -> None:
    assert refresh_reason(RefreshSignals(9000, 0, 100, around(3, 15) + around(7, 15)))
    scattered = tuple(v for centre in range(10) for v in around(centre, 4))
    assert refresh_reason(RefreshSignals(9000, 0, 100, scattered)) is None, "groups of four are too small"


def test_a_drift_calls_a_refresh_once_there_are_scores_to_learn_it_from() -> None:
    assert refresh_reason(RefreshSignals(9000, 60, drifted={"a": 39})) is None
    assert (
        refresh_reason(RefreshSignals(9000, 60, drifted={"a": 12, "b": 40})) == "b has changed, and 40 scores tell how"
    )
