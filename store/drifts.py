"""Silent changes of models (drifts): every replica detects them in the logs, and the store keeps each once.

*Of quality*, in the feedback log: replicas of one snapshot detect a change at the same row. Another snapshot, with other
estimates of the model, may detect it some rows away; therefore a drift that overlaps a stored one of the same model counts as
that one.

*Of calls*, in the outcome log: replicas that know the same last change of a stream hold the same rows of it, and detect the
next one at the same row. One that has not yet read of the last change (it was starting meanwhile) may detect it some rows away;
therefore a drift is stored only where none of its stream is that its replica did not know of. All follow `DriftStore.changes`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Select, func, insert, select
from sqlalchemy.orm import Session

from agent.observations import CALL_KINDS, CallDrift, Drift, DriftKind
from store.columns import Clock, literal, utc_now
from store.database import Database
from store.prompts import table
from store.tables import DriftTable

MAX_DRIFTS = 1000
"""The latest silent changes of models that training takes into account."""


@dataclass(frozen=True, slots=True)
class FoundDrift:
    """A drift, the snapshot whose estimates it contradicts (of quality only), and when the first replica detected it."""

    drift: Drift
    snapshot: int | None
    detected_at: datetime

    @property
    def why(self) -> str:
        """The change in a sentence."""
        drift, verb = self.drift, "fell" if self.drift.shift < 0 else "rose"
        if drift.kind == "quality":
            return (
                f"{drift.model} {verb} by {abs(drift.shift):.2f} against what snapshot {self.snapshot} expected, "
                f"from feedback row {drift.since} on"
            )
        times = f"{math.exp(drift.shift):.2f} times"
        what = {
            "tokens": f"answers of {drift.model} are {times} as long as before",
            "latency": f"answers of {drift.model} take {times} as long as before",
            "failures": f"the share of calls of {drift.model} that fail {verb} by {abs(drift.shift):.2f}",
        }
        return f"{what[drift.kind]}, from outcome row {drift.since} on"


class DriftStore:
    """Records drifts and lists them."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def record(self, snapshot: int, drifts: Sequence[Drift]) -> list[Drift]:
        """Store the drifts of quality that are not stored yet, and return those."""
        with self._database.session(lock="drifts") as session:
            new = [drift for drift in drifts if session.execute(_same(drift)).first() is None]
            self._add(session, new, snapshot)
            session.commit()
        return new

    def record_calls(self, found: Sequence[CallDrift]) -> list[Drift]:
        """Store the drifts of calls that follow the last stored one of their stream, and return those."""
        new = []
        with self._database.session(lock="drifts") as session:
            for drift, last in found:
                of = table(DriftTable).c
                unknown = (of.since > last) | (of.position >= drift.position)
                later = select(of.position).where(of.model == drift.model, of.kind == drift.kind, unknown)
                if session.execute(later).first() is None:
                    self._add(session, [drift], None)
                    new.append(drift)
            session.commit()
        return new

    def _add(self, session: Session, drifts: Sequence[Drift], snapshot: int | None) -> None:
        if drifts:
            more = {"snapshot": snapshot, "detected_at": self._clock()}
            rows = [asdict(drift) | more for drift in drifts]
            session.connection().execute(insert(table(DriftTable)), rows)

    def list(
        self, *, kinds: Collection[DriftKind] = ("quality", *CALL_KINDS), after: int = 0, limit: int = 100
    ) -> list[FoundDrift]:
        """The latest ``limit`` drifts of ``kinds`` detected after a position of their log, newest first."""
        of = DriftTable
        newest = select(of).where(of.kind.in_(kinds), of.position > after)
        with self._database.session() as session:
            return [
                FoundDrift(
                    Drift(row.model, row.position, row.since, row.shift, row.detector, literal(row.kind)),
                    row.snapshot,
                    row.detected_at,
                )
                for row in session.scalars(
                    newest.order_by(of.detected_at.desc(), of.position.desc(), of.model).limit(limit)
                )
            ]

    def latest(self, *, after: int) -> dict[str, FoundDrift]:
        """model -> its last drift of quality detected after a position of the feedback log."""
        return {found.drift.model: found for found in reversed(self.list(kinds=["quality"], after=after))}

    def changes(self) -> dict[tuple[str, DriftKind], int]:
        """Position of the first row of the outcome log after the last change of each model's calls, by model and kind."""
        of = table(DriftTable).c
        query = select(of.model, of.kind, func.max(of.since)).where(of.kind != "quality").group_by(of.model, of.kind)
        with self._database.session() as session:
            return {(model, literal(kind)): since for model, kind, since in session.execute(query)}


def _same(drift: Drift) -> Select[int]:
    """The stored drifts of its model's quality that overlap ``drift``."""
    of = table(DriftTable).c
    return select(of.position).where(
        of.model == drift.model, of.kind == drift.kind, of.since <= drift.position, of.position >= drift.since
    )
