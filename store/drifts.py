"""Silent changes of models (drifts): every replica detects them in the feedback log, and the store keeps each once.

Replicas of one snapshot detect a change at the same row of the log. Another snapshot, with other estimates of the model,
may detect it some rows away; therefore a drift that overlaps a stored one of the same model counts as that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from sqlalchemy import Select, insert, select

from agent.observations import Drift
from store.columns import Clock, utc_now
from store.database import Database
from store.prompts import table
from store.tables import DriftTable

MAX_DRIFTS = 1000
"""The latest silent changes of models that training takes into account."""


@dataclass(frozen=True, slots=True)
class FoundDrift:
    """A drift, the snapshot whose estimates it contradicts, and when the first replica detected it."""

    drift: Drift
    snapshot: int
    detected_at: datetime

    @property
    def why(self) -> str:
        """The change in a sentence."""
        verb = "fell" if self.drift.shift < 0 else "rose"
        return (
            f"{self.drift.model} {verb} by {abs(self.drift.shift):.2f} against what snapshot {self.snapshot} expected, "
            f"from feedback row {self.drift.since} on"
        )


class DriftStore:
    """Records drifts and lists them."""

    def __init__(self, database: Database, clock: Clock = utc_now) -> None:
        self._database = database
        self._clock = clock

    def record(self, snapshot: int, drifts: Sequence[Drift]) -> list[Drift]:
        """Store the drifts that are not stored yet, and return those."""
        now = self._clock()
        with self._database.session(lock="drifts") as session:
            new = [drift for drift in drifts if session.execute(_same(drift)).first() is None]
            if new:
                rows = [asdict(drift) | {"snapshot": snapshot, "detected_at": now} for drift in new]
                session.connection().execute(insert(table(DriftTable)), rows)
            session.commit()
        return new

    def list(self, *, after: int = 0, limit: int = 100) -> list[FoundDrift]:
        """The latest ``limit`` drifts detected after a position of the log, newest first."""
        newest = select(DriftTable).order_by(DriftTable.position.desc(), DriftTable.model).limit(limit)
        with self._database.session() as session:
            return [
                FoundDrift(
                    Drift(row.model, row.position, row.since, row.shift, row.detector), row.snapshot, row.detected_at
                )
                for row in session.scalars(newest.where(DriftTable.position > after))
            ]

    def latest(self, *, after: int) -> dict[str, FoundDrift]:
        """model -> its last drift detected after a position of the log."""
        return {found.drift.model: found for found in reversed(self.list(after=after))}


def _same(drift: Drift) -> Select[int]:
    """The stored drifts of its model that overlap ``drift``."""
    of = table(DriftTable).c
    return select(of.position).where(of.model == drift.model, of.since <= drift.position, of.position >= drift.since)
