"""Stage 1's training: communities of the prompt graph at several resolutions, and what each model scores on them.

The mean over resolutions estimates better than any one of them (docs/log.md). What stage 1 says of a training prompt is
found by cross-validation: the graph is built, cut and averaged anew with the prompt's scores hidden, since they would
otherwise draw it into the community that suits them. The folds' communities are not thrown away: with all scores in their
means, they join the average. The resolution that foretells hidden scores best is the *primary* one: its communities
are the tasks that people see, with ids, names and heads.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.examples import Examples, Scores
from agent.index.neighbours import Neighbours, neighbour_matrix, neighbour_means
from agent.tasks import assign
from agent.tasks.graph import prompt_graph
from agent.tasks.leiden import absorb_small, leiden
from agent.tasks.means import Means, Variances, prompt_share, task_means
from agent.types import Array

Labels = NDArray[np.int64]

SMOOTHING_POWER, SMOOTHING_STRENGTH = 2.0, 5.0
"""How the scores nearby are averaged that rank the models on a prompt."""

RELEARN = 2
"""Rounds that adapt variances to a fold."""


@dataclass(frozen=True, slots=True)
class DiscoveryConfig:
    """How tasks are found.

    Parameters
    ----------
    edges
        Neighbours that a prompt is joined to in the graph.
    preference
        Weight of preference similarity in an edge, in [0, 1].
    smoothing
        Neighbours whose scores rank the models on a prompt.
    resolutions
        Of Leiden.
    folds
        Parts of the training prompts whose scores are hidden in turn, for out-of-fold estimates.
    smallest_task
        Fewest prompts of a task.
    voters
        Neighbours that vote on a prompt's task.
    """

    edges: int = 15
    preference: float = 0.5
    smoothing: int = 30
    resolutions: tuple[float, ...] = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
    folds: int = 5
    smallest_task: int = 5
    voters: int = 20


@dataclass(frozen=True, slots=True)
class Partition:
    """Tasks at one ``resolution`` of Leiden: (n,) ``labels``, ``means``, and ``error`` on hidden scores."""

    resolution: float
    labels: Labels
    means: Means
    error: float

    @property
    def tasks(self) -> int:
        """Number of tasks."""
        return len(self.means.mean)


@dataclass(frozen=True, slots=True)
class Discovery:
    """What stage 1 learned.

    Parameters
    ----------
    partitions
        One a resolution, of the graph that knows all scores.
    primary
        The one that people see.
    power
        Sharpness of the vote.
    estimate
        (n, m) what the vote gives for each training prompt with its scores hidden.
    means
        (n, m) mean over all partitions of the means of each prompt's tasks: what it votes for.
    folds
        By fold: (n,) which prompts' scores were hidden, and (n, m) what the vote gave for all prompts then.
    """

    partitions: tuple[Partition, ...]
    primary: Partition
    power: float
    estimate: Array
    means: Array
    folds: tuple[tuple[NDArray[np.bool_], Array], ...]


def discover(hood: Neighbours, examples: Examples, scores: Scores, config: DiscoveryConfig, seed: int) -> Discovery:
    """Find tasks among ``examples``, given each prompt's neighbours and what may be known of its ``scores``."""
    prior, voters = examples.prior, hood.first(config.voters)
    found = communities(hood, examples, scores, config, seed)
    means = [task_means(labels, scores, prior) for labels in found]
    finest = found[-1]
    power = assign.calibrate(voters.similarity, finest[voters.rows] == finest[:, None])
    votes = neighbour_matrix(voters.rows, assign.vote(voters.similarity, power))  # (n, n)

    oof = np.zeros((len(found), *scores.value.shape))  # (resolutions, n, m)
    bag, blind = [m.mean[labels] for m, labels in zip(means, found)], []
    for fold, hidden in enumerate(folds(len(examples), config.folds, seed), 1):
        known, votes_for = scores.without(hidden), np.zeros_like(oof)
        for r, labels in enumerate(communities(hood, examples, known, config, seed + fold)):
            start = means[r].variances
            votes_for[r] = task_means(labels, known, prior, start, RELEARN).mean[labels]
            bag.append(task_means(labels, scores, prior, start, RELEARN).mean[labels])
            oof[r, hidden] = votes[hidden] @ votes_for[r]
        blind.append((hidden, votes @ votes_for.mean(axis=0)))
    judge = scores if scores.seen.any() or prior is None else Scores(np.nan_to_num(prior), 1.0 - np.isnan(prior))
    parts = tuple(
        Partition(resolution, labels, told, contrast_error(estimate, judge, told.variances))
        for resolution, labels, told, estimate in zip(config.resolutions, found, means, oof, strict=True)
    )
    primary = min(parts, key=lambda p: p.error)
    return Discovery(parts, primary, power, oof.mean(axis=0), np.mean(bag, axis=0), tuple(blind))


def communities(
    hood: Neighbours, examples: Examples, scores: Scores, config: DiscoveryConfig, seed: int
) -> list[Labels]:
    """(n,) labels at each resolution, of the graph that knows these scores."""
    level = task_means(np.zeros(len(examples), np.int64), scores, None, rounds=RELEARN).overall
    prior = level if examples.prior is None else np.where(np.isnan(examples.prior), level, examples.prior)
    nearby = neighbour_means(hood.first(config.smoothing), scores, prior, SMOOTHING_POWER, SMOOTHING_STRENGTH)
    graph = prompt_graph(hood.first(config.edges), nearby, config.preference)
    return [absorb_small(leiden(graph, r, seed), examples.embeddings, config.smallest_task) for r in config.resolutions]


def folds(n: int, count: int, seed: int) -> Iterator[NDArray[np.bool_]]:
    """(n,) rows of each fold."""
    fold = np.random.default_rng(seed).permutation(n) % count
    yield from (fold == f for f in range(min(count, n)))


def contrast_error(estimate: Array, scores: Scores, variances: Variances) -> float:
    """Mean squared error of what tells the models of a prompt apart."""
    gap, score_weight = scores.residual(estimate), scores.score_weight
    shared = (score_weight * gap).sum(axis=1) ** 2 * prompt_share(score_weight, variances)
    return float(((score_weight * gap**2).sum() - shared.sum()) / max(score_weight.sum(), 1e-9))
