"""Online estimator: what calibrated scores since the snapshot change in its estimates, by task and model.

Each score's residual (calibrated score less the snapshot's prediction) updates a hierarchical Gaussian over task effects
(`agent.online.effects`) and is tested for a drift (`agent.online.drift`). On drift, the model's scores from before the
change are dropped and its prior is widened, so that it is estimated anew. The state is a function of the snapshot and the
ordered log alone, so every replica computes the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from agent.observations import CalibratedScore, Drift, Observation
from agent.online.drift import DriftConfig, DriftDetectors
from agent.online.effects import Gaussian, TaskEffects
from agent.online.prior import COMMON_VARIANCE, OVERALL_SD, OWN_VARIANCE, Prior, score_variance
from agent.types import UNKNOWN_TASK, Array

_MIN_WEIGHT = 1e-6
"""A score of less weight counts with this one, so that its variance is finite."""

_UNKNOWN_VARIANCE = OVERALL_SD**2 + OWN_VARIANCE + COMMON_VARIANCE
"""Of the effect on a prompt of a model that no score named."""


@dataclass(frozen=True, slots=True)
class OnlineConfig:
    """How fast live scores move the estimates.

    Parameters
    ----------
    min_task_probability
        A prompt counts for the tasks that it belongs to with at least this probability.
    memory
        Scores of a model in one neighbourhood of a task after which an old one weighs 1/e.
    change_sd
        Standard deviation added to the overall effect of a model that changed.
    change_variance
        Variance added to each of its task effects.
    held
        Latest scores that can still be revised.
    drift
        When a change is reported.
    """

    min_task_probability: float = 0.1
    memory: float = 2000.0
    change_sd: float = 0.3
    change_variance: float = 0.02
    held: int = 100_000
    drift: DriftConfig = field(default_factory=DriftConfig)


@dataclass(frozen=True, slots=True)
class ResidualObservation:
    """A score that the posterior contains: what is needed to subtract it, or to add it again.

    Parameters
    ----------
    seq
        Position in the log.
    coefficients
        model -> coefficient: ``{"a": 1}`` for a score of a, ``{"a": 1, "b": -1}`` for a comparison of a with b.
    task_probabilities
        task -> probability that the prompt belongs to it.
    residual, variance
        Calibrated score less the snapshot's prediction, and its noise variance.
    neighbourhood
        The prompt's; None where it is in none.
    task_weights
        task -> weight it was added with.
    """

    seq: int
    coefficients: Mapping[str, float]
    task_probabilities: Mapping[int, float]
    residual: float
    variance: float
    neighbourhood: int | None = None
    task_weights: Mapping[int, float] = field(default_factory=dict)


class PromptEffect(NamedTuple):
    """How much better or worse than expected models do on one prompt, and the ``variance`` of a score when that is known."""

    mean: float
    variance: float


def prompt_effect(residuals: Array, prompt: float, noise: float) -> PromptEffect:
    """The effect of a prompt on all models, of whose scores (n,) ``residuals`` are known, by the variances of such effects and
    of the noise of a score (Henderson's best linear prediction)."""
    left = noise / len(residuals)
    share = prompt / (prompt + left)
    return PromptEffect(share * float(residuals.mean()), noise + share * left)


@dataclass(frozen=True, slots=True)
class ResidualChange:
    """What a row changes: ``new`` replaces what is held under ``key``; ``score``, its ``weight`` and what was ``predicted``."""

    key: Hashable
    observation: Observation
    new: ResidualObservation
    score: float
    weight: float
    predicted: float


class Posterior(NamedTuple):
    """The effects given the held scores, and what they rest on: models beyond the snapshot's, columns, prior, scores."""

    new_models: tuple[str, ...]
    column: dict[str, int]
    prior: Prior
    effects: TaskEffects
    held: dict[Hashable, ResidualObservation]


class OnlineEstimator:
    """Mean and covariance of each model's quality less the snapshot's prediction.

    Parameters
    ----------
    models, tasks
        Names and ids of those that the snapshot knows.
    prior
        What the snapshot leaves open about them.
    config
        See `OnlineConfig`.
    drift_detectors
        State of the drift detectors that the snapshot carries on.

    Examples
    --------
    >>> from agent.types import Encoded
    >>> prior = Prior(0.05 * np.eye(2) + 0.05, 0.01 * np.eye(2), np.full((1, 2), 20.0), np.full((1, 2), 0.6))
    >>> online = OnlineEstimator(("small", "large"), (0,), prior)
    >>> prompt = Encoded(np.zeros(4, np.float32), np.zeros(2, np.float32), 9)
    >>> for n in range(20):
    ...     row = Observation(n, f"d{n}", "p", "small", 0.0, "user", "", prompt)
    ...     drift = online.learn_one(row, CalibratedScore(0.0, 1.0), {"small": 0.6}, {0: 1.0})
    >>> posterior = online.predict_one(("small", "large"), {0: 1.0})
    >>> bool(posterior.mean[0] < -0.3), bool(abs(posterior.mean[1]) < 0.1)
    (True, True)
    """

    def __init__(
        self,
        models: Sequence[str],
        tasks: Sequence[int],
        prior: Prior,
        config: OnlineConfig = OnlineConfig(),
        drift_detectors: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config
        self._models = tuple(models)
        self._tasks = tuple(tasks)
        self._snapshot_prior = prior
        self._held: dict[Hashable, ResidualObservation] = {}
        n_scores = dict(zip(self._models, prior.n_scores.sum(axis=0).tolist()))
        self._detectors = DriftDetectors(n_scores, config.drift, drift_detectors)
        self._drifts: list[Drift] = []
        self.outdated = False
        self._new_models: tuple[str, ...] = ()
        self._column: dict[str, int] = {}
        self.adopt(self.rebuilt())

    def learn_one(
        self,
        observation: Observation,
        score: CalibratedScore,
        predicted: Mapping[str, float],
        task_probabilities: Mapping[int, float],
        neighbourhood: int | None = None,
    ) -> Drift | None:
        """Update with the next row of the log; the model's drift, where this score revealed one.

        Parameters
        ----------
        observation
            The row. A revision replaces the score that it revises, at most with that one's weight. Where that one is not
            held (the snapshot was trained on it, it came before a drift, or too long ago) a revision changes nothing.
        score
            Its value and weight as the ledger calibrated them.
        predicted
            model -> the snapshot's estimate, of ``observation.model`` and, of a comparison, ``observation.other``.
        task_probabilities
            task -> probability that the prompt belongs to it; empty far from every task.
        neighbourhood
            The prompt's, see `agent.index.prompts`; None where it is in none.
        """
        change = self.prepare(observation, score, predicted, task_probabilities, neighbourhood)
        if self.lacks(change):
            self.adopt(self.rebuilt(change))
        drift = self.apply(change)
        if self.outdated:
            self.adopt(self.rebuilt())
        return drift

    def prepare(
        self,
        observation: Observation,
        score: CalibratedScore,
        predicted: Mapping[str, float],
        task_probabilities: Mapping[int, float],
        neighbourhood: int | None = None,
        effect: PromptEffect | None = None,
    ) -> ResidualChange:
        """What `learn_one` changes; `apply` makes the change. A score counts beside the prompt's ``effect``, where known."""
        o, weight = observation, max(score.weight, _MIN_WEIGHT)
        coefficients = {o.model: 1.0} if o.other is None else {o.model: 1.0, o.other: -1.0}
        estimates = [predicted[model] for model in coefficients]
        signs = coefficients.values()
        known, noise = effect or (0.0, sum(map(score_variance, estimates)))
        new = ResidualObservation(
            seq=o.seq,
            coefficients=coefficients,
            task_probabilities=task_probabilities,
            residual=score.value - sum(sign * estimate for sign, estimate in zip(signs, estimates)) - known,
            variance=noise / weight,
            neighbourhood=neighbourhood,
        )
        return ResidualChange((o.decision_id, o.source, o.rater, o.other), o, new, score.value, weight, estimates[0])

    def lacks(self, change: ResidualChange) -> bool:
        """Whether the change names a model for which the posterior must be `rebuilt` before it can be applied."""
        if change.observation.revises is not None and change.key not in self._held:
            return False  # it changes nothing
        return any(model not in self._column for model in change.new.coefficients)

    def apply(self, change: ResidualChange) -> Drift | None:
        """Make a change that was prepared since the last one; the model's drift, where this score revealed one.

        Where `outdated` holds afterwards, the posterior must be `rebuilt`.
        """
        o, old = change.observation, self._held.get(change.key)
        if old is None and o.revises is not None:
            return None
        if old is None:
            self._held[change.key] = self._add(self._effects, change.new, self._column)
            if len(self._held) > self.config.held:
                oldest = self._held.pop(next(iter(self._held)))
                self._effects.release(oldest.neighbourhood)
        else:
            self._replace(change.key, old, change.new)
        self.outdated = self._effects.overflows
        if old is not None or o.other is not None:
            return None
        drift = self._detectors.learn_one(o.model, o.seq, change.score, change.weight, change.predicted)
        if drift is not None:
            self._drifts.append(drift)
            self.outdated = True
        return drift

    def rebuilt(self, change: ResidualChange | None = None) -> Posterior:
        """The posterior from the held scores, under the prior that drifts and new models, also those of ``change``, call for.

        Scores of a model from before it changed are dropped. It takes a second for a hundred thousand scores; nothing is
        changed before the result is given to `adopt`.
        """
        new = () if change is None else (m for m in change.new.coefficients if m not in self._column)
        new_models = (*self._new_models, *new)
        column = {name: i for i, name in enumerate((*self._models, *new_models))}
        prior = self._snapshot_prior.with_new_models(len(new_models))
        since: dict[str, int] = {}
        for drift in self._drifts:
            since[drift.model] = max(drift.since, since.get(drift.model, drift.since))
        for model in since:
            at = column[model]
            overall, covariance = prior.overall_covariance.copy(), prior.covariance.copy()
            overall[at, at] += self.config.change_sd**2
            covariance[at, at] += self.config.change_variance
            prior = replace(prior, overall_covariance=overall, covariance=covariance)
        posterior = Posterior(new_models, column, prior, TaskEffects(prior, self._tasks, self.config.memory), {})
        for key, held in self._held.items():
            if all(held.seq >= since.get(model, held.seq) for model in held.coefficients):
                posterior.held[key] = self._add(posterior.effects, held, column)
        return posterior

    def adopt(self, posterior: Posterior) -> None:
        """Go on with one that was `rebuilt` since the last change."""
        self._new_models, self._column, self._prior, self._effects, self._held = posterior
        self.outdated = False

    def predict_one(
        self, models: Sequence[str], task_probabilities: Mapping[int, float], neighbourhood: int | None = None
    ) -> Gaussian:
        """How far each model's quality is from the snapshot's prediction, on a prompt of these tasks and neighbourhood."""
        posterior = self._effects.posterior(self._task_weights(task_probabilities), neighbourhood)
        return self._marginal(models, posterior, _UNKNOWN_VARIANCE)

    def prior_variance(self, models: Sequence[str], task_probabilities: Mapping[int, float]) -> Array:
        """(m,) variance that `predict_one` gives each model before any score of it."""
        found = self._effects.prior_variance(self._task_weights(task_probabilities))
        at = [self._column.get(m, -1) for m in models]
        return np.array([found[i] if i >= 0 else _UNKNOWN_VARIANCE for i in at])

    def overall(self, models: Sequence[str]) -> Gaussian:
        """The same over all tasks."""
        return self._marginal(models, self._effects.overall(), OVERALL_SD**2)

    def task_variance(self, models: Sequence[str]) -> Array:
        """(m,) variance of each model's effect from task to task."""
        own = np.diag(self._prior.covariance)
        return np.array([own[self._column[m]] if m in self._column else OWN_VARIANCE + COMMON_VARIANCE for m in models])

    def task_n_scores(self, task_probabilities: Mapping[int, float]) -> float:
        """Number of scores since the snapshot on the tasks of a prompt."""
        return self._effects.n_scores(self._task_weights(task_probabilities))

    def model_n_scores(self, model: str) -> float:
        """Number of scores of a model, those of the snapshot included."""
        return self._detectors.n_scores(model)

    def drifts(self) -> tuple[Drift, ...]:
        """Every drift since the snapshot, in order."""
        return tuple(self._drifts)

    def digest(self) -> str:
        """A hash of the whole state."""
        parts = (self._new_models, self._drifts, self._detectors.digest_parts(), self._held)
        digest = hashlib.sha256(repr(parts).encode())
        for array in self._effects.arrays():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def _add(self, effects: TaskEffects, new: ResidualObservation, column: Mapping[str, int]) -> ResidualObservation:
        """Add a score to ``effects``; the score as it is held."""
        tasks = self._task_weights(new.task_probabilities)
        coefficients = _columns(new.coefficients, column)
        weights = effects.add(tasks, coefficients, new.residual, 1.0 / new.variance, new.neighbourhood)
        return replace(new, task_weights=weights)

    def _replace(self, key: Hashable, old: ResidualObservation, new: ResidualObservation) -> None:
        """Let ``new`` stand where ``old`` stood, as if it had come then and weighed no more."""
        new = replace(new, seq=old.seq, variance=max(old.variance, new.variance), neighbourhood=old.neighbourhood)
        surer = old.variance / new.variance
        self._held[key] = replace(new, task_weights={task: w * surer for task, w in old.task_weights.items()})
        for o, sign in ((old, -1.0), (self._held[key], 1.0)):
            weights = {task: sign * weight for task, weight in o.task_weights.items()}
            self._effects.add_weighted(weights, _columns(o.coefficients, self._column), o.residual, o.neighbourhood)

    def _task_weights(self, task_probabilities: Mapping[int, float]) -> dict[int, float]:
        """The tasks that a prompt counts for; `UNKNOWN_TASK` where there are none."""
        likely = {t: p for t, p in task_probabilities.items() if p >= self.config.min_task_probability}
        return likely or {UNKNOWN_TASK: 1.0}

    def _marginal(self, models: Sequence[str], posterior: Gaussian, unknown_variance: float) -> Gaussian:
        """``posterior`` of these models; one that no score named has mean 0 and ``unknown_variance``, independent."""
        at = np.array([self._column.get(m, -1) for m in models], np.int64)
        known = at >= 0
        if known.all():
            return Gaussian(posterior.mean[at], posterior.covariance[at[:, None], at])
        covariance = posterior.covariance[np.ix_(at, at)] * np.outer(known, known) + np.diag(
            np.where(known, 0.0, unknown_variance)
        )
        return Gaussian(np.where(known, posterior.mean[at], 0.0), covariance)


def _columns(coefficients: Mapping[str, float], column: Mapping[str, int]) -> dict[int, float]:
    return {column[model]: coefficient for model, coefficient in coefficients.items()}
