"""Bandits to beat.

Two know tasks: k-means clusters of prompts, with a mean score by task and model that is shrunk to the model's mean over
all; they explore by chance (epsilon-greedy) or by drawing from their posterior (Thompson 1933). One is linear in the
prompt: River's disjoint LinUCB (Li et al. 2010) on principal components of the embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import bandit

from agent.types import Array
from jobs.replay.policy import Event, News, Pick, Prompt, Start

CLUSTERS = 96
"""Tasks at most; a task has three prompts of the sample or more."""

COMPONENTS = 25
"""Principal components that a linear bandit sees, as in ParetoBandit."""


class TaskMeans:
    """What epsilon-greedy and Thompson sampling share: tasks, and the mean score of each model on each.

    Parameters
    ----------
    start
        What is known; warm scores count like feedback.
    strength
        The mean over all tasks weighs like so many scores of the task.
    """

    news: Sequence[News] = ()

    def __init__(self, start: Start, strength: float) -> None:
        from sklearn.cluster import KMeans

        clusters = max(1, min(CLUSTERS, len(start.sample) // 3))
        self._clusters = KMeans(clusters, n_init=1, random_state=start.seed).fit(start.sample)
        self._centres = self._clusters.cluster_centers_  # (t, d)
        self._squares = (self._centres**2).sum(axis=1)
        self._strength = strength
        self._columns = start.columns
        self._count = np.zeros((clusters, len(start.columns)))
        self._total = np.zeros_like(self._count)
        for prompt, scores in zip(start.prompts, start.scores):
            for j in np.flatnonzero(np.isfinite(scores)):
                self._add(self._task(prompt), int(j), float(scores[j]))
        self._rng = np.random.default_rng([start.seed, 2])
        self.set_models(start.models)

    @property
    def tasks(self) -> int:
        """Clusters."""
        return len(self._centres)

    def set_models(self, models: Sequence[str]) -> None:
        """Replace the pool."""
        self._models = models

    def choose(self, prompt: Prompt, allowed: Sequence[str] | None) -> Pick:
        """The model of highest index."""
        task = self._task(prompt)
        at = [self._columns.index(m) for m in (self._models if allowed is None else allowed)]
        total, count = self._total.sum(axis=0), self._count.sum(axis=0)
        overall = (total + 0.5) / (count + 1.0)  # (m,) one imagined score of one half
        weight = self._count[task] + self._strength
        mean = ((self._total[task] + self._strength * overall) / weight)[at]
        picked = self._pull(mean, weight[at])
        return Pick(self._columns[at[picked]], explored=picked != int(mean.argmax()), task=task)

    def learn_one(self, event: Event) -> None:
        """Add a score to its task."""
        self._add(event.pick.task, self._columns.index(event.pick.model), event.score)

    def _pull(self, mean: Array, weight: Array) -> int:
        """Which of k models, by (k,) shrunk means and the scores that stand behind each."""
        raise NotImplementedError

    def _task(self, prompt: Prompt) -> int:
        return int((self._squares - 2.0 * self._centres @ prompt.encoded.embedding).argmin())

    def _add(self, task: int, column: int, score: float) -> None:
        self._count[task, column] += 1.0
        self._total[task, column] += score


class EpsilonGreedy(TaskMeans):
    """The best mean, but any model with probability ``epsilon``."""

    def __init__(self, start: Start, epsilon: float, strength: float) -> None:
        super().__init__(start, strength)
        self._epsilon = epsilon

    def _pull(self, mean: Array, weight: Array) -> int:
        if self._rng.random() < self._epsilon:
            return int(self._rng.integers(len(mean)))
        return int(mean.argmax())


class Thompson(TaskMeans):
    """The best of one draw a model from a normal posterior; ``deviation`` is that of a single score."""

    def __init__(self, start: Start, deviation: float, strength: float) -> None:
        super().__init__(start, strength)
        self._deviation = deviation

    def _pull(self, mean: Array, weight: Array) -> int:
        draw = mean + self._rng.standard_normal(len(mean)) * self._deviation / np.sqrt(weight)
        return int(draw.argmax())


class Components:
    """Principal components of the embedding, and a constant.

    Parameters
    ----------
    sample
        (k, d) embeddings that they are fitted on; one factor for all gives them a variance of 1 in sum.
    """

    def __init__(self, sample: NDArray[np.float32]) -> None:
        from sklearn.decomposition import PCA

        fitted = PCA(min(COMPONENTS, *sample.shape), random_state=0).fit(sample)
        self._axes = fitted.components_ / np.sqrt(max(fitted.explained_variance_.sum(), 1e-12))  # (c, d)
        self._centre = self._axes @ fitted.mean_
        self.width = len(self._axes) + 1

    def __call__(self, prompt: Prompt) -> Array:
        """(c + 1,) the prompt, the constant last."""
        return np.append(self._axes @ prompt.encoded.embedding - self._centre, 1.0)


class LinUCB:
    """River's `LinUCBDisjoint`.

    Parameters
    ----------
    start
        What is known; warm scores count like feedback.
    alpha, beta
        Prior and noise precision of each arm's Bayesian regression; the bonus is one predictive standard deviation.
    """

    tasks = 0
    news: Sequence[News] = ()

    def __init__(self, start: Start, alpha: float, beta: float) -> None:
        self._features = Components(start.sample)
        self._policy = bandit.LinUCBDisjoint(alpha=alpha, beta=beta, seed=start.seed)
        for prompt, scores in zip(start.prompts, start.scores):
            context = self._context(prompt)
            for j in np.flatnonzero(np.isfinite(scores)):
                self._policy.update(start.columns[j], context, float(scores[j]))
        self.set_models(start.models)

    def set_models(self, models: Sequence[str]) -> None:
        """Replace the pool."""
        self._models = list(models)

    def choose(self, prompt: Prompt, allowed: Sequence[str] | None) -> Pick:
        """The arm of highest upper confidence bound."""
        pool = self._models if allowed is None else list(allowed)
        return Pick(str(self._policy.pull(pool, context=self._context(prompt))))

    def learn_one(self, event: Event) -> None:
        """Update the arm."""
        self._policy.update(event.pick.model, self._context(event.prompt), event.score)

    def _context(self, prompt: Prompt) -> dict[int, Any]:
        return dict(enumerate(self._features(prompt).tolist()))
