"""Snapshots are worth what they would have earned, by decisions that they were not trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from agent.errors import InvalidInput
from agent.ledger import Ledger
from agent.types import Candidate, Encoded, Observation
from jobs.logged import choices
from jobs.value import Valuation, value
from store.database import Database
from store.decisions import DecisionLog
from store.feedback import FeedbackEvent, FeedbackLog
from store.snapshots import SnapshotStore
from store.writer import GroupCommitter
from tests.jobs.made import BEST, live, records
from tests.jobs.test_rollback import publish, trained

N = 900
PROMPT = Encoded(np.ones(4, np.float32), np.ones(2, np.float32), 9)


def said(seq: int, decision: str = "d", model: str = "a", score: float = 1.0, **fields: object) -> Observation:
    row = Observation(seq, decision, f"p-{decision}", model, score, "user", "", PROMPT, expected=0.5)
    return replace(row, **fields)  # type: ignore[arg-type]


def weighed(*candidates: tuple[str, float, float, str | None]) -> tuple[Candidate, ...]:
    """Candidates from (model, utility, propensity, excluded), of quality 0.5."""
    return tuple(Candidate(m, 0.5, 0.1, 0.0, u, p, {}, out) for m, u, p, out in candidates)


BOTH = weighed(("a", 0.5, 0.9, None), ("b", 0.2, 0.1, None), ("c", 0.9, 0.0, "no vision"))


def test_excluded_models_have_no_propensity_and_are_never_the_greedy_choice() -> None:
    found = choices([said(1)], {"d": BOTH}, Ledger())
    assert found.models == ("a", "b") and found.propensity.tolist() == [[0.9, 0.1]]
    other = weighed(("b", 0.5, 0.5, None), ("c", 0.5, 0.5, None))
    found = choices([said(1), said(2, "e", "c")], {"d": BOTH, "e": other}, Ledger())
    assert found.models == ("a", "b", "c")
    assert found.propensity.tolist() == [[0.9, 0.1, 0.0], [0.0, 0.5, 0.5]]
    assert found.greedy(np.array([[0.1, 0.2, 0.9], [0.9, 0.1, 0.2]])).tolist() == [[1, 0, 0], [0, 0, 1]]
    assert found.log.propensity.tolist() == [0.9, 0.5]


def test_what_could_not_have_gone_otherwise_is_left_out_and_counted() -> None:
    rankings = {
        "named": weighed(("a", 0.5, 1.0, None), ("b", 0.5, 0.0, "not among the request's candidates")),
        "greedy": weighed(("a", 0.5, 1.0, None), ("b", 0.4, 0.0, None)),
        "free": BOTH,
    }
    rows = [said(i + 1, name) for i, name in enumerate(("named", "greedy", "free", "foreign"))]
    found = choices(rows, rankings, Ledger())
    assert found.prompts == ("p-free",)
    assert dict(found.left_out) == {
        "of another encoder": 1, "disbelieved": 0, "without a choice": 1, "unexplored": 1,
    }  # fmt: skip


def test_the_last_word_of_each_rater_counts_and_comparisons_do_not() -> None:
    rows = [said(1, score=1.0), said(2, score=0.0, revises=1.0), said(3, rater="ann"), said(4, score=0.0, other="b")]
    found = choices(rows, {"d": BOTH}, Ledger())
    assert found.score.tolist() == [0.5] and found.first.tolist() == [1]
    late = choices([said(2, score=0.0, revises=1.0)], {"d": BOTH}, Ledger())
    assert late.first.tolist() == [0], "its first word stood before all that was read"


def test_words_are_worth_what_the_ledger_makes_of_them() -> None:
    ledger = Ledger()
    for i in range(400):  # a user who takes off 0.2
        truth = 0.3 + 0.4 * (i % 2)
        ledger.hear(said(i + 1, f"x{i}", score=truth - 0.2, expected=truth))
    found = choices([said(500, score=0.5)], {"d": BOTH}, ledger)
    assert found.score[0] == pytest.approx(0.7, abs=0.05) and 0.5 < found.trust[0] <= 1.0


@pytest.fixture
def worlds(database: Database) -> Database:
    """A misled snapshot and a good one, both trained before anything was said, and the misled one's live decisions."""
    publish(database, misled=False)
    live(database, publish(database, misled=True), records(N, seed=7))
    return database


def judged(database: Database, *versions: int, **options: object) -> Valuation:
    writer = GroupCommitter(database)
    log, decisions = FeedbackLog(database, writer), DecisionLog(database, writer)
    found = value(database, log, decisions, versions, **options)  # type: ignore[arg-type]
    writer.close()
    return found


def test_values_agree_with_the_truth(worlds: Database) -> None:
    found = judged(worlds, always=["cheap"])
    assert [w.policy for w in found.worths] == ["snapshot 2", "snapshot 1", "logged", "always cheap"]
    assert (found.decisions, found.fresh, found.trained_on) == (N, N, 0)
    misled, good, logged, cheap = found.worths
    rows = records(N, seed=7)
    truth = {
        good.policy: np.mean([r["scores"][BEST[r["source"]]] for r in rows]),
        misled.policy: np.mean([r["scores"]["cheap" if r["source"] == "history" else BEST[r["source"]]] for r in rows]),
        cheap.policy: np.mean([r["scores"]["cheap"] for r in rows]),
    }
    for w in (good, misled, cheap):
        for estimate in (w.snips, w.dr):
            assert abs(estimate.mean - truth[w.policy]) < 3.0 * estimate.stderr
    assert good.dr.lower() > misled.dr.mean
    assert logged.effective == pytest.approx(N, rel=0.01) and logged.clipped == 0
    assert logged.ips.mean == pytest.approx(logged.snips.mean)
    assert cheap.effective < good.effective < misled.effective < N + 1
    assert cheap.cost == pytest.approx(0.001)


def test_what_a_snapshot_was_trained_on_is_told(worlds: Database) -> None:
    late = replace(trained(False), position=N - 100)
    SnapshotStore(worlds).publish(late, status="champion", report={}, created_by="refresh")
    found = judged(worlds)
    assert (found.fresh, found.trained_on) == (100, N - 100)
    some = judged(worlds, 1, since=N - 50)
    assert (some.since, some.upto, some.decisions) == (N - 50, N, 50)
    writer = GroupCommitter(worlds)
    FeedbackLog(worlds, writer).append([FeedbackEvent("d0", 0.0, "judge")]).result()
    writer.close()
    again = judged(worlds, since=N)
    assert (again.fresh, again.trained_on) == (0, 1), "a revision of what it was trained on"


def test_what_the_champion_expects_does_not_calibrate_what_it_is_judged_by(worlds: Database) -> None:
    """The misled champion expects much of the cheap model; a ledger that heard it all would blame the judge."""
    assert max(w.snips.mean for w in judged(worlds).worths) < 1.0


def test_mistakes_are_named(worlds: Database) -> None:
    with pytest.raises(InvalidInput, match="no snapshot 9"):
        judged(worlds, 9)
    with pytest.raises(InvalidInput, match="did you mean 'cheap'"):
        judged(worlds, always=["cheep"])
    other = replace(trained(True), meta={**trained(True).meta, "encoder": "words/v2"})
    SnapshotStore(worlds).publish(other, status="champion", report={}, created_by="refresh")
    with pytest.raises(InvalidInput, match="another encoder"):
        judged(worlds, 3, 1)
    assert judged(worlds).worths == () and judged(worlds).left_out["of another encoder"] == N


def test_without_a_champion_there_is_nothing_to_judge(database: Database) -> None:
    with pytest.raises(InvalidInput, match="no champion"):
        judged(database)
