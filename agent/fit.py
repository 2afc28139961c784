"""Training: from prompts with scores to a snapshot.

The steps are those of the paper's figure: representation, graph and communities, task means, trunk, general heads, task
heads, aggregation. Every quantity fitted on estimates is fitted on out-of-fold ones, from the training data alone.
`build_snapshot` lays the result out as JSON, arrays and heads; `agent.estimate` reads what is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.choice.utility import fit_optimism, fit_shrinkage
from agent.encoding.similarity import Representation, fit_representation
from agent.errors import InvalidInput
from agent.estimate import Estimator
from agent.examples import Examples, Scores
from agent.experts.cost_model import cost_penalties, fit_cost_model
from agent.experts.general_heads import Trunk, fit_trunk
from agent.experts.parents import inherit, report_heads
from agent.experts.stack import combine, fit_stack
from agent.experts.stage2 import Stage2, fit_stage2
from agent.experts.task_heads import Start, candidate_set
from agent.index.neighbours import NeighbourIndex, hash64, neighbour_means
from agent.online.prior import Prior, fit_prior
from agent.snapshot import FORMAT, GENERAL, Head, Snapshot
from agent.tasks import assign, naming
from agent.tasks.discover import Discovery, DiscoveryConfig, Sample, discover, sampled
from agent.tasks.lineage import Lineage, match
from agent.types import Array

FEWEST_LANDMARKS = 300
"""Of the trunk, where there are as many prompts."""

TRAINED_PROMPTS = 3000
"""Most prompts that heads are trained on beyond their closed form; all others are estimated by what these teach."""


@dataclass(frozen=True, slots=True)
class FitConfig:
    """One configuration for all data.

    Parameters
    ----------
    discovery
        How tasks are found.
    neighbours
        Neighbours whose scores enter an estimate.
    neighbour_power, neighbour_strength
        A neighbour weighs its similarity to this power; the task means weigh like this many scores beside them.
    landmarks
        Of the trunk, at most.
    general_heads, task_heads, neighbour_scores
        Whether stage 2 counts, whether its task heads do, and the scores of neighbours; for ablations.
    index_capacity
        Most prompts (the last ones) that the snapshot holds for `agent.index`.
    """

    discovery: DiscoveryConfig = field(default_factory=DiscoveryConfig)
    neighbours: int = 50
    neighbour_power: float = 4.0
    neighbour_strength: float = 10.0
    landmarks: int = 1000
    general_heads: bool = True
    task_heads: bool = True
    neighbour_scores: bool = True
    index_capacity: int = 50_000


def fit(
    examples: Examples,
    *,
    encoder: str,
    config: FitConfig = FitConfig(),
    champion: Snapshot | None = None,
    position: int = 0,
    seed: int = 0,
    carried: Mapping[str, Any] | None = None,
    next_task: int = 0,
    progress: Callable[[str, float], None] | None = None,
) -> Snapshot:
    """Train a snapshot.

    Parameters
    ----------
    examples
        At least two prompts and one model.
    encoder
        Fingerprint of the encoder that made the embeddings.
    config
        Of discovery and estimates.
    champion
        The snapshot whose task ids are continued; None where there is none.
    position
        Sequence number of the last feedback row that ``examples`` hold.
    seed
        Equal inputs and seeds give equal snapshots.
    carried
        States at ``position`` from which a router of this snapshot goes on, ``ledger`` and ``drift_detectors``; one that
        is missing starts empty.
    next_task
        No new task gets a lower id; nor one below the champion's own ``next_task``.
    progress
        Called with (stage, share done).

    Raises
    ------
    InvalidInput
        Where there is nothing to learn from.
    """
    if len(examples) < 2 or not examples.models:
        raise InvalidInput(
            f"training needs at least two prompts and one model, got {len(examples)} and {len(examples.models)}"
        )
    report = progress or (lambda stage, share: None)
    scores, models = Scores.of(examples), len(examples.models)

    report("graph", 0.0)
    n_scored = int(scores.seen.any(axis=1).sum())
    representation = fit_representation(examples.embeddings, examples.features, n_scored)
    x = representation.transform(examples.embeddings, examples.features)
    neighbours = NeighbourIndex(representation, x).find(x, config.neighbours, exclude_self=True)

    report("tasks", 0.3)
    sample = Sample.draw(representation, x, examples.ids, neighbours, config.discovery)
    discovery = discover(neighbours, sample, examples, scores, config.discovery, seed)
    labels, means = discovery.labels, discovery.means

    report("lineage", 0.45)
    next_task = max(next_task, int(champion.meta["next_task"]) if champion is not None else 0)
    readable = champion is not None and champion.meta["n_features"] == examples.features.shape[1]
    before = Estimator(champion) if champion is not None and readable else None
    lineage = continue_ids(labels, examples, before, next_task)
    next_task = max([next_task, *(task + 1 for task in lineage.ids)])

    report("heads", 0.5)
    penalties = cost_penalties(examples.costs, models)
    enough = int(scores.score_weight.sum() / models)  # prompts that all scores would fill
    landmarks = min(config.landmarks, max(enough // 2, FEWEST_LANDMARKS))
    trunk = fit_trunk(x, representation, landmarks, np.random.default_rng(seed))
    candidates = task_candidates(discovery, scores)
    with_heads = [c if config.general_heads and config.task_heads else () for c in candidates]
    rows = sampled_rows(examples, scores)
    voters = neighbours.first(config.discovery.voters)
    votes = assign.vote_weights(voters.similarity[rows], discovery.vote_power)
    probabilities = assign.task_probabilities(votes, labels[voters.rows[rows]], discovery.n_tasks)
    stage2 = fit_stage2(
        trunk, scores, means.variances, labels, discovery.oof, discovery.folds, penalties, with_heads,
        rows, probabilities, partial(inherited_heads, examples, before, lineage, labels),
    )  # fmt: skip

    report("aggregation", 0.9)
    near = neighbour_means(neighbours, scores, discovery.oof, config.neighbour_power, config.neighbour_strength)
    estimates = (discovery.oof, stage2.oof, near)  # all out of fold
    used = np.flatnonzero([True, config.general_heads, config.neighbour_scores])
    stack = np.zeros(len(estimates))
    stack[used] = fit_stack([estimates[i] for i in used], scores, means.variances, penalties)
    oof = np.clip(combine(stack, estimates), 0.0, 1.0)
    result = FitResult(
        representation,
        discovery,
        trunk,
        stage2,
        candidates,
        stack,
        oof,
        share := fit_shrinkage(oof, means.overall, scores),
        fit_optimism(oof, means.overall, share, scores),
        fit_cost_model(trunk, examples.costs),
        fit_prior(labels, means.mean, examples.scores, examples.prior),
    )
    experts = {
        "general": stage2.general_factor,
        "task": stage2.task_factor,
        "tasks": report_heads(lineage, stage2.tasks, stage2.start, candidates, champion),
    }
    meta = {"encoder": encoder, "config": asdict(config), "seed": seed, "next_task": next_task, "experts": experts}
    meta |= carried or {}
    return build_snapshot(examples, result, lineage, position, meta)


def continue_ids(labels: NDArray[np.int64], examples: Examples, before: Estimator | None, next_task: int) -> Lineage:
    """Task ids of the communities, continued from the champion's where there is one that reads the same features."""
    if before is None:
        return match(labels, np.full(len(labels), -1), (), next_task)
    assigned = before.task_ids(examples.ids, examples.embeddings, examples.features)
    return match(labels, assigned, [task.id for task in before.tasks], next_task)


def inherited_heads(
    examples: Examples, before: Estimator | None, lineage: Lineage, labels: NDArray[np.int64], inputs: Array
) -> Start | None:
    """The champion's heads as starts of the tasks' own, whose ``inputs`` (n, q) are those of the training prompts."""
    if before is None or all(head.task == GENERAL for head in before.snapshot.heads):
        return None

    def read(rows: NDArray[np.int64]) -> Array:
        return before.head_inputs(examples.embeddings[rows], examples.features[rows])

    new = ~before.trained_on(examples.ids)
    return inherit(before.snapshot, read, lineage.origins, labels, inputs, examples.models, new)


def sampled_rows(examples: Examples, scores: Scores) -> NDArray[np.int64]:
    """Prompts with scores, `TRAINED_PROMPTS` at most, mostly the same ones at the next refresh."""
    rows = np.flatnonzero(scores.seen.any(axis=1))
    return rows[sampled([examples.ids[i] for i in rows], TRAINED_PROMPTS)]


def task_candidates(discovery: Discovery, scores: Scores) -> list[tuple[int, ...]]:
    """The candidate models of each task; a prompt without scores prefers the model of stage 1's best estimate."""
    means, expected = discovery.means, discovery.oof
    observed = np.where(scores.seen, scores.value, -1.0)
    quality = np.where(scores.seen.any(axis=1, keepdims=True), observed, expected)
    preferred = (quality + 1e-3 * expected).argmax(axis=1)
    by_task = (preferred[discovery.labels == t] for t in range(discovery.n_tasks))
    return [candidate_set(p, mean, stderr) for p, mean, stderr in zip(by_task, means.mean, means.stderr)]


MEDOIDS = 5
"""Most central prompts listed by task."""


@dataclass(frozen=True, slots=True)
class FitResult:
    """Everything that `agent.fit.fit` learned.

    ``candidates`` are columns of models by task, ``stack`` (3,) the weights of task means, heads and neighbours, ``oof``
    (n, m) the out-of-fold qualities of the training prompts, ``costs`` the tensors of the cost model.
    """

    representation: Representation
    discovery: Discovery
    trunk: Trunk
    stage2: Stage2
    candidates: list[tuple[int, ...]]
    stack: Array
    oof: Array
    shrinkage: float
    optimism: float
    costs: Mapping[str, Array]
    prior: Prior


def build_snapshot(
    examples: Examples, result: FitResult, lineage: Lineage, position: int, meta: Mapping[str, Any]
) -> Snapshot:
    """The snapshot of ``result``; ``meta`` are the inputs of the fit: encoder, config, seed, next_task and carried states."""
    labels, means, n_tasks = result.discovery.labels, result.discovery.means, result.discovery.n_tasks
    centroids = np.stack([examples.embeddings[labels == t].mean(axis=0) for t in range(n_tasks)])
    centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-9)
    cosine = examples.embeddings @ centroids.T  # (n, T)
    indexed = np.arange(len(examples))[-meta["config"]["index_capacity"] :]
    x = result.representation.transform(examples.embeddings[indexed], examples.features[indexed])
    keys = np.array([hash64(i) for i in examples.ids], np.uint64)
    by_key = np.argsort(keys)
    meta = {
        **meta,
        "format": FORMAT,
        "models": list(examples.models),
        "n_features": examples.features.shape[1],
        "tasks": _tasks(examples, result, lineage, cosine),
        "indexed_prompts": [examples.ids[i] for i in indexed],
        "n_prompts": len(examples),
        "n_scored": int((examples.score_weight > 0.0).any(axis=1).sum()),
        "n_scores": int((~np.isnan(examples.scores)).sum()),
        "n_evaluated": int(((examples.score_weight == 1.0).sum(axis=1) >= 2).sum()),
        "fitted": {
            "resolution": result.discovery.resolution,
            "vote_power": result.discovery.vote_power,
            "shrinkage": result.shrinkage,
            "optimism": result.optimism,
            "interaction": means.variances.interaction,
            "prompt": means.variances.prompt,
            "noise": means.variances.noise,
        },
    }
    tensors: dict[str, NDArray[Any]] = {
        **result.representation.tensors(),
        **result.costs,
        "landmarks": result.trunk.landmarks,
        "trunk_weight": result.trunk.weight.astype(np.float32),
        "task_head_basis": result.stage2.tasks.basis,
        "stack": result.stack,
        "overall": means.overall,
        "overall_covariance": result.prior.overall_covariance,
        "centroids": centroids,
        "radius": assign.radii(cosine, labels),
        "task_mean": means.mean,
        "task_n_scores": result.prior.n_scores,
        "task_covariance": result.prior.covariance,
        "indexed_embeddings": examples.embeddings[indexed].astype(np.float16),
        "indexed_words_and_form": x[:, examples.embeddings.shape[1] :].astype(np.float16),
        "indexed_scores": examples.scores[indexed].astype(np.float32),
        "indexed_score_weight": examples.score_weight[indexed].astype(np.float32),
        "indexed_task": labels[indexed].astype(np.int32),
        "indexed_means": result.discovery.vote_means[indexed].astype(np.float32),
        "trained_keys": keys[by_key],
        "trained_oof": result.oof[by_key].astype(np.float32),
    }
    return Snapshot(0, position, meta, tensors, _heads(examples.models, result, lineage), lineage.events)


def _heads(models: tuple[str, ...], result: FitResult, lineage: Lineage) -> tuple[Head, ...]:
    """A general head per model, and a head per candidate of each task whose heads count."""
    heads = [Head(GENERAL, name, {"weight": result.stage2.general.weight[:, m]}) for m, name in enumerate(models)]
    for t in np.flatnonzero(result.stage2.tasks.alpha):
        weights = result.stage2.tasks.weights[t]
        heads += [Head(lineage.ids[t], models[m], {"weight": weights[:, m]}) for m in result.candidates[t]]
    return tuple(heads)


def _tasks(
    examples: Examples, result: FitResult, lineage: Lineage, cosine: NDArray[np.float32]
) -> list[dict[str, Any]]:
    """The tasks as JSON, see `agent.snapshot.TaskInfo`."""
    labels, means = result.discovery.labels, result.discovery.means
    names = naming.task_names(examples.texts or ("",) * len(examples), labels, len(lineage.ids))
    tasks = []
    for t, task in enumerate(lineage.ids):
        members = np.flatnonzero(labels == t)
        central = members[np.argsort(-cosine[members, t], kind="stable")[:MEDOIDS]]
        pairs = zip(examples.models, means.mean[t].tolist(), means.n_scores[t].tolist())
        tasks.append(
            {
                "id": task,
                "name": names[t],
                "size": len(members),
                "candidates": [examples.models[m] for m in result.candidates[t]],
                "medoids": [examples.ids[i] for i in central],
                "means": {name: [mean, count] for name, mean, count in pairs},
                "parents": list(lineage.parents[t]),
            }
        )
    return tasks
