"""Thalweg's own rows: the snapshot that the training job would publish, and the estimates that serving would use."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from agent.estimate import Estimates, Estimator
from agent.examples import Examples
from agent.fit import fit
from agent.snapshot import Snapshot
from agent.types import Array
from jobs.evaluate.baselines import column_means
from jobs.evaluate.table import Table
from jobs.meter import Meter

TIMED_PROMPTS = 200


@dataclass(frozen=True, slots=True)
class Trained:
    """One trained router with its estimates on the test prompts.

    Parameters
    ----------
    snapshot
        As `agent.fit.fit` made it.
    estimates
        Of the test prompts; columns follow ``snapshot.models``.
    shrink_to_mean
        What a choice makes of the estimates, see `agent.choice.shrinkage`.
    wall_s, peak_rss_mb
        Of training, encoding apart.
    routing_ms
        Median time to estimate one prompt alone, encoding apart.
    """

    snapshot: Snapshot
    estimates: Estimates
    shrink_to_mean: Callable[[Array, float], Array]
    wall_s: float
    peak_rss_mb: float
    routing_ms: float


def examples(train: Table, priors: Mapping[str, float]) -> Examples:
    """A training table as what `fit` reads; models without a single score get their prior instead.

    Parameters
    ----------
    train
        Without repeated prompts; its labels are not passed on.
    priors
        model -> expected quality, for models that training never saw; the mean of the others where a name is missing.
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
    progress: Callable[[str, float], None] | None = None,
) -> Trained:
    """Fit on ``train``, estimate ``test``."""
    given = examples(train, priors)
    with Meter() as meter:
        snapshot = fit(given, encoder=encoder, seed=seed, progress=progress)
    estimator = Estimator(snapshot)
    assert snapshot.models == train.models, f"columns {train.models} expected, got {snapshot.models}"
    estimates = estimator.estimate_batch(test.embeddings, test.features)
    return Trained(
        snapshot, estimates, estimator.shrink_to_mean, meter.wall_s, meter.peak_rss_mb, _one_by_one_ms(estimator, test)
    )


def _one_by_one_ms(estimator: Estimator, test: Table) -> float:
    took = []
    for i in range(min(TIMED_PROMPTS, len(test))):
        started = time.perf_counter()
        estimator.estimate_batch(test.embeddings[i : i + 1], test.features[i : i + 1])
        took.append(time.perf_counter() - started)
    return float(np.median(took)) * 1e3
