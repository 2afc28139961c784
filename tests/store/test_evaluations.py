"""Importing is idempotent and goes on where it stopped; what comes out is what training reads."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from sqlalchemy import text

from agent.errors import InvalidInput
from agent.evaluation.reference import Reference
from agent.feedback.ledger import Ledger
from agent.observations import Drift, Observation
from agent.types import Encoded
from store import evaluations
from store.database import Database
from store.decisions import DecisionLog, Outcome
from store.evaluations import DatasetCount, EvaluationRow, EvaluationStore, ImportReport, Label
from store.examples import feedback_examples
from store.feedback import FeedbackEvent, FeedbackLog
from store.prompts import text_id
from store.writer import GroupCommitter
from tests.store.build import ENCODER, a_record, an_encoded, encode


def rows(count: int) -> list[EvaluationRow]:
    """Evaluations of ``a`` and ``b`` on numbered prompts."""
    return [
        EvaluationRow(f"prompt {i}", "source", f"task {i % 3}", {"a": i / count, "b": 1.0}, {"a": 0.25})
        for i in range(count)
    ]


class Counting:
    """An encoder that counts, and fails after so many prompts."""

    def __init__(self, fail_after: float = math.inf) -> None:
        self.seen: list[str] = []
        self.fail_after = fail_after

    def __call__(self, texts: list[str]) -> list[Encoded]:
        if len(self.seen) + len(texts) > self.fail_after:
            raise KeyboardInterrupt
        self.seen += texts
        return encode(texts)


@pytest.fixture
def store(database: Database, monkeypatch: pytest.MonkeyPatch) -> EvaluationStore:
    """An empty store with small chunks."""
    monkeypatch.setattr(evaluations, "CHUNK", 10)
    return EvaluationStore(database)


def test_importing_twice_changes_nothing(store: EvaluationStore) -> None:
    encoder = Counting()
    progress: list[int] = []
    report = store.add("set", "train", rows(35), encoder, ENCODER, progress.append)
    assert report == ImportReport(rows=35, new_prompts=35, scores=70, duplicates=0)
    assert progress == [10, 20, 30, 35]
    examples, labels = store.examples(ENCODER)
    again = store.add("set", "train", rows(35), encoder, ENCODER)
    assert again == ImportReport(rows=0, new_prompts=0, scores=0, duplicates=35)
    assert len(encoder.seen) == 35
    same, same_labels = store.examples(ENCODER)
    assert same.ids == examples.ids and np.array_equal(same.scores, examples.scores) and same_labels == labels


def test_an_interrupted_import_goes_on_where_it_stopped(store: EvaluationStore) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.add("set", "train", rows(35), Counting(fail_after=25), ENCODER)
    assert store.counts() == [DatasetCount("set", "train", 20, 20)]
    encoder = Counting()
    report = store.add("set", "train", rows(35), encoder, ENCODER)
    assert report == ImportReport(rows=15, new_prompts=15, scores=30, duplicates=20)
    assert len(encoder.seen) == 15


def test_examples_are_what_was_imported(store: EvaluationStore) -> None:
    store.add("set", "train", rows(25), encode, ENCODER)
    examples, labels = store.examples(ENCODER)
    assert examples.models == ("a", "b") and len(examples) == 25 and examples.costs is not None
    for i in range(25):
        at = examples.ids.index(text_id(f"prompt {i}", ENCODER))
        [encoded] = encode([f"prompt {i}"])
        assert examples.texts[at] == f"prompt {i}"
        assert np.array_equal(examples.embeddings[at], encoded.embedding)
        assert np.array_equal(examples.features[at], encoded.features)
        assert examples.scores[at].tolist() == [i / 25, 1.0]
        assert examples.costs[at, 0] == 0.25 and np.isnan(examples.costs[at, 1])
        assert labels[at] == Label("source", f"task {i % 3}")


def test_what_was_not_observed_is_nan_and_repeats_are_averaged(store: EvaluationStore) -> None:
    store.add("one", "train", [EvaluationRow("p", "s", None, {"a": 1.0, "b": 0.0}, {})], encode, ENCODER)
    store.add("two", "test", [EvaluationRow("p", "s", None, {"a": 0.0}, {})], encode, ENCODER)
    store.add("two", "test", [EvaluationRow("q", "s", None, {"c": 0.5}, {})], encode, ENCODER)
    examples, _ = store.examples(ENCODER)
    scores = dict(zip(examples.texts, examples.scores.tolist(), strict=True))
    assert scores["p"][:2] == [0.5, 0.0] and math.isnan(scores["p"][2])
    assert all(map(math.isnan, scores["q"][:2])) and scores["q"][2] == 0.5
    assert examples.costs is None
    only, labels = store.examples(ENCODER, ["c", "never"])
    assert only.models == ("c", "never") and only.texts == ("q",) and len(labels) == 1
    assert only.scores[0, 0] == 0.5 and np.isnan(only.scores[0, 1])
    assert store.counts() == [DatasetCount("one", "train", 1, 1), DatasetCount("two", "test", 2, 2)]


def test_another_encoder_encodes_for_itself(store: EvaluationStore) -> None:
    store.add("set", "train", rows(5), encode, ENCODER)
    report = store.add("set", "train", rows(5), encode, "another")
    assert report.new_prompts == 5
    assert len(store.examples(ENCODER)[0]) == len(store.examples("another")[0]) == 5
    assert len(store.examples("third")[0]) == 0


def test_a_prompt_twice_in_a_file_is_encoded_once(store: EvaluationStore) -> None:
    encoder = Counting()
    same = EvaluationRow("p\ud800", "s", "t", {"a": 1.0}, {})
    report = store.add("set", "train", [same, same, EvaluationRow("p\ud800", "s", "t", {"a": 0.0}, {})], encoder, "e")
    assert report == ImportReport(rows=2, new_prompts=1, scores=2, duplicates=1)
    assert store.examples("e")[0].scores.tolist() == [[0.5]] and len(encoder.seen) == 1


def test_a_routed_prompt_is_not_encoded_again(
    store: EvaluationStore, database: Database, writer: GroupCommitter
) -> None:
    DecisionLog(database, writer).append(a_record("d", prompt="prompt 0")).result(10)
    encoder = Counting()
    store.add("set", "train", rows(3), encoder, ENCODER)
    assert sorted(encoder.seen) == ["prompt 1", "prompt 2"]


def test_with_embedding_only_no_text_is_kept(database: Database) -> None:
    store = EvaluationStore(database, "embedding")
    store.add("set", "train", rows(3), encode, ENCODER)
    assert store.examples(ENCODER)[0].texts == ("", "", "")
    with database.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM prompts WHERE text IS NOT NULL")) == 0


@pytest.mark.parametrize("score", [-0.1, 1.1, math.nan])
def test_a_score_outside_its_range_is_never_a_row(score: float) -> None:
    with pytest.raises(InvalidInput, match="score of 'a'"):
        EvaluationRow("p", "s", None, {"a": score}, {})
    with pytest.raises(InvalidInput, match="cost of 'a'"):
        EvaluationRow("p", "s", None, {}, {"a": -1.0 if score < 0 else math.inf})


def test_feedback_counts_the_latest_score_of_each_rater(database: Database, writer: GroupCommitter) -> None:
    decisions, feedback = DecisionLog(database, writer), FeedbackLog(database, writer)
    for i, (prompt, model) in enumerate([("p", "a"), ("p", "a"), ("p", "b"), ("q", "a")]):
        decisions.append(a_record(f"d{i}", prompt=prompt, model=model)).result(10)
    decisions.append(a_record("other", prompt="p", encoder="another")).result(10)

    def say() -> Iterator[FeedbackEvent]:
        yield FeedbackEvent("d0", 0.0, "user", "ann")
        yield FeedbackEvent("d0", 1.0, "user", "ann")  # replaces the one before
        yield FeedbackEvent("d0", 0.5, "judge")
        yield FeedbackEvent("d1", 0.0, "user", "ann")
        yield FeedbackEvent("d2", 0.25, "implicit")
        yield FeedbackEvent("d2", 0.0, "implicit", other="a")  # no score
        yield FeedbackEvent("other", 1.0, "user")
        yield FeedbackEvent("d3", 1.0, "user")  # after the position asked for

    seqs = [r.seq for r in feedback.append(list(say())).result(10)]
    assert seqs[-2] is not None
    examples = feedback_examples(database, ENCODER, seqs[-2])
    assert examples.texts == ("p",) and examples.models == ("a", "b")
    assert examples.scores[0].tolist() == [pytest.approx((1.0 + 0.5 + 0.0) / 3, abs=0.01), 0.25]
    assert examples.weights is not None and examples.weights[0].tolist() == pytest.approx([0.75, 0.25], abs=0.01)
    assert len(feedback_examples(database, ENCODER, 0)) == 0
    assert sorted(feedback_examples(database, ENCODER, 10**9).texts) == ["p", "q"]
    ledger = Ledger()
    for seq in range(1, 400):  # users who say the same whatever is answered
        ledger.learn_one(Observation(seq, f"e{seq}", "p", "a", 1.0, "user", "", an_encoded(), expected=seq % 10 / 10))
    trusting, wary = (feedback_examples(database, ENCODER, 10**9, known) for known in (None, ledger))
    assert trusting.weights is not None and wary.weights is not None
    rated_by_users_alone = trusting.texts.index("q")
    assert wary.weights[rated_by_users_alone, 0] < 0.4
    assert trusting.weights[rated_by_users_alone, 0] == pytest.approx(0.25, abs=0.01)
    assert wary.weights[1 - rated_by_users_alone, 0] > 1.5 * wary.weights[rated_by_users_alone, 0]
    assert isinstance(examples.embeddings, np.ndarray) and examples.embeddings.shape == (1, 8)


def test_what_the_calls_that_were_rated_cost_is_learned_with_their_scores(
    database: Database, writer: GroupCommitter
) -> None:
    decisions, feedback = DecisionLog(database, writer), FeedbackLog(database, writer)
    ended = {
        "d0": Outcome(status="ok", cost_usd=0.2), "d1": Outcome(status="ok", cost_usd=0.4), "d2": Outcome(status="ok"),
        "d3": Outcome(status="cancelled", cost_usd=0.01), "unrated": Outcome(status="ok", cost_usd=9.0),
    }  # fmt: skip
    for name, model in zip(ended, ("a", "a", "b", "c", "a")):
        decisions.append(a_record(name, prompt="p", model=model)).result(10)
        decisions.complete(name, ended[name]).result(10)
    events = [FeedbackEvent(name, 0.5, "user", "ann") for name in ended if name != "unrated"]
    seqs = [r.seq for r in feedback.append(events).result(10)]
    assert seqs[-1] is not None
    examples = feedback_examples(database, ENCODER, seqs[-1])
    assert examples.models == ("a", "b") and examples.costs is not None, "a rating of a call that failed is none"
    assert examples.costs[0].tolist() == pytest.approx([0.3, math.nan], nan_ok=True)
    assert seqs[0] is not None
    first = feedback_examples(database, ENCODER, seqs[0]).costs
    assert first is not None and first.tolist() == [[0.2]], "as of the position"


def test_a_revision_of_a_score_from_before_a_drift_is_no_score_from_after_it(
    database: Database, writer: GroupCommitter
) -> None:
    decisions, feedback = DecisionLog(database, writer), FeedbackLog(database, writer)
    for name in ("old", "revised", "new"):
        decisions.append(a_record(name, prompt=name, model="a")).result(10)
    events = [FeedbackEvent(name, 0.9, "user", "ann") for name in ("old", "revised", "new")]
    seqs = [r.seq for r in feedback.append([*events, FeedbackEvent("revised", 0.8, "user", "ann")]).result(10)]
    assert seqs[2] is not None and seqs[3] is not None
    drift = Drift("a", seqs[3], seqs[2], -0.3, "scan")
    examples = feedback_examples(database, ENCODER, seqs[3], drifts=[drift])
    score = dict(zip(examples.texts, examples.scores[:, 0]))
    weight = dict(zip(examples.texts, examples.score_weight[:, 0]))
    assert score == pytest.approx({"old": 0.6, "revised": 0.5, "new": 0.9}, abs=0.02)
    # a source that nothing has calibrated counts as noisy: .25 of an evaluation
    assert weight["new"] == pytest.approx(0.25, abs=0.01)
    assert weight["old"] == pytest.approx(0.1 * weight["new"], rel=0.1)
    assert weight["revised"] == pytest.approx(weight["old"], rel=0.1)


def test_references_are_kept_and_the_latest_counts(store: EvaluationStore) -> None:
    store.add("set", "train", rows(3), encode, ENCODER)
    for value in ("4", "5"):
        row = EvaluationRow("prompt 1", "source", None, {}, {}, Reference("exact", value))
        assert store.add("set", "train", [row], encode, ENCODER).rows == 1
        assert store.add("set", "train", [row], encode, ENCODER).duplicates == 1
    ids = [text_id(f"prompt {i}", ENCODER) for i in range(3)]
    assert store.references(ids) == {ids[1]: Reference("exact", "5")} and store.references([]) == {}
    examples, _ = store.examples(ENCODER)
    assert len(examples.ids) == 3 and not np.isnan(examples.scores).any()
