"""What a snapshot expects of every model on a prompt: assign (stage 1), heads (stage 2), neighbours, aggregate.

Inference is plain numpy over the snapshot's arrays, in batches or one prompt at a time; torch is only needed to train.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.choice.shrinkage import shrink_to_mean
from agent.encoding.similarity import Blocks, block_squares, kernel
from agent.errors import SnapshotCorrupt
from agent.experts.stack import combine
from agent.index.neighbours import NeighbourIndex, kernel_weight, shrunk_mean
from agent.snapshot import GENERAL, Snapshot, check_finite
from agent.tasks import assign
from agent.types import UNKNOWN_TASK, Array, Encoded, TaskAssignment

_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class Estimates:
    """What is expected of m models on n prompts.

    Parameters
    ----------
    quality, stderr
        (n, m) aggregate in [0, 1] and its standard error.
    stage1, stage2, neighbours
        (n, m) what the task means, the heads and the nearest remembered prompts estimate alone.
    task_probs
        (n, T) calibrated assignment, rows sum to 1.
    known
        (n,) False far from every task.
    cost
        (n, m) expected USD learned from data; None where training knew no costs.
    """

    quality: Array
    stderr: Array
    stage1: Array
    stage2: Array
    neighbours: Array
    task_probs: Array
    known: NDArray[np.bool_]
    cost: Array | None


class Estimator:
    """The offline part of the router.

    Parameters
    ----------
    snapshot
        Whose arrays it reads; see `agent.build` for what they are.

    Raises
    ------
    SnapshotCorrupt
        Where a tensor is missing, or holds values that are not finite.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        check_finite(snapshot.tensors, f"snapshot {snapshot.version}")
        for head in snapshot.heads:
            check_finite(head.tensors, f"snapshot {snapshot.version}, head of {head.model}, task {head.task}")
        self.snapshot = snapshot
        self.models = snapshot.models
        self.tasks = snapshot.tasks
        try:
            self._build(snapshot)
        except KeyError as missing:
            raise SnapshotCorrupt(
                f"snapshot {snapshot.version} lacks {missing}; `thalweg refresh` builds a new one"
            ) from missing

    def _build(self, snapshot: Snapshot) -> None:
        t = snapshot.tensors
        self._config = snapshot.meta["config"]
        self._power = float(snapshot.meta["chosen"]["vote_power"])
        self._blocks = Blocks.from_tensors(t)
        self._centroids, self._radius = t["centroids"], t["radius"]  # (T, d), (T,)
        self._task_variance = t["task_stderr"] ** 2  # (T, m)
        self._stack = t["stack"]  # (3,)
        self._overall = t["overall"]  # (m,)
        self.shrinkage = float(snapshot.meta["chosen"]["shrinkage"])
        self._remember(snapshot)
        self._build_heads(snapshot)

    def _remember(self, snapshot: Snapshot) -> None:
        """The remembered prompts: what they look like, vote for and scored."""
        t = snapshot.tensors
        embeddings = t["memory_embeddings"].astype(np.float32) / self._blocks.scale[0]
        points = np.concatenate([embeddings, t["memory_rest"].astype(np.float32)], axis=1)  # (n, w)
        self._nearby = NeighbourIndex(self._blocks, points)
        self._labels = t["memory_task"].astype(np.int64)  # (n,)
        self._means = t["memory_means"].astype(np.float64)  # (n, m)
        self._trust = t["memory_weight"].astype(np.float64)
        self._value = np.nan_to_num(t["memory_scores"]).astype(np.float64) * self._trust

    def _build_heads(self, snapshot: Snapshot) -> None:
        """Trunk and every readout of it as one matrix over similarities to the landmarks."""
        t = snapshot.tensors
        column = {m: i for i, m in enumerate(self.models)}
        row = {task.id: i for i, task in enumerate(self.tasks)}
        trunk = t["trunk_weight"].astype(np.float64)  # (l, r)
        general = np.zeros((trunk.shape[1] + 1, len(self.models)))
        basis = t["task_head_basis"]  # (r + 1, q)
        codes = np.zeros((len(self.tasks), basis.shape[1], len(self.models)))
        for head in snapshot.heads:
            if head.task == GENERAL:
                general[:, column[head.model]] = head.tensors["weight"]
            else:
                codes[row[head.task], :, column[head.model]] = head.tensors["code"]
        self._codes = (codes * t["alpha"][:, None, None]).reshape(len(self.tasks), -1)  # (T, q * m)
        self._cost_range = t.get("cost_range")  # (2, m) log USD
        cost = t.get("cost_weight", np.zeros((len(general), 0)))
        readouts = [general, cost, basis]
        every = np.concatenate(readouts, axis=1)
        ends = np.cumsum([0] + [r.shape[1] for r in readouts]).tolist()
        self._spans = list(zip(ends, ends[1:]))
        self._landmarks = np.ascontiguousarray(t["landmarks"], np.float32)  # (l, w)
        self._squares = block_squares(self._landmarks, self._blocks.edges)
        self._readout = (trunk @ every[:-1]).astype(np.float32)  # (l, m + costs + q)
        self._level = every[-1]

    def predict_out_of_fold(
        self, ids: Sequence[str], embeddings: NDArray[np.float32], features: NDArray[np.float32]
    ) -> Array:
        """(n, m) quality expected of prompts with their own scores hidden: what training left out, where it knew them."""
        quality = self.estimate_batch(embeddings, features).quality
        row = {name: i for i, name in enumerate(self.snapshot.meta["memory"])}
        at = np.array([row.get(name, -1) for name in ids], np.int64)
        known = at >= 0
        quality[known] = self.snapshot.tensors["memory_oof"][at[known]]
        return quality

    def shrink_to_mean(self, quality: Array, pressure: float = 0.0) -> Array:
        """(n, m) ``quality`` as a choice sees it, see `agent.choice.shrinkage`."""
        return shrink_to_mean(quality, self._overall, self.shrinkage, pressure)

    def estimate(self, encoded: Encoded) -> Estimates:
        """Estimates for one prompt, n = 1."""
        return self.estimate_batch(encoded.embedding[None], encoded.features[None])

    def estimate_batch(self, embeddings: NDArray[np.float32], features: NDArray[np.float32]) -> Estimates:
        """Estimates for (n, d) embeddings with their (n, f) features."""
        if len(embeddings) <= _CHUNK:
            return self._estimate(embeddings, features)
        parts = [
            self._estimate(embeddings[i : i + _CHUNK], features[i : i + _CHUNK])
            for i in range(0, len(embeddings), _CHUNK)
        ]
        return Estimates(**{f.name: _join([getattr(p, f.name) for p in parts]) for f in fields(Estimates)})

    def _estimate(self, embeddings: NDArray[np.float32], features: NDArray[np.float32]) -> Estimates:
        x = self._blocks.transform(embeddings, features)  # (n, w)
        hood = self._nearby.find(x, self._config["neighbours"])

        voters = hood.first(self._config["discovery"]["voters"])
        votes = assign.vote(voters.similarity, self._power)  # (n, voters)
        probs = assign.memberships(votes, self._labels[voters.rows], len(self.tasks))  # (n, T)
        stage1 = _blend(votes, self._means[voters.rows])

        weight = kernel_weight(hood.similarity, self._config["evidence_power"])  # (n, k)
        total, count = _blend(weight, self._value[hood.rows]), _blend(weight, self._trust[hood.rows])
        near = shrunk_mean(total, count, stage1, self._config["evidence_strength"])

        close = kernel(x, self._landmarks, self._blocks, self._squares)  # (n, l)
        read = close @ self._readout + self._level
        general, log_cost, basis = (read[:, a:b] for a, b in self._spans)
        experts = probs @ self._codes  # (n, q * m): each task's heads as far as the prompt belongs to it
        stage2 = general + _blend(basis, experts.reshape(len(x), basis.shape[1], -1))

        parts = (stage1, stage2, near)
        quality = np.clip(combine(self._stack, parts), 0.0, 1.0)
        disagreement = ((stage1 - stage2) ** 2 + (near - stage2) ** 2 + (stage1 - near) ** 2) / 9.0
        stderr = np.sqrt(probs @ self._task_variance + disagreement)

        known: NDArray[np.bool_] = np.any(embeddings @ self._centroids.T >= self._radius, axis=1)
        cost = None if self._cost_range is None else np.exp(np.clip(log_cost, *self._cost_range))
        return Estimates(quality, stderr, stage1, stage2, near, probs, known, cost)

    def guess(self, estimates: Estimates, row: int = 0) -> TaskAssignment:
        """The most probable task of a row; `UNKNOWN_TASK` where the prompt is far from all."""
        best = int(estimates.task_probs[row].argmax())
        probability = float(estimates.task_probs[row, best])
        if not estimates.known[row]:
            return TaskAssignment(UNKNOWN_TASK, "unknown", probability)
        return TaskAssignment(self.tasks[best].id, self.tasks[best].name, probability)


def _blend(weight: Array, rows: Array) -> Array:
    """(n, m) weighted sums of (n, k, m) ``rows`` by (n, k) ``weight``."""
    out: Array = (weight[:, None, :] @ rows)[:, 0]
    return out


def _join(parts: list[Any]) -> Any:
    """Rows of all parts; None where a part has none."""
    return None if parts[0] is None else np.concatenate(parts)
