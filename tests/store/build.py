"""Values that the store's tests write."""

from __future__ import annotations

import gzip
import sqlite3
import tempfile
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import store
from agent.snapshot import FORMAT, GENERAL, Head, LineageEvent, Snapshot
from agent.types import Candidate, Decision, Encoded, Evidence, Part, TaskAssignment
from store.database import Database
from store.decisions import DecisionRecord

POOL = Path(store.__file__).parent / "data" / "pool.yaml"
OLD_STORE = Path(__file__).parent / "data" / "old_store.sql.gz"
ENCODER = "test-encoder@1"


@cache
def _migrated() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "thalweg.db"
        Database.open(f"sqlite:///{path}").close()
        return path.read_bytes()


def migrated_file(path: Path) -> Path:
    """Makes a migrated SQLite file without rows, in less time than migrations take."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        file.write(_migrated())
    return path


def restore_old_store(path: Path) -> Path:
    """The store of `data/make_old_store.py` as a SQLite file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as file:
        file.executescript(gzip.decompress(OLD_STORE.read_bytes()).decode())
    return path


def an_encoded(seed: int = 0) -> Encoded:
    """A prompt as numbers."""
    rng = np.random.default_rng(seed)
    return Encoded(rng.normal(size=8).astype(np.float32), rng.normal(size=3).astype(np.float32), 17, 0.75)


def encode(texts: list[str]) -> list[Encoded]:
    """An encoder of sorts: the same text gives the same numbers."""
    return [an_encoded(sum(text.encode("utf-8", "surrogatepass"))) for text in texts]


def a_record(id: str, *, prompt: str | None = "What is 2 + 2?", model: str = "a", **fields: Any) -> DecisionRecord:
    """A decision between ``a`` and ``b``."""
    parts = {"task": Part(0.81, 1.0), "online": Part(-0.01, 1.0)}
    decision = Decision(
        model=model,
        candidates=(
            Candidate("a", 0.8, 0.05, 0.001, 0.79, 0.9 if model == "a" else 0.1, parts, cost_penalty=0.01),
            Candidate("b", 0.6, 0.1, 0.0001, 0.6, 0.1 if model == "a" else 0.9),
            Candidate("c", 0.5, 0.1, 0.0, 0.5, 0.0, {}, "no vision"),
        ),
        task=TaskAssignment(7, "arithmetic", 0.93),
        evidence=(Evidence("e1", 0.88, {"a": 1.0, "b": 0.0}),),
        snapshot=3,
        position=12,
        encoded=encode([prompt or ""])[0],
        explored=False,
        why="a is best",
        tasks={7: 0.93, 4: 0.07},
        neighbourhood=41,
    )
    defaults: dict[str, Any] = {"created_at": datetime.now(UTC), "encoder": ENCODER}
    return DecisionRecord(id=id, decision=decision, prompt=prompt, **(defaults | fields))


def a_snapshot(tasks: tuple[int, ...] = (1, 2), lineage: tuple[LineageEvent, ...] = (), scale: float = 1.0) -> Snapshot:
    """A snapshot of two models with tensors of every awkward shape."""
    meta = {
        "format": FORMAT,
        "encoder": ENCODER,
        "models": ["a", "b"],
        "tasks": [
            {"id": t, "name": f"task {t}", "size": 9, "candidates": ["a"], "medoids": ["m"], "means": {"a": [0.5, 3.0]},
             "parents": []}
            for t in tasks
        ],
    }  # fmt: skip
    tensors = {
        "wide": np.arange(12, dtype=np.float32).reshape(3, 4).T * scale,  # not contiguous
        "scalar": np.float64(0.25) * np.ones(()),
        "empty": np.zeros((0, 4), np.float32),
        "ids": np.array([3, 1, 2], np.int64),
        "mask": np.array([True, False]),
    }
    heads = [Head(GENERAL, m, {"w": np.full(4, scale, np.float32)}) for m in ("a", "b")]
    heads += [Head(t, "a", {"u": np.full((2, 4), t, np.float32)}) for t in tasks]
    return Snapshot(0, 5, meta, tensors, tuple(heads), lineage)
