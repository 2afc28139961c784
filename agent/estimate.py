"""Estimates of a snapshot: quality and cost of every model on a prompt.

Stage 1 assigns the prompt to tasks and averages their means; stage 2 reads the general heads and the tasks' heads; the
third estimate is of the scores of the prompt's nearest training prompts; their weighted sum is the quality. Inference is
numpy on the snapshot's arrays, in batches or one prompt at a time; only training needs torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agent.choice.utility import shrink_to_mean
from agent.encoding.similarity import Matrix, Representation, block_squares, kernel
from agent.errors import SnapshotCorrupt
from agent.experts.stack import combine
from agent.index.neighbours import NeighbourIndex, Neighbours, hash64, kernel_weight, shrunk_mean
from agent.snapshot import GENERAL, Snapshot, check_finite
from agent.tasks import assign
from agent.types import UNKNOWN_TASK, Array, Encoded, SnapshotEstimate, TaskAssignment

_CHUNK = 1024

_BLOCK = 8
"""Prompts that `Estimator.estimate_each` computes at a time."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """What is expected of m models on n prompts.

    Parameters
    ----------
    quality
        (n, m) in [0, 1]: the weighted sum of the next three.
    stage1, stage2, neighbours
        (n, m) estimates by the task means, by the heads, and by the scores of the nearest training prompts.
    task_probabilities
        (n, T), calibrated; rows sum to 1.
    known
        (n,) False where a prompt lies outside the radius of every task.
    cost
        (n, m) USD; None where training knew no costs.
    """

    quality: Array
    stage1: Array
    stage2: Array
    neighbours: Array
    task_probabilities: Array
    known: NDArray[np.bool_]
    cost: Array | None


@dataclass(frozen=True, slots=True)
class Located:
    """n prompts among the snapshot's: their ``embeddings`` (n, d), ``points`` (n, w), as `Estimator.representation` transforms
    them, and the snapshot's prompts that are ``nearest`` to each."""

    embeddings: Matrix
    points: Matrix
    nearest: Neighbours


class Estimator:
    """Computes the estimates of a ``snapshot``, as `agent.fit` lays it out.

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
        self._column = {name: i for i, name in enumerate(snapshot.models)}
        try:
            self._read(snapshot)
        except KeyError as missing:
            raise SnapshotCorrupt(
                f"snapshot {snapshot.version} lacks {missing}; `thalweg refresh` builds a new one"
            ) from missing

    def _read(self, snapshot: Snapshot) -> None:
        t = snapshot.tensors
        self._config = snapshot.meta["config"]
        self._vote_power = float(snapshot.meta["fitted"]["vote_power"])
        self.shrinkage = float(snapshot.meta["fitted"]["shrinkage"])
        self.representation = Representation.from_tensors(t)
        self._centroids, self._radius = t["centroids"], t["radius"]  # (T, d), (T,)
        self._stack = t["stack"]  # (3,)
        self._overall = t["overall"]  # (m,)
        embeddings = t["indexed_embeddings"].astype(np.float32) / self.representation.scale[0]
        points = np.concatenate([embeddings, t["indexed_words_and_form"].astype(np.float32)], axis=1)  # (n, w)
        self._neighbours = NeighbourIndex(self.representation, points)
        self._labels = t["indexed_task"].astype(np.int64)  # (n,)
        self._means = t["indexed_means"].astype(np.float64)  # (n, m)
        self._score_weight = t["indexed_score_weight"].astype(np.float64)
        self._weighted_score = np.nan_to_num(t["indexed_scores"]).astype(np.float64) * self._score_weight
        self._read_heads(snapshot)

    def _read_heads(self, snapshot: Snapshot) -> None:
        """Trunk and all linear readouts of it, as one matrix over similarities to the landmarks.

        In place of a general head that is switched off stands the model's overall mean, and 0 in that of a task head.
        """
        t = snapshot.tensors
        column = {m: i for i, m in enumerate(self.models)}
        row = {task.id: i for i, task in enumerate(self.tasks)}
        trunk = t["trunk_weight"].astype(np.float64)  # (l, r)
        general = np.zeros((trunk.shape[1] + 1, len(self.models)))
        basis = t["task_head_basis"]  # (r + 1, q)
        task_heads = np.zeros((len(self.tasks), basis.shape[1], len(self.models)))
        for head in snapshot.heads:
            if (head.task, head.model) in snapshot.heads_off:
                if head.task == GENERAL:
                    general[-1, column[head.model]] = self._overall[column[head.model]]
            elif head.task == GENERAL:
                general[:, column[head.model]] = head.tensors["weight"]
            else:
                task_heads[row[head.task], :, column[head.model]] = head.tensors["weight"]
        self._task_heads = task_heads.reshape(len(self.tasks), -1)  # (T, q * m)
        self._cost_range = t.get("cost_range")  # (2, m) log USD
        upper = t.get("cost_upper", np.zeros(len(self.models)))  # of earlier snapshots, costs are not relied on
        self._cost_upper = np.append(
            np.where(upper > 0.0, upper, np.nan), np.nan
        )  # (m + 1,), the last for unknown models
        readouts = [general, t.get("cost_weight", np.zeros((len(general), 0))), basis]
        joined = np.concatenate(readouts, axis=1)
        ends = np.cumsum([0] + [r.shape[1] for r in readouts]).tolist()
        self._spans = list(zip(ends, ends[1:]))
        self._landmarks = np.ascontiguousarray(t["landmarks"], np.float32)  # (l, w)
        self._squares = block_squares(self._landmarks, self.representation.edges)
        self._readout = (trunk @ joined[:-1]).astype(np.float32)  # (l, m + costs + q)
        self._intercept = joined[-1]

    def predict_out_of_fold(
        self, ids: Sequence[str], embeddings: NDArray[np.float32], features: NDArray[np.float32]
    ) -> Array:
        """(n, m) quality of prompts, their own scores hidden: of training prompts (by id), training's out-of-fold estimates."""
        trained, oof = self.snapshot.tensors["trained_keys"], self.snapshot.tensors["trained_oof"]  # sorted by key
        keys = np.array([hash64(name) for name in ids], np.uint64)
        row = np.minimum(np.searchsorted(trained, keys), len(trained) - 1)
        new = trained[row] != keys
        quality = oof[row].astype(np.float64)
        if new.any():
            quality[new] = self.estimate_batch(embeddings[new], features[new]).quality
        return quality

    def trained_on(self, ids: Sequence[str]) -> NDArray[np.bool_]:
        """(n,) which prompts training knew."""
        found: NDArray[np.bool_] = np.isin(
            np.array([hash64(name) for name in ids], np.uint64), self.snapshot.tensors["trained_keys"]
        )
        return found

    def head_inputs(self, embeddings: NDArray[np.float32], features: NDArray[np.float32]) -> Array:
        """(n, q) what task heads read of prompts."""
        parts = [self._readouts(self.representation.transform(embeddings[i : i + _CHUNK], features[i : i + _CHUNK]))[2]
                 for i in range(0, len(embeddings), _CHUNK)]  # fmt: skip
        return np.concatenate(parts)

    def of_models(self, quality: Array, models: Sequence[str]) -> Array:
        """(n,) of (n, m) ``quality``, that of each row's model; the mean over m for a model that the snapshot does not know."""
        column = {name: i for i, name in enumerate(self.models)}
        at = np.array([column.get(model, -1) for model in models], np.int64)
        known: Array = quality[np.arange(len(at)), at]
        return np.where(at < 0, quality.mean(axis=1), known)

    def shrink_to_mean(self, quality: Array, cost_penalty: float = 0.0) -> Array:
        """(n, m) ``quality`` as it is chosen by, see `agent.choice.utility`."""
        return shrink_to_mean(quality, self._overall, self.shrinkage, cost_penalty)

    def costs(self, estimates: Estimates, models: Sequence[str], row: int = 0) -> tuple[Array, Array]:
        """USD of a row's prompt at each of K ``models``, and what nine of ten calls stay within; both (K,), NaN where
        training knew no cost of the model."""
        if estimates.cost is None:
            return np.full(len(models), np.nan), np.full(len(models), np.nan)
        at = [self._column.get(name, -1) for name in models]
        upper = self._cost_upper[at]
        mean = np.where(np.isnan(upper), np.nan, np.append(estimates.cost[row], np.nan)[at])
        return mean, mean * upper

    def estimate(self, encoded: Encoded) -> Estimates:
        """Estimates for one prompt, n = 1."""
        return self.estimate_located(self.locate(encoded.embedding[None], encoded.features[None]))

    def locate(self, embeddings: NDArray[np.float32], features: NDArray[np.float32]) -> Located:
        """Where (n, d) embeddings with their (n, f) features lie."""
        x = self.representation.transform(embeddings, features)
        return Located(embeddings, x, self._neighbours.find(x, self._config["neighbours"]))

    def estimate_each(self, prompts: Sequence[Encoded]) -> Estimates:
        """Estimates for n prompts, each the same to the last bit whichever prompts it is asked for with.

        A product of matrices of another shape may differ in its last bits; here all have one shape.
        """
        parts = [self._estimate(*arrays) for arrays in _blocks(prompts)]
        asked: list[Any] = [None if part is None else part[: len(prompts)] for part in _fields(_join(parts))]
        return Estimates(*asked)

    def points(self, prompts: Sequence[Encoded]) -> Matrix:
        """(n, w) `Located.points` of n prompts, each the same to the last bit whichever prompts it is asked for with."""
        return np.concatenate([self.representation.transform(*arrays) for arrays in _blocks(prompts)])[: len(prompts)]

    def estimate_batch(self, embeddings: NDArray[np.float32], features: NDArray[np.float32]) -> Estimates:
        """Estimates for (n, d) embeddings with their (n, f) features."""
        starts = range(0, max(len(embeddings), 1), _CHUNK)
        chunks = [self._estimate(embeddings[i : i + _CHUNK], features[i : i + _CHUNK]) for i in starts]
        return _join(chunks)

    def task_ids(
        self, ids: Sequence[str], embeddings: NDArray[np.float32], features: NDArray[np.float32]
    ) -> NDArray[np.int64]:
        """(n,) ids of the prompts' tasks: training's own for those that the snapshot indexes, `assign_task`'s for others."""
        of_task = np.array([task.id for task in self.tasks], np.int64)
        slot = {name: i for i, name in enumerate(self.snapshot.meta["indexed_prompts"])}
        row = np.array([slot.get(name, -1) for name in ids], np.int64)
        found = of_task[self._labels[row]]
        new = np.flatnonzero(row < 0)
        for part in (new[start : start + _CHUNK] for start in range(0, len(new), _CHUNK)):
            x = self.representation.transform(embeddings[part], features[part])
            _, probabilities = self._vote(self._neighbours.find(x, self._config["discovery"]["voters"]))
            known = self._known(embeddings[part])
            found[part] = np.where(known, of_task[probabilities.argmax(axis=1)], UNKNOWN_TASK)
        return found

    def _vote(self, voters: Neighbours) -> tuple[Array, Array]:
        """(n, voters) weight of each voter, and (n, T) task probabilities."""
        votes = assign.vote_weights(voters.similarity, self._vote_power)
        return votes, assign.task_probabilities(votes, self._labels[voters.rows], len(self.tasks))

    def _known(self, embeddings: NDArray[np.float32]) -> NDArray[np.bool_]:
        """(n,) which prompts lie within the radius of a task."""
        known: NDArray[np.bool_] = np.any(embeddings @ self._centroids.T >= self._radius, axis=1)
        return known

    def _estimate(self, embeddings: NDArray[np.float32], features: NDArray[np.float32]) -> Estimates:
        return self.estimate_located(self.locate(embeddings, features))

    def estimate_located(self, located: Located) -> Estimates:
        """Estimates for n prompts."""
        x, nearest = located.points, located.nearest
        voters = nearest.first(self._config["discovery"]["voters"])
        votes, probabilities = self._vote(voters)
        stage1 = _weighted_sum(votes, self._means[voters.rows])

        weight = kernel_weight(nearest.similarity, self._config["neighbour_power"])  # (n, k)
        total = _weighted_sum(weight, self._weighted_score[nearest.rows])
        count = _weighted_sum(weight, self._score_weight[nearest.rows])
        neighbours = shrunk_mean(total, count, stage1, self._config["neighbour_strength"])

        general, log_cost, inputs = self._readouts(x)
        heads = (probabilities @ self._task_heads).reshape(len(x), inputs.shape[1], -1)  # (n, q, m)
        stage2 = general + _weighted_sum(inputs, heads)

        quality = np.clip(combine(self._stack, (stage1, stage2, neighbours)), 0.0, 1.0)
        known = self._known(located.embeddings)
        cost = None if self._cost_range is None else np.exp(np.clip(log_cost, *self._cost_range))
        return Estimates(quality, stage1, stage2, neighbours, probabilities, known, cost)

    def _readouts(self, x: Matrix) -> tuple[Array, ...]:
        """Of transformed prompts (n, w): (n, m) general heads, (n, costs) log costs, (n, q) inputs of task heads."""
        close = kernel(x, self._landmarks, self.representation, self._squares)  # (n, l)
        readout = close @ self._readout + self._intercept
        return tuple(readout[:, a:b] for a, b in self._spans)

    @property
    def dimension(self) -> int:
        """Length of the embeddings that it reads."""
        return int(self._centroids.shape[1])

    @property
    def n_features(self) -> int:
        """Number of the features that it reads, plain ones and words."""
        return len(self.representation.mean) + len(self.representation.idf)

    def predicted(self, model: str, estimates: Estimates, row: int = 0) -> float:
        """A row's estimate of a model; the mean of its models where it does not know this one, whatever the pool holds."""
        column = self._column.get(model)
        return float(estimates.quality[row].mean() if column is None else estimates.quality[row, column])

    def likely_tasks(self, estimates: Estimates, least: float, row: int = 0) -> dict[int, float]:
        """task id -> probability of a row, where it is at least ``least``; none for a prompt far from every task."""
        probabilities = estimates.task_probabilities[row]
        if not estimates.known[row]:
            return {}
        return {self.tasks[t].id: min(float(probabilities[t]), 1.0) for t in np.flatnonzero(probabilities >= least)}

    def of_row(self, estimates: Estimates, row: int, least: float, models: Iterable[str]) -> SnapshotEstimate:
        """A row's estimates of ``models``, with its tasks, see `likely_tasks`."""
        return SnapshotEstimate(
            self.snapshot.version,
            self.assign_task(estimates, row).id,
            self.likely_tasks(estimates, least, row),
            {model: self.predicted(model, estimates, row) for model in models},
        )

    def assign_task(self, estimates: Estimates, row: int = 0) -> TaskAssignment:
        """The most probable task of a row; `UNKNOWN_TASK` where the prompt lies outside the radius of all."""
        best = int(estimates.task_probabilities[row].argmax())
        probability = float(estimates.task_probabilities[row, best])
        if not estimates.known[row]:
            return TaskAssignment(UNKNOWN_TASK, "unknown", probability)
        return TaskAssignment(self.tasks[best].id, self.tasks[best].name, probability)


def _blocks(prompts: Sequence[Encoded]) -> Iterator[tuple[Matrix, Matrix]]:
    """Embeddings and features of `_BLOCK` prompts at a time, the last repeated until the block is full: products of matrices
    of one shape round alike."""
    padded = [*prompts, *[prompts[-1]] * (-len(prompts) % _BLOCK)]
    for i in range(0, len(padded), _BLOCK):
        part = padded[i : i + _BLOCK]
        yield np.stack([p.embedding for p in part]), np.stack([p.features for p in part])


def _join(chunks: Sequence[Estimates]) -> Estimates:
    """The rows of all ``chunks``, at least one."""
    if len(chunks) == 1:
        return chunks[0]
    joined: list[Any] = [None if parts[0] is None else np.concatenate(parts) for parts in zip(*map(_fields, chunks))]
    return Estimates(*joined)


def _fields(estimates: Estimates) -> tuple[Any, ...]:
    return tuple(getattr(estimates, f.name) for f in fields(Estimates))


def _weighted_sum(weight: Array, rows: Array) -> Array:
    """(n, m) sums of (n, k, m) ``rows`` weighted by (n, k) ``weight``."""
    return (weight[:, None, :] @ rows)[:, 0]
