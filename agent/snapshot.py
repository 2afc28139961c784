"""A snapshot: everything a router learned offline, immutable, as arrays and JSON (never pickle).

The store writes ``meta`` as JSON, ``tensors`` as one safetensors blob and each head as a row of its own, so that one
expert can be replaced and inspected alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from agent.errors import SnapshotCorrupt

FORMAT = 3
"""Raised whenever an older reader could misread a snapshot."""

GENERAL = -1
"""`Head.task` of a general head, which serves every task."""

Tensor = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Head:
    """One expert: the weights that predict `model`'s quality, for one task or (`GENERAL`) for all."""

    task: int
    model: str
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A discovered task as people see it.

    Parameters
    ----------
    id
        Stable over snapshots: a community that mostly continues an old one keeps its id.
    name
        Its most telling terms.
    size
        Number of training prompts.
    candidates
        The fewest top models that cover the task (see `agent.experts.candidates`), best first.
    medoids
        Ids of its most central prompts, the most central first.
    means
        model -> (mean quality after shrinkage, number of observed scores).
    parents
        Ids of the tasks it was born from; empty for one that was born from nothing.
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
    """What became of a task between two snapshots: ``parents`` and ``evidence`` (overlaps, sizes) say why."""

    kind: Literal["spawn", "keep", "merge", "retire"]
    task: int
    parents: tuple[int, ...]
    evidence: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An immutable router state; ``version`` is 0 until the store gives it one.

    Parameters
    ----------
    version
        Given by the store at `publish`.
    position
        Sequence number of the last feedback row it was trained on; online learning starts after it.
    meta
        JSON: format, encoder name, models, tasks, configuration, sizes.
    tensors
        Shared arrays by name.
    heads
        Every expert.
    lineage
        How its tasks came out of the champion's.
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
        """The models it knows, in column order."""
        return tuple(self.meta["models"])

    @property
    def scores_by_model(self) -> dict[str, float]:
        """model -> scores that it was trained on."""
        return dict(zip(self.models, self.tensors["task_n_scores"].sum(axis=0).tolist()))

    @property
    def evaluated(self) -> int:
        """Prompts on which several models were scored in full: what its expectations rest on."""
        return int(self.meta.get("evaluated", 0))

    @property
    def scored_prompts(self) -> int:
        """Prompts with a score that it was trained on, as far as it remembers them."""
        return int((self.tensors["memory_weight"] > 0.0).any(axis=1).sum())

    @property
    def encoder(self) -> str:
        """Fingerprint of the encoder whose embeddings it reads."""
        return str(self.meta["encoder"])

    @property
    def tasks(self) -> tuple[TaskInfo, ...]:
        """The discovered tasks, in column order."""
        return tuple(
            TaskInfo(
                id=t["id"],
                name=t["name"],
                size=t["size"],
                candidates=tuple(t["candidates"]),
                medoids=tuple(t["medoids"]),
                means={m: (v[0], v[1]) for m, v in t["means"].items()},
                parents=tuple(t["parents"]),
            )
            for t in self.meta["tasks"]
        )

    def published(self, version: int) -> Snapshot:
        """The same snapshot under the version that the store gave it."""
        return replace(self, version=version)


def check_finite(tensors: Mapping[str, Tensor], what: str) -> None:
    """Raise `SnapshotCorrupt` where an array of ``tensors`` holds NaN or infinity; remembered scores may be unseen (NaN)."""
    for name, array in tensors.items():
        if name != "memory_scores" and np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise SnapshotCorrupt(f"{what}: tensor {name!r} holds values that are not finite")
