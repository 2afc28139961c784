"""Refreshes in a world whose truth is known: how often the gate promotes which challenger.

``python -m tests.agent.evaluation.refreshes`` prints the table that `docs/log.md` quotes.

Champion and challenger route differently on a share of the prompts; how much better the challenger is there, and so
everywhere, is set exactly. Scores are 0 or 1 and alike between models, since what is hard for one is hard for another: two
routes that differ on a prompt then disagree in score on about as many as on real data (docs/log.md). The router that
logged the decisions has the champion's estimates and some noise, and explores as `agent.choice.exploration` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from agent.choice.exploration import ChoiceConfig
from agent.evaluation.challenger import evaluate_challenger
from agent.evaluation.gate import GateReport, evaluation_difference, feedback_difference, judge
from agent.evaluation.off_policy import ScoredChoices
from agent.examples import Examples
from agent.feedback.ledger import Ledger
from agent.observations import Observation
from agent.types import Array, Encoded, LoggedAction

MODELS = tuple("abcdefgh")
M = len(MODELS)
ALIKE = 0.8
"""Correlation of what decides two models' scores on a prompt."""

EVIDENCE = 100.0
"""Scores behind a prompt's task, which make the router greedier."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a refresh is like.

    Parameters
    ----------
    better
        By how much the challenger is better, in quality over all prompts.
    evaluations, feedback
        Prompts that are scored for every model, and decisions with feedback; neither snapshot was trained on these scores.
    differ
        Share of prompts on which the two routes differ.
    noise
        Standard deviation of the live router's estimates about the champion's.
    spread
        Standard deviation of models' qualities on a prompt.
    top
        Where the routes differ, both choose among a prompt's so many best models.
    choice
        How the live router explores.
    """

    better: float
    evaluations: int = 0
    feedback: int = 0
    differ: float = 0.2
    noise: float = 0.02
    spread: float = 0.12
    top: int = 4
    choice: ChoiceConfig = ChoiceConfig()


@dataclass(frozen=True, slots=True)
class Prompts:
    """n prompts: true quality (n, m), and estimated by champion, challenger and the live router."""

    truth: Array
    champion: Array
    challenger: Array
    live: Array


def prompts(n: int, setting: Setting, rng: np.random.Generator) -> Prompts:
    """Draw prompts; the two routes differ on some, and by ``setting.better`` over all in expectation."""
    truth = _truth(n, setting.spread, rng)
    rows = np.arange(n)
    top = np.argsort(-truth, axis=1)[:, : setting.top]
    pair = rng.permuted(np.tile(np.arange(setting.top), (n, 1)), axis=1)[:, :2]
    first, second = top[rows, pair[:, 0]], top[rows, pair[:, 1]]
    swap = truth[rows, first] > truth[rows, second]
    worse, best = np.where(swap, second, first), np.where(swap, first, second)
    sign = rng.random(n) < 0.5 + 0.5 * setting.better / (setting.differ * gap(setting.spread, setting.top))
    old, new = np.where(sign, worse, best), np.where(sign, best, worse)
    new = np.where(rng.random(n) < setting.differ, new, old)

    def estimated(on: NDArray[np.int64]) -> Array:
        seen = truth + rng.normal(0.0, 0.05, truth.shape)
        seen[rows, on] = seen.max(axis=1) + 0.01
        return seen

    champion, challenger = estimated(old), estimated(new)
    return Prompts(truth, champion, challenger, champion + rng.normal(0.0, setting.noise, truth.shape))


def _truth(n: int, spread: float, rng: np.random.Generator) -> Array:
    return np.clip(rng.normal(0.75, 0.2, (n, 1)) + rng.normal(0.0, spread, (n, M)), 0.02, 0.98)


@cache
def gap(spread: float, top: int = 4) -> float:
    """Mean distance of the true qualities of two of a prompt's ``top`` best models."""
    best = -np.sort(-_truth(200_000, spread, np.random.default_rng(7)), axis=1)[:, :top]
    return float(np.mean([np.abs(best[:, i] - best[:, j]) for i in range(top) for j in range(i)]))


def scores(truth: Array, rng: np.random.Generator) -> Array:
    """(n, m) 0 or 1, each with its true chance, alike between models."""
    shared, own = rng.standard_normal((len(truth), 1)), rng.standard_normal(truth.shape)
    out: Array = (ALIKE**0.5 * shared + (1 - ALIKE) ** 0.5 * own < ndtri(truth)).astype(np.float64)
    return out


def refresh(setting: Setting, seed: int) -> GateReport:
    """One refresh's verdict, by the functions that a refresh uses; `refresh_by_row` gives the same and is slow."""
    rng = np.random.default_rng(seed)
    evaluated = prompts(setting.evaluations, setting, rng)
    score = scores(evaluated.truth, rng)
    asked = prompts(setting.feedback, setting, rng)
    by_evaluations = by_feedback = None
    if setting.evaluations:
        by_evaluations = evaluation_difference(evaluated.champion, evaluated.challenger, score)
    if setting.feedback:
        log = logged(asked, rng, setting.choice)
        old, new = (_greedy(estimate) for estimate in (asked.champion, asked.challenger))
        by_feedback = feedback_difference(old, new, asked.live, log)
    return judge(by_evaluations, by_feedback)


def refresh_by_row(setting: Setting, seed: int) -> GateReport:
    """The same through the feedback log and `evaluate_challenger`; the two snapshots alone are stand-ins."""
    rng = np.random.default_rng(seed)
    evaluated = prompts(setting.evaluations, setting, rng)
    evaluations = Examples(
        ids=tuple(f"e{i}" for i in range(setting.evaluations)),
        embeddings=_embedded(evaluated),
        features=np.zeros((setting.evaluations, 1), np.float32),
        scores=scores(evaluated.truth, rng),
        models=MODELS,
    )
    observations = feedback(prompts(setting.feedback, setting, rng), rng, setting.choice)
    with patch("agent.evaluation.challenger.Estimator", lambda snapshot: snapshot):
        old, new = (_snapshot(which) for which in (0, 1))
        return evaluate_challenger(old, new, evaluations, observations)


def propensities(live: Array, config: ChoiceConfig = ChoiceConfig()) -> Array:
    """(n, m) `inverse_gap_weights` of every row."""
    gamma, rows = config.gamma + config.gamma_growth * EVIDENCE, np.arange(len(live))
    best = live.argmax(axis=1)
    weight: Array = 1.0 / (M + gamma * (live[rows, best][:, None] - live))
    weight[rows, best] = 0.0
    weight *= np.minimum(1.0, config.cap / weight.sum(axis=1, keepdims=True))
    weight[rows, best] = 1.0 - weight.sum(axis=1)
    return weight


def logged(asked: Prompts, rng: np.random.Generator, config: ChoiceConfig = ChoiceConfig()) -> ScoredChoices:
    """Decisions of the live router, each with a user's score as a new ledger reads it."""
    score, chance = scores(asked.truth, rng), propensities(asked.live, config)
    chosen = _drawn(chance, rng)
    read = [Ledger().predict_one("user", "r", value) for value in (0.0, 1.0)]
    value = np.where(score[np.arange(len(score)), chosen] > 0.5, read[1].value, read[0].value)
    return ScoredChoices(chosen, value, np.full(len(value), read[0].weight), chance)


def _drawn(chance: Array, rng: np.random.Generator) -> NDArray[np.int64]:
    """(n,) a column of each row of (n, m) ``chance``."""
    out: NDArray[np.int64] = (chance.cumsum(axis=1) > rng.random((len(chance), 1))).argmax(axis=1)
    return out


def _greedy(estimate: Array) -> Array:
    """(n, m) the policy that takes the best."""
    out: Array = np.eye(M)[estimate.argmax(axis=1)]
    return out


def feedback(asked: Prompts, rng: np.random.Generator, config: ChoiceConfig = ChoiceConfig()) -> list[Observation]:
    """The feedback log of `logged`."""
    score, embedded, chance = scores(asked.truth, rng), _embedded(asked), propensities(asked.live, config)
    return [
        Observation(
            seq=i + 1, decision_id=f"d{i}", prompt_id=f"p{i}", model=MODELS[j], score=float(score[i, j]),
            source="user", rater=f"r{i}", encoded=Encoded(embedded[i], np.zeros(1, np.float32), 9),
            propensity=float(chance[i, j]), expected=float(asked.live[i, j]),
            actions=tuple(
                LoggedAction(m, float(p), float(q)) for m, p, q in zip(MODELS, chance[i], asked.live[i], strict=True)
            ),
        )
        for i, j in enumerate(_drawn(chance, rng))
    ]  # fmt: skip


def _embedded(asked: Prompts) -> NDArray[np.float32]:
    """Embeddings that hold each snapshot's estimates, where the stand-ins find them."""
    return np.concatenate([asked.champion, asked.challenger], axis=1).astype(np.float32)


def _snapshot(which: int) -> Any:
    """A snapshot and its estimator in one."""

    def predict_out_of_fold(
        ids: Sequence[str], embeddings: NDArray[np.float32], features: NDArray[np.float32]
    ) -> NDArray[np.float64]:
        return embeddings[:, which * M : (which + 1) * M].astype(np.float64)

    return SimpleNamespace(
        models=MODELS, encoder="", predict_out_of_fold=predict_out_of_fold, shrink_to_mean=lambda quality: quality
    )


def promoted(setting: Setting, times: int = 200) -> float:
    """Share of refreshes after which the challenger serves; every one must rest on enough evidence to judge by."""
    reports = [refresh(setting, seed) for seed in range(times)]
    assert all(report.pooled is not None for report in reports)
    return float(np.mean([report.promote for report in reports]))


def ideal_power(setting: Setting, confidence: float = 0.95) -> float:
    """Power of the one-sided paired test on the evaluations, if the variance of the paired difference were known."""
    asked = prompts(50_000, setting, rng := np.random.default_rng(7))
    score, rows = scores(asked.truth, rng), np.arange(50_000)
    terms = score[rows, asked.challenger.argmax(axis=1)] - score[rows, asked.champion.argmax(axis=1)]
    return float(ndtr(setting.better * setting.evaluations**0.5 / terms.std() - ndtri(confidence)))


def main(sizes: Sequence[tuple[int, int]] = ((500, 500), (1000, 500), (2000, 500), (4000, 500))) -> None:
    """Print the table."""
    for differ in (0.02, 0.1, 0.2, 0.3):
        for evaluations, decisions in sizes:
            sides = [b for b in (-0.01, 0.0, 0.01) if abs(b) <= differ * gap(0.12)]
            row = [promoted(Setting(b, evaluations, decisions, differ)) for b in sides]
            ideal = ideal_power(Setting(0.01, evaluations, decisions, differ)) if 0.01 in sides else np.nan
            print(
                f"differ {differ:.0%}  evaluations {evaluations:5d}  feedback {decisions:5d}  "
                + "  ".join(f"{p:6.1%}" for p in row) + f"  ideal paired test {ideal:6.1%}",
                flush=True,
            )  # fmt: skip


if __name__ == "__main__":
    main()
