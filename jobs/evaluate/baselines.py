"""Baseline routers that estimate quality and cost from embeddings alone, each tuned by cross-validation as in its own paper.

kNN and MLP are those of RouterBench (Hu et al. 2024), k-means that of Avengers-Pro (Zhang et al. 2025), linear is ridge
regression. The one hyperparameter of each is the value whose routing scores highest on held-out folds of the training file.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import sklearn.cluster
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import PredefinedSplit
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPRegressor

from agent.types import Array
from jobs.evaluate.metrics import route
from jobs.evaluate.table import Table

Vectors = NDArray[np.float32]

FOLDS = 4

SEEDED = ("k-means", "MLP")
"""The baselines that depend on a seed."""


class Baseline(Protocol):
    """A router that is fitted on a training table; ``str`` gives its hyperparameters."""

    def fit(self, train: Table) -> None: ...

    def predict(self, embeddings: Vectors) -> tuple[Array, Array]:
        """Estimated quality in 0..1 and cost in USD, (n, m) each, of prompts with these (n, d) ``embeddings``."""
        ...


@dataclass
class KNN:
    """Mean scores and costs of the k nearest training prompts by cosine, with equal weights."""

    k: int

    def __str__(self) -> str:
        return f"k = {self.k}"

    def fit(self, train: Table) -> None:
        self._train = train
        k = min(self.k, len(train))
        self._index = NearestNeighbors(n_neighbors=k, metric="cosine", algorithm="brute").fit(train.embeddings)

    def predict(self, embeddings: Vectors) -> tuple[Array, Array]:
        near = self._index.kneighbors(embeddings, return_distance=False)  # (n, k)
        return means_over(self._train.scores, near), means_over(self._train.costs, near)


@dataclass
class KMeans:
    """Mean scores and costs of the nearest of k clusters of training prompts."""

    k: int
    seed: int

    def __str__(self) -> str:
        return f"k = {self.k}"

    def fit(self, train: Table) -> None:
        k = min(self.k, len(train))
        self._clusters = sklearn.cluster.KMeans(k, n_init=3, random_state=self.seed).fit(train.embeddings)
        members = [np.flatnonzero(self._clusters.labels_ == cluster) for cluster in range(k)]
        self._quality, self._cost = means_over(train.scores, members), means_over(train.costs, members)  # (k, m) each

    def predict(self, embeddings: Vectors) -> tuple[Array, Array]:
        cluster = self._clusters.predict(embeddings)
        return self._quality[cluster], self._cost[cluster]


@dataclass
class Linear:
    """Ridge regression of scores and costs on the embedding, with penalty ``alpha``."""

    alpha: float

    def __str__(self) -> str:
        return f"alpha = {self.alpha:g}"

    def fit(self, train: Table) -> None:
        self._quality = ridge(train.embeddings, train.scores, self.alpha)
        self._cost = ridge(train.embeddings, train.costs, self.alpha)

    def predict(self, embeddings: Vectors) -> tuple[Array, Array]:
        inputs = np.column_stack([embeddings.astype(np.float64), np.ones(len(embeddings))])
        return inputs @ self._quality, np.maximum(inputs @ self._cost, 0.0)


@dataclass
class MLP:
    """A network of one hidden layer for all models' scores; a missing score counts as its model's mean. Costs are linear."""

    hidden: int
    alpha: float
    seed: int

    def __str__(self) -> str:
        return f"{self.hidden} hidden, alpha = {self.alpha:g}"

    def fit(self, train: Table) -> None:
        targets = np.where(np.isnan(train.scores), column_means(train.scores), train.scores)
        self._mean = targets.mean(axis=0)
        self._network = MLPRegressor(
            hidden_layer_sizes=(self.hidden,),
            alpha=self.alpha,
            early_stopping=len(train) >= 50,
            n_iter_no_change=8,
            max_iter=200,
            random_state=self.seed,
        )
        residual = targets - self._mean
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # cross-validation judges the result, converged or not
            self._network.fit(train.embeddings, residual if residual.shape[1] > 1 else residual.ravel())
        self._linear = Linear(1.0)
        self._linear.fit(train)

    def predict(self, embeddings: Vectors) -> tuple[Array, Array]:
        quality = self._network.predict(embeddings).reshape(len(embeddings), -1) + self._mean
        return quality, self._linear.predict(embeddings)[1]


def grids(seed: int) -> dict[str, Sequence[Baseline]]:
    """The hyperparameters that cross-validation chooses from, by the baseline's name."""
    return {
        "k-means": [KMeans(k, seed) for k in (4, 8, 16, 32, 64, 96)],
        "MLP": [MLP(64, alpha, seed) for alpha in (0.01, 0.1, 1.0)],
        "kNN": [KNN(k) for k in (5, 10, 20, 40, 70, 100, 150)],
        "linear": [Linear(alpha) for alpha in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)],
    }


def tune(grid: Sequence[Baseline], train: Table, seed: int) -> Baseline:
    """The member of ``grid`` that routes held-out folds of ``train`` best, fitted on all of it; the first for few prompts."""
    best = grid[0]
    if len(train) >= 2 * FOLDS:
        fold = np.random.default_rng(seed).permutation(len(train)) % FOLDS
        total = np.zeros(len(grid))
        for fitted, held_out in PredefinedSplit(fold).split():
            inside, outside = train.take(fitted), train.take(held_out)
            for i, baseline in enumerate(grid):
                baseline.fit(inside)
                total[i] += route(outside, baseline.predict(outside.embeddings)[0])[0].sum()
        best = grid[int(total.argmax())]
    best.fit(train)
    return best


def label_control(train: Table, test: Table) -> tuple[Array, Array]:
    """Quality and cost, (n, m) each, by true label: the training means of each test prompt's label, of all where it is new."""
    labels, group = np.unique(train.labels, return_inverse=True)
    # One more group, of no prompts, for labels that training has not.
    members = [np.flatnonzero(group == g) for g in range(len(labels) + 1)]
    row = {label: g for g, label in enumerate(labels)}
    rows = np.array([row.get(label, len(labels)) for label in test.labels])
    return means_over(train.scores, members)[rows], means_over(train.costs, members)[rows]


def means_over(values: Array, groups: Sequence[NDArray[np.intp]] | NDArray[np.intp]) -> Array:
    """(g, m) means of the known ``values`` (n, m) over each group of rows; `column_means` where a group has none."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    sums = np.stack([filled[rows].sum(axis=0) for rows in groups])
    counts = np.stack([known[rows].sum(axis=0) for rows in groups])
    return np.where(counts > 0, sums / np.maximum(counts, 1), column_means(values))


def column_means(values: Array) -> Array:
    """(m,) means of the known ``values`` (n, m); an unknown column has the mean of all, or 0."""
    known = np.isfinite(values)
    overall = float(values[known].mean()) if known.any() else 0.0
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), overall)


def ridge(embeddings: Vectors, targets: Array, alpha: float) -> Array:
    """(d + 1, m) weights, the last row the intercepts, of a ridge regression a model on the rows where its target is known.

    A model without any known target has slopes of 0 and the intercept of `column_means`.
    """
    weights = np.zeros((embeddings.shape[1] + 1, targets.shape[1]))
    weights[-1] = column_means(targets)
    patterns, group = np.unique(np.isfinite(targets), axis=1, return_inverse=True)
    for g, rows in enumerate(patterns.T):  # models that are known on the same rows are solved together
        if rows.any():
            columns = np.flatnonzero(group == g)
            fitted = Ridge(alpha).fit(embeddings[rows].astype(np.float64), targets[np.ix_(rows, columns)])
            weights[:-1, columns] = np.atleast_2d(fitted.coef_).T
            weights[-1, columns] = fitted.intercept_
    return weights
