"""Put everything that was learned into one immutable snapshot: arrays and JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.encoding.similarity import Blocks
from agent.examples import Examples
from agent.experts.general_heads import GeneralHeads
from agent.experts.task_heads import TaskHeads
from agent.experts.trunk import Trunk
from agent.online.prior import Prior
from agent.snapshot import FORMAT, GENERAL, Head, Snapshot
from agent.tasks import assign, naming
from agent.tasks.discover import Discovery
from agent.tasks.lineage import Lineage
from agent.types import Array

MEDOIDS = 5
"""Most central prompts that a task names."""


@dataclass(frozen=True, slots=True)
class FitResult:
    """Everything that `agent.fit.fit` learned; ``candidates`` by task, (3,) ``weights``, (n, m) ``oof`` estimates.

    ``shrinkage`` is the share that `agent.choice.shrinkage` learned.
    """

    blocks: Blocks
    found: Discovery
    trunk: Trunk
    general: GeneralHeads
    experts: TaskHeads
    candidates: list[tuple[int, ...]]
    weights: Array
    oof: Array
    shrinkage: float
    costs: Mapping[str, Array]
    prior: Prior


def assemble(
    examples: Examples,
    parts: FitResult,
    lineage: Lineage,
    config: Mapping[str, Any],
    *,
    encoder: str,
    position: int,
    unused: int,
    seed: int,
    carried: Mapping[str, Any] | None = None,
) -> Snapshot:
    """The snapshot of ``parts``; ``unused`` is the first task id that was never given, ``carried`` see `agent.fit.fit`."""
    found, labels, tasks = parts.found, parts.found.primary.labels, parts.found.primary.tasks
    means = found.primary.means
    centroids = np.stack([examples.embeddings[labels == t].mean(axis=0) for t in range(tasks)])
    centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-9)
    closeness = examples.embeddings @ centroids.T  # (n, T)
    remembered = np.arange(len(examples))[-config["memory"] :]
    x = parts.blocks.transform(examples.embeddings[remembered], examples.features[remembered])
    meta: dict[str, Any] = {
        "format": FORMAT,
        "encoder": encoder,
        "models": list(examples.models),
        "features": examples.features.shape[1],
        "tasks": _describe(examples, parts, lineage, closeness),
        "next_task": unused,
        **(carried or {}),
        "memory": [examples.ids[i] for i in remembered],
        "prompts": len(examples),
        "scores": int((~np.isnan(examples.scores)).sum()),
        "evaluated": int(((examples.score_weight == 1.0).sum(axis=1) >= 2).sum()),
        "config": config,
        "chosen": {
            "resolution": found.primary.resolution,
            "vote_power": found.power,
            "tasks_by_resolution": [p.tasks for p in found.partitions],
            "weights": dict(zip(("task", "head", "neighbours"), map(float, parts.weights))),
            "shrinkage": parts.shrinkage,
            "alpha_mean": float(parts.experts.alpha.mean()),
            "seed": seed,
        },
    }
    tensors: dict[str, NDArray[Any]] = {
        **parts.blocks.tensors(),
        **parts.costs,
        "landmarks": parts.trunk.landmarks,
        "trunk_weight": parts.trunk.weight.astype(np.float32),
        "task_head_basis": parts.experts.basis,
        "alpha": parts.experts.alpha,
        "stack": parts.weights,
        "overall": means.overall,
        "centroids": centroids,
        "radius": assign.radii(closeness, labels),
        "task_mean": means.mean,
        "task_stderr": means.stderr,
        "task_n_scores": parts.prior.evidence,
        "task_covariance": parts.prior.spread,
        "overall_covariance": parts.prior.level,
        "memory_embeddings": examples.embeddings[remembered].astype(np.float16),
        "memory_rest": x[:, examples.embeddings.shape[1] :].astype(np.float16),
        "memory_scores": examples.scores[remembered].astype(np.float32),
        "memory_weight": examples.score_weight[remembered].astype(np.float32),
        "memory_oof": parts.oof[remembered].astype(np.float32),
        "memory_task": labels[remembered].astype(np.int32),
        "memory_means": found.means[remembered].astype(np.float32),
    }
    return Snapshot(0, position, meta, tensors, _heads(examples.models, parts, lineage), lineage.events)


def _heads(models: tuple[str, ...], parts: FitResult, lineage: Lineage) -> tuple[Head, ...]:
    """Every expert: a general head per model, and one per (task, candidate)."""
    heads = [Head(GENERAL, name, {"weight": parts.general.weight[:, m]}) for m, name in enumerate(models)]
    for t, task in enumerate(lineage.ids):
        heads += [Head(task, models[m], {"code": parts.experts.weights[t, :, m]}) for m in parts.candidates[t]]
    return tuple(heads)


def _describe(
    examples: Examples, parts: FitResult, lineage: Lineage, closeness: NDArray[np.float32]
) -> list[dict[str, Any]]:
    """The tasks as JSON, see `agent.snapshot.TaskInfo`."""
    labels, means = parts.found.primary.labels, parts.found.primary.means
    names = naming.task_names(examples.texts or ("",) * len(examples), labels, len(lineage.ids))
    described = []
    for t, task in enumerate(lineage.ids):
        members = np.flatnonzero(labels == t)
        central = members[np.argsort(-closeness[members, t], kind="stable")[:MEDOIDS]]
        described.append(
            {
                "id": task,
                "name": names[t],
                "size": len(members),
                "candidates": [examples.models[m] for m in parts.candidates[t]],
                "medoids": [examples.ids[i] for i in central],
                "means": {
                    name: [float(means.mean[t, m]), float(means.evidence[t, m])]
                    for m, name in enumerate(examples.models)
                },
                "parents": list(lineage.parents[t]),
            }
        )
    return described
