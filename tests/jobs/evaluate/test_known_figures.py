"""The protocol is right where simple routers give their known figures on real data (`README.md` beside the data)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from agent.types import Array, Encoded
from jobs.data.files import read
from jobs.evaluate.baselines import KNN, Baseline, KMeans, label_control
from jobs.evaluate.harness import single_models
from jobs.evaluate.metrics import macro, route
from jobs.evaluate.table import Table, align, build
from store.encoders.backends import BUNDLED, load_encoder
from store.encoders.cache import CachedEncoder
from store.evaluations import EvaluationRow

DATA = Path(os.environ.get("THALWEG_DATA", "../shared/data"))
CACHE = Path(os.environ.get("THALWEG_HOME", "var")) / "cache"

pytestmark = pytest.mark.skipif(
    not DATA.exists(), reason=f"{DATA} is not there: set THALWEG_DATA to the benchmark data"
)
long = pytest.mark.skipif(
    os.environ.get("THALWEG_BENCH") != "1",
    reason="encodes 20,000 prompts, minutes the first time: set THALWEG_BENCH=1",
)

FEW_TASKS = ("ab", "advanced_geometry", "aiw", "base_conversion", "cryptarithm")
"""Tasks of reasoning_gym with short prompts, 250 in all, on which the best single model is far from the best of each task."""


@cache
def rows(name: str) -> tuple[list[EvaluationRow], list[EvaluationRow], list[str]]:
    return align(*(read(DATA / name / f"{split}.jsonl.gz") for split in ("train", "test")))[:3]


def without_encoding(name: str) -> tuple[Table, Table]:
    """All prompts, with embeddings of zeros."""
    blank = Encoded(np.zeros(1, np.float32), np.zeros(1, np.float32), 1)
    train, test, models = rows(name)
    return build(train, [blank] * len(train), models), build(test, [blank] * len(test), models)


def encoded(
    train: Sequence[EvaluationRow], test: Sequence[EvaluationRow], models: Sequence[str]
) -> tuple[Table, Table]:
    encoder = CachedEncoder(load_encoder(BUNDLED, CACHE), CACHE)
    found = encoder.encode([row.prompt for row in [*train, *test]])
    return build(train, found[: len(train)], models), build(test, found[len(train) :], models)


@cache
def tables(name: str) -> tuple[Table, Table]:
    return encoded(*rows(name))


def percent(test: Table, utility: Array, by_source: bool) -> float:
    """Macro or micro quality of routing by ``utility``."""
    quality = route(test, utility)[0]
    return 100 * (macro(quality, test.sources) if by_source else float(quality.mean()))


def routed(train: Table, test: Table, baseline: Baseline, by_source: bool) -> float:
    baseline.fit(train)
    return percent(test, baseline.predict(test.embeddings)[0], by_source)


@pytest.mark.parametrize(
    ("name", "by_source", "best", "label", "oracle"),
    [
        ("routerdc", True, 54.56, 58.67, 77.52),
        ("reasoning_gym", False, 64.70, 68.14, 75.37),
        ("mixed2024", False, 76.16, 77.14, 87.16),
        ("paretobandit", False, 93.32, 93.53, 97.29),
    ],
)
def test_best_single_model_label_control_and_oracle(
    name: str, by_source: bool, best: float, label: float, oracle: float
) -> None:
    train, test = without_encoding(name)
    singles = [s.macro if by_source else s.micro for s in single_models(test)]
    assert 100 * max(singles) == pytest.approx(best, abs=0.01)
    assert percent(test, label_control(train, test)[0], by_source) == pytest.approx(label, abs=0.01)
    assert percent(test, test.scores, by_source) == pytest.approx(oracle, abs=0.01)


def test_knn_on_a_few_tasks_reaches_the_label_control_far_above_the_best_single_model() -> None:
    train, test, models = rows("reasoning_gym")
    few = encoded([r for r in train if r.task in FEW_TASKS], [r for r in test if r.task in FEW_TASKS], models)
    assert [len(table) for table in few] == [145, 105]
    for by_source in (False, True):
        best = 100 * max(s.macro if by_source else s.micro for s in single_models(few[1]))
        label = percent(few[1], label_control(*few)[0], by_source)
        assert best + 5 < routed(*few, KNN(20), by_source) == pytest.approx(label, abs=1.5)


@long
def test_knn_on_routerdc() -> None:
    assert routed(*tables("routerdc"), KNN(100), True) == pytest.approx(55.9, abs=0.5)


@long
def test_kmeans_on_routerdc() -> None:
    found = [routed(*tables("routerdc"), KMeans(16, seed), True) for seed in range(3)]
    assert sum(found) / 3 == pytest.approx(58.2, abs=0.6)


@long
def test_knn_on_reasoning_gym() -> None:
    assert routed(*tables("reasoning_gym"), KNN(20), False) == pytest.approx(67.5, abs=0.3)
