"""Rows of the log that cannot be read, or whose prompts another encoder encoded, on a real database."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sqlalchemy import text

from agent.evaluation.logged import logged_decisions
from agent.feedback.state import feedback_state
from agent.observations import Observation, SetAside
from agent.types import Encoded, Turn
from store.database import Database
from store.decisions import DecisionLog
from store.examples import feedback_examples
from store.feedback import FeedbackEvent, FeedbackLog
from store.log_pages import LogPages
from store.set_aside import SetAsideStore
from store.writer import GroupCommitter
from tests.store.build import ENCODER, a_record


class CountingEncoder:
    """Counts what it encodes; it cannot encode "broken"."""

    fingerprint, dimension = "new/encoder", 5

    def __init__(self, salt: int = 0) -> None:
        self.texts: list[str] = []
        self._salt = salt

    def encode(self, conversations: Sequence[Sequence[Turn]]) -> list[Encoded]:
        texts = [turns[0].text for turns in conversations]
        self.texts += texts
        if "broken" in texts:
            raise ValueError("no such text")
        return [Encoded(np.full(5, len(t) + self._salt, np.float32), np.ones(2, np.float32), len(t)) for t in texts]


@pytest.fixture
def log(database: Database, writer: GroupCommitter) -> FeedbackLog:
    """One row on each of six decisions: two of one text, one without its text, one that cannot be encoded, two of a's own."""
    decisions, feedback = DecisionLog(database, writer), FeedbackLog(database, writer)
    records = [a_record("d1", prompt="same"), a_record("d2", prompt="same"), a_record("d3", prompt=None)]
    records += [a_record("d4", prompt="broken"), a_record("d5", prompt="own", encoder="new/encoder")]
    records += [a_record("d6", prompt="other")]
    for record in records:
        decisions.append(record).result()
    feedback.append([FeedbackEvent(r.id, 0.5, "user", f"rater {r.id}") for r in records]).result()
    return feedback


def read(pages: LogPages, limit: int = 100) -> list[Observation | SetAside]:
    """The whole log."""
    rows: list[Observation | SetAside] = []
    while True:
        page = pages.read(rows[-1].seq if rows else 0, limit)
        rows += page.rows
        pages.encode(page.missing)
        if not page.missing and not page.rows:
            return rows


@pytest.mark.parametrize("limit", [1, 2, 100])
def test_prompts_of_another_encoder_are_encoded_once_for_all_replicas(
    database: Database, log: FeedbackLog, limit: int
) -> None:
    first, second = CountingEncoder(), CountingEncoder(salt=7)  # the second would encode otherwise
    rows = read(LogPages(database, log, first), limit)
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5, 6] and sorted(first.texts) == ["broken", "other", "same"]
    assert [isinstance(row, Observation) for row in rows] == [True, True, False, False, True, True]
    one, two = rows[0], rows[1]
    assert isinstance(one, Observation) and isinstance(two, Observation)
    assert (one.encoder, one.prompt_id) == ("new/encoder", two.prompt_id)
    assert one.encoded.embedding.tolist() == [4.0] * 5
    reasons = [row.reason for row in rows if isinstance(row, SetAside)]
    assert "its text is not stored" in reasons[0] and "ValueError: no such text" in reasons[1]
    again = read(LogPages(database, log, second), limit)
    assert second.texts == ["broken"] and [type(row) for row in again] == [type(row) for row in rows]
    assert isinstance(again[0], Observation) and again[0].encoded.embedding.tolist() == [4.0] * 5


@pytest.mark.parametrize(
    "spoil",
    [
        "UPDATE decisions SET candidates = '[{}]' WHERE id = 'd5'",
        "UPDATE decisions SET candidates = '{\"a\": 1}' WHERE id = 'd5'",
        "UPDATE decisions SET candidates = 'null' WHERE id = 'd5'",
    ],
)
def test_a_decision_that_cannot_be_read_is_set_aside(database: Database, log: FeedbackLog, spoil: str) -> None:
    execute(database, spoil)
    rows = read(LogPages(database, log, CountingEncoder()))
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5, 6]
    assert isinstance(rows[4], SetAside) and "cannot be read" in rows[4].reason
    assert [row.seq for row in log.between(0, 6)] == [1, 2, 3, 4, 6] == [row.seq for row in log.tail(0)]


@pytest.mark.parametrize(
    "vector",
    [b"", b"odd", np.full(8, np.nan, "<f4").tobytes(), np.ones(5, "<f4").tobytes()],
    ids=("none", "odd", "nan", "short"),
)
@pytest.mark.parametrize("column", ["embedding", "features"])
def test_a_refresh_reads_past_prompts_whose_vectors_are_odd(
    database: Database, log: FeedbackLog, vector: bytes, column: str
) -> None:
    execute(
        database,
        f"UPDATE prompts SET {column} = :vector WHERE id IN (SELECT prompt_id FROM decisions WHERE id = 'd6')",
        vector=vector,
    )
    rows = log.between(0, 6)
    ledger = feedback_state(None, rows).ledger
    assert logged_decisions(rows, ledger, ENCODER).embeddings.shape == (4, 8)
    examples = feedback_examples(database, ENCODER, 6, ledger)
    assert len(examples) == 3 and np.isfinite(examples.embeddings).all() and examples.features.shape == (3, 3)


def test_a_row_is_kept_once_as_set_aside(database: Database, log: FeedbackLog) -> None:
    store = SetAsideStore(database)
    store.record(1, [])
    store.record(1, [SetAside(3, "odd"), SetAside(5, "odder")])
    store.record(2, [SetAside(5, "again"), SetAside(6, "last")])
    found = store.list()
    assert [(row.seq, row.reason, row.snapshot) for row in found] == [(6, "last", 2), (5, "odder", 1), (3, "odd", 1)]
    assert (found[0].decision_id, found[0].model, found[0].score, found[0].rater) == ("d6", "a", 0.5, "rater d6")
    assert found[0].set_aside_at.tzinfo is not None
    assert (store.count(), store.count(after=3), len(store.list(limit=1))) == (3, 2, 1)


def execute(database: Database, statement: str, **values: object) -> None:
    with database.session(write=True) as session:
        session.execute(text(statement), values)
        session.commit()
