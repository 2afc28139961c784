"""Synthetic data with known best models (three topics, each with a model that is best at it), and helpers that store it."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from agent.choice.exploration import inverse_gap_weights
from agent.encoding import features as text
from agent.estimate import Estimator
from agent.examples import Examples
from agent.fit import fit
from agent.snapshot import FORMAT, Snapshot
from agent.types import Candidate, Decision, Encoded, TaskAssignment, Turn
from store.database import Database
from store.decisions import DecisionLog, DecisionRecord
from store.feedback import FeedbackEvent, FeedbackLog
from store.prompts import text_id
from store.snapshots import SnapshotStore
from store.tables import SnapshotTable
from store.trials import TrialPlan
from store.writer import GroupCommitter

WORDS = {
    "cooking": "simmer onion garlic butter oven recipe flour taste sauce pepper stir roast".split(),
    "algebra": "solve equation polynomial root factor integer matrix proof variable sum square linear".split(),
    "history": "empire century treaty king revolt battle dynasty colony parliament war reform church".split(),
}
BEST = {"cooking": "chef", "algebra": "maths", "history": "scholar"}
MODELS = ("chef", "maths", "scholar", "cheap")
COSTS = {"chef": 0.01, "maths": 0.02, "scholar": 0.03, "cheap": 0.001}


class WordEncoder:
    """A cheap `agent.encoding.encoder.Encoder`: the sum of one random direction for each word."""

    fingerprint = "words/v1"
    dimension = 32

    def encode(self, conversations: Sequence[Sequence[Turn]]) -> list[Encoded]:
        """Encode each conversation."""
        return [self._one(turns) for turns in conversations]

    def _one(self, turns: Sequence[Turn]) -> Encoded:
        words = text.split_turns(turns)[0].lower().split() or ["."]
        vector = np.sum([direction(word, self.dimension) for word in words], axis=0)
        return Encoded((vector / np.linalg.norm(vector)).astype(np.float32), text.features(turns), len(words))


@cache
def direction(word: str, dimension: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The random direction of a word, the same at every call."""
    seed = int.from_bytes(sha256(word.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(dimension)


def records(n: int, seed: int = 0) -> list[dict[str, Any]]:
    """``n`` different scored prompts, as records of a data file."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(n):
        topic = list(WORDS)[i % 3]
        words = rng.choice(WORDS[topic], 7, replace=False)
        chances = {m: 0.95 if m == BEST[topic] else 0.25 for m in MODELS}
        found.append(
            {
                "prompt": f"{' '.join(words)} {seed}-{i}",
                "source": topic,
                "scores": {m: float(rng.random() < chance) for m, chance in chances.items()},
                "costs": {m: cost * (1 + 0.1 * rng.random()) for m, cost in COSTS.items()},
            }
        )
    return found


def write(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """Write a data file of these rows, gzipped where its name ends so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def examples(rows: Sequence[dict[str, Any]], scores: Callable[[dict[str, Any]], dict[str, float]]) -> Examples:
    """``rows`` as training examples, with the scores that ``scores`` gives a row."""
    encoded = WordEncoder().encode([(Turn("user", row["prompt"]),) for row in rows])
    return Examples(
        ids=tuple(text_id(row["prompt"], WordEncoder.fingerprint) for row in rows),
        embeddings=np.stack([e.embedding for e in encoded]),
        features=np.stack([e.features for e in encoded]),
        scores=np.array([[scores(row)[m] for m in MODELS] for row in rows]),
        models=MODELS,
        texts=tuple(row["prompt"] for row in rows),
    )


def true_scores(row: dict[str, Any]) -> dict[str, float]:
    """The row's own scores."""
    return dict(row["scores"])


def false_scores(row: dict[str, Any]) -> dict[str, float]:
    """Misleading scores: on history those of the cheap model and the scholar are swapped."""
    if row["source"] != "history":
        return true_scores(row)
    return dict(row["scores"]) | {"cheap": row["scores"]["scholar"], "scholar": row["scores"]["cheap"]}


@cache
def trained(misled: bool) -> Snapshot:
    """A snapshot trained on true scores, or on `false_scores`."""
    return fit(examples(records(240), false_scores if misled else true_scores), encoder=WordEncoder.fingerprint)


def publish(database: Database, misled: bool, by: str = "refresh", plan: TrialPlan | None = None) -> Snapshot:
    """Publish `trained` as champion, with a report as the gate writes it; ``plan``: of its hold-back."""
    report = {"promoted": True, "reason": "better", "gate": {"pooled": {"mean": 0.04, "stderr": 0.01, "n": 90}}}
    return SnapshotStore(database).publish(trained(misled), status="champion", report=report, created_by=by, plan=plan)


def age_snapshots(database: Database) -> None:
    """Make every snapshot one of an older format, which cannot be read."""
    with database.session(write=True) as session:
        for row in session.scalars(select(SnapshotTable)):
            row.meta = {**row.meta, "format": FORMAT - 1}
        session.commit()


def record_decision(database: Database, id: str, propensities: Mapping[str, float], prompt: str = "simmer") -> None:
    """Log a decision for the first of the models."""
    [encoded] = WordEncoder().encode([(Turn("user", prompt),)])
    candidates = tuple(Candidate(model, 0.5, 0.1, 0.0, 0.5, p) for model, p in propensities.items())
    decision = Decision(
        candidates[0].model, candidates, TaskAssignment(0, "t", 1.0), (), 1, 0, encoded, False, "why"
    )  # fmt: skip
    record = DecisionRecord(
        id=id, created_at=datetime.now(UTC), decision=decision, encoder=WordEncoder.fingerprint, prompt=prompt
    )
    writer = GroupCommitter(database)
    DecisionLog(database, writer).append(record).result()
    writer.close()


def give_feedback(database: Database, *events: FeedbackEvent) -> None:
    """Append to the feedback log."""
    writer = GroupCommitter(database)
    FeedbackLog(database, writer).append(list(events)).result()
    writer.close()


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    """Wait until ``true`` holds; fails after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def live(
    database: Database, snapshot: Snapshot, rows: Sequence[dict[str, Any]], name: str = "d", *, explore: bool = True
) -> None:
    """Log a decision on each of ``rows`` by ``snapshot``'s estimates, exploring a little, and the true score of its answer."""
    writer, rng = GroupCommitter(database), np.random.default_rng(0)
    decisions, log = DecisionLog(database, writer), FeedbackLog(database, writer)
    encoded = WordEncoder().encode([(Turn("user", row["prompt"]),) for row in rows])
    expected = Estimator(snapshot).estimate_batch(
        np.stack([e.embedding for e in encoded]), np.stack([e.features for e in encoded])
    ).quality  # fmt: skip
    events = []
    for i, row in enumerate(rows):
        chances = inverse_gap_weights(expected[i], 100.0, 0.1 if explore else 0.0)
        candidates = [
            Candidate(m, q, 0.1, COSTS[m], q, p)
            for m, q, p in zip(snapshot.models, expected[i].tolist(), chances.tolist(), strict=True)
        ]
        candidates.append(Candidate("absent", 0.9, 0.1, 0.0, 0.9, 0.0, {}, "unavailable"))
        model = str(rng.choice(snapshot.models, p=chances))
        decision = Decision(model, tuple(candidates), TaskAssignment(0, "t", 1.0), (), 1, 0, encoded[i], False, "why")
        record = DecisionRecord(
            id=f"{name}{i}", created_at=datetime.now(UTC), decision=decision, encoder=snapshot.encoder,
            prompt=row["prompt"],
        )  # fmt: skip
        written = decisions.append(record)
        events.append(FeedbackEvent(record.id, row["scores"][model], "judge"))
    written.result()
    log.append(events).result()
    writer.close()
