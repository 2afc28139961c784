"""Snapshots: each published in one transaction, checked by its hash when it is read, at most one of them the champion.

A challenger that is neither proven better nor worse is published on trial (`store.trials`); a champion that a refresh or a
trial made is held back against its predecessor. Whatever makes another snapshot the champion ends the running trial.

Weights are kept as safetensors, the rest as JSON, so that reading a snapshot never runs code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any, Literal

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from agent.errors import ChampionChanged, InvalidInput, SnapshotCorrupt
from agent.snapshot import FORMAT, Snapshot
from store.columns import Clock, utc_now
from store.database import Database
from store.lineage import record_events, update_tasks
from store.prompts import table
from store.tables import HeadTable, SnapshotTable
from store.trials import Settled, TrialPlan, close_trial, running_trial, start_trial
from store.weights import load_snapshot, pack

DEMOTED = "demoted"
"""Key of a snapshot's report: why its hold-back rolled it back."""

Status = Literal["champion", "challenger", "trial", "rejected", "retired"]


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
    def promoted_by_publication(self) -> bool:
        """Whether it was last promoted when it was published, not by a trial, a person or a rollback."""
        return self.reason == _published_by(self.created_by)


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
        status: Literal["champion", "challenger", "trial", "rejected"],
        report: Mapping[str, Any],
        created_by: str,
        expected_champion: int | None | Literal["any"] = "any",
        plan: TrialPlan | None = None,
        supersedes: int | None = None,
    ) -> Snapshot:
        """Write a snapshot, its heads and its tasks' lineage in one transaction.

        Parameters
        ----------
        status
            ``champion`` also retires the champion before it; ``trial`` also starts its trial beside the champion.
        report
            The gate's; kept with the snapshot. Its ``reason`` is that of the trial.
        created_by
            Name of the job or person.
        expected_champion
            Version of the champion that it was compared with before it was to be one, or to be tried; None: there was none.
        plan
            Of the trial; with a champion it starts a hold-back against the one before, where there is one.
        supersedes
            Id of the running trial that a new one may end; None where none ran.

        Returns
        -------
        Snapshot
            The same with its version.

        Raises
        ------
        SnapshotCorrupt
            Where ``meta`` cannot be written as JSON.
        ChampionChanged
            Where it was to be champion or on trial, and another champion serves than expected or another trial runs than
            the new one may end; nothing is written.
        """
        try:
            json.dumps(snapshot.meta, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise SnapshotCorrupt(f"the snapshot's meta cannot be kept as JSON: {error}") from error
        tensors = pack(snapshot.tensors)
        heads = [(head.task, head.model, pack(head.tensors)) for head in snapshot.heads]
        now = self._clock()
        with self._database.session(lock="snapshots") as session:
            parent = session.scalar(_CHAMPION)
            if status in ("champion", "trial") and expected_champion not in ("any", parent):
                raise ChampionChanged(f"the champion is snapshot {parent}, no longer {expected_champion}")
            running = running_trial(session)
            if status == "trial" and running is not None and running.id != supersedes:
                raise ChampionChanged(f"trial {running.id} was started meanwhile, of snapshot {running.challenger}")
            row = SnapshotTable(
                status=status if status == "rejected" else "challenger",
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
            reason = str(report.get("reason", ""))
            if status == "champion":
                _set_champion(session, published, _published_by(created_by), now)
                if plan is not None and parent is not None:
                    new, old = row.version, parent
                    start_trial(session, "hold-back", champion=new, challenger=old, plan=plan, reason=reason, now=now)
            elif status == "trial":
                assert plan is not None and parent is not None, "a trial needs a plan, and a champion beside it"
                if running is not None:
                    instead = f"ended: snapshot {row.version}, which knows more, is tried instead"
                    close_trial(session, running, "ended", instead, now)
                row.status = "trial"
                start_trial(
                    session, "trial", champion=parent, challenger=row.version, plan=plan, reason=reason, now=now
                )
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
            return load_snapshot(session, version)

    def list(self) -> list[SnapshotRow]:
        """Every snapshot, newest first."""
        columns = [getattr(SnapshotTable, name) for name in SnapshotRow.__dataclass_fields__]
        with self._database.session() as session:
            rows = session.execute(select(*columns).order_by(SnapshotTable.version.desc())).all()
        return [SnapshotRow(**row._mapping) for row in rows]

    def promote(self, version: int, reason: str) -> None:
        """Make any snapshot the champion, also the champion itself, and end the running trial; replicas follow within a second.

        Raises
        ------
        InvalidInput, SnapshotCorrupt
            As `load`; the champion then stays.
        """
        with self._database.session(lock="snapshots") as session:
            snapshot = load_snapshot(session, version)
            if session.scalar(_CHAMPION) != version:
                _set_champion(session, snapshot, reason, self._clock())
            elif (running := running_trial(session)) is not None:
                close_trial(
                    session,
                    running,
                    "ended",
                    f"ended: snapshot {version} is to stay champion ({reason})",
                    self._clock(),
                )
            session.commit()

    def rollback(self, reason: str) -> int:
        """Make the last champion before this one the champion again, and return its version.

        Snapshots that a hold-back rolled back are passed over.

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
            _set_champion(session, load_snapshot(session, version), reason, self._clock())
            session.commit()
        return version

    def settle(
        self, trial: int, state: Settled, reason: str, report: Mapping[str, Any], plan: TrialPlan | None = None
    ) -> bool:
        """End a running trial, with its last figures; ``promoted`` makes its challenger the champion.

        A champion that its hold-back found worse keeps ``reason`` and ``report`` under `DEMOTED`. A challenger that won its
        trial is held back against the champion before by ``plan``; None: it is not.

        Returns
        -------
        bool
            False, and no change, where the trial has ended.

        Raises
        ------
        InvalidInput, SnapshotCorrupt
            As `load` of the challenger that is promoted; the champion then stays, and the trial runs on.
        """
        with self._database.session(lock="snapshots") as session:
            row = running_trial(session)
            if row is None or row.id != trial:
                return False
            row.report = dict(report)
            if state == "promoted":
                now = self._clock()
                _set_champion(session, load_snapshot(session, row.challenger), reason, now)
                if row.kind == "trial" and plan is not None:
                    new, old = row.challenger, row.champion
                    start_trial(session, "hold-back", champion=new, challenger=old, plan=plan, reason=reason, now=now)
                elif row.kind == "hold-back":
                    why = {"reason": reason, "successor": row.challenger, "trial": trial}
                    _keep_why_demoted(session, row.champion, why | {"live": dict(report)})
            else:
                close_trial(session, row, state, reason, self._clock())
            session.commit()
        return True

    def end_trial(self, reason: str) -> int:
        """End the running trial by hand, and return its id; a challenger on trial is then rejected.

        Raises
        ------
        InvalidInput
            Where no trial runs.
        """
        with self._database.session(lock="snapshots") as session:
            row = running_trial(session)
            if row is None:
                raise InvalidInput("no trial runs; `thalweg snapshots list` shows the past ones", param="trial")
            close_trial(session, row, "ended", reason, self._clock())
            session.commit()
            return row.id


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
    """End the running trial, retire the champion, then promote: in this order, as the index allows one champion at a time."""
    trial = running_trial(session)
    if trial is not None and trial.challenger == snapshot.version:
        close_trial(session, trial, "promoted", reason, now)
    elif trial is not None:
        close_trial(session, trial, "ended", f"ended: snapshot {snapshot.version} was made champion ({reason})", now)
    session.execute(update(SnapshotTable).where(SnapshotTable.status == "champion").values(status="retired"))
    session.execute(
        update(SnapshotTable)
        .where(SnapshotTable.version == snapshot.version)
        .values(status="champion", promoted_at=now, reason=reason)
    )
    update_tasks(session, snapshot, now)


def _keep_why_demoted(session: Session, version: int, report: Mapping[str, Any]) -> None:
    row = session.get_one(SnapshotTable, version)
    row.report = {**row.report, DEMOTED: dict(report)}
