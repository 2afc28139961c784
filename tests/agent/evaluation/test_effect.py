"""The effect of a model as it is read off the log agrees with the truth, whether chance chose or not."""

from __future__ import annotations

import numpy as np
import pytest

from agent.evaluation.effect import LoggedChoice, RealisedEffect, realised_effect
from agent.types import Candidate

TRUTH = {"new": 0.8, "old": 0.6, "other": 0.4}
COST = {"new": 0.003, "old": 0.001, "other": 0.0005}


def choices(
    n: int, explored: float, seed: int, *, bias: float = 0.0, without_new: float = 0.0, scored: float = 1.0
) -> list[LoggedChoice]:
    """Choices of the best model, or of any with probability ``explored``; estimates of the others are ``bias`` too high."""
    rng, out = np.random.default_rng(seed), []
    for _ in range(n):
        names = ["old", "other"] if rng.random() < without_new else ["new", "old", "other"]
        chance = {name: explored / len(names) for name in names}
        chance[names[0]] += 1.0 - explored
        candidates = [
            Candidate(name, TRUTH[name] + (bias if name != "new" else 0.0), 0.1, COST[name], TRUTH[name], chance[name])
            for name in names
        ]
        model = str(rng.choice(names, p=[chance[name] for name in names]))
        score = float(rng.random() < TRUTH[model]) if rng.random() < scored else None
        usd = COST[model] * rng.uniform(0.5, 1.5)
        out.append(LoggedChoice(model, candidates, score, 0.0 if score is None else 1.0, usd))
    return out


def found(**more: float) -> RealisedEffect:
    options = {"explored": 0.0, "seed": 1} | more
    return realised_effect("new", choices(4000, **options))  # type: ignore[arg-type]


def close(effect: RealisedEffect, quality: float, usd: float) -> bool:
    return (
        abs(effect.quality.mean - quality) < 3.0 * effect.quality.stderr
        and abs(effect.usd.mean - usd) < 3.0 * effect.usd.stderr
    )


@pytest.mark.parametrize("explored", [0.0, 0.2, 0.6])
def test_it_is_what_the_model_gained_and_cost_beside_the_best_of_the_others(explored: float) -> None:
    effect = found(explored=explored)
    share = 1.0 - explored + explored / 3.0
    assert close(effect, share * 0.2, share * 0.002)
    assert abs(effect.answered / effect.requests - share) < 0.03
    assert effect.quality.stderr < 0.04


def test_requests_that_it_could_not_take_count_as_unchanged_and_unscored_ones_are_left_out() -> None:
    effect = found(without_new=0.5, scored=0.4)
    assert close(effect, 0.5 * 0.2, 0.5 * 0.002)
    assert effect.quality.n < 0.5 * effect.usd.n == 0.5 * effect.requests


def test_where_chance_chose_wrong_estimates_of_the_others_are_corrected_and_else_shown() -> None:
    corrected, not_corrected = found(explored=0.6, bias=0.2), found(bias=0.2)
    assert abs(corrected.quality.mean - 0.6 * 0.2) < 3.0 * corrected.quality.stderr
    assert abs(not_corrected.quality.mean) < 0.03, "the gain is taken for nothing"
    assert corrected.others_error.mean == pytest.approx(-0.2, abs=0.05)
    assert found().others_error.n == 0


def test_nothing_is_known_of_nothing() -> None:
    effect = realised_effect("new", [])
    assert (effect.requests, effect.quality.n, effect.usd.n) == (0, 0, 0) and effect.quality.stderr == np.inf
