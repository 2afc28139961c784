"""What becomes of a challenger by the gate's outcome, and beside what was tried before."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.evaluation.gate import GateReport, Outcome, judge
from agent.evaluation.off_policy import Value
from agent.trial import TrialKind
from jobs.refresh.placement import Tried, placement
from jobs.settings import JobSettings
from store.trials import TrialPlan, TrialRow
from tests.store.build import a_snapshot

SETTINGS = JobSettings()
CHAMPION = replace(a_snapshot(), version=4)


def verdict(outcome: Outcome) -> GateReport:
    reasons = {"promote": "promoted: so", "trial": "on trial: undecided", "reject": "rejected: worse"}
    return GateReport(outcome, reasons[outcome], None, None, Value(0.0, 0.01, 90))


def running(kind: TrialKind) -> TrialRow:
    plan = SETTINGS.trial_plan
    assert plan is not None
    return TrialRow(9, kind, 4, 3, "running", plan, 0, datetime.now(UTC), None, "", {})


@pytest.mark.parametrize(
    ("found", "tried", "settings", "status", "plan", "reason"),
    [
        (verdict("reject"), Tried(), SETTINGS, "rejected", None, "rejected: worse"),
        (
            verdict("promote"), Tried(), SETTINGS, "champion", SETTINGS.hold_back_plan,
            "promoted: so; kept on hold-back against snapshot 4",
        ),
        (
            verdict("promote"), Tried(), SETTINGS.model_copy(update={"hold_back_share": 0.0}), "champion", None,
            "promoted: so",
        ),
        (verdict("trial"), Tried(), SETTINGS, "trial", SETTINGS.trial_plan, "on trial: undecided"),
        (
            verdict("trial"), Tried(), SETTINGS.model_copy(update={"trial_share": 0.0}), "rejected", None,
            "rejected, not tried: trials are switched off by THALWEG_TRIAL_SHARE; undecided",
        ),
        (
            verdict("trial"), Tried(trial=running("hold-back")), SETTINGS, "rejected", None,
            "rejected, not tried: the champion is itself tried, on hold-back against snapshot 3; undecided",
        ),
        (
            verdict("trial"), Tried(6, 700, running("trial")), SETTINGS, "rejected", None,
            "rejected, not tried: snapshot 6 is on trial, trained on 700 scored prompts, and this one knows only 1,000; "
            "undecided",
        ),
        (
            verdict("trial"), Tried(6, 700), SETTINGS, "rejected", None,
            "rejected, not tried: snapshot 6 was tried, trained on 700 scored prompts, and this one knows only 1,000; "
            "undecided",
        ),
        (verdict("trial"), Tried(6, 600, running("trial")), SETTINGS, "trial", SETTINGS.trial_plan, "on trial: undecided"),
    ],
)  # fmt: skip
def test_placement(
    found: GateReport, tried: Tried, settings: JobSettings, status: str, plan: TrialPlan | None, reason: str
) -> None:
    place = placement(found, 1000, CHAMPION, tried, settings)
    assert (place.status, place.plan, place.reason) == (status, plan, reason)


def test_without_a_champion_to_compare_with_there_is_no_hold_back() -> None:
    assert placement(verdict("promote"), 1000, None, Tried(), SETTINGS).plan is None


def test_a_promotion_is_held_back_whatever_evidence_it_has() -> None:
    better = judge(Value(0.1, 0.01, 900), None)
    outgrown = replace(verdict("promote"), pooled=None)
    for found in (better, outgrown):
        assert placement(found, 1000, CHAMPION, Tried(), SETTINGS).plan == SETTINGS.hold_back_plan


def test_only_a_trial_is_superseded_no_hold_back() -> None:
    assert Tried(trial=running("hold-back")).running is None and Tried(trial=running("trial")).running == 9
