"""What feedback says since the snapshot: a posterior over every (task, model), one score at a time.

The residual *score - predicted* goes into a Gaussian bank (`agent.online.effects`), every model's surprises into a drift watch
(`agent.online.drift`). On drift, what was heard of the model before the change is dropped and its prior is widened, so that it
finds its new place as a newcomer does. The state is a function of the snapshot and the ordered log alone, so every
replica computes the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from agent.online.drift import DriftConfig, DriftDetectors, Innovation
from agent.online.effects import Gaussian, TaskEffects
from agent.online.prior import COMMON_SPREAD, LEVEL_SD, OWN_SPREAD, Prior
from agent.types import UNKNOWN_TASK, Array, Drift


@dataclass(frozen=True, slots=True)
class OnlineConfig:
    """How fast live scores are believed.

    Parameters
    ----------
    least_share
        Smallest membership at which a prompt teaches a task.
    memory
        Scores of one task after which an old one weighs 1/e.
    change_sd
        How far a model that changed may lie, overall, from what it was.
    change_spread
        Variance that the change adds to each of its tasks.
    held
        Scores that can still be revised, the latest; an older one stays as it is.
    drift
        When a change is believed.
    """

    least_share: float = 0.1
    memory: float = 2000.0
    change_sd: float = 0.3
    change_spread: float = 0.02
    held: int = 100_000
    drift: DriftConfig = field(default_factory=DriftConfig)


@dataclass(frozen=True, slots=True)
class ResidualObservation:
    """A score, or a comparison, as the estimator takes it in.

    Parameters
    ----------
    seq
        Its position in the log.
    key
        Who said it of what; the same key again revises.
    coefficients
        model -> coefficient: ``{"a": 1}`` for a score of a, ``{"a": 1, "b": -1}`` for a comparison of a with b.
    tasks
        task -> membership of the prompt.
    residual
        What was said, less what the snapshot predicted.
    variance
        Of its noise.
    innovation
        Against what the decision expected; None where it says nothing of a change.
    """

    seq: int
    key: Hashable
    coefficients: Mapping[str, float]
    tasks: Mapping[int, float]
    residual: float
    variance: float
    innovation: Innovation | None = None


class OnlineEstimator:
    """Learns residuals by (task, model).

    Parameters
    ----------
    models
        Those that the snapshot knows.
    tasks
        Ids of the snapshot's tasks.
    prior
        What the snapshot leaves open about them.
    config
        How fast.
    watched
        State of the drift watches that the snapshot carries on.

    Examples
    --------
    >>> prior = Prior(0.05 * np.eye(2) + 0.05, 0.01 * np.eye(2), np.full((1, 2), 20.0), np.full((1, 2), 0.6))
    >>> online = OnlineEstimator(("small", "large"), (0,), prior)
    >>> for n in range(20):
    ...     drift = online.learn_one(ResidualObservation(n, n, {"small": 1.0}, {0: 1.0}, residual=-0.6, variance=0.3))
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
        watched: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config
        self._known = tuple(models)
        self._newcomers: tuple[str, ...] = ()
        self._tasks = tuple(tasks)
        self._snapshot_prior = prior
        self._held: dict[Hashable, tuple[ResidualObservation, Mapping[int, float]]] = {}
        self._detectors = DriftDetectors(
            dict(zip(self._known, prior.evidence.sum(axis=0).tolist())), config.drift, watched
        )
        self._drifts: list[Drift] = []
        self._rebuild()

    def learn_one(self, observation: ResidualObservation) -> Drift | None:
        """Take one lesson in; the drift, where it gave one away."""
        self._add_models(observation.coefficients)
        said = self._held.get(observation.key)
        if said is None:
            self._hear(observation)
        else:
            self._revise(*said, observation)
        if self._bank.overdue:
            self._rebuild()
        if said is not None or len(observation.coefficients) > 1:
            return None
        (model,) = observation.coefficients
        drift = self._detectors.learn_one(model, observation.seq, observation.innovation)
        if drift is not None:
            self._forget(drift)
        return drift

    def predict_one(self, models: Sequence[str], tasks: Mapping[int, float]) -> Gaussian:
        """How far each model is from what the snapshot expects of it on a prompt with these memberships."""
        return self._marginal(
            models, self._bank.posterior(self._task_weights(tasks)), LEVEL_SD**2 + OWN_SPREAD + COMMON_SPREAD
        )

    def level(self, models: Sequence[str]) -> Gaussian:
        """The same over all tasks."""
        return self._marginal(models, self._bank.level(), LEVEL_SD**2)

    def spread(self, models: Sequence[str]) -> Array:
        """(m,) variance of each model's effect from task to task."""
        own = np.diag(self._prior.spread)
        return np.array([own[self._column[m]] if m in self._column else OWN_SPREAD + COMMON_SPREAD for m in models])

    def count(self, tasks: Mapping[int, float]) -> float:
        """Scores that the tasks of a prompt received since the snapshot."""
        return self._bank.count(self._task_weights(tasks))

    def scores_of(self, model: str) -> float:
        """Scores that stand behind a model, those of the snapshot included."""
        return self._detectors.scores_of(model)

    def drifts(self) -> tuple[Drift, ...]:
        """Every drift since the snapshot, in order."""
        return tuple(self._drifts)

    def digest(self) -> str:
        """A hash of the whole state."""
        digest = hashlib.sha256(repr((self._newcomers, self._drifts, self._detectors.parts())).encode())
        for array in self._bank.parts():
            digest.update(np.ascontiguousarray(array).tobytes())
        for observation, weights in self._held.values():
            digest.update(repr((observation, weights)).encode())
        return digest.hexdigest()

    def _hear(self, observation: ResidualObservation) -> None:
        tasks = self._task_weights(observation.tasks)
        weights = self._bank.add(
            tasks, self._columns(observation.coefficients), observation.residual, 1.0 / observation.variance
        )
        self._held[observation.key] = observation, weights
        if len(self._held) > self.config.held:
            del self._held[next(iter(self._held))]

    def _revise(
        self, said: ResidualObservation, weights: Mapping[int, float], observation: ResidualObservation
    ) -> None:
        """Let ``observation`` stand where ``said`` stood, as if it had been said then."""
        self._bank.put(
            {task: -weight for task, weight in weights.items()}, self._columns(said.coefficients), said.residual
        )
        surer = said.variance / observation.variance
        weights = {task: weight * surer for task, weight in weights.items()}
        self._bank.put(weights, self._columns(observation.coefficients), observation.residual)
        self._held[observation.key] = observation, weights

    def _forget(self, drift: Drift) -> None:
        """Drop what was heard of a model before it changed."""
        self._drifts.append(drift)
        stale = [k for k, (old, _) in self._held.items() if drift.model in old.coefficients and old.seq < drift.since]
        for key in stale:
            del self._held[key]
        self._rebuild()

    def _rebuild(self) -> None:
        """The bank from what is held, under the priors that drifts and newcomers call for."""
        names = self._known + self._newcomers
        self._column = {name: i for i, name in enumerate(names)}
        prior = self._snapshot_prior.grown(len(self._newcomers))
        for model in {d.model for d in self._drifts}:
            at = self._column[model]
            level, spread = prior.level.copy(), prior.spread.copy()
            level[at, at] += self.config.change_sd**2
            spread[at, at] += self.config.change_spread
            prior = replace(prior, level=level, spread=spread)
        self._prior = prior
        self._bank = TaskEffects(prior, self._tasks, self.config.memory)
        observations = [observation for observation, _ in self._held.values()]
        self._held = {}
        for observation in observations:
            self._hear(observation)

    def _add_models(self, models: Iterable[str]) -> None:
        """Make room for models that neither the snapshot nor the log has named so far."""
        new = [m for m in models if m not in self._column]
        if new:
            self._newcomers += tuple(new)
            self._rebuild()

    def _task_weights(self, tasks: Mapping[int, float]) -> dict[int, float]:
        taught = {t: s for t, s in tasks.items() if s >= self.config.least_share}
        return taught or {UNKNOWN_TASK: 1.0}

    def _columns(self, coefficients: Mapping[str, float]) -> dict[int, float]:
        return {self._column[model]: coefficient for model, coefficient in coefficients.items()}

    def _marginal(self, models: Sequence[str], posterior: Gaussian, pulls_left: float) -> Gaussian:
        """``posterior`` of these models; one never heard of varies by ``pulls_left``, whatever is known of the others."""
        at = np.array([self._column.get(m, -1) for m in models], np.int64)
        heard = at >= 0
        covariance = posterior.covariance[np.ix_(at, at)] * np.outer(heard, heard) + np.diag(
            np.where(heard, 0.0, pulls_left)
        )
        return Gaussian(np.where(heard, posterior.mean[at], 0.0), covariance)
