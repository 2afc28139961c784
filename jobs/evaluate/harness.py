"""Every router on one pair of files: what each earned, what it cost, and whether two-stage is ahead by more than luck."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import normalized_mutual_info_score

from agent.types import Array
from jobs.evaluate import baselines
from jobs.evaluate.metrics import Difference, Earned, bootstrap, earn, per_source, sweep
from jobs.evaluate.table import Table
from jobs.evaluate.twostage import Trained, train_and_estimate

OURS = "two-stage"
ROUTERS = (
    OURS, "stage 1 only", "stage 2 only", "best single", "cheapest", "random", "kNN", "k-means", "linear", "MLP",
    "label control", "oracle",
)  # fmt: skip
"""In the order of the table. ``cheapest`` is left out where no costs are known."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Single:
    """One model answering everything: its name, macro and micro quality, and mean USD (NaN where unknown)."""

    name: str
    macro: float
    micro: float
    cost: float


@dataclass(frozen=True, slots=True)
class Result:
    """What `run` found.

    Parameters
    ----------
    train, test
        The tables.
    earned
        router -> what it earned, one entry a seed (one in all where nothing is random).
    singles
        Every model alone, best macro first.
    reference
        The model of best micro quality: what costs are compared with.
    against
        router -> (macro, micro) difference of two-stage to it.
    trained
        Two-stage, one a seed.
    nmi
        Normalised mutual information of the assigned tasks of test prompts and their true labels, one a seed.
    tuned
        What cross-validation chose for the baselines.
    notes
        What a reader must know.
    """

    train: Table
    test: Table
    earned: Mapping[str, list[Earned]]
    singles: list[Single]
    reference: Single
    against: Mapping[str, tuple[Difference, Difference]]
    trained: list[Trained]
    nmi: list[float]
    tuned: Mapping[str, str]
    notes: list[str]


def run(
    train: Table,
    test: Table,
    *,
    encoder: str,
    seeds: int = 1,
    priors: Mapping[str, float] | None = None,
    notes: list[str] | None = None,
    progress: Progress | None = None,
) -> Result:
    """Train on one table, route the other.

    Parameters
    ----------
    train, test
        With the same columns; no prompt of ``train`` repeats, every prompt of ``test`` has a score.
    encoder
        Fingerprint of the encoder that made the embeddings.
    seeds
        How often what is random is repeated.
    priors
        Expected quality of models that ``train`` never saw.
    notes
        What is known about the tables already.
    progress
        Told (what, share done).
    """
    tell: Progress = progress or (lambda what, share: None)
    unit = float(np.nanmean(train.costs)) if train.has_costs else 1.0
    unit = unit if unit > 0 else 1.0
    singles = single_models(test)
    reference = max(singles, key=lambda s: s.micro)
    earned: dict[str, list[Earned]] = {name: [] for name in ROUTERS}
    trained: list[Trained] = []
    tuned: dict[str, str] = {}
    steps = 3 * seeds + 2

    def add(
        name: str, quality: Array, cost: Array | None, shrink_to_mean: Callable[[Array, float], Array] | None = None
    ) -> None:
        known = cost if train.has_costs else None
        earned[name].append(sweep(test, quality, known, unit, shrink_to_mean))

    for seed in range(seeds):
        tell(f"{OURS}, seed {seed}", 3 * seed / steps)
        ours = train_and_estimate(train, test, encoder=encoder, priors=priors or {}, seed=seed)
        trained.append(ours)
        add(OURS, ours.estimates.quality, ours.estimates.cost, ours.shrink_to_mean)
        for name, quality in (
            ("stage 1 only", ours.estimates.stage1),
            ("stage 2 only", ours.estimates.stage2),
        ):
            add(name, quality, ours.estimates.cost)
        for step, (name, grid) in enumerate(
            (("k-means", baselines.kmeans_grid(seed)), ("MLP", baselines.mlp_grid(seed))), 1
        ):
            tell(f"{name}, seed {seed}", (3 * seed + step) / steps)
            best = baselines.tune(grid, train, seed)
            tuned.setdefault(name, str(best))
            add(name, *best.predict(test.embeddings))
    for step, (name, grid) in enumerate((("kNN", baselines.knn_grid()), ("linear", baselines.linear_grid()))):
        tell(name, (3 * seeds + step) / steps)
        best = baselines.tune(grid, train, 0)
        tuned[name] = str(best)
        add(name, *best.predict(test.embeddings))
    add("label control", *baselines.label_control(train, test))
    add("oracle", _break_ties(test, unit), test.costs)
    earned["best single"] = [_always(test, singles[0].name)]
    earned["random"] = [_point(np.nanmean(test.scores, axis=1), _row_means(test.costs))]
    if train.has_costs and test.has_costs:
        earned["cheapest"] = [_always(test, min(singles, key=lambda s: (np.isnan(s.cost), s.cost)).name)]
    else:
        del earned["cheapest"]
    tell("done", 1.0)
    return Result(
        train, test, earned, singles, reference, _compare(earned, test), trained,
        [_agreement(t, test) for t in trained], tuned, notes or [],
    )  # fmt: skip


def single_models(test: Table) -> list[Single]:
    """Every model alone on the test prompts that it was scored on; best macro quality first."""
    found = []
    for j, name in enumerate(test.models):
        scored = np.isfinite(test.scores[:, j])
        if scored.any():
            quality = test.scores[scored, j]
            macro = float(np.mean(list(per_source(quality, test.sources[scored]).values())))
            found.append(Single(name, macro, float(quality.mean()), _mean(test.costs[scored, j])))
    return sorted(found, key=lambda s: -s.macro)


def _compare(earned: Mapping[str, list[Earned]], test: Table) -> dict[str, tuple[Difference, Difference]]:
    """Two-stage against each router, prompt by prompt, qualities averaged over seeds first."""
    mean = {name: np.mean([e.quality for e in seeds], axis=0) for name, seeds in earned.items()}
    return {
        name: (bootstrap(mean[OURS], theirs, test.sources, 0), bootstrap(mean[OURS], theirs, None, 0))
        for name, theirs in mean.items()
        if name not in (OURS, "oracle")
    }


def _always(test: Table, name: str) -> Earned:
    """The one model everywhere; where it has no score, the row's other models stand in by their means."""
    utility = np.tile(baselines.column_means(test.scores), (len(test), 1))
    utility[:, test.models.index(name)] = 2.0
    return _point(*earn(test, utility))


def _point(quality: Array, cost: Array) -> Earned:
    spent = _mean(cost)
    curve = np.empty((0, 2)) if np.isnan(spent) else np.array([[spent, quality.mean()]])
    return Earned(quality, cost, curve)


def _break_ties(test: Table, unit: float) -> Array:
    """True scores, the cheaper of equals first."""
    return test.scores - 1e-9 * np.nan_to_num(test.costs) / unit


def _agreement(trained: Trained, test: Table) -> float:
    return float(normalized_mutual_info_score(test.labels, trained.estimates.task_probs.argmax(axis=1)))


def _row_means(values: Array) -> Array:
    known = np.isfinite(values)
    total = np.where(known, values, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), np.nan)


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
