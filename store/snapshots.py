"""Snapshots: each published in one transaction, checked by its hash when it is read, at most one of them the champion.

Weights are kept as safetensors, the rest as JSON, so that reading a snapshot never runs code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as write_tensors
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from agent.errors import ChampionChanged, InvalidInput, SnapshotCorrupt
from agent.snapshot import FORMAT, Head, Snapshot, Tensor
from store.columns import Clock, utc_now
from store.database import Database
from store.lineage import record_events, snapshot_events, update_tasks
from store.prompts import table
from store.tables import HeadTable, SnapshotTable

DEMOTED = "demoted"
"""Key of a snapshot's report: why the champion monitor rolled it back."""

Status = Literal["champion", "challenger", "rejected", "retired"]


@dataclass(frozen=True, slots=True)
class SnapshotRow:
    """A snapshot without its weights; ``tasks`` and ``heads`` are counts, ``reason`` says why it was last promoted.

    One that is archived has lost its weights to retention (see `store.retention`) and cannot serve again.
    """

    version: int
    status: Status
    created_at: datetime
    created_by: str
    promoted_at: datetime | None
    reason: str | None
    position: int
    parent: int | None
    encoder: str
    tasks: int
    heads: int
    report: Mapping[str, Any]
    archived_at: datetime | None = None

    @property
    def champion_since_published(self) -> bool:
        """Whether it is the champion since it was published, without a promotion or rollback in between."""
        return self.status == "champion" and self.reason == _published_by(self.created_by)


@dataclass(frozen=True, slots=True)
class Champion:
    """The champion without its weights: trained on ``n_scored`` prompts with scores of ``models``, those of the feedback log
    up to ``position``.

    ``readable``: whether it is of the format that this Thalweg reads; otherwise a refresh must build another one.
    """

    version: int
    position: int
    n_scored: int
    models: tuple[str, ...]
    readable: bool


class SnapshotStore:
    """Publishes, loads and promotes snapshots."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def publish(
        self,
        snapshot: Snapshot,
        *,
        status: Literal["champion", "challenger", "rejected"],
        report: Mapping[str, Any],
        created_by: str,
        expected_champion: int | None | Literal["any"] = "any",
    ) -> Snapshot:
        """Write a snapshot, its heads and its tasks' lineage in one transaction.

        Parameters
        ----------
        status
            ``champion`` also retires the champion before it.
        report
            The gate's; kept with the snapshot.
        created_by
            Name of the job or person.
        expected_champion
            Version of the champion that it was compared with before it was to be one; None where there was none.

        Returns
        -------
        Snapshot
            The same with its version.

        Raises
        ------
        SnapshotCorrupt
            Where ``meta`` cannot be written as JSON.
        ChampionChanged
            Where it was to be champion and another one serves than expected; nothing is written.
        """
        try:
            json.dumps(snapshot.meta, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SnapshotCorrupt(f"the snapshot's meta cannot be kept as JSON: {error}") from error
        tensors = _pack(snapshot.tensors)
        heads = [(head.task, head.model, _pack(head.tensors)) for head in snapshot.heads]
        now = self._clock()
        with self._database.session(lock="snapshots") as session:
            parent = session.scalar(_CHAMPION)
            if status == "champion" and expected_champion not in ("any", parent):
                raise ChampionChanged(f"the champion is snapshot {parent}, no longer {expected_champion}")
            row = SnapshotTable(
                status="challenger" if status == "champion" else status,
                position=snapshot.position,
                parent=parent,
                encoder=snapshot.encoder,
                meta=snapshot.meta,
                tensors=tensors,
                sha256=sha256(tensors).hexdigest(),
                tasks=len(snapshot.tasks),
                heads=len(heads),
                report=report,
                created_by=created_by,
                created_at=now,
            )
            session.add(row)
            session.flush()
            if heads:
                session.connection().execute(
                    insert(table(HeadTable)),
                    [
                        {"snapshot": row.version, "task": t, "model": m, "tensors": b, "sha256": sha256(b).hexdigest()}
                        for t, m, b in heads
                    ],
                )
            record_events(session, row.version, snapshot.lineage)
            published = snapshot.with_version(row.version)
            if status == "champion":
                _set_champion(session, published, _published_by(created_by), now)
            session.commit()
        return published

    def champion_version(self) -> int | None:
        """The champion's version; None before the first. One indexed query, which replicas make each second."""
        with self._database.session() as session:
            return session.scalar(_CHAMPION)

    def champion(self) -> Champion | None:
        """The champion without its weights; None before the first."""
        meta, of = SnapshotTable.meta, SnapshotTable
        figures = meta["n_scored"].as_integer(), meta["models"].as_json(), meta["format"].as_integer()
        query = select(of.version, of.position, *figures).where(of.status == "champion")
        with self._database.session() as session:
            row = session.execute(query).one_or_none()
        return None if row is None else Champion(row[0], row[1], row[2] or 0, tuple(row[3] or ()), row[4] == FORMAT)

    def load(self, version: int) -> Snapshot:
        """A snapshot as it was published.

        Raises
        ------
        InvalidInput
            Where there is no such version, or it was archived.
        SnapshotCorrupt
            Where weights differ from what was published, a head is missing, or the format is another one.
        """
        with self._database.session() as session:
            return _load(session, version)

    def list(self) -> list[SnapshotRow]:
        """Every snapshot, newest first."""
        columns = [getattr(SnapshotTable, name) for name in SnapshotRow.__dataclass_fields__]
        with self._database.session() as session:
            rows = session.execute(select(*columns).order_by(SnapshotTable.version.desc())).all()
        return [SnapshotRow(**row._mapping) for row in rows]

    def promote(self, version: int, reason: str) -> None:
        """Make any snapshot the champion; replicas follow within a second.

        Raises
        ------
        InvalidInput, SnapshotCorrupt
            As `load`; the champion then stays.
        """
        with self._database.session(lock="snapshots") as session:
            snapshot = _load(session, version)
            if session.scalar(_CHAMPION) != version:
                _set_champion(session, snapshot, reason, self._clock())
                session.commit()

    def rollback(self, reason: str) -> int:
        """Make the last champion before this one the champion again, and return its version.

        Snapshots that the champion monitor rolled back are passed over.

        Raises
        ------
        InvalidInput
            Where there is no former champion.
        SnapshotCorrupt
            As `load`; the champion then stays.
        """
        with self._database.session(lock="snapshots") as session:
            rows = session.execute(_FORMER).all()
            version: int | None = next((row.version for row in rows if DEMOTED not in row.report), None)
            if version is None:
                raise InvalidInput("there is no former champion to go back to", param="version")
            _set_champion(session, _load(session, version), reason, self._clock())
            session.commit()
        return version

    def demote(self, version: int, successor: int, reason: str, report: Mapping[str, Any]) -> bool:
        """Promote ``successor`` in place of the champion ``version``, whose report keeps ``report`` under `DEMOTED`.

        Returns
        -------
        bool
            False, and no change, where ``version`` is not the champion.

        Raises
        ------
        InvalidInput, SnapshotCorrupt
            As `load` of ``successor``; the champion then stays.
        """
        with self._database.session(lock="snapshots") as session:
            if session.scalar(_CHAMPION) != version:
                return False
            _set_champion(session, _load(session, successor), reason, self._clock())
            row = session.get_one(SnapshotTable, version)
            row.report = {**row.report, DEMOTED: dict(report)}
            session.commit()
        return True


_CHAMPION = select(SnapshotTable.version).where(SnapshotTable.status == "champion")
_FORMER = (
    select(SnapshotTable.version, SnapshotTable.report)
    .where(
        SnapshotTable.status == "retired",
        SnapshotTable.promoted_at.is_not(None),
        SnapshotTable.archived_at.is_(None),
    )
    .order_by(SnapshotTable.promoted_at.desc(), SnapshotTable.version.desc())
)


def _published_by(created_by: str) -> str:
    return f"published by {created_by}"


def _set_champion(session: Session, snapshot: Snapshot, reason: str, now: datetime) -> None:
    """Retire the champion, then promote: in this order, as the index allows one champion at a time."""
    session.execute(update(SnapshotTable).where(SnapshotTable.status == "champion").values(status="retired"))
    session.execute(
        update(SnapshotTable)
        .where(SnapshotTable.version == snapshot.version)
        .values(status="champion", promoted_at=now, reason=reason)
    )
    update_tasks(session, snapshot, now)


def _load(session: Session, version: int) -> Snapshot:
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


def _pack(tensors: Mapping[str, Tensor]) -> bytes:
    return write_tensors({name: np.asarray(array, order="C") for name, array in tensors.items()})


def _unpack(blob: bytes, digest: str, what: str) -> dict[str, Tensor]:
    if sha256(blob).hexdigest() != digest:
        raise SnapshotCorrupt(f"{what}: the weights differ from what was published; {_NEXT}")
    try:
        return read_tensors(blob)
    except SafetensorError as error:
        raise SnapshotCorrupt(f"{what}: {error}; {_NEXT}") from error
