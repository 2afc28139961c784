"""A snapshot: everything a router learned offline, immutable, as arrays and JSON (never pickle).

The store writes ``meta`` as JSON, ``tensors`` as one safetensors blob and each head as a row of its own, so that one head
can be inspected and replaced alone. `agent.fit` makes snapshots, `agent.estimate` reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agent.errors import SnapshotCorrupt

FORMAT = 4
"""Raised whenever an older reader could misread a snapshot."""

GENERAL = -1
"""`Head.task` of a general head, which serves every task."""

Tensor = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Head:
    """Weights that predict the quality of ``model``: of its general head (task `GENERAL`), or of its head for one task."""

    task: int
    model: str
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A discovered task as clients see it.

    Parameters
    ----------
    id
        Stable over snapshots: a community that mostly continues an old one keeps its id.
    name
        The terms most specific to it, see `agent.tasks.naming`.
    size
        Number of training prompts.
    candidates
        The fewest top models that cover the task (see `agent.experts.task_heads`), best first.
    medoids
        Ids of the prompts nearest to its centroid, nearest first.
    means
        model -> (mean quality after shrinkage, weight of the scores behind it).
    parents
        Ids of the champion's tasks that it split from; empty where there is none.
    """

    id: int
    name: str
    size: int
    candidates: tuple[str, ...]
    medoids: tuple[str, ...]
    means: Mapping[str, tuple[float, float]]
    parents: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class LineageEvent:
    """What became of a task between two snapshots; ``figures`` (prompts, overlap, share) are the numbers that decided it."""

    kind: Literal["spawn", "keep", "merge", "retire"]
    task: int
    parents: tuple[int, ...]
    figures: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable router state; ``version`` is 0 until the store gives it one.

    Parameters
    ----------
    version
        Assigned by the store at `publish`.
    position
        Sequence number of the last feedback row that it was trained on; online learning starts after it.
    meta
        JSON: format, encoder, models, tasks, configuration, sizes; `agent.fit` lists the keys. ``heads_off``, where given,
        holds [task, model] of the heads that count nothing.
    tensors
        Shared arrays by name.
    heads
        A general head per model, and the task heads whose estimates count.
    lineage
        How its tasks descend from the champion's.

    Raises
    ------
    SnapshotCorrupt
        Where it is of another format.
    """

    version: int
    position: int
    meta: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    heads: tuple[Head, ...]
    lineage: tuple[LineageEvent, ...] = ()

    def __post_init__(self) -> None:
        if self.meta.get("format") != FORMAT:
            raise SnapshotCorrupt(
                f"snapshot {self.version} has format {self.meta.get('format')!r}, this Thalweg reads {FORMAT}; "
                "run `thalweg refresh` to build a new one"
            )

    @property
    def models(self) -> tuple[str, ...]:
        """The models it was trained on, in column order."""
        return tuple(self.meta["models"])

    @property
    def heads_off(self) -> frozenset[tuple[int, str]]:
        """(task, model) of the heads that were switched off by hand; they stay readable and count nothing."""
        return frozenset((task, model) for task, model in self.meta.get("heads_off", ()))

    def with_head(self, task: int, model: str, *, off: bool, weight: Tensor | None = None) -> Snapshot:
        """The same, not yet published, with one head switched on or off, and replaced by ``weight`` where given."""
        kept = self.heads
        if weight is not None:
            others = [head for head in kept if (head.task, head.model) != (task, model)]
            kept = tuple(sorted([*others, Head(task, model, {"weight": weight})], key=lambda h: (h.task, h.model)))
        now_off = self.heads_off - {(task, model)} | ({(task, model)} if off else set())
        meta = {**self.meta, "heads_off": [list(name) for name in sorted(now_off)]}
        return replace(self, version=0, meta=meta, heads=kept, lineage=())

    @property
    def scores_by_model(self) -> dict[str, float]:
        """model -> number of scores that it was trained on."""
        return dict(zip(self.models, self.tensors["task_n_scores"].sum(axis=0).tolist()))

    @property
    def n_evaluated(self) -> int:
        """Training prompts on which at least two models were scored by evaluation."""
        return int(self.meta.get("n_evaluated", 0))

    @property
    def optimism(self) -> float:
        """See `agent.choice.utility.fit_optimism`."""
        return float(self.meta.get("fitted", {}).get("optimism", 0.0))

    @property
    def n_scored(self) -> int:
        """Training prompts with a score."""
        return int(self.meta["n_scored"])

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder whose embeddings it reads."""
        return str(self.meta["encoder"])

    @property
    def tasks(self) -> tuple[TaskInfo, ...]:
        """The discovered tasks, in column order."""
        return tuple(
            TaskInfo(
                t["id"], t["name"], t["size"], tuple(t["candidates"]), tuple(t["medoids"]),
                {model: (mean, count) for model, (mean, count) in t["means"].items()}, tuple(t["parents"]),
            )
            for t in self.meta["tasks"]
        )  # fmt: skip

    def with_version(self, version: int) -> Snapshot:
        """The same snapshot as ``version``, which the store assigns."""
        return replace(self, version=version)


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise `SnapshotCorrupt` where an array of ``tensors`` holds NaN or infinity; scores may be NaN: not observed."""
    for name, array in tensors.items():
        if name != "indexed_scores" and np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise SnapshotCorrupt(f"{what}: tensor {name!r} holds values that are not finite")
