"""Routers to beat, each tuned on the training file by cross-validation as its own paper does.

Every baseline estimates (n, m) quality and cost from embeddings alone. Its one knob is chosen by the quality that routing
by it would have earned on held-out folds of the training file (RouterBench, Hu et al. 2024: kNN and MLP; Avengers-Pro,
Zhang et al. 2025: k-means; ridge is the linear one).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from agent.types import Array
from jobs.evaluate.table import Table

Vectors = NDArray[np.float32]

FOLDS = 4


class Baseline(Protocol):
    """Learns from a training table; predicts scores and costs, (n, m) each."""

    def fit(self, train: Table) -> None:
        """Learn."""
        ...

    def predict(self, embeddings: Vectors) -> tuple[Array, Array]:
        """Estimated quality and cost, (n, m) each."""
        ...


class KNN:
    """Mean scores of the k nearest training prompts by cosine, all alike in weight."""

    def __init__(self, k: int) -> None:
        self.k = k

    def __str__(self) -> str:
        return f"k = {self.k}"

    def fit(self, train: Table) -> None:
        """Remember the training prompts."""
        self._train = train

    def predict(self, embeddings: Vectors) -> tuple[Array, Array]:
        """Means over each prompt's neighbours; a model unseen among them has its mean over all."""
        k = min(self.k, len(self._train))
        near = np.concatenate(
            [
                np.argpartition(-(block @ self._train.embeddings.T), k - 1, axis=1)[:, :k]
                for block in np.array_split(embeddings, -(-len(embeddings) // 512))
            ]
        )  # (n, k)
        quality, cost = column_means(self._train.scores), column_means(self._train.costs)
        return mean_over(self._train.scores, near, quality), mean_over(self._train.costs, near, cost)


class KMeans:
    """Mean scores of the nearest of k clusters."""

    def __init__(self, k: int, seed: int) -> None:
        self.k = k
        self._seed = seed

    def __str__(self) -> str:
        return f"k = {self.k}"

    def fit(self, train: Table) -> None:
        """Cluster the training prompts."""
        from sklearn.cluster import KMeans as Clusters

        self._clusters = Clusters(min(self.k, len(train)), n_init=3, random_state=self._seed).fit(train.embeddings)
        members = [np.flatnonzero(self._clusters.labels_ == c)[None, :] for c in range(self._clusters.n_clusters)]
        quality, cost = column_means(train.scores), column_means(train.costs)
        self._quality = np.concatenate([mean_over(train.scores, rows, quality) for rows in members])  # (k, m)
        self._cost = np.concatenate([mean_over(train.costs, rows, cost) for rows in members])

    def predict(self, embeddings: Vectors) -> tuple[Array, Array]:
        """The means of each prompt's cluster."""
        cluster = self._clusters.predict(embeddings)
        return self._quality[cluster], self._cost[cluster]


class Linear:
    """Ridge regression of scores and costs on the embedding."""

    def __init__(self, alpha: float) -> None:
        self.alpha = alpha

    def __str__(self) -> str:
        return f"alpha = {self.alpha:g}"

    def fit(self, train: Table) -> None:
        """Solve the normal equations of every model, on the prompts that it was scored on."""
        self._quality = ridge(train.embeddings, train.scores, self.alpha)
        self._cost = ridge(train.embeddings, train.costs, self.alpha)

    def predict(self, embeddings: Vectors) -> tuple[Array, Array]:
        """Linear in the embedding."""
        inputs = np.column_stack([embeddings.astype(np.float64), np.ones(len(embeddings))])
        return inputs @ self._quality, np.maximum(inputs @ self._cost, 0.0)


class MLP:
    """One hidden layer for all models' scores at once; missing targets stand at their model's mean. Costs are ridge's."""

    def __init__(self, hidden: int, alpha: float, seed: int) -> None:
        self.hidden = hidden
        self.alpha = alpha
        self._seed = seed

    def __str__(self) -> str:
        return f"{self.hidden} hidden, alpha = {self.alpha:g}"

    def fit(self, train: Table) -> None:
        """Train with early stopping on a tenth of the training prompts."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.neural_network import MLPRegressor

        targets = np.where(np.isnan(train.scores), column_means(train.scores), train.scores)
        self._mean = targets.mean(axis=0)
        self._network = MLPRegressor(
            hidden_layer_sizes=(self.hidden,),
            alpha=self.alpha,
            early_stopping=len(train) >= 50,
            n_iter_no_change=8,
            max_iter=200,
            random_state=self._seed,
        )
        residual = targets - self._mean
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # cross-validation judges the result, converged or not
            self._network.fit(train.embeddings, residual if residual.shape[1] > 1 else residual.ravel())
        self._cost = ridge(train.embeddings, train.costs, 1.0)

    def predict(self, embeddings: Vectors) -> tuple[Array, Array]:
        """The network's estimate."""
        quality = self._network.predict(embeddings).reshape(len(embeddings), -1) + self._mean
        inputs = np.column_stack([embeddings.astype(np.float64), np.ones(len(embeddings))])
        return quality, np.maximum(inputs @ self._cost, 0.0)


def knn_grid() -> list[Baseline]:
    """Numbers of neighbours to choose from."""
    return [KNN(k) for k in (5, 10, 20, 40, 70, 100, 150)]


def kmeans_grid(seed: int) -> list[Baseline]:
    """Numbers of clusters to choose from."""
    return [KMeans(k, seed) for k in (4, 8, 16, 32, 64, 96)]


def linear_grid() -> list[Baseline]:
    """Strengths of the penalty to choose from."""
    return [Linear(alpha) for alpha in (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)]


def mlp_grid(seed: int) -> list[Baseline]:
    """Penalties to choose from."""
    return [MLP(64, alpha, seed) for alpha in (0.01, 0.1, 1.0)]


def tune(grid: Sequence[Baseline], train: Table, seed: int) -> Baseline:
    """The member of ``grid`` that routes held-out folds of ``train`` best, fitted on all of it."""
    best = grid[0]
    if len(grid) > 1 and len(train) >= 2 * FOLDS:
        fold = np.random.default_rng(seed).permutation(len(train)) % FOLDS
        earned = np.zeros(len(grid))
        for f in range(FOLDS):
            inside, outside = train.take(np.flatnonzero(fold != f)), train.take(np.flatnonzero(fold == f))
            for i, baseline in enumerate(grid):
                baseline.fit(inside)
                quality, _ = baseline.predict(outside.embeddings)
                earned[i] += routed(outside.scores, quality)
        best = grid[int(earned.argmax())]
    best.fit(train)
    return best


def routed(scores: Array, quality: Array) -> float:
    """Sum of the scores of the models of highest ``quality`` among those scored on each prompt."""
    choice = np.where(np.isnan(scores), -np.inf, quality).argmax(axis=1)
    return float(np.nansum(scores[np.arange(len(scores)), choice]))


def label_control(train: Table, test: Table) -> tuple[Array, Array]:
    """Route by the true label: each prompt has the mean scores and costs of its label in training."""
    quality, cost = column_means(train.scores), column_means(train.costs)
    labels, group = np.unique(train.labels, return_inverse=True)
    members = [np.flatnonzero(group == g)[None, :] for g in range(len(labels))]
    by_label = np.concatenate([mean_over(train.scores, rows, quality) for rows in members])  # (labels, m)
    cost_by_label = np.concatenate([mean_over(train.costs, rows, cost) for rows in members])
    where = {label: g for g, label in enumerate(labels)}
    known = np.array([where.get(label, -1) for label in test.labels])[:, None]
    return np.where(known >= 0, by_label[known[:, 0]], quality), np.where(known >= 0, cost_by_label[known[:, 0]], cost)


def mean_over(values: Array, rows: NDArray[np.intp], otherwise: Array) -> Array:
    """Means of (n, m) ``values`` over (p, k) ``rows``, (p, m); ``otherwise`` (m,) where nothing is known."""
    known = np.isfinite(values)
    filled = np.where(known, values, 0.0)
    sums = np.stack([filled[r].sum(axis=0) for r in rows])
    counts = np.stack([known[r].sum(axis=0) for r in rows])
    return np.where(counts > 0, sums / np.maximum(counts, 1), otherwise)


def column_means(values: Array) -> Array:
    """(m,) means over what is known; a column of nothing has the mean of all, or 0."""
    known = np.isfinite(values)
    overall = float(values[known].mean()) if known.any() else 0.0
    sums = np.where(known, values, 0.0).sum(axis=0)
    return np.where(known.any(axis=0), sums / np.maximum(known.sum(axis=0), 1), overall)


def ridge(embeddings: Vectors, targets: Array, alpha: float) -> Array:
    """(d + 1, m) weights of ridge regressions, the last row the intercepts, each model on the rows where it is known."""
    weights = np.zeros((embeddings.shape[1] + 1, targets.shape[1]))
    weights[-1] = column_means(targets)
    known = np.isfinite(targets)
    patterns, group = np.unique(known, axis=1, return_inverse=True)
    for g in range(patterns.shape[1]):
        rows, columns = patterns[:, g], np.flatnonzero(group == g)
        if not rows.any():
            continue
        inputs = embeddings[rows].astype(np.float64)
        centre = inputs.mean(axis=0)
        inputs = inputs - centre
        wanted = targets[np.ix_(rows, columns)]
        mean = wanted.mean(axis=0)
        gram = inputs.T @ inputs + alpha * np.eye(inputs.shape[1])
        slope = np.linalg.solve(gram, inputs.T @ (wanted - mean))  # (d, columns)
        weights[:-1, columns] = slope
        weights[-1, columns] = mean - centre @ slope
    return weights
