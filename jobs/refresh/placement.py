"""What becomes of a challenger by the gate's outcome: champion, with a hold-back; on trial; rejected.

Also a champion that held-out evidence proved better is held back: the evidence may be unlike the traffic.

Of challengers beside one champion only those that outgrow the ones tried before are tried, and one that is on trial is
replaced only by one that outgrows it: two snapshots trained on nearly the same scores are nearly the same, and each further
trial of them would be another chance to promote by luck, while ending a trial early throws its evidence away.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from agent.evaluation.challenger import outgrows
from agent.evaluation.gate import GateReport
from agent.snapshot import Snapshot
from jobs.settings import JobSettings
from store.database import Database
from store.snapshots import SnapshotStore
from store.trials import TrialPlan, TrialRow, TrialStore


@dataclass(frozen=True, slots=True)
class Tried:
    """What was or is tried beside a champion.

    Parameters
    ----------
    version, most_scored
        The challenger that was trained on most scored prompts, and their number; None and 0 where none was tried.
    trial
        The trial that runs, which may be a hold-back.
    """

    version: int | None = None
    most_scored: int = 0
    trial: TrialRow | None = None

    @property
    def running(self) -> int | None:
        """Id of the trial that a new challenger may end: not a hold-back."""
        return self.trial.id if self.trial is not None and self.trial.kind == "trial" else None


def tried_beside(database: Database, champion: int | None) -> Tried:
    """Read what was or is tried beside ``champion``."""
    if champion is None:
        return Tried()
    trials = TrialStore(database)
    challengers = {trial.challenger for trial in trials.beside(champion)}
    scored = {
        row.version: int(row.report.get("n_scored", 0))
        for row in SnapshotStore(database).list()
        if row.version in challengers
    }
    running = trials.running()
    if not scored:
        return Tried(trial=running)
    largest = max(scored, key=lambda version: (scored[version], version))
    return Tried(largest, scored[largest], running)


@dataclass(frozen=True, slots=True)
class Placement:
    """What a challenger is published as, and why; ``plan`` is that of its trial or hold-back."""

    status: Literal["champion", "trial", "rejected"]
    reason: str
    plan: TrialPlan | None = None


def placement(
    verdict: GateReport, n_scored: int, champion: Snapshot | None, tried: Tried, settings: JobSettings
) -> Placement:
    """Decide by the gate's ``verdict`` on a challenger that was trained on ``n_scored`` prompts with scores.

    Parameters
    ----------
    champion
        The snapshot that it was compared with; None where there was none that reads the same embeddings.
    tried
        Beside that champion.
    settings
        Plans of trials and hold-backs.
    """
    if verdict.outcome == "reject":
        return Placement("rejected", verdict.reason)
    if verdict.outcome == "promote":
        plan = settings.hold_back_plan
        if plan is None or champion is None:
            return Placement("champion", verdict.reason)
        return Placement("champion", f"{verdict.reason}; kept on hold-back against snapshot {champion.version}", plan)
    plan, why_not = settings.trial_plan, ""
    if plan is None:
        why_not = "trials are switched off by THALWEG_TRIAL_SHARE"
    elif tried.trial is not None and tried.trial.kind == "hold-back":
        why_not = f"the champion is itself tried, on hold-back against snapshot {tried.trial.challenger}"
    elif tried.version is not None and not outgrows(n_scored, tried.most_scored):
        now = "is on trial" if tried.running is not None else "was tried"
        why_not = (
            f"snapshot {tried.version} {now}, trained on {tried.most_scored:,} scored prompts, and this one knows only "
            f"{n_scored:,}"
        )
    if why_not:
        return Placement("rejected", f"rejected, not tried: {why_not}; {verdict.reason.removeprefix('on trial: ')}")
    return Placement("trial", verdict.reason, plan)
