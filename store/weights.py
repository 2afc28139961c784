"""Snapshot weights as rows keep them: safetensors with a hash, read back exactly as they were published or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as write_tensors
from sqlalchemy import select
from sqlalchemy.orm import Session

from agent.errors import InvalidInput, SnapshotCorrupt
from agent.snapshot import Head, Snapshot, Tensor
from store.lineage import snapshot_events
from store.tables import HeadTable, SnapshotTable


def load_snapshot(session: Session, version: int) -> Snapshot:
    """See `store.snapshots.SnapshotStore.load`."""
    row = session.get(SnapshotTable, version)
    if row is None:
        raise InvalidInput(f"there is no snapshot {version}; `thalweg snapshots list` shows them", param="version")
    if row.archived_at is not None:
        raise InvalidInput(
            f"snapshot {version} was archived at {row.archived_at:%Y-%m-%d %H:%M} UTC: its weights were deleted, its report "
            "was kept; THALWEG_RETENTION_RETIRED and THALWEG_RETENTION_REJECTED say how many keep theirs",
            param="version",
        )
    heads = session.scalars(
        select(HeadTable).where(HeadTable.snapshot == version).order_by(HeadTable.task, HeadTable.model)
    ).all()
    if len(heads) != row.heads:
        raise SnapshotCorrupt(f"snapshot {version} has {len(heads)} of its {row.heads} heads; {_NEXT}")
    return Snapshot(
        version=version,
        position=row.position,
        meta=row.meta,
        tensors=_unpack(row.tensors, row.sha256, f"snapshot {version}"),
        heads=tuple(
            Head(h.task, h.model, _unpack(h.tensors, h.sha256, f"snapshot {version}, head ({h.task}, {h.model})"))
            for h in heads
        ),
        lineage=snapshot_events(session, version),
    )


_NEXT = "roll back with `thalweg snapshots rollback`, or build a new one with `thalweg refresh`"


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """As safetensors."""
    return write_tensors({name: np.asarray(array, order="C") for name, array in tensors.items()})


def _unpack(blob: bytes, digest: str, what: str) -> dict[str, Tensor]:
    if sha256(blob).hexdigest() != digest:
        raise SnapshotCorrupt(f"{what}: the weights differ from what was published; {_NEXT}")
    try:
        return read_tensors(blob)
    except SafetensorError as error:
        raise SnapshotCorrupt(f"{what}: {error}; {_NEXT}") from error
