"""Single heads of a snapshot: read, replaced, switched off and on again.

A published snapshot is never changed. What changes a head of the champion publishes another snapshot, with the same tensors,
position and other heads, that becomes the champion as any other does: replicas swap it in, and `SnapshotStore.rollback` takes
it back. Its report says which head was changed, how, by whom and from which version. The next refresh trains all heads anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from pydantic import Field

from agent.errors import InvalidInput, UnknownModel, did_you_mean
from agent.snapshot import GENERAL, Head, Snapshot
from store.snapshots import SnapshotStore
from store.views import View

GENERAL_NAME = "general"
"""What people write for `agent.snapshot.GENERAL`."""


class HeadView(View):
    """A head of a snapshot: of the ``general`` kind, which serves every task, or of one task."""

    snapshot: int
    task: int | None = Field(description="null: a general head")
    model: str
    off: bool = Field(
        description="switched off: it counts nothing; a general head's place takes the model's overall mean"
    )
    inputs: int = Field(description="length of its weights, the intercept's last")
    norm: float = Field(description="Euclidean norm of its weights without the intercept")
    intercept: float
    weight: list[float] | None = Field(default=None, description="only where one head is shown")

    @classmethod
    def of(cls, snapshot: Snapshot, head: Head, whole: bool = False) -> Self:
        """The view of a ``head`` of ``snapshot``, with its weights where ``whole``."""
        weight = np.asarray(head.tensors["weight"], np.float64)
        return cls(
            snapshot=snapshot.version, task=None if head.task == GENERAL else head.task, model=head.model,
            off=(head.task, head.model) in snapshot.heads_off, inputs=len(weight),
            norm=float(np.linalg.norm(weight[:-1])), intercept=float(weight[-1]),
            weight=weight.tolist() if whole else None,
        )  # fmt: skip


def list_heads(snapshot: Snapshot) -> list[HeadView]:
    """The heads of ``snapshot``, the general ones first, without their weights."""
    return [HeadView.of(snapshot, head) for head in sorted(snapshot.heads, key=lambda h: (h.task, h.model))]


def get_head(snapshot: Snapshot, task: str, model: str) -> HeadView:
    """One head with its weights; ``task`` is an id or `GENERAL_NAME`.

    Raises
    ------
    InvalidInput, UnknownModel
        Where the snapshot has no such task, model or head; ``param`` names the one at fault.
    """
    return HeadView.of(snapshot, _head(snapshot, _task(snapshot, task, model), model), whole=True)


def change_head(
    snapshots: SnapshotStore,
    version: int,
    task: str,
    model: str,
    *,
    by: str,
    off: bool = False,
    weight: Sequence[float] | None = None,
) -> HeadView:
    """Publish the champion with one head changed, as the new champion, and return that head.

    Parameters
    ----------
    version
        Of the champion.
    task
        Id, or `GENERAL_NAME`.
    by
        Who asked for it; kept with the snapshot.
    off
        Whether the head is to count nothing.
    weight
        What replaces its weights; a task and model without a head get one. None: they stay.

    Raises
    ------
    InvalidInput, UnknownModel
        Where there is no such snapshot, task, model or head, or where ``weight`` is not finite or of another length than the
        snapshot's heads of that kind; ``param`` names the field.
    ChampionChanged
        Where another snapshot than ``version`` is the champion; nothing is published.
    SnapshotCorrupt
        Where the snapshot cannot be read.
    """
    before = snapshots.load(version)
    which = _task(before, task, model)
    given = None if weight is None else _checked(before, which, weight)
    if given is None:
        _head(before, which, model)
    changed = before.with_head(which, model, off=off, weight=given)
    change = "switched off" if off else "switched on" if given is None else "replaced"
    name = f"the general head of {model}" if which == GENERAL else f"the head of {model} for task {which}"
    report: dict[str, Any] = {
        "promoted": True,
        "reason": f"snapshot {version} with {name} {change} by {by}",
        "head": {"task": None if which == GENERAL else which, "model": model, "change": change, "by": by, "from": version},
        "champion": version,
        "position": before.position,
        "n_scored": before.n_scored,
    }  # fmt: skip
    published = snapshots.publish(changed, status="champion", report=report, created_by=by, expected_champion=version)
    return HeadView.of(published, _head(published, which, model), whole=True)


def _task(snapshot: Snapshot, task: str, model: str) -> int:
    """The id of ``task``, which the snapshot must have, as it must ``model``."""
    ids = [t.id for t in snapshot.tasks]
    if task != GENERAL_NAME and not (task.isdecimal() and int(task) in ids):
        raise InvalidInput(
            f"snapshot {snapshot.version} has no task {task!r}; its tasks are {min(ids)} to {max(ids)}, "
            f"{len(ids)} of them, and {GENERAL_NAME!r} names the heads that serve all",
            param="task",
        )
    if model not in snapshot.models:
        near = did_you_mean(model, snapshot.models)
        raise UnknownModel(f"snapshot {snapshot.version} was not trained on model {model!r}{near}", param="model")
    return GENERAL if task == GENERAL_NAME else int(task)


def _head(snapshot: Snapshot, task: int, model: str) -> Head:
    found = next((head for head in snapshot.heads if (head.task, head.model) == (task, model)), None)
    if found is None:
        raise InvalidInput(
            f"snapshot {snapshot.version} stores no head of {model} for task {task}: only those that are believed are stored",
            param="task",
        )
    return found


def _checked(snapshot: Snapshot, task: int, weight: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """``weight`` as an array, finite also in single precision, as long as the snapshot's heads of that kind."""
    trunk, basis = snapshot.tensors["trunk_weight"], snapshot.tensors["task_head_basis"]
    expected = trunk.shape[1] + 1 if task == GENERAL else basis.shape[1]
    out = np.asarray(weight, np.float64)
    if out.shape != (expected,):
        raise InvalidInput(
            f"weight has {len(weight)} numbers; a head of this kind has {expected}, the intercept last", param="weight"
        )
    if not (np.abs(out) < np.finfo(np.float32).max).all():  # false for NaN, too
        at = int(np.flatnonzero(~(np.abs(out) < np.finfo(np.float32).max))[0])
        raise InvalidInput(f"weight[{at}] is {out[at]}; every weight must be a finite number", param="weight")
    return out
