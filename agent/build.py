"""Lays a fit out as a snapshot: JSON in ``meta``, arrays in ``tensors``, heads. `agent.estimate` reads what is written here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.encoding.similarity import Representation
from agent.examples import Examples
from agent.experts.general_heads import GeneralHeads
from agent.experts.task_heads import TaskHeads
from agent.experts.trunk import Trunk
from agent.index.prompts import hash64
from agent.online.prior import Prior
from agent.snapshot import FORMAT, GENERAL, Head, Snapshot
from agent.tasks import assign, naming
from agent.tasks.discover import Discovery
from agent.tasks.lineage import Lineage
from agent.types import Array

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
    general_heads: GeneralHeads
    task_heads: TaskHeads
    candidates: list[tuple[int, ...]]
    stack: Array
    oof: Array
    shrinkage: float
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
        },
    }
    tensors: dict[str, NDArray[Any]] = {
        **result.representation.tensors(),
        **result.costs,
        "landmarks": result.trunk.landmarks,
        "trunk_weight": result.trunk.weight.astype(np.float32),
        "task_head_basis": result.task_heads.basis,
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
    heads = [Head(GENERAL, name, {"weight": result.general_heads.weight[:, m]}) for m, name in enumerate(models)]
    for t in np.flatnonzero(result.task_heads.alpha):
        weights = result.task_heads.weights[t]
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
