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
from scipy.special import ndtri

from agent.choice.exploration import ChoiceConfig, inverse_gap_weights
from agent.evaluation.challenger import evaluate_challenger
from agent.evaluation.gate import GateReport
from agent.examples import Examples
from agent.types import Array, Encoded, LoggedAction, Observation

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
    choice
        How the live router explores.
    """

    better: float
    evaluations: int = 0
    feedback: int = 0
    differ: float = 0.2
    noise: float = 0.02
    spread: float = 0.12
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
    top = np.argsort(-truth, axis=1)[:, :4]
    pair = rng.permuted(np.tile(np.arange(4), (n, 1)), axis=1)[:, :2]
    first, second = top[rows, pair[:, 0]], top[rows, pair[:, 1]]
    swap = truth[rows, first] > truth[rows, second]
    worse, best = np.where(swap, second, first), np.where(swap, first, second)
    sign = rng.random(n) < 0.5 + 0.5 * setting.better / (setting.differ * gap(setting.spread))
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
def gap(spread: float) -> float:
    """Mean distance of the true qualities of two of a prompt's four best models."""
    top = -np.sort(-_truth(200_000, spread, np.random.default_rng(7)), axis=1)[:, :4]
    return float(np.mean([np.abs(top[:, i] - top[:, j]) for i in range(4) for j in range(i)]))


def scores(truth: Array, rng: np.random.Generator) -> Array:
    """(n, m) 0 or 1, each with its true chance, alike between models."""
    shared, own = rng.standard_normal((len(truth), 1)), rng.standard_normal(truth.shape)
    out: Array = (ALIKE**0.5 * shared + (1 - ALIKE) ** 0.5 * own < ndtri(truth)).astype(np.float64)
    return out


def refresh(setting: Setting, seed: int) -> GateReport:
    """One trial, by the very functions that a refresh uses; the two snapshots alone are stand-ins."""
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


def feedback(asked: Prompts, rng: np.random.Generator, config: ChoiceConfig = ChoiceConfig()) -> list[Observation]:
    """Decisions of the live router with one score each."""
    found = []
    score, embedded = scores(asked.truth, rng), _embedded(asked)
    for i, live in enumerate(asked.live):
        chance = inverse_gap_weights(live, config.gamma + config.gamma_growth * EVIDENCE, config.cap)
        j = int(rng.choice(M, p=chance))
        found.append(
            Observation(
                seq=i + 1, decision_id=f"d{i}", prompt_id=f"p{i}", model=MODELS[j], score=float(score[i, j]),
                source="user", rater=f"r{i}", encoded=Encoded(embedded[i], np.zeros(1, np.float32), 9),
                propensity=float(chance[j]), expected=float(live[j]),
                actions=tuple(LoggedAction(m, float(p), float(q)) for m, p, q in zip(MODELS, chance, live, strict=True)),
            )
        )  # fmt: skip
    return found


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


def main(sizes: Sequence[tuple[int, int]] = ((500, 500), (1000, 500), (2000, 500), (4000, 500))) -> None:
    """Print the table."""
    for differ in (0.02, 0.1, 0.2, 0.3):
        for evaluations, decisions in sizes:
            sides = [b for b in (-0.01, 0.0, 0.01) if abs(b) <= differ * gap(0.12)]
            row = [promoted(Setting(b, evaluations, decisions, differ)) for b in sides]
            print(
                f"differ {differ:.0%}  evaluations {evaluations:5d}  feedback {decisions:5d}  "
                + "  ".join(f"{p:6.1%}" for p in row),
                flush=True,
            )


if __name__ == "__main__":
    main()
