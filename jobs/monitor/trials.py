"""The judge of the running trial: it promotes, rejects or lets go the challenger, by the method of `agent.evaluation.trial`.

A hold-back is judged alike: its challenger is the champion's predecessor, so that promoting it demotes the champion.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from agent.errors import SnapshotCorrupt
from agent.evaluation.trial import TrialReport, TrialVerdict, judge_trial, trial_evidence
from agent.feedback.ledger import Ledger
from agent.feedback.state import feedback_state
from store.columns import utc_now
from store.feedback import FeedbackLog
from store.snapshots import SnapshotStore
from store.trials import Settled, TrialPlan, TrialRow, TrialStore

MIN_NEW_FEEDBACK = 20
"""Fewest new feedback rows between two looks at a trial; a twentieth of those since its start, where that is more."""

LOOK_S = 60.0
"""Longest time between two looks: a trial's bounds on decisions and regret hold without feedback too."""

STATES: Mapping[TrialVerdict, Settled] = {"promote": "promoted", "reject": "rejected", "end": "let go"}

_log = logging.getLogger("thalweg.jobs")


class TrialMonitor:
    """Looks at the running trial, keeps its figures, and ends it when its judge says so.

    A look depends on the store alone, so several schedulers may do it: one of them ends the trial, the others find it done.

    Parameters
    ----------
    snapshots, trials, feedback
        Of one database.
    hold_back
        Plan of the hold-back of a challenger that wins its trial; None: it is not held back.
    """

    def __init__(
        self,
        snapshots: SnapshotStore,
        trials: TrialStore,
        feedback: FeedbackLog,
        hold_back: TrialPlan | None = None,
    ) -> None:
        self._snapshots = snapshots
        self._trials = trials
        self._feedback = feedback
        self._hold_back = hold_back
        self._next = 0, 0, datetime.min.replace(tzinfo=UTC)  # (trial, head of the log, time) from which it looks again
        self._ledger: tuple[int, Ledger] | None = None  # of a trial

    def check(self, now: datetime | None = None) -> int | None:
        """Look, if there is reason to; returns the version that was promoted, if any.

        Parameters
        ----------
        now
            The time, with a time zone; the clock's where None.
        """
        now = now or utc_now()
        trial = self._trials.running()
        if trial is None:
            return None
        head, overdue = self._feedback.head(), now >= trial.ends_at
        known, at_head, at = self._next
        if known == trial.id and not overdue and head < at_head and now < at:
            return None
        more = max(MIN_NEW_FEEDBACK, (head - trial.position) // 20)
        self._next = trial.id, head + more, now + timedelta(seconds=LOOK_S)
        try:
            return self._look(trial, head, overdue=overdue)
        except SnapshotCorrupt as error:
            if self._snapshots.settle(trial.id, "ended", f"ended: {error.message}", trial.report):
                _log.error("trial %d has ended: %s", trial.id, error.message)
            return None

    def _look(self, trial: TrialRow, head: int, *, overdue: bool) -> int | None:
        totals = self._trials.totals(trial.id)
        evidence = trial_evidence(
            self._feedback.between(trial.position, head, trial=trial.id),
            trial.id,
            self._ledger_of(trial),
            decisions=totals.decisions,
            expected_regret=totals.expected_regret,
        )
        report = judge_trial(trial.kind, evidence, trial.plan.config, last=overdue)
        if report.verdict == "continue":
            self._trials.keep_figures(trial.id, asdict(report))
            return None
        state = STATES[report.verdict]
        reason = _reason(trial, report)
        if not self._snapshots.settle(trial.id, state, reason, asdict(report), self._hold_back):
            return None
        _log.warning("trial %d: snapshot %d beside champion %d: %s", trial.id, trial.challenger, trial.champion, reason)
        return trial.challenger if state == "promoted" else None

    def _ledger_of(self, trial: TrialRow) -> Ledger:
        """The ledger as it was when the trial began: a later one is calibrated by what the champion expects."""
        if self._ledger is None or self._ledger[0] != trial.id:
            self._ledger = trial.id, feedback_state(self._snapshots.load(trial.tried), ()).ledger
        return self._ledger[1]


def _reason(trial: TrialRow, report: TrialReport) -> str:
    """The judge's, with the snapshots."""
    if trial.kind == "hold-back":
        return f"{report.reason}; hold-back of snapshot {trial.champion} against snapshot {trial.challenger}"
    return f"{report.reason}; trial of snapshot {trial.challenger} beside snapshot {trial.champion}"
