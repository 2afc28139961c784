"""Every router on one pair of tables: quality, cost, and the difference of two-stage to each of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from agent.types import Array
from jobs.evaluate import baselines
from jobs.evaluate.metrics import Difference, RouterResult, bootstrap, macro, route, sweep
from jobs.evaluate.table import Table
from jobs.evaluate.twostage import FIT_ABLATIONS, TrainedRouter, train_and_estimate

OURS = "two-stage"
ROUTERS = (
    OURS, "stage 1 only", "stage 2 only", "best single", "cheapest", "random", "kNN", "k-means", "linear", "MLP",
    "label control", "oracle",
)  # fmt: skip
"""In the order of the table. ``cheapest`` is left out where no costs are known."""

ABLATED = {f"{OURS} without {part}": config for part, config in FIT_ABLATIONS.items()}
"""Two-stage without one of its parts, each with how that is trained: what ``ablate`` adds."""

Progress = Callable[[str, float], None]
"""Called with what is being done and the share of all work done so far."""


@dataclass(frozen=True, slots=True)
class SingleModel:
    """One model for every prompt: its name, macro and micro quality, and mean USD (NaN where unknown)."""

    name: str
    macro: float
    micro: float
    cost: float


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome of `run`.

    Parameters
    ----------
    routers
        router -> its result, one entry a seed (one in all where nothing is random).
    singles, reference
        Every model alone, best macro first; and the one of best micro quality, whose cost others are compared with.
    differences
        router -> (macro, micro) difference of two-stage to it.
    trained, nmi
        Two-stage, and the normalised mutual information of its tasks of test prompts with the true labels; one a seed.
    tuned
        baseline -> the hyperparameters that cross-validation chose with seed 0.
    notes
        Peculiarities of the data that a reader must know.
    """

    train: Table
    test: Table
    routers: Mapping[str, list[RouterResult]]
    singles: list[SingleModel]
    reference: SingleModel
    differences: Mapping[str, tuple[Difference, Difference]]
    trained: list[TrainedRouter]
    nmi: list[float]
    tuned: Mapping[str, str]
    notes: list[str]


def run(
    train: Table,
    test: Table,
    *,
    encoder: str,
    seeds: int,
    priors: Mapping[str, float],
    notes: list[str],
    progress: Progress,
    ablate: bool = False,
) -> Result:
    """Train on one table, route the other.

    Parameters
    ----------
    train, test
        With the same columns; no prompt of ``train`` repeats, every prompt of ``test`` has a score.
    encoder
        Fingerprint of the encoder that made the embeddings.
    seeds
        Number of repetitions of what is random, with seeds from 0.
    priors
        Expected quality of models that ``train`` never saw.
    notes
        See `Result`.
    ablate
        Whether two-stage is also trained without each of its `ABLATED` parts.
    """
    unit = float(np.nanmean(train.costs)) if train.has_costs else 1.0
    unit = unit if unit > 0 else 1.0
    singles = single_models(test)
    routers: dict[str, list[RouterResult]] = {name: [] for name in ROUTERS}
    ablated = ABLATED if ablate else {}
    routers |= {name: [] for name in ablated}
    trained: list[TrainedRouter] = []
    tuned: dict[str, str] = {}
    done, steps = count(), (3 + len(ablated)) * seeds + 2

    def add(name: str, quality: Array, cost: Array | None, *shrink_to_mean: Callable[[Array, float], Array]) -> None:
        routers[name].append(sweep(test, quality, cost if train.has_costs else None, unit, *shrink_to_mean))

    for seed in range(seeds):
        progress(f"{OURS}, seed {seed}", next(done) / steps)
        ours = train_and_estimate(train, test, encoder=encoder, priors=priors, seed=seed)
        trained.append(ours)
        add(OURS, ours.estimates.quality, ours.estimates.cost, ours.shrink_to_mean)
        add("stage 1 only", ours.estimates.stage1, ours.estimates.cost)
        add("stage 2 only", ours.estimates.stage2, ours.estimates.cost)
        for name, config in ablated.items():
            progress(f"{name}, seed {seed}", next(done) / steps)
            left = train_and_estimate(train, test, encoder=encoder, priors=priors, seed=seed, config=config)
            add(name, left.estimates.quality, left.estimates.cost, left.shrink_to_mean)
        for name, grid in baselines.grids(seed).items():
            if seed == 0 or name in baselines.SEEDED:
                progress(f"{name}, seed {seed}", next(done) / steps)
                best = baselines.tune(grid, train, seed)
                tuned.setdefault(name, str(best))
                add(name, *best.predict(test.embeddings))
    add("label control", *baselines.label_control(train, test))
    # Among models of equal score the oracle takes the cheaper one.
    add("oracle", test.scores - 1e-9 * np.nan_to_num(test.costs) / unit, test.costs)
    routers["best single"] = [_always(test, singles[0].name)]
    routers["random"] = [_point(np.nanmean(test.scores, axis=1), _row_means(test.costs))]
    if train.has_costs and test.has_costs:
        routers["cheapest"] = [_always(test, min(singles, key=lambda s: (np.isnan(s.cost), s.cost)).name)]
    else:
        del routers["cheapest"]
    progress("done", 1.0)
    return Result(
        train=train,
        test=test,
        routers=routers,
        singles=singles,
        reference=max(singles, key=lambda s: s.micro),
        differences=_compare(routers, test),
        trained=trained,
        nmi=[
            float(normalized_mutual_info_score(test.labels, t.estimates.task_probabilities.argmax(axis=1)))
            for t in trained
        ],
        tuned=tuned,
        notes=notes,
    )


def single_models(test: Table) -> list[SingleModel]:
    """Every model alone on the test prompts that it was scored on; best macro quality first."""
    found = []
    for j, name in enumerate(test.models):
        scored = np.isfinite(test.scores[:, j])
        if scored.any():
            quality, cost = test.scores[scored, j], _mean(test.costs[scored, j])
            found.append(SingleModel(name, macro(quality, test.sources[scored]), float(quality.mean()), cost))
    return sorted(found, key=lambda s: -s.macro)


def _compare(routers: Mapping[str, list[RouterResult]], test: Table) -> dict[str, tuple[Difference, Difference]]:
    """Two-stage against each router, prompt by prompt, qualities averaged over seeds first."""
    mean = {name: np.mean([r.quality for r in results], axis=0) for name, results in routers.items()}
    return {
        name: (bootstrap(mean[OURS], theirs, test.sources, 0), bootstrap(mean[OURS], theirs, None, 0))
        for name, theirs in mean.items()
        if name not in (OURS, "oracle")
    }


def _always(test: Table, name: str) -> RouterResult:
    """The one model everywhere; where it has no score, the best of the others by their means."""
    utility = np.tile(baselines.column_means(test.scores), (len(test), 1))
    utility[:, test.models.index(name)] = 2.0
    return _point(*route(test, utility))


def _point(quality: Array, cost: Array) -> RouterResult:
    spent = _mean(cost)
    return RouterResult(quality, cost, np.empty((0, 2)) if np.isnan(spent) else np.array([[spent, quality.mean()]]))


def _row_means(values: Array) -> Array:
    return np.asarray(np.ma.masked_invalid(values).mean(axis=1).filled(np.nan))


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
