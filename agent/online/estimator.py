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

from agent.online.drift import DriftConfig, Surprise, Watches
from agent.online.effects import Bank, Belief
from agent.online.prior import COMMON_SPREAD, LEVEL_SD, OWN_SPREAD, Openness
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
class Lesson:
    """A score, or a comparison, as the estimator takes it in.

    Parameters
    ----------
    seq
        Its position in the log.
    key
        Who said it of what; the same key again revises.
    reads
        model -> coefficient: ``{"a": 1}`` for a score of a, ``{"a": 1, "b": -1}`` for a comparison of a with b.
    tasks
        task -> membership of the prompt.
    residual
        What was said, less what the snapshot predicted.
    variance
        Of its noise.
    surprise
        Against what the decision expected; None where it says nothing of a change.
    """

    seq: int
    key: Hashable
    reads: Mapping[str, float]
    tasks: Mapping[int, float]
    residual: float
    variance: float
    surprise: Surprise | None = None


class OnlineEstimator:
    """Learns residuals by (task, model).

    Parameters
    ----------
    models
        Those that the snapshot knows.
    tasks
        Ids of the snapshot's tasks.
    openness
        What the snapshot leaves open about them.
    config
        How fast.
    watched
        State of the drift watches that the snapshot carries on.

    Examples
    --------
    >>> openness = Openness(0.05 * np.eye(2) + 0.05, 0.01 * np.eye(2), np.full((1, 2), 20.0), np.full((1, 2), 0.6))
    >>> online = OnlineEstimator(("small", "large"), (0,), openness)
    >>> for n in range(20):
    ...     drift = online.learn_one(Lesson(n, n, {"small": 1.0}, {0: 1.0}, residual=-0.6, variance=0.3))
    >>> belief = online.predict_one(("small", "large"), {0: 1.0})
    >>> bool(belief.mean[0] < -0.3), bool(abs(belief.mean[1]) < 0.1)
    (True, True)
    """

    def __init__(
        self,
        models: Sequence[str],
        tasks: Sequence[int],
        openness: Openness,
        config: OnlineConfig = OnlineConfig(),
        watched: Mapping[str, Any] | None = None,
    ) -> None:
        self.config = config
        self._known = tuple(models)
        self._newcomers: tuple[str, ...] = ()
        self._tasks = tuple(tasks)
        self._snapshot_openness = openness
        self._heard: dict[Hashable, tuple[Lesson, Mapping[int, float]]] = {}
        self._watches = Watches(dict(zip(self._known, openness.evidence.sum(axis=0).tolist())), config.drift, watched)
        self._drifts: list[Drift] = []
        self._rebuild()

    def learn_one(self, lesson: Lesson) -> Drift | None:
        """Take one lesson in; the drift, where it gave one away."""
        self._meet(lesson.reads)
        said = self._heard.get(lesson.key)
        if said is None:
            self._hear(lesson)
        else:
            self._revise(*said, lesson)
        if self._bank.overdue:
            self._rebuild()
        if said is not None or len(lesson.reads) > 1:
            return None
        (model,) = lesson.reads
        drift = self._watches.learn_one(model, lesson.seq, lesson.surprise)
        if drift is not None:
            self._forget(drift)
        return drift

    def predict_one(self, models: Sequence[str], tasks: Mapping[int, float]) -> Belief:
        """How far each model is from what the snapshot expects of it on a prompt with these memberships."""
        return self._seen_by(models, self._bank.belief(self._taught(tasks)), LEVEL_SD**2 + OWN_SPREAD + COMMON_SPREAD)

    def level(self, models: Sequence[str]) -> Belief:
        """The same over all tasks."""
        return self._seen_by(models, self._bank.level(), LEVEL_SD**2)

    def spread(self, models: Sequence[str]) -> Array:
        """(m,) variance of each model's effect from task to task."""
        own = np.diag(self._openness.spread)
        return np.array([own[self._column[m]] if m in self._column else OWN_SPREAD + COMMON_SPREAD for m in models])

    def count(self, tasks: Mapping[int, float]) -> float:
        """Scores that the tasks of a prompt received since the snapshot."""
        return self._bank.count(self._taught(tasks))

    def scores_of(self, model: str) -> float:
        """Scores that stand behind a model, those of the snapshot included."""
        return self._watches.scores_of(model)

    def drifts(self) -> tuple[Drift, ...]:
        """Every drift since the snapshot, in order."""
        return tuple(self._drifts)

    def digest(self) -> str:
        """A hash of the whole state."""
        digest = hashlib.sha256(repr((self._newcomers, self._drifts, self._watches.parts())).encode())
        for array in self._bank.parts():
            digest.update(np.ascontiguousarray(array).tobytes())
        for lesson, weights in self._heard.values():
            digest.update(repr((lesson, weights)).encode())
        return digest.hexdigest()

    def _hear(self, lesson: Lesson) -> None:
        tasks = self._taught(lesson.tasks)
        weights = self._bank.add(tasks, self._columns(lesson.reads), lesson.residual, 1.0 / lesson.variance)
        self._heard[lesson.key] = lesson, weights
        if len(self._heard) > self.config.held:
            del self._heard[next(iter(self._heard))]

    def _revise(self, said: Lesson, weights: Mapping[int, float], lesson: Lesson) -> None:
        """Let ``lesson`` stand where ``said`` stood, as if it had been said then."""
        self._bank.put({task: -weight for task, weight in weights.items()}, self._columns(said.reads), said.residual)
        surer = said.variance / lesson.variance
        weights = {task: weight * surer for task, weight in weights.items()}
        self._bank.put(weights, self._columns(lesson.reads), lesson.residual)
        self._heard[lesson.key] = lesson, weights

    def _forget(self, drift: Drift) -> None:
        """Drop what was heard of a model before it changed."""
        self._drifts.append(drift)
        stale = [k for k, (old, _) in self._heard.items() if drift.model in old.reads and old.seq < drift.since]
        for key in stale:
            del self._heard[key]
        self._rebuild()

    def _rebuild(self) -> None:
        """The bank from what is held, under the priors that drifts and newcomers call for."""
        names = self._known + self._newcomers
        self._column = {name: i for i, name in enumerate(names)}
        openness = self._snapshot_openness.grown(len(self._newcomers))
        for model in {d.model for d in self._drifts}:
            at = self._column[model]
            level, spread = openness.level.copy(), openness.spread.copy()
            level[at, at] += self.config.change_sd**2
            spread[at, at] += self.config.change_spread
            openness = replace(openness, level=level, spread=spread)
        self._openness = openness
        self._bank = Bank(openness, self._tasks, self.config.memory)
        lessons = [lesson for lesson, _ in self._heard.values()]
        self._heard = {}
        for lesson in lessons:
            self._hear(lesson)

    def _meet(self, models: Iterable[str]) -> None:
        """Make room for models that neither the snapshot nor the log has named so far."""
        new = [m for m in models if m not in self._column]
        if new:
            self._newcomers += tuple(new)
            self._rebuild()

    def _taught(self, tasks: Mapping[int, float]) -> dict[int, float]:
        taught = {t: s for t, s in tasks.items() if s >= self.config.least_share}
        return taught or {UNKNOWN_TASK: 1.0}

    def _columns(self, reads: Mapping[str, float]) -> dict[int, float]:
        return {self._column[model]: coefficient for model, coefficient in reads.items()}

    def _seen_by(self, models: Sequence[str], belief: Belief, unheard: float) -> Belief:
        """``belief`` of these models; one never heard of varies by ``unheard``, whatever is known of the others."""
        at = np.array([self._column.get(m, -1) for m in models], np.int64)
        heard = at >= 0
        covariance = belief.covariance[np.ix_(at, at)] * np.outer(heard, heard) + np.diag(np.where(heard, 0.0, unheard))
        return Belief(np.where(heard, belief.mean[at], 0.0), covariance)
