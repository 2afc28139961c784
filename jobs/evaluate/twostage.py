"""Two-stage, the router under test: trains the snapshot that a refresh would and estimates test prompts as the server does."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from agent.estimate import Estimates, Estimator
from agent.examples import Examples
from agent.fit import FitConfig, fit
from agent.snapshot import Snapshot
from agent.types import Array
from jobs.context import peak_rss_mb
from jobs.evaluate.baselines import column_means
from jobs.evaluate.table import Table

TIMED_PROMPTS = 200

FIT_ABLATIONS = {
    "live index": FitConfig(neighbour_scores=False),
    "task heads": FitConfig(task_heads=False),
    "heads": FitConfig(general_heads=False),
}
"""Parts of an estimate that can be left out, to see what each is worth. The index assigns prompts to tasks all the same."""


@dataclass(frozen=True, slots=True)
class TrainedRouter:
    """One trained router with its estimates on the test prompts.

    Parameters
    ----------
    snapshot
        As `agent.fit.fit` made it.
    estimates
        Of the test prompts; columns follow ``snapshot.models``.
    shrink_to_mean
        Of the snapshot's `Estimator`: the qualities that a choice reads.
    wall_s, peak_rss_mb
        Of training, without encoding; the memory is the highest that the process has held so far.
    routing_ms
        Median time to estimate one prompt alone, without encoding.
    """

    snapshot: Snapshot
    estimates: Estimates
    shrink_to_mean: Callable[[Array, float], Array]
    wall_s: float
    peak_rss_mb: float
    routing_ms: float


def examples(train: Table, priors: Mapping[str, float]) -> Examples:
    """The examples that `agent.fit.fit` reads; labels are not passed on.

    Parameters
    ----------
    train
        Without repeated prompts.
    priors
        model -> expected quality of a model without a score in ``train``; where missing, the mean of all scores.
    """
    unseen = np.isnan(train.scores).all(axis=0)
    prior = None
    if unseen.any():
        prior = np.full(train.scores.shape, np.nan)
        for j in np.flatnonzero(unseen):
            prior[:, j] = priors.get(train.models[j], column_means(train.scores)[j])
    return Examples(
        ids=tuple(hashlib.sha256(p.encode("utf-8", "surrogatepass")).hexdigest() for p in train.prompts),
        embeddings=train.embeddings,
        features=train.features,
        scores=train.scores,
        models=train.models,
        costs=train.costs if train.has_costs else None,
        prior=prior,
        texts=train.prompts,
    )


def train_and_estimate(
    train: Table,
    test: Table,
    *,
    encoder: str,
    priors: Mapping[str, float],
    seed: int,
    config: FitConfig = FitConfig(),
) -> TrainedRouter:
    """Fit on ``train`` by ``config``, estimate ``test``; ``priors`` as in `examples`."""
    given = examples(train, priors)
    began = time.perf_counter()
    snapshot = fit(given, encoder=encoder, config=config, seed=seed)
    wall_s, peak_mb = time.perf_counter() - began, peak_rss_mb()
    estimator = Estimator(snapshot)
    assert snapshot.models == train.models, f"columns {train.models} expected, got {snapshot.models}"
    estimates = estimator.estimate_batch(test.embeddings, test.features)
    seconds = []
    for i in range(min(TIMED_PROMPTS, len(test))):
        started = time.perf_counter()
        estimator.estimate_batch(test.embeddings[i : i + 1], test.features[i : i + 1])
        seconds.append(time.perf_counter() - started)
    routing_ms = float(np.median(seconds)) * 1e3
    return TrainedRouter(snapshot, estimates, estimator.shrink_to_mean, wall_s, peak_mb, routing_ms)
