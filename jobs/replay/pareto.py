"""ParetoBandit (PyPI `paretobandit`, Taberner-Miller 2026), where it is installed: LinUCB with forgetting and a cost term.

It runs as its documentation describes for a pool of one's own: precomputed vectors of 25 principal components and a constant,
its published settings (`BEST_K3_HPARAMS`, or `BEST_K3_TABULA_RASA_HPARAMS` for a cold start), and warm scores as offline
priors, computed as in its own `generate_warmup_priors`. The components are not whitened.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from jobs.replay.bandits import Components
from jobs.replay.policy import Feedback, PolicyChoice, PolicyEvent, Prompt, Start


class ParetoBandit:
    """`pareto_bandit.BanditRouter`.

    Parameters
    ----------
    start
        See `Start`.
    cost_weight
        Its lambda: the quality that the highest price on its logarithmic scale of prices is worth.
    """

    tasks = 0
    events: Sequence[PolicyEvent] = ()

    def __init__(self, start: Start, cost_weight: float = 0.0) -> None:
        from pareto_bandit import BanditRouter, FeatureService, calibrate_priors
        from pareto_bandit.config import BEST_K3_HPARAMS, BEST_K3_TABULA_RASA_HPARAMS

        logging.getLogger("pareto_bandit").setLevel(logging.CRITICAL)
        self._cards = start.cards
        self._features = Components(start.sample)
        settings = BEST_K3_HPARAMS if len(start.prompts) else BEST_K3_TABULA_RASA_HPARAMS
        self._router: Any = BanditRouter.create(
            model_registry={name: self._prices(name) for name in start.models},
            feature_service=FeatureService.for_precomputed(self._features.width),
            priors="none",
            alpha=settings["alpha"],
            forgetting_factor=settings["forgetting_factor"],
            bandit_seed=start.seed,
            cost_penalty=cost_weight,
        )
        if len(start.prompts):
            self._warm_up(start, settings["prior_n_effective"])
            calibrate_priors(self._router.bandit)

    def set_models(self, models: Sequence[str]) -> None:
        for name in set(models) - self._router.registry.keys():
            self._router.register_model(name, **self._prices(name))
        for name in self._router.registry.keys() - set(models):
            del self._router.registry[name]
            self._router.bandit.delete_arm(name)

    def choose(self, prompt: Prompt, allowed: Sequence[str] | None) -> PolicyChoice:
        """Its route; where that model is not allowed, the allowed one of highest expected reward."""
        features = self._features(prompt)
        model, _ = self._router.route(features)
        if allowed is not None and model not in allowed:
            model = max(allowed, key=lambda name: self._router.bandit.get_expected_reward(name, features))
        return PolicyChoice(model)

    def learn_one(self, feedback: Feedback) -> None:
        """As its ``process_feedback`` does; its clock advances with requests."""
        self._router.update(feedback.choice.model, self._features(feedback.prompt), feedback.score, advance_time=False)

    def learn_outcome(self, prompt: Prompt, choice: PolicyChoice, cost: float) -> None:
        """Nothing: its costs are list prices."""

    def _prices(self, name: str) -> dict[str, float]:
        card = self._cards[name]
        return {"input_cost_per_m": card.price_input, "output_cost_per_m": card.price_output}

    def _warm_up(self, start: Start, n_effective: float) -> None:
        """As its ``_load_warmup_priors``, which reads a pickle: regressions that count as ``n_effective`` scores each."""
        features = np.stack([self._features(p) for p in start.prompts])  # (n, c + 1)
        unit = np.eye(features.shape[1])
        for name in start.models:
            score = start.scores[:, start.columns.index(name)]
            known = features[np.isfinite(score)]
            precision = unit + known.T @ known
            weighted = known.T @ score[np.isfinite(score)]
            scale = n_effective / precision[-1, -1]
            self._router.bandit.A[name] = scale * precision + unit
            self._router.bandit.b[name] = scale * weighted + np.linalg.solve(precision, weighted)
        self._router.bandit.refresh_inverse_cache()
