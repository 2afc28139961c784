"""Stage 1's training: communities of the prompt graph at several resolutions, and each model's mean score on them.

The mean over resolutions estimates better than any one of them (docs/log.md). Out-of-fold estimates are found by
cross-validation: graph, communities and means are made anew with the scores of a fold's prompts hidden, since these would
otherwise draw a prompt into the community that fits them. The folds' communities join the average too, with the means of
all scores. The resolution whose out-of-fold estimates err least is the *primary* one: its communities are the tasks that
have ids, names and heads.

Communities are found on a `Sample` of the prompts where there are many; every other prompt belongs to the community of the
sampled prompt that is most like it. Scores of all prompts count in the graph and in the means.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from agent.encoding.similarity import Matrix, Representation
from agent.examples import Examples, Scores
from agent.index.neighbours import NeighbourIndex, Neighbours, hash64, neighbour_matrix, neighbour_means
from agent.tasks import assign
from agent.tasks.graph import absorb_small, leiden, prompt_graph
from agent.tasks.means import Means, Variances, prompt_share, task_means
from agent.types import Array

Labels = NDArray[np.int64]

SMOOTHING_POWER, SMOOTHING_STRENGTH = 2.0, 5.0
"""Of the neighbours' mean scores by which the models are ranked on a prompt, see `neighbour_means`."""

FOLD_ROUNDS = 2
"""Rounds that adapt the variances to a fold."""


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """How tasks are found.

    Parameters
    ----------
    edges
        Neighbours that a prompt is joined with in the graph.
    preference
        Weight of preference similarity in an edge, in [0, 1].
    smoothing
        Neighbours whose scores rank the models on a prompt.
    resolutions
        Of Leiden.
    folds
        Parts of the training prompts whose scores are hidden in turn.
    smallest_task
        Fewest prompts of a task.
    voters
        Neighbours that vote on a prompt's task.
    sample
        Most prompts in the graph.
    """

    edges: int = 15
    preference: float = 0.5
    smoothing: int = 30
    resolutions: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    folds: int = 5
    smallest_task: int = 5
    voters: int = 20
    sample: int = 20_000


@dataclass(frozen=True, slots=True)
class Sample:
    """The prompts in the graph.

    Parameters
    ----------
    rows
        (s,) of n prompts, ascending.
    neighbours
        The nearest of them to each of them: rows of the sample.
    home
        (n,) row of the sample that is most similar to each prompt.
    """

    rows: NDArray[np.int64]
    neighbours: Neighbours
    home: NDArray[np.int64]

    @classmethod
    def draw(
        cls,
        representation: Representation,
        x: Matrix,
        ids: Sequence[str],
        neighbours: Neighbours,
        config: DiscoveryConfig,
    ) -> Self:
        """`sampled` prompts of ``x`` (n, w), as transformed by ``representation``; ``neighbours`` (n, k) are of all prompts."""
        if len(ids) <= config.sample:
            return cls(np.arange(len(ids)), neighbours.first(config.edges), np.arange(len(ids)))
        rows = sampled(ids, config.sample)
        index = NeighbourIndex(representation, x[rows])
        home = index.find(x, 1).rows[:, 0]
        home[rows] = np.arange(len(rows))
        return cls(rows, index.find(x[rows], config.edges, exclude_self=True), home)


@dataclass(frozen=True, slots=True)
class Discovery:
    """What stage 1 learned.

    Parameters
    ----------
    resolution, labels, means
        Of the primary partition: the (n,) task of each prompt, 0..T-1, and the task means.
    vote_power
        See `agent.tasks.assign`.
    oof
        (n, m) estimates of each training prompt with its scores hidden.
    vote_means
        (n, m) mean over all partitions of the means of each prompt's tasks: what its vote adds to an estimate.
    folds
        By fold: (n,) which prompts' scores were hidden, and (n, m) the estimates of all prompts then.
    """

    resolution: float
    labels: Labels
    means: Means
    vote_power: float
    oof: Array
    vote_means: Array
    folds: tuple[tuple[NDArray[np.bool_], Array], ...]

    @property
    def n_tasks(self) -> int:
        """Number of tasks."""
        return len(self.means.mean)


def sampled(ids: Sequence[str], count: int) -> NDArray[np.int64]:
    """Rows, ascending, of ``count`` of the prompts ``ids``, or of all where there are fewer.

    Drawn by hashes of the ids, so that most are the same from one refresh to the next.
    """
    keys = np.array([hash64(name) for name in ids], np.uint64)
    return np.sort(np.argsort(keys)[:count])


def discover(
    neighbours: Neighbours, sample: Sample, examples: Examples, scores: Scores, config: DiscoveryConfig, seed: int
) -> Discovery:
    """Find tasks among ``examples`` with the given ``scores``; ``neighbours`` are of all prompts."""
    prior, voters = examples.prior, neighbours.first(config.voters)
    labels_by_resolution = communities(neighbours, sample, examples, scores, config, seed)
    means = [task_means(labels, scores, prior) for labels in labels_by_resolution]
    finest = labels_by_resolution[-1]
    power = assign.fit_vote_power(voters.similarity, finest[voters.rows] == finest[:, None])
    votes = neighbour_matrix(voters.rows, assign.vote_weights(voters.similarity, power))  # (n, n)

    oof = np.zeros((len(means), *scores.value.shape))  # (resolutions, n, m)
    vote_means = np.sum([m.mean[labels] for m, labels in zip(means, labels_by_resolution)], axis=0)
    hidden_estimates = []
    for fold, hidden in enumerate(folds(len(examples), config.folds, seed), 1):
        known, fold_mean = scores.without(hidden), np.zeros_like(oof[0])
        for r, labels in enumerate(communities(neighbours, sample, examples, known, config, seed + fold)):
            start = means[r].variances
            of_known = task_means(labels, known, prior, start, FOLD_ROUNDS).mean[labels]
            oof[r, hidden] = votes[hidden] @ of_known
            fold_mean += of_known / len(means)
            vote_means += task_means(labels, scores, prior, start, FOLD_ROUNDS).mean[labels]
        hidden_estimates.append((hidden, votes @ fold_mean))
    target = scores if scores.seen.any() or prior is None else Scores(np.nan_to_num(prior), 1.0 - np.isnan(prior))
    errors = [contrast_error(estimate, target, mean.variances) for estimate, mean in zip(oof, means)]
    best = errors.index(min(errors))
    return Discovery(
        config.resolutions[best],
        labels_by_resolution[best],
        means[best],
        power,
        oof.mean(axis=0),
        vote_means / (len(means) * (1 + len(hidden_estimates))),
        tuple(hidden_estimates),
    )


def communities(
    neighbours: Neighbours, sample: Sample, examples: Examples, scores: Scores, config: DiscoveryConfig, seed: int
) -> list[Labels]:
    """(n,) labels at each resolution, of the graph that these scores make."""
    overall = task_means(np.zeros(len(examples), np.int64), scores, None, rounds=FOLD_ROUNDS).overall
    prior = overall if examples.prior is None else np.where(np.isnan(examples.prior), overall, examples.prior)
    smoothed = neighbour_means(neighbours.first(config.smoothing), scores, prior, SMOOTHING_POWER, SMOOTHING_STRENGTH)
    graph = prompt_graph(sample.neighbours, smoothed[sample.rows], config.preference)
    embeddings = examples.embeddings[sample.rows]
    found = (absorb_small(leiden(graph, r, seed), embeddings, config.smallest_task) for r in config.resolutions)
    return [labels[sample.home] for labels in found]


def folds(n: int, count: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """(n,) rows of each of ``count`` random folds; fewer where there are fewer rows."""
    fold = np.random.default_rng(seed).permutation(n) % count
    yield from (fold == f for f in range(min(count, n)))


def contrast_error(estimate: Array, scores: Scores, variances: Variances) -> float:
    """Mean squared error of ``estimate`` (n, m) less the prompts' effects on all models: of the models' differences."""
    gap, score_weight = scores.residual(estimate), scores.score_weight
    shared = (score_weight * gap).sum(axis=1) ** 2 * prompt_share(score_weight, variances)
    return float(((score_weight * gap**2).sum() - shared.sum()) / max(score_weight.sum(), 1e-9))
