"""Bandits for comparison: epsilon-greedy and Thompson sampling by task, and LinUCB on the embedding.

The first two have k-means clusters of prompts as tasks, and estimate a mean score by task and model, shrunk to the model's
mean over all tasks; they explore with probability epsilon, or by sampling from the posterior (Thompson 1933). LinUCB (Li et
al. 2010) is River's. One River policy a task, without the shared mean, is a much weaker baseline: on reasoning_gym its mean
quality is lower by .01 (epsilon-greedy, warm) to .2 (cold).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import bandit
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA

from agent.types import Array
from jobs.replay.policy import Feedback, PolicyChoice, PolicyEvent, Prompt, Start

CLUSTERS = 96
"""Tasks at most; a task has three prompts of the sample or more."""

LIST_TOKENS = 350e-6
"""Output tokens of a call by list price, in millions."""

COMPONENTS = 25
"""Principal components of the embedding that a linear bandit reads, as in ParetoBandit."""


class TaskMeans:
    """Tasks, and a mean score of each model on each; the base of epsilon-greedy and Thompson sampling.

    Parameters
    ----------
    start
        Warm scores count like feedback.
    prior_weight
        Number of scores that the model's mean over all tasks counts as in the mean of a task.
    cost_weight
        Quality that the dearest model's mean cost is worth; the cost of a model is the mean of those seen, its list price
        counting as one.
    """

    events: Sequence[PolicyEvent] = ()

    def __init__(self, start: Start, prior_weight: float, cost_weight: float = 0.0) -> None:
        self.tasks = max(1, min(CLUSTERS, len(start.sample) // 3))
        clusters = KMeans(self.tasks, n_init=1, random_state=start.seed).fit(start.sample)
        self._centres = clusters.cluster_centers_  # (t, d)
        self._squares = (self._centres**2).sum(axis=1)
        self._prior_weight = prior_weight
        self._columns = start.columns
        self._count = np.zeros((self.tasks, len(start.columns)))
        self._total = np.zeros_like(self._count)
        self._cost_weight = cost_weight
        self._costs = np.array([start.cards[name].price_output * LIST_TOKENS for name in start.columns])  # sums
        self._n_costs = np.ones(len(start.columns))
        for costs in start.costs:
            self._add_costs(costs)
        for prompt, scores in zip(start.prompts, start.scores):
            for j in np.flatnonzero(np.isfinite(scores)):
                self._add(self._task(prompt), int(j), float(scores[j]))
        self._rng = np.random.default_rng([start.seed, 2])
        self.set_models(start.models)

    def set_models(self, models: Sequence[str]) -> None:
        self._models = models

    def choose(self, prompt: Prompt, allowed: Sequence[str] | None) -> PolicyChoice:
        task = self._task(prompt)
        at = [self._columns.index(m) for m in (self._models if allowed is None else allowed)]
        total, count = self._total.sum(axis=0), self._count.sum(axis=0)
        overall = (total + 0.5) / (count + 1.0)  # (m,) with a pseudo-score of one half
        weight = self._count[task] + self._prior_weight
        cost = self._costs / self._n_costs
        penalty = self._cost_weight * cost / max(float(cost.max()), 1e-12)
        mean = ((self._total[task] + self._prior_weight * overall) / weight - penalty)[at]
        pulled = self._pull(mean, weight[at])
        return PolicyChoice(self._columns[at[pulled]], explored=pulled != int(mean.argmax()), task=task)

    def learn_one(self, feedback: Feedback) -> None:
        self._add(feedback.choice.task, self._columns.index(feedback.choice.model), feedback.score)

    def learn_outcome(self, prompt: Prompt, choice: PolicyChoice, cost: float) -> None:
        """Count the call's cost."""
        self._add_costs(np.where(np.arange(len(self._columns)) == self._columns.index(choice.model), cost, np.nan))

    def _add_costs(self, costs: Array) -> None:
        known = np.isfinite(costs)
        self._costs[known] += costs[known]
        self._n_costs[known] += 1.0

    def _pull(self, mean: Array, weight: Array) -> int:
        """Index of the chosen of k models, given (k,) shrunk means less costs and numbers of scores, the prior's included."""
        raise NotImplementedError

    def _task(self, prompt: Prompt) -> int:
        # `KMeans.predict` of one prompt takes ten times as long.
        return int((self._squares - 2.0 * self._centres @ prompt.encoded.embedding).argmin())

    def _add(self, task: int, column: int, score: float) -> None:
        self._count[task, column] += 1.0
        self._total[task, column] += score


class EpsilonGreedy(TaskMeans):
    """The model of highest mean, but any model with probability ``epsilon``."""

    def __init__(self, start: Start, epsilon: float, prior_weight: float) -> None:
        super().__init__(start, prior_weight)
        self._epsilon = epsilon

    def _pull(self, mean: Array, weight: Array) -> int:
        if self._rng.random() < self._epsilon:
            return int(self._rng.integers(len(mean)))
        return int(mean.argmax())


class Thompson(TaskMeans):
    """The highest of one sample a model from a normal posterior; ``score_std`` is the deviation of a single score."""

    def __init__(self, start: Start, score_std: float, prior_weight: float, cost_weight: float = 0.0) -> None:
        super().__init__(start, prior_weight, cost_weight)
        self._score_std = score_std

    def _pull(self, mean: Array, weight: Array) -> int:
        sample = mean + self._rng.standard_normal(len(mean)) * self._score_std / np.sqrt(weight)
        return int(sample.argmax())


class Components:
    """Principal components of the embedding, scaled by one factor to a total variance of 1, and a constant.

    Parameters
    ----------
    sample
        (k, d) embeddings that they are fitted on.
    """

    def __init__(self, sample: NDArray[np.float32]) -> None:
        fitted = PCA(min(COMPONENTS, *sample.shape), random_state=0).fit(sample)
        self._axes = fitted.components_ / np.sqrt(max(fitted.explained_variance_.sum(), 1e-12))  # (c, d)
        self._centre = self._axes @ fitted.mean_
        self.width = len(self._axes) + 1

    def __call__(self, prompt: Prompt) -> Array:
        """(c + 1,) features of the prompt, the constant last."""
        return np.append(self._axes @ prompt.encoded.embedding - self._centre, 1.0)


class LinUCB:
    """River's `LinUCBDisjoint`: the arm of highest upper confidence bound.

    Parameters
    ----------
    start
        Warm scores count like feedback.
    alpha, beta
        Prior and noise precision of each arm's Bayesian regression; the bonus is one predictive standard deviation.
    """

    tasks = 0
    events: Sequence[PolicyEvent] = ()

    def __init__(self, start: Start, alpha: float, beta: float) -> None:
        self._features = Components(start.sample)
        self._policy = bandit.LinUCBDisjoint(alpha=alpha, beta=beta, seed=start.seed)
        for prompt, scores in zip(start.prompts, start.scores):
            context = self._context(prompt)
            for j in np.flatnonzero(np.isfinite(scores)):
                self._policy.update(start.columns[j], context, float(scores[j]))
        self.set_models(start.models)

    def set_models(self, models: Sequence[str]) -> None:
        self._models = list(models)

    def choose(self, prompt: Prompt, allowed: Sequence[str] | None) -> PolicyChoice:
        pool = self._models if allowed is None else list(allowed)
        return PolicyChoice(str(self._policy.pull(pool, context=self._context(prompt))))

    def learn_one(self, feedback: Feedback) -> None:
        self._policy.update(feedback.choice.model, self._context(feedback.prompt), feedback.score)

    def learn_outcome(self, prompt: Prompt, choice: PolicyChoice, cost: float) -> None:
        """Nothing: it ignores costs."""

    def _context(self, prompt: Prompt) -> dict[int, Any]:
        return dict(enumerate(self._features(prompt).tolist()))
