"""The timetable requests an early refresh by `refresh_reason`: growth, silent changes, newcomers, clustered outliers."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from agent.observations import Drift
from agent.types import UNKNOWN_TASK, Candidate, Decision, Encoded, TaskAssignment
from jobs.schedule.timetable import Timetable
from store.database import Database
from store.decisions import DecisionLog, DecisionRecord
from store.drifts import DriftStore
from store.feedback import FeedbackEvent, FeedbackLog
from store.runs import JobRuns
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter
from tests.jobs.conftest import MakeTimetable
from tests.store.build import a_snapshot


class Server:
    """Writes what a server writes: a champion trained on ``n_scored`` prompts, decisions, feedback, drifts."""

    def __init__(self, database: Database, timetable: Timetable, writer: GroupCommitter, n_scored: int) -> None:
        self._snapshots = SnapshotStore(database)
        self._decisions = DecisionLog(database, writer)
        self._feedback = FeedbackLog(database, writer)
        self._drifts = DriftStore(database)
        self._count = 0
        self.runs = JobRuns(database)
        self.timetable = timetable
        self.set_champion(n_scored)

    def set_champion(self, n_scored: int) -> None:
        """A new champion, trained on the whole log."""
        made = a_snapshot()
        made = replace(made, meta={**made.meta, "n_scored": n_scored}, position=self._feedback.head())
        self.champion = self._snapshots.publish(made, status="champion", report={}, created_by="tests").version

    def serve(
        self,
        count: int,
        *,
        model: str = "a",
        task: int = 0,
        axis: int = 0,
        scored: bool = True,
        other: str | None = None,
        prompt: str | None = None,
    ) -> None:
        """Route ``count`` prompts around one ``axis``, different ones unless ``prompt`` is given, each with feedback."""
        rng = np.random.default_rng(self._count)
        done = []
        for i in range(self._count, self._count + count):
            vector = np.eye(32)[axis] + 0.1 * rng.standard_normal(32)
            encoded = Encoded((vector / np.linalg.norm(vector)).astype(np.float32), np.zeros(3, np.float32), 3)
            ranked = tuple(Candidate(name, 0.5, 0.1, 0.0, 0.5, 0.5) for name in ("a", "b", "new"))
            decision = Decision(
                model, ranked, TaskAssignment(task, "t", 1.0), (), self.champion, 0, encoded, False, "why"
            )
            record = DecisionRecord(
                id=f"d{i}", created_at=datetime.now(UTC), decision=decision, encoder="e", prompt=prompt
            )
            done.append(self._decisions.append(record))
        for future in done:
            future.result()
        if scored:
            events = [FeedbackEvent(f"d{i}", 1.0, "user", other=other) for i in range(self._count, self._count + count)]
            self._feedback.append(events).result()
        self._count += count

    def find(self, drift: Drift) -> None:
        """Record a drift, as a replica does."""
        self._drifts.record(self.champion, [drift])

    def why(self) -> str | None:
        """The reason with which the timetable requests a refresh now; None where it does not."""
        before = len(self.runs.list())
        self.timetable.request_early()
        runs = self.runs.list()
        return None if len(runs) == before else str(runs[0].params["why"])

    def refreshed(self, *, promoted: bool, n_scored: int = 0) -> None:
        """Finish the requested refresh, on all feedback so far, which makes ``n_scored`` prompts."""
        run = self.runs.claim(["refresh"], "tests")
        assert run is not None
        self.runs.finish(run.id, {"position": self._feedback.head(), "promoted": promoted, "n_scored": n_scored})
        if promoted:
            self.set_champion(9000)


@pytest.fixture
def server(database: Database, writer: GroupCommitter, make_timetable: MakeTimetable) -> Server:
    """A champion that was trained on 9,000 scored prompts."""
    return Server(database, make_timetable(database, refresh_cooldown_s=0), writer, n_scored=9000)


def test_feedback_that_adds_half_to_what_was_known_calls_a_refresh(server: Server) -> None:
    server.set_champion(80)
    server.serve(39)
    assert server.why() is None
    server.serve(1)
    assert server.why() == "40 new feedback rows, beside 80 scored prompts known before"


def test_a_refresh_in_vain_counts_as_known_too(server: Server) -> None:
    server.set_champion(80)
    server.serve(40)
    assert server.why() is not None
    server.refreshed(promoted=False, n_scored=120)
    server.serve(59)
    assert server.why() is None
    server.serve(1)
    assert server.why() == "60 new feedback rows, beside 120 scored prompts known before"


def test_growth_and_the_fewest_rows_are_settings(
    database: Database, server: Server, make_timetable: MakeTimetable
) -> None:
    server.serve(60)
    assert server.why() is None
    make_timetable(database, refresh_growth=0.006, refresh_min_feedback=61).request_early()
    assert server.runs.list() == []
    make_timetable(database, refresh_growth=0.006).request_early()
    assert [run.params["why"] for run in server.runs.list()] == [
        "60 new feedback rows, beside 9,000 scored prompts known before"
    ]


def test_a_newcomer_calls_a_refresh_and_after_one_in_vain_when_its_scores_have_grown(server: Server) -> None:
    server.serve(39, model="new")
    assert server.why() is None
    server.serve(1, model="new")
    assert server.why() == "new is new, and 40 scores tell what it can do"
    server.refreshed(promoted=False)
    server.serve(40, model="new")
    assert server.why() is not None, "40 more"
    server.refreshed(promoted=False)
    server.serve(60, model="new")
    assert server.why() is not None
    server.refreshed(promoted=False)
    server.serve(69, model="new")
    assert server.why() is None, "half of 140 is 70"
    server.serve(1, model="new")
    assert server.why() == "new is new, and 70 scores tell what it can do"


@pytest.mark.parametrize("promoted", [True, False])
def test_a_drift_calls_one_refresh_once_there_are_scores_from_after_it(server: Server, promoted: bool) -> None:
    server.serve(20)
    server.serve(15, model="b")
    server.serve(10)
    server.serve(10, other="b")  # comparisons are no scores
    server.find(Drift("a", position=40, since=11, shift=-0.4, detector="scan"))
    server.serve(19)
    assert server.why() is None, "39 scores of a from row 11 on"
    server.serve(1)
    assert server.why() == "a has changed, and 40 scores tell how"
    server.refreshed(promoted=promoted)
    server.serve(50)
    assert server.why() is None, "that drift has been read"
    server.find(Drift("a", position=90, since=80, shift=0.4, detector="scan"))
    assert server.why() == "a has changed, and 46 scores tell how"


def test_clustered_outliers_call_one_refresh(server: Server) -> None:
    server.serve(50)
    server.serve(29, task=UNKNOWN_TASK, axis=3)
    assert server.why() is None
    server.serve(1, task=UNKNOWN_TASK, axis=3)
    assert server.why() == "30 of the latest 80 prompts lie close together, far from every task"
    server.refreshed(promoted=False)
    assert server.why() is None, "the refresh has read them"
    server.serve(30, task=UNKNOWN_TASK, axis=3)
    assert server.why() == "30 of the latest 30 prompts lie close together, far from every task"
    server.refreshed(promoted=False)
    server.serve(29, task=UNKNOWN_TASK, axis=3)
    assert server.why() is None
    server.serve(1, task=UNKNOWN_TASK, axis=3)
    assert server.why() is not None, "half of the 60 that were read"
    server.refreshed(promoted=False)
    server.serve(44, task=UNKNOWN_TASK, axis=3)
    assert server.why() is None, "half of 90 is 45"


def test_outliers_that_were_not_scored_or_are_one_prompt_call_none(server: Server) -> None:
    server.serve(60, task=UNKNOWN_TASK, axis=3, scored=False)
    server.serve(30, task=UNKNOWN_TASK, axis=3, other="b")
    assert server.why() is None
    server.serve(40, task=UNKNOWN_TASK, axis=3, prompt="a probe that is sent each minute")
    server.serve(28, task=UNKNOWN_TASK, axis=3)
    assert server.why() is None, "29 different prompts"


def test_outliers_of_the_champion_before_call_none(server: Server) -> None:
    former = server.champion
    server.set_champion(9000)
    now, server.champion = server.champion, former
    server.serve(40, task=UNKNOWN_TASK, axis=3)
    assert server.why() is None, "a request that was decided before the swap and scored after it"
    server.champion = now
    server.serve(40, task=UNKNOWN_TASK, axis=3)
    assert server.why() == "40 of the latest 40 prompts lie close together, far from every task"
