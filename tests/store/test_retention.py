"""Retention lets go what it does not keep, and nothing that training, a replica's replay or a rollback needs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest
from sqlalchemy import func, select, text, update

from agent.errors import InvalidInput
from agent.evaluation.trial import TRIAL
from agent.observations import CallDrift, Drift
from agent.snapshot import LineageEvent
from store.database import Database
from store.decisions import DecisionLog, Outcome
from store.drifts import MAX_DRIFTS, DriftStore
from store.evaluations import EvaluationRow, EvaluationStore
from store.examples import feedback_examples
from store.feedback import FeedbackEvent, FeedbackLog
from store.join_calls import JoinBudget, JoinCalls
from store.kept_answers import KeptAnswers
from store.lineage import TaskLineage
from store.prompts import text_id
from store.retention import Retention, RetentionConfig, RetentionReport
from store.runs import JobRuns
from store.snapshots import SnapshotStore
from store.tables import DecisionTable, HeadTable, KeptAnswerTable, OutcomeTable, PromptTable, SnapshotTable
from store.trials import TrialPlan, TrialStore
from store.writer import GroupCommitter
from tests.store.build import ENCODER, a_record, a_snapshot, encode

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
ALL = RetentionConfig(
    decisions=0, decision_days=0, feedback=0, feedback_days=0, history_days=0, rejected=99, retired=99
)


class Store:
    """A store whose time is set by hand."""

    def __init__(self, database: Database, writer: GroupCommitter) -> None:
        self.now = BEGIN
        self.database = database
        self.decisions = DecisionLog(database, writer, clock=lambda: self.now)
        self.feedback = FeedbackLog(database, writer, lambda: self.now)
        self.snapshots = SnapshotStore(database, lambda: self.now)
        self.runs = JobRuns(database, lambda: self.now)

    def decide(self, *ids: str, prompt: str | None = None) -> None:
        """Log a decision of each id on a prompt of its own, unless one is given, with its outcome, one a minute."""
        for id in ids:
            self.now += timedelta(minutes=1)
            self.decisions.append(a_record(id, prompt=prompt or f"prompt of {id}", created_at=self.now))
            done = self.decisions.complete(id, Outcome(status="ok", cost_usd=0.001))
        done.result()

    def rate(self, *ids: str, rater: str = "ann") -> None:
        self.feedback.append([FeedbackEvent(id, 1.0, "user", rater) for id in ids]).result()

    def publish(
        self,
        status: Literal["champion", "rejected"],
        position: int,
        lineage: tuple[LineageEvent, ...] = (),
        **meta: Any,
    ) -> int:
        """Publish a snapshot that was trained on the log up to ``position``."""
        self.now += timedelta(minutes=1)
        made = a_snapshot(lineage=lineage)
        made = replace(made, position=position, meta={**made.meta, "n_scored": 7, **meta})
        return self.snapshots.publish(made, status=status, report={"reason": "why"}, created_by="refresh").version

    def keep(self, *, dry_run: bool = False, **config: Any) -> RetentionReport:
        """Run the retention of ``config`` with no limit otherwise."""
        return Retention(
            self.database, replace(ALL, **config), self.now, dry_run=dry_run, pause=lambda seconds: None
        ).run()

    def ids(self) -> list[str]:
        with self.database.session() as session:
            return sorted(session.scalars(select(DecisionTable.id)))

    def count(self, table: Any) -> int:
        with self.database.session() as session:
            return session.scalar(select(func.count()).select_from(table)) or 0


@pytest.fixture
def store(database: Database, writer: GroupCommitter) -> Store:
    return Store(database, writer)


def test_decisions_without_feedback_go_by_age_with_outcomes_and_prompts(store: Store) -> None:
    store.decide("old", "rated", "evaluated", "shared")
    store.rate("rated")
    row = EvaluationRow("prompt of evaluated", "s", None, {"a": 1.0}, {})
    EvaluationStore(store.database).add("d", "train", [row], encode, ENCODER)
    store.now += timedelta(days=2)
    store.decide("new")
    store.decide("again", prompt="prompt of shared")
    assert store.keep(dry_run=True, decision_days=1).decisions == 3
    assert len(store.ids()) == 6, "a dry run deletes nothing"
    report = store.keep(decision_days=1)
    assert (report.decisions, report.prompts, report.feedback) == (3, 1, 0)
    assert store.ids() == ["again", "new", "rated"]
    assert store.count(OutcomeTable) == 3 and store.count(PromptTable) == 4
    assert store.keep(decision_days=1).decisions == 0
    refused = store.feedback.append([FeedbackEvent("old", 1.0, "user")]).result()
    assert refused[0].reason == "no decision has the id 'old'"


def test_decisions_without_feedback_go_by_number(store: Store) -> None:
    store.decide(*(f"d{i:03}" for i in range(450)))  # more than two transactions' worth
    store.rate("d000", "d449")
    store.keep(decisions=40)
    assert store.ids() == ["d000", *(f"d{i:03}" for i in range(409, 450))]


def test_feedback_goes_only_where_no_snapshot_that_may_serve_needs_it(store: Store) -> None:
    store.decide(*"abcdefgh")
    store.rate(*"abcdefgh")
    store.rate("b", rater="bob")  # row 9
    first = store.publish("champion", 3)
    second = store.publish("champion", 6)
    store.now += timedelta(days=9)
    store.rate("h", rater="bob")
    before = store.feedback.tail(3)
    assert store.keep(feedback_days=1, dry_run=True).feedback == 2
    report = store.keep(feedback_days=1)
    assert (report.feedback, report.decisions, report.prompts) == (2, 2, 2)
    assert store.ids() == list("bdefgh"), "b was rated again after the position of the first champion"
    assert [o.seq for o in store.feedback.tail(3)] == [o.seq for o in before]
    assert store.feedback.head() == 10

    store.publish("champion", 10)
    store.keep(feedback_days=1, retired=0)  # the first one is archived: nothing reads on from row 3
    assert [row.archived_at is None for row in store.snapshots.list()] == [True, True, False]
    assert store.ids() == list("bgh")
    examples = feedback_examples(store.database, ENCODER, 10)
    assert set(examples.ids) == {text_id(f"prompt of {id}", ENCODER) for id in "bgh"}
    assert (first, second) == (1, 2)


def test_feedback_goes_by_number_and_the_heads_row_stays(store: Store) -> None:
    store.decide(*"abcdef")
    store.rate(*"abcdef")
    store.publish("champion", 6)
    store.keep(feedback=4)
    assert store.ids() == list("cdef")
    store.now += timedelta(days=9)
    store.keep(feedback_days=1)
    assert store.ids() == ["f"] and store.feedback.head() == 6


def test_a_former_champion_does_not_keep_feedback_beyond_its_number(store: Store) -> None:
    store.decide(*"abcdefgh")
    store.rate(*"abcdefgh")
    for position in (0, 3, 5, 8):  # the parent of the champion stays, whatever it has to read on from
        store.publish("champion", position)
    report = store.keep(feedback=2)
    assert report.archived == 2 and store.ids() == list("fgh")
    assert [row.archived_at is None for row in store.snapshots.list()] == [True, True, False, False]


def test_prompts_in_the_index_of_a_snapshot_stay(store: Store) -> None:
    store.decide(*"abc")
    store.rate(*"abc")
    store.publish("champion", 3, indexed_prompts=[text_id("prompt of a", ENCODER)])
    store.now += timedelta(days=9)
    store.keep(feedback_days=1)
    assert store.ids() == ["a", "c"]


def test_of_an_indexed_prompt_that_is_asked_again_and_again_only_the_last_rated_decision_stays(store: Store) -> None:
    store.decide("x")
    store.decide(*(f"d{i:03}" for i in range(300)), prompt="prompt of x")
    store.rate("x", *(f"d{i:03}" for i in range(300)))
    store.decide("last")
    store.rate("last")
    store.publish("champion", 302, indexed_prompts=[text_id("prompt of x", ENCODER)])
    assert store.keep(feedback=20, dry_run=True).feedback == 282
    store.keep(feedback=20)
    assert store.ids() == [*(f"d{i:03}" for i in range(281, 300)), "last"]
    store.now += timedelta(days=9)
    store.keep(feedback_days=1)
    assert store.ids() == ["d299", "last"] and store.count(PromptTable) == 2


def test_feedback_that_comes_between_reading_and_deleting_is_kept(store: Store) -> None:
    store.decide("a", "b")
    store.publish("champion", 0)
    store.now += timedelta(days=9)
    retention = Retention(store.database, replace(ALL, decision_days=1), store.now, pause=lambda seconds: None)
    pages = retention._pages

    def late(*args: Any, **options: Any) -> Iterator[list[str]]:
        for ids in pages(*args, **options):
            store.rate("b")
            yield ids

    retention._pages = late  # type: ignore[method-assign]
    assert retention.run().decisions == 1
    assert store.ids() == ["b"] and store.feedback.head() == 1


def test_rejected_and_former_champions_keep_only_the_latest_weights(store: Store) -> None:
    champions = [store.publish("champion", i) for i in range(4)]
    rejected = [store.publish("rejected", 9) for _ in range(3)]
    report = store.keep(rejected=1, retired=1, dry_run=True)
    assert report.archived == 3
    assert store.keep(rejected=1, retired=1).archived == 3
    rows = {row.version: row for row in store.snapshots.list()}
    assert [v for v in rows if rows[v].archived_at is None] == [rejected[2], champions[3], champions[2], champions[1]]
    gone = rows[champions[0]]
    assert (gone.status, gone.report["reason"], gone.tasks, gone.heads) == ("retired", "why", 2, 4)
    assert rows[champions[1]].parent == champions[0], "the lineage stays"
    with store.database.session() as session:
        assert session.scalar(select(SnapshotTable.tensors).where(SnapshotTable.version == champions[0])) == b""
        assert session.scalars(select(HeadTable.snapshot).where(HeadTable.snapshot.in_([rejected[0], 1]))).all() == []
    for version in (champions[0], rejected[0]):
        with pytest.raises(InvalidInput, match=f"snapshot {version} was archived at 2026-01-01 .* UTC: its weights"):
            store.snapshots.promote(version, "by hand")
    assert store.snapshots.load(champions[2]).version == champions[2]
    assert store.snapshots.rollback("x") == champions[2] and store.snapshots.rollback("x") == champions[3]


def test_the_parent_of_a_champion_keeps_its_weights_however_long_ago_it_served(store: Store) -> None:
    parent = store.publish("champion", 0)
    champion = store.publish("champion", 0)
    for _ in range(2):
        store.publish("champion", 0)
    store.snapshots.promote(champion, "by hand")
    store.keep(retired=1)
    kept = {row.version for row in store.snapshots.list() if row.archived_at is None}
    assert {parent, champion} <= kept and len(kept) == 3


def test_of_archived_snapshots_the_lineage_of_tasks_stays_and_no_task_id_is_used_again(store: Store) -> None:
    keep, split = LineageEvent("keep", 1, (1,), {}), LineageEvent("spawn", 2, (1,), {})
    store.publish("champion", 0, (keep, split))
    store.publish("champion", 0)
    store.publish("rejected", 0, (keep, LineageEvent("spawn", 8, (), {}), LineageEvent("spawn", 9, (), {})))
    store.publish("champion", 0)
    lineage = TaskLineage(store.database)
    assert store.keep(retired=0, rejected=0).task_events == 3
    assert [e.event.kind for task in (1, 2, 8) for e in lineage.events(task)] == ["spawn"]
    assert lineage.next_id() == 10


def test_the_running_trial_keeps_its_snapshots_and_decisions_and_ended_ones_go_with_the_history(store: Store) -> None:
    parent = store.publish("champion", 0)
    champion = store.publish("champion", 0)
    for _ in range(2):
        store.now += timedelta(minutes=1)
        plan = TrialPlan(TRIAL, 14.0)
        store.snapshots.publish(
            a_snapshot(), status="trial", report={"reason": "why"}, created_by="refresh", plan=plan,
            expected_champion=champion, supersedes=getattr(TrialStore(store.database).running(), "id", None),
        )  # fmt: skip
    running = TrialStore(store.database).running()
    assert running is not None
    store.decide("plain", "tried")
    with store.database.session(write=True) as session:
        session.execute(update(DecisionTable).where(DecisionTable.id == "tried").values(trial=running.id))
        session.commit()
    store.now += timedelta(days=100)
    report = store.keep(rejected=0, retired=0, decision_days=30, history_days=90)
    assert (report.decisions, report.archived, report.trials) == (1, 1, 0)  # of the one that was superseded
    kept = {row.version for row in store.snapshots.list() if row.archived_at is None}
    assert kept == {parent, champion, running.challenger}
    store.publish("champion", 0)
    store.now += timedelta(days=100)
    report = store.keep(rejected=0, retired=0, decision_days=30, history_days=90)
    assert (report.decisions, report.trials, TrialStore(store.database).list()) == (1, 2, [])


def test_history_goes_by_age_but_the_last_run_of_each_job_and_state(store: Store) -> None:
    for job, state in (("refresh", "done"), ("refresh", "done"), ("refresh", "failed"), ("retention", "done")):
        run_id = store.runs.request(job, {}, "tests")
        store.runs.claim([job], "tests")
        store.runs.finish(run_id, {}) if state == "done" else store.runs.fail(run_id, "no luck")
    store.publish("champion", 0)
    store.publish("rejected", 0)
    store.publish("rejected", 0)
    DriftStore(store.database).record(
        1, [Drift("a", 10 * i, 10 * i - 5, -0.3, "scan") for i in range(1, MAX_DRIFTS + 3)]
    )
    longer = Drift("a", 5, 3, 0.7, "page-hinkley", "tokens")  # of another log: its position is not compared with those
    DriftStore(store.database).record_calls([CallDrift(longer, 0)])
    store.now += timedelta(days=100)
    store.runs.request("refresh", {}, "tests")
    report = store.keep(history_days=90, rejected=1)
    assert DriftStore(store.database).changes() == {("a", "tokens"): 3}
    assert (report.runs, report.drifts, report.snapshots, report.archived) == (1, 2, 0, 1)
    assert [run.id for run in store.runs.list()] == [5, 4, 3, 2]
    store.now += timedelta(days=100)
    assert store.keep(history_days=90, rejected=1).snapshots == 1
    assert [row.version for row in store.snapshots.list()] == [3, 1]


def test_sqlite_gives_free_pages_back_to_the_disk(sqlite_url: str) -> None:
    database = Database.open(sqlite_url)
    writer = GroupCommitter(database)
    store = Store(database, writer)
    text_of = "a long prompt " * 200
    store.decide(*(f"d{i}" for i in range(1500)), prompt=None)
    with database.session(write=True) as session:
        session.execute(text("UPDATE prompts SET text = :text"), {"text": text_of})
        session.commit()
    store.now += timedelta(days=40)
    report = store.keep(decision_days=30)
    assert report.decisions == 1500 and report.bytes_before > 6e6
    assert report.bytes_after < 0.6 * report.bytes_before
    writer.close()
    database.close()


def test_kept_answers_go_by_age_or_with_their_decisions_and_calls_with_the_history(
    store: Store, writer: GroupCommitter
) -> None:
    clock = lambda: store.now  # noqa: E731
    store.decide("old", "rated", "new")
    store.rate("rated")
    kept, calls = KeptAnswers(store.database, writer, clock), JoinCalls(store.database, clock)
    kept.keep("old", "answer", shadow=False).result()
    calls.book(None, "judge", "old", "j", 0.1, JoinBudget(1.0, 9))
    store.now += timedelta(hours=20)
    kept.keep("new", "answer", shadow=False).result()
    kept.keep("rated", "answer", shadow=True).result()
    assert store.keep(answer_hours=24).kept_answers == 0
    store.now += timedelta(hours=5)
    assert store.keep(answer_hours=24, history_days=9).kept_answers == 1 and store.count(KeptAnswerTable) == 2
    assert store.keep(decision_days=1).decisions == 2 and store.ids() == ["rated"]
    assert store.count(KeptAnswerTable) == 1 and calls.spent(None).calls == 1
    store.now += timedelta(days=9)
    assert store.keep(history_days=9).calls == 1 and calls.spent(None).calls == 0
