"""The protocol is right where known baselines give their known figures on real data."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest

from jobs.data.files import read
from jobs.evaluate.baselines import KNN, Baseline, KMeans, label_control
from jobs.evaluate.harness import single_models
from jobs.evaluate.metrics import earn, macro
from jobs.evaluate.table import Table, align, build
from store.encoders.cache import CachedEncoder
from store.encoders.load import load_encoder
from store.encoders.onnx import BUNDLED

DATA = Path(os.environ.get("THALWEG_DATA", "../shared/data"))
CACHE = Path(os.environ.get("THALWEG_HOME", "var")) / "cache"

pytestmark = pytest.mark.skipif(
    os.environ.get("THALWEG_BENCH") != "1" or not DATA.exists(),
    reason="encodes 20,000 prompts, minutes the first time: set THALWEG_BENCH=1, and THALWEG_DATA to the data",
)


@cache
def tables(name: str) -> tuple[Table, Table]:
    train, test, models, _ = align(*(read(DATA / name / f"{split}.jsonl.gz") for split in ("train", "test")))
    rows = [*train, *test]
    encoded = CachedEncoder(load_encoder(BUNDLED, CACHE), CACHE).encode([row.prompt for row in rows])
    return build(train, encoded[: len(train)], models), build(test, encoded[len(train) :], models)


def routed(name: str, baseline: Baseline) -> tuple[float, float]:
    """Macro and micro quality in percent."""
    train, test = tables(name)
    baseline.fit(train)
    quality, _ = earn(test, baseline.predict(test.embeddings)[0])
    return 100 * macro(quality, test.sources), 100 * float(quality.mean())


def test_knn_on_routerdc() -> None:
    assert routed("routerdc", KNN(100))[0] == pytest.approx(55.9, abs=0.5)


def test_kmeans_on_routerdc() -> None:
    assert sum(routed("routerdc", KMeans(16, seed))[0] for seed in range(3)) / 3 == pytest.approx(58.2, abs=0.6)


def test_knn_on_reasoning_gym() -> None:
    assert routed("reasoning_gym", KNN(20))[1] == pytest.approx(67.5, abs=0.3)


@pytest.mark.parametrize(("name", "best", "label"), [("routerdc", 54.56, 58.74), ("reasoning_gym", 61.77, 64.99)])
def test_best_single_model_and_label_control(name: str, best: float, label: float) -> None:
    train, test = tables(name)
    assert 100 * single_models(test)[0].macro == pytest.approx(best, abs=0.01)
    quality, _ = earn(test, label_control(train, test)[0])
    assert 100 * macro(quality, test.sources) == pytest.approx(label, abs=0.1)
