"""Automatic rollback: a champion that feedback proves worse than the snapshot before it gives its place back."""

from __future__ import annotations

import logging
from dataclasses import asdict
from typing import Any

from agent.evaluation.logged import logged_decisions
from agent.evaluation.monitor import LiveComparison, MonitorConfig, compare_live
from agent.feedback.state import learn_one
from store.feedback import FeedbackLog
from store.snapshots import SnapshotRow, SnapshotStore

EVERY = 20
"""Fewest new rows of feedback between two looks at a champion; a twentieth of what it has had, where that is more."""

_log = logging.getLogger("thalweg.jobs")


class Watch:
    """Holds the champion to what the gate promised of it, see `agent.evaluation.monitor`.

    A look is a function of the store alone, so it does not matter who looks, or how often: of several timetables one
    deposes the champion, and the others find that it is done.

    Parameters
    ----------
    snapshots, feedback
        Of one database.
    config
        See `MonitorConfig`.
    """

    def __init__(
        self,
        snapshots: SnapshotStore,
        feedback: FeedbackLog,
        config: MonitorConfig = MonitorConfig(),
    ) -> None:
        self._snapshots = snapshots
        self._feedback = feedback
        self._config = config
        self._next = (0, 0)  # which champion to look at again, and from which head of the log on

    def look(self) -> int | None:
        """Look at the champion where enough has been said since the last look; the version that serves instead, if any.

        Raises
        ------
        SnapshotCorrupt
            Where one of the two snapshots cannot be read; the next look waits for new feedback.
        """
        version, head = self._snapshots.champion_version(), self._feedback.head()
        if version is None or (version == self._next[0] and head < self._next[1]):
            return None
        rows = {row.version: row for row in self._snapshots.list()}
        champion = rows[version]
        before = rows.get(champion.parent or 0)
        said = head - champion.position
        self._next = version, head + max(EVERY, said // 20)
        if not on_probation(champion) or before is None or before.encoder != champion.encoder:
            return None
        if not self._config.least <= said <= self._config.most:
            return None
        found = self._judge(champion, before, head)
        if found.worse and self._demote(champion, before, found):
            return before.version
        return None

    def _judge(self, champion: SnapshotRow, before: SnapshotRow, head: int) -> LiveComparison:
        """How the champion does on all that was said since it was trained.

        Words are worth what was known of their sources and raters when it was trained: a ledger that went on would
        calibrate them by what this champion's decisions expect, which is in question.
        """
        snapshot = self._snapshots.load(champion.version)
        rows = self._feedback.between(champion.position, head)
        decided = logged_decisions(rows, learn_one(snapshot, ()).ledger, champion.encoder).explored()
        first = decided.first > champion.position  # what was revised only may have been trained on
        return compare_live(snapshot, self._snapshots.load(before.version), decided.take(first), self._config)

    def _demote(self, champion: SnapshotRow, before: SnapshotRow, found: LiveComparison) -> bool:
        reason = (
            f"rolled back by itself: snapshot {champion.version} is worse live by {-found.mean:.4f} +- {found.stderr:.4f}, "
            f"at least {-found.upper:.4f} with {1 - self._config.alpha:.0%} confidence, over {found.decisions} decisions"
        )
        report = {"reason": reason, "successor": before.version, "live": asdict(found), "promised": promised(champion)}
        done = self._snapshots.demote(champion.version, before.version, reason, report)
        if done:
            _log.warning(reason)
        return done


def on_probation(row: SnapshotRow) -> bool:
    """Whether a champion was promoted by a refresh, not by hand and not by a rollback."""
    return row.created_by == "refresh" and row.uncontradicted


def promised(row: SnapshotRow) -> dict[str, Any]:
    """What the gate said when it promoted a snapshot: the difference that it expected, where its report holds one."""
    gate = row.report.get("gate") or {}
    return {"reason": row.report.get("reason"), "pooled": gate.get("pooled")}
