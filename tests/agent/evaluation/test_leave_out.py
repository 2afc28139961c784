"""What leaving a model out would change, on decisions whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from agent.evaluation.leave_out import Choices, Loss, choices, losses
from agent.evaluation.logged import LoggedDecisions
from agent.types import Array, Candidate

MODELS = ("best", "costly", "idle", "niche")
TRUTH = np.array([[0.8, 0.8, 0.3, 0.4], [0.5, 0.5, 0.3, 0.9]])  # by task
COST = np.array([0.002, 0.02, 0.001, 0.003])
PENALTY = 2.0 * COST


def logs(n: int, estimates: Array = TRUTH, seed: int = 0) -> tuple[Choices, LoggedDecisions]:
    """Decisions by ``estimates``, exploring a little; all are scored."""
    rng = np.random.default_rng(seed)
    task = (rng.random(n) < 0.25).astype(np.int64)
    quality = estimates[task]
    propensity = np.full((n, 4), 0.02)
    propensity[np.arange(n), (quality - PENALTY).argmax(axis=1)] = 0.94
    chosen = np.array([rng.choice(4, p=p) for p in propensity], np.int64)
    every = np.ones((n, 4), bool)
    cost, penalty = np.tile(COST, (n, 1)), np.tile(PENALTY, (n, 1))
    scored = LoggedDecisions(
        chosen=chosen, score=(rng.random(n) < TRUTH[task, chosen]).astype(float), score_weight=np.ones(n), models=MODELS,
        prompts=tuple(map(str, range(n))), first_position=np.zeros(n, np.int64),
        embeddings=np.zeros((n, 2), np.float32), features=np.zeros((n, 2), np.float32),
        eligible=every, propensity=propensity, quality=quality, cost=cost, cost_penalty=penalty,
    )  # fmt: skip
    return Choices(MODELS, every, propensity, quality, cost, penalty, task), scored


def loss(model: str, n: int = 4000, estimates: Array = TRUTH) -> Loss:
    return next(found for found in losses(*logs(n, estimates), MODELS) if found.model == model)


def test_a_model_that_is_only_explored_can_be_left_out_and_saves_what_exploring_it_costs() -> None:
    found = loss("costly")
    assert found.advice == "leave out" and found.tasks == () and found.share == pytest.approx(0.02)
    low, high = found.cost.interval()
    saved = -0.02 * np.array([0.018, 0.017]) @ np.array([0.75, 0.25])  # to best, to niche
    assert low <= saved <= high < 0.0
    assert found.quality.interval()[0] <= 0.02 * 0.25 * 0.4 <= found.quality.interval()[1] + 0.002
    assert loss("idle").advice == "leave out"


def test_a_model_that_one_task_needs_is_kept_and_its_loss_is_the_true_one() -> None:
    found = loss("niche")
    assert found.advice == "keep" and found.tasks == (1,) and found.share == pytest.approx(0.25, abs=0.03)
    low, high = found.quality.interval()
    assert low <= -0.94 * 0.25 * 0.4 <= high and high - low < 0.15
    assert found.quality_expected.mean == pytest.approx(found.quality.mean, abs=0.03)


def test_scores_correct_estimates_that_are_wrong() -> None:
    """Estimates take niche for no better than best on its task."""
    flat = np.array([[0.8, 0.8, 0.3, 0.4], [0.55, 0.5, 0.3, 0.553]])
    found = loss("niche", 8000, flat)
    assert found.tasks == () and found.quality_expected.mean > -0.01
    assert found.quality.interval()[1] < 0.0 and found.advice == "not sure"


def test_few_scores_suggest_nothing_and_a_model_that_nobody_could_choose_changes_nothing() -> None:
    assert loss("idle", 20).advice == "not sure"
    [found] = losses(*logs(100), ["another"])
    assert (found.share, found.quality.mean, found.cost.mean, found.advice) == (0.0, 0.0, 0.0, "leave out")


def test_a_model_that_alone_could_take_a_request_is_kept() -> None:
    def one(*names: str) -> list[Candidate]:
        excluded = {"a": None, "b": "it sees no images"} if names == ("a",) else {"a": None, "b": None}
        return [
            Candidate(m, 0.5 + 0.1 * (m == "b"), 0.1, 0.01, 0.5, float(m == names[0]), excluded=excluded[m])
            for m in "ab"
        ]

    decided = choices([(3, one("b", "a"))] * 9 + [(3, one("a"))])
    assert decided.models == ("a", "b") and decided.eligible.sum() == 19
    a, b = (next(x for x in losses(decided, logs(0)[1], "ab") if x.model == m) for m in "ab")
    assert (a.alone, a.advice, b.alone, b.tasks) == (1, "keep", 0, (3,))
    assert losses(choices([]), logs(0)[1], ["a"])[0].advice == "not sure"
