"""One contract for everything that learns: `OnlineEstimator`, `PromptIndex` and `Router`.

A learner here learns rows of a feedback log and predicts for each kind of prompt; only its adapter differs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.estimate import Estimator
from agent.index.neighbours import Neighbours
from agent.index.prompts import PromptIndex
from agent.observations import CalibratedScore, Observation
from agent.online.estimator import OnlineEstimator
from agent.online.prior import Prior
from agent.router import Router
from agent.types import RouteRequest
from tests.agent import clusters
from tests.agent.clusters import CARDS, KINDS, MODELS, encoded, observed

Array = np.ndarray


class Learner(Protocol):
    """``low`` and ``high`` bound its predictions."""

    low: float
    high: float

    def learn_one(self, row: Observation) -> None: ...

    def predict(self) -> Array:
        """All that it predicts."""
        ...


class OnlineLearner:
    """`OnlineEstimator` on the kind as task, against a snapshot that predicts 0.5 of everything."""

    low, high = -1.0, 1.0

    def __init__(self) -> None:
        m, known = len(MODELS), np.full((len(KINDS), len(MODELS)), 10.0)
        prior = Prior(0.1 * np.eye(m), 0.01 * np.eye(m), known, 0.05 * known)
        self._online = OnlineEstimator(MODELS, range(len(KINDS)), prior)

    def learn_one(self, row: Observation) -> None:
        task = KINDS.index(row.prompt_id.split("-")[0])
        self._online.learn_one(row, CalibratedScore(row.score, 1.0), {row.model: 0.5}, {task: 1.0})

    def predict(self) -> Array:
        posteriors = [self._online.predict_one(MODELS, {task: 1.0}) for task in range(len(KINDS))]
        variance = [np.diag(p.covariance) for p in posteriors]
        assert min(v.min() for v in variance) > 0.0
        return np.array([[p.mean, v] for p, v in zip(posteriors, variance)])


class IndexLearner:
    """`PromptIndex`, asked for the scores of what is nearest to each kind."""

    low, high = 0.0, 1.0

    def __init__(self) -> None:
        self._estimator = Estimator(clusters.snapshot())
        self._index = PromptIndex(self._estimator.representation, (), (), np.zeros((0, 0)), 200)

    def learn_one(self, row: Observation) -> None:
        (point,), task = self._estimator.points([row.encoded]), KINDS.index(row.prompt_id.split("-")[0])
        near = self._index.neighbourhood(self._index.nearest(point, 1))
        self._index.learn_one(
            row.prompt_id, point, task, row.model, row.score, 1.0, neighbourhood=row.seq if near is None else near,
            rating=(row.decision_id, row.source, row.rater), revises=row.revises is not None,
        )  # fmt: skip

    def predict(self) -> Array:
        found, none = [], Neighbours(np.zeros((1, 0), np.int64), np.zeros((1, 0), np.float32))
        for kind in KINDS:
            evidence = self._index.evidence(
                self._index.nearest(self._estimator.points([encoded(kind)])[0], 100), none, 100
            )
            found += [[e.scores.get(m, 0.5) for m in MODELS] for e in evidence if e.prompt_id.startswith(kind)]
        return np.array(found or [[0.5] * len(MODELS)])


class RouterLearner:
    """`Router` over a trained snapshot."""

    low, high = 0.0, 1.0

    def __init__(self) -> None:
        self.router = Router(clusters.snapshot(), CARDS)

    def learn_one(self, row: Observation) -> None:
        self.router.learn_one(row)

    def predict(self) -> Array:
        request = RouteRequest((), explore=False)
        decisions = [self.router.route(encoded(kind, 900), request, np.random.default_rng(0)) for kind in KINDS]
        by_name = [{c.model: c for c in d.candidates} for d in decisions]
        return np.array([[[c[m].quality, c[m].stderr] for m in MODELS] for c in by_name])


@pytest.fixture(params=[OnlineLearner, IndexLearner, RouterLearner])
def make(request: pytest.FixtureRequest) -> Callable[[], Learner]:
    found: Callable[[], Learner] = request.param
    return found


def learned(make: Callable[[], Learner], rows: Sequence[Observation]) -> Learner:
    learner = make()
    for row in rows:
        learner.learn_one(row)
    return learner


def log(n: int, seed: int = 0, kinds: Sequence[str] = KINDS, start: int = 101) -> list[Observation]:
    """``n`` rows of noisy scores around the truth, some prompts scored more than once."""
    rng = np.random.default_rng(seed)
    rows = []
    for seq in range(start, start + n):
        kind, model = str(rng.choice(list(kinds))), str(rng.choice(list(MODELS)))
        score = float(np.clip(rng.normal(clusters.truth(kind, model), 0.2), 0.0, 1.0))
        rows.append(observed(seq, kind, model, score, prompt=int(rng.integers(0, 12))))
    return rows


def renumbered(rows: Sequence[Observation]) -> list[Observation]:
    """The same rows as a log of their own, from the snapshot's position on."""
    return [replace(row, seq=101 + i) for i, row in enumerate(rows)]


events = st.lists(
    st.tuples(
        st.sampled_from(KINDS),
        st.sampled_from(MODELS),
        st.sampled_from([0.0, 0.3, 1.0]),
        st.integers(0, 3),
        st.booleans(),
    ),
    max_size=25,
)


@given(ratings=events)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_learning_then_predicting_is_finite_and_in_range(
    make: Callable[[], Learner], ratings: list[tuple[str, str, float, int, bool]]
) -> None:
    """Whatever is scored and revised, in whatever order."""
    learner, scores = make(), dict[tuple[str, str, int], float]()
    for seq, (kind, model, score, prompt, revision) in enumerate(ratings, 101):
        before = scores.get((kind, model, prompt)) if revision else None
        learner.learn_one(observed(seq, kind, model, score, prompt=prompt, revises=before))
        scores[kind, model, prompt] = score
        predicted = learner.predict()
        assert np.isfinite(predicted).all() and predicted.min() >= learner.low and predicted.max() <= learner.high


def test_learning_moves_predictions_towards_the_scores(make: Callable[[], Learner]) -> None:
    up, down = (
        learned(make, [observed(101 + i, "code", "v/beta", s, prompt=i) for i in range(10)]) for s in (1.0, 0.0)
    )
    assert up.predict().sum() > down.predict().sum()
    assert not np.array_equal(up.predict(), make().predict())


def test_replay_equals_live_bit_for_bit(make: Callable[[], Learner]) -> None:
    """One that predicts after each row, as a replica does, and one that catches up after a crash."""
    rows = log(150)
    live = make()
    for row in rows:
        live.learn_one(row)
        live.predict()
    assert live.predict().tobytes() == learned(make, rows).predict().tobytes()


def test_a_revision_leaves_what_the_last_score_alone_would(make: Callable[[], Learner]) -> None:
    before, after = log(20), log(20, seed=1, start=200)
    first = observed(150, "code", "v/beta", 1.0, prompt=700)
    second, third = replace(first, seq=151, score=0.4, revises=1.0), replace(first, seq=260, score=0.1, revises=0.4)
    revised = learned(make, [*before, first, second, *after, third])
    once = learned(make, renumbered([*before, replace(third, revises=None), *after]))
    assert np.allclose(revised.predict(), once.predict(), rtol=0, atol=1e-9)
    unrevised = learned(make, [*before, first, *after])
    assert make is IndexLearner or not np.allclose(revised.predict(), unrevised.predict(), atol=1e-3)


def test_a_revision_to_the_same_score_changes_nothing(make: Callable[[], Learner]) -> None:
    row = observed(130, "code", "v/beta", 0.7, prompt=700)
    left = learned(make, [*log(20), row])
    right = learned(make, [*log(20), row, replace(row, seq=131, revises=0.7)])
    assert np.allclose(left.predict(), right.predict(), rtol=0, atol=1e-9)


def test_the_order_of_independent_tasks_does_not_matter(make: Callable[[], Learner]) -> None:
    """Each kind's own rows stay in order; how the kinds interleave is chance."""
    left, right = log(20, kinds=("rivers", "code")), log(20, seed=1, kinds=("sums", "poems"))
    mixed = [row for pair in zip(left, right) for row in pair]
    predicted = [learned(make, renumbered(rows)).predict() for rows in ([*left, *right], [*right, *left], mixed)]
    near = 0.02 if make is RouterLearner else 1e-9  # the ledger's calibration of a source weighs later rows
    assert np.allclose(predicted[0], predicted[1], rtol=0, atol=near)
    assert np.allclose(predicted[0], predicted[2], rtol=0, atol=near)


def test_scores_of_one_task_hardly_move_the_others(make: Callable[[], Learner]) -> None:
    """Ten scores move their own kind, and each other kind by less than a quarter of that."""
    rows = [*log(40), *(observed(200 + i, "code", "v/gamma", float(i == 0), prompt=0) for i in range(11))]
    moved = np.abs(learned(make, rows).predict() - learned(make, rows[:41]).predict())
    if make is IndexLearner:
        assert moved.max() > 0.1 and (moved > 1e-9).sum() == 1
    else:
        by_kind = moved.max(axis=tuple(range(1, moved.ndim)))
        code = KINDS.index("code")
        assert by_kind[code] > 0.2 and (np.delete(by_kind, code) < by_kind[code] / 4).all()


# --- of the router, which knows its position


def test_rows_at_or_before_the_position_are_skipped() -> None:
    rows = log(30)
    once = learned(RouterLearner, rows)
    again = learned(RouterLearner, [row for row in rows for _ in range(2)])
    late = learned(
        RouterLearner, [*rows, *rows[:7], observed(100, "code", "v/gamma", 0.0), observed(1, "code", "v/gamma", 0)]
    )
    for other in (again, late):
        assert isinstance(other, RouterLearner) and other.router.position == 130
        assert other.predict().tobytes() == once.predict().tobytes()


def test_rows_that_the_snapshot_was_trained_on_are_not_learned_twice() -> None:
    untouched = RouterLearner()
    assert learned(RouterLearner, log(50, start=51)[:50]).predict().tobytes() == untouched.predict().tobytes()


def test_gaps_in_the_log_do_not_matter() -> None:
    gapped = [replace(row, seq=100 + 3 * (i + 1)) for i, row in enumerate(log(30))]
    assert learned(RouterLearner, gapped).predict().tobytes() == learned(RouterLearner, log(30)).predict().tobytes()
