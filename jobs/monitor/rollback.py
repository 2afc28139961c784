"""Automatic rollback: a champion that live feedback proves worse than its predecessor is demoted, its predecessor promoted."""

from __future__ import annotations

import logging
from dataclasses import asdict

from agent.evaluation.logged import logged_decisions
from agent.evaluation.monitor import LiveComparison, MonitorConfig, compare_live
from agent.feedback.state import feedback_state
from store.feedback import FeedbackLog
from store.snapshots import SnapshotRow, SnapshotStore
from store.trials import TrialStore

MIN_NEW_FEEDBACK = 20
"""Fewest new feedback rows between two checks of a champion; a twentieth of those since its training, where that is more."""

_log = logging.getLogger("thalweg.jobs")


class ChampionMonitor:
    """Compares a champion that a refresh promoted with its predecessor, by the method of `agent.evaluation.monitor`.

    A check depends on the store alone, so several schedulers may run it: one of them demotes the champion, the others
    find it done.

    Parameters
    ----------
    snapshots, feedback, trials
        Of one database. While a trial runs, `jobs.monitor.trials` judges the champion, by better evidence.
    config
        Confidence, and between how many feedback rows a champion is monitored.
    """

    def __init__(
        self,
        snapshots: SnapshotStore,
        feedback: FeedbackLog,
        trials: TrialStore,
        config: MonitorConfig = MonitorConfig(),
    ) -> None:
        self._snapshots = snapshots
        self._feedback = feedback
        self._trials = trials
        self._config = config
        self._next_check = (0, 0)  # (champion, head of the log from which it is checked again)

    def check(self) -> int | None:
        """Compare, if there is enough feedback since the last check; returns the version that was promoted, if any.

        Raises
        ------
        SnapshotCorrupt
            Where one of the two snapshots cannot be read; the next check waits for new feedback.
        """
        version, head = self._snapshots.champion_version(), self._feedback.head()
        if version is None or (version == self._next_check[0] and head < self._next_check[1]):
            return None
        rows = {row.version: row for row in self._snapshots.list()}
        champion = rows[version]
        successor = rows.get(champion.parent or 0)
        n_feedback = head - champion.position
        self._next_check = version, head + max(MIN_NEW_FEEDBACK, n_feedback // 20)
        if champion.created_by != "refresh" or not champion.champion_since_published:
            return None  # promoted by hand, or by a rollback
        if successor is None or successor.encoder != champion.encoder or self._trials.running() is not None:
            return None
        if not self._config.least <= n_feedback <= self._config.most:
            return None
        found = self._compare(champion, successor, head)
        if found.worse and self._demote(champion, successor, found):
            return successor.version
        return None

    def _compare(self, champion: SnapshotRow, successor: SnapshotRow, head: int) -> LiveComparison:
        """The two snapshots on the feedback since the champion's training.

        Scores are calibrated by the ledger as it was at training: a later one is calibrated by what this champion's
        decisions expect, which is in question.
        """
        snapshot = self._snapshots.load(champion.version)
        rows = self._feedback.between(champion.position, head)
        decisions = logged_decisions(rows, feedback_state(snapshot, ()).ledger, champion.encoder).explored()
        unseen = decisions.first_position > champion.position  # only a revision: maybe trained on
        return compare_live(snapshot, self._snapshots.load(successor.version), decisions.take(unseen), self._config)

    def _demote(self, champion: SnapshotRow, successor: SnapshotRow, found: LiveComparison) -> bool:
        reason = (
            f"rolled back automatically: snapshot {champion.version} is worse live by {-found.mean:.4f} "
            f"+- {found.stderr:.4f}, at least {-found.upper:.4f} with {1 - self._config.alpha:.0%} confidence, "
            f"over {found.decisions} decisions"
        )
        gate = {"reason": champion.report.get("reason"), "pooled": (champion.report.get("gate") or {}).get("pooled")}
        report = {"reason": reason, "successor": successor.version, "live": asdict(found), "promised": gate}
        done = self._snapshots.demote(champion.version, successor.version, reason, report)
        if done:
            _log.warning(reason)
        return done
