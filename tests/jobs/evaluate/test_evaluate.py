"""`evaluate`: routers, measures, baselines, notes on the data, and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agent.errors import BadDataFile, InvalidInput
from jobs.data.files import read
from jobs.evaluate import baselines
from jobs.evaluate.harness import ABLATED, ROUTERS, Result
from jobs.evaluate.metrics import bootstrap, cost_at, macro, sweep
from jobs.evaluate.plots import draw
from jobs.evaluate.report import frontier, to_json
from jobs.evaluate.run import evaluate, pairs
from jobs.evaluate.table import Table, align, build
from store.encoders.cache import CachedEncoder
from tests.jobs.made import BEST, COSTS, MODELS, WordEncoder, records, write


class CountingEncoder(WordEncoder):
    """Counts the conversations that it encodes."""

    encoded = 0

    def encode(self, conversations: Any) -> Any:
        self.encoded += len(conversations)
        return super().encode(conversations)


def table_of(rows: list[dict[str, Any]], tmp_path: Path) -> Table:
    parsed = read(write(tmp_path / "t.jsonl", rows))
    encoded = CachedEncoder(WordEncoder(), tmp_path).encode([r.prompt for r in parsed])
    return build(parsed, encoded, sorted({m for r in parsed for m in r.scores}))


def compare(tmp_path: Path, train: list[dict[str, Any]], test: list[dict[str, Any]], **options: Any) -> Result:
    return evaluate(
        write(tmp_path / "train.jsonl", train),
        write(tmp_path / "test.jsonl.gz", test),
        encoder=CachedEncoder(WordEncoder(), tmp_path / "cache"),
        **options,
    )


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return compare(tmp_path_factory.mktemp("evaluate"), records(180), records(90, seed=1), seeds=2)


def test_every_router_has_its_row(result: Result) -> None:
    report = to_json(result)
    assert tuple(report["routers"]) == ROUTERS
    json.dumps(report, allow_nan=False)
    for router in report["routers"].values():
        assert set(router) == {"macro", "micro", "cost", "cost_at", "per_source", "curve"}
        assert set(router["macro"]) == {"mean", "std"}
        assert set(router["cost_at"]) == {"100", "99", "98", "95"}
        assert set(router["per_source"]) == set(BEST)
        assert 0 <= router["macro"]["mean"] <= 1
    assert report["training"]["wall_s"]["mean"] > 0
    assert report["routing_ms"]["mean"] > 0
    assert report["tasks"]["nmi"]["mean"] > 0.7


def test_an_ablation_adds_two_stage_without_each_part_and_compares_it(tmp_path: Path) -> None:
    report = to_json(compare(tmp_path, records(60), records(30, seed=1), ablate=True))
    assert set(report["routers"]) - set(ROUTERS) == set(ABLATED) == set(report["bootstrap"]) - set(ROUTERS)


def test_routers_rank_as_the_made_up_data_dictate(result: Result) -> None:
    routers = to_json(result)["routers"]
    quality = {name: row["macro"]["mean"] for name, row in routers.items()}
    assert quality["random"] < quality["best single"] < quality["two-stage"] <= quality["oracle"]
    for name in ("kNN", "k-means", "linear", "MLP", "label control"):
        assert quality[name] > quality["best single"] + 0.2, name
    assert routers["cheapest"]["cost"]["mean"] == min(r["cost"]["mean"] for r in routers.values())
    assert routers["oracle"]["cost_at"]["100"] < 0.5
    difference = to_json(result)["bootstrap"]["best single"]["macro"]
    assert difference["low"] > 0
    assert difference["p"] == 0


def test_pictures_are_drawn(result: Result, tmp_path: Path) -> None:
    drawn = draw(result, tmp_path / "plots", "made")
    assert [p.name for p in drawn] == ["cost_quality.png", "task_map.png", "task_quality.png"]
    assert all(p.read_bytes().startswith(b"\x89PNG") for p in drawn)


def test_embeddings_are_cached_by_content(tmp_path: Path) -> None:
    encoder = CountingEncoder()
    prompts = ["simmer onion", "solve root", "simmer onion"]
    first = CachedEncoder(encoder, tmp_path).encode(prompts)
    again = CachedEncoder(encoder, tmp_path).encode(prompts[:2])
    assert encoder.encoded == 2
    assert (first[0].embedding == again[0].embedding).all()
    assert (first[0].features == again[0].features).all()
    assert (first[1].tokens, first[1].coverage) == (again[1].tokens, again[1].coverage) == (2, 1.0)


def test_macro_weighs_sources_alike() -> None:
    assert macro(np.array([1.0, 1.0, 1.0, 0.0]), np.array(["a", "a", "a", "b"])) == 0.5


def test_cost_at_is_the_least_cost_that_reaches_the_quality(tmp_path: Path) -> None:
    rows = [
        {
            "prompt": f"p{i}",
            "source": "s",
            "scores": {"big": 1.0, "small": float(i % 2)},
            "costs": {"big": 10, "small": 1},
        }
        for i in range(10)
    ]
    table = table_of(rows, tmp_path)
    estimates = np.array([[0.9, 0.9 if i % 2 else 0.1] for i in range(10)])
    informed = sweep(table, estimates, table.costs, unit=5.5)
    assert cost_at(informed, 1.0, 10.0)["100"] == pytest.approx(0.55)
    constant = sweep(table, np.full((10, 2), [0.9, 0.5]), table.costs, unit=5.5)
    assert cost_at(constant, 1.0, 10.0)["100"] == pytest.approx(1.0)
    assert cost_at(constant, 2.0, 10.0)["100"] is None


def test_the_frontier_drops_points_that_another_beats() -> None:
    curve = np.array([[3.0, 0.9], [1.0, 0.5], [2.0, 0.4], [3.0, 0.8], [4.0, 0.9]])
    assert frontier(curve).tolist() == [[1.0, 0.5], [3.0, 0.9]]


def test_the_bootstrap_interval_excludes_zero_only_where_there_is_a_difference() -> None:
    rng = np.random.default_rng(0)
    theirs = (rng.random(500) < 0.5).astype(float)
    ours = np.maximum(theirs, rng.random(500) < 0.2)
    strata = np.repeat(["a", "b"], 250)
    better = bootstrap(ours, theirs, strata, 0)
    assert 0 < better.low < better.mean < better.high
    same = bootstrap(theirs, theirs[rng.permutation(500)], None, 0)
    assert same.low < 0 < same.high


def test_baselines_fit_and_predict_with_missing_scores_and_few_prompts(tmp_path: Path) -> None:
    rows = records(6)
    del rows[0]["scores"]["chef"], rows[3]["costs"]["cheap"]
    table = table_of(rows, tmp_path)
    for grid in baselines.grids(0).values():
        for quality in baselines.tune(grid, table, 0).predict(table.embeddings):
            assert quality.shape == (6, 4)
            assert np.isfinite(quality).all()


def test_ridge_without_a_score_predicts_the_mean_of_all() -> None:
    targets = np.array([[0.0, np.nan], [1.0, np.nan]])
    weights = baselines.ridge(np.eye(2, 3, dtype=np.float32), targets, 1.0)
    assert weights[-1, 1] == 0.5
    assert not weights[:-1, 1].any()


def notes_of(tmp_path: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> str:
    return "\n".join(align(read(write(tmp_path / "a.jsonl", train)), read(write(tmp_path / "b.jsonl", test)))[3])


def test_notes_name_what_is_unusual_about_the_files(tmp_path: Path) -> None:
    train, test = records(9), records(6, seed=1)
    assert notes_of(tmp_path, train, test) == ""
    assert "2 repeated training prompts" in notes_of(tmp_path, train + train[:2], test)
    assert "1 repeated test prompts" in notes_of(tmp_path, train, test + test[:1])
    assert "3 test prompts are also in the training file" in notes_of(tmp_path, train, test + train[:3])
    alone = [r | {"scores": {"chef": 1.0}} for r in train]
    assert "only one model (chef)" in notes_of(tmp_path, alone, [r | {"scores": {"chef": 0.0}} for r in test])
    test[0]["scores"] = {"chef": 1.0, "cheap": float("nan")}
    assert "3 of 24 test scores are missing" in notes_of(tmp_path, train, test)


def test_a_model_that_training_never_saw_is_routed_by_its_prior(tmp_path: Path) -> None:
    test = records(30, seed=1)
    for row in test:
        row["scores"]["novel"] = 1.0
        row["costs"]["novel"] = 0.01
    high = compare(tmp_path, records(90), test, priors={"novel": 0.99})
    assert "never saw are routed by their prior alone: novel" in "\n".join(high.notes)
    column = high.test.models.index("novel")
    assert (high.trained[0].estimates.quality.argmax(axis=1) == column).mean() > 0.5
    low = compare(tmp_path, records(90), test, priors={"novel": 0.01})
    assert (low.trained[0].estimates.quality.argmax(axis=1) == column).mean() < 0.1


def test_one_model_missing_scores_duplicates_and_no_costs_still_give_a_report(tmp_path: Path) -> None:
    train = [{k: v for k, v in r.items() if k != "costs"} for r in records(20)]
    test = [{k: v for k, v in r.items() if k != "costs"} for r in records(12, seed=1)]
    only = [r | {"scores": {"chef": r["scores"]["chef"]}} for r in train]
    alone = to_json(compare(tmp_path, only, [r | {"scores": {"chef": r["scores"]["chef"]}} for r in test]))
    assert len({round(r["micro"]["mean"], 9) for r in alone["routers"].values()}) == 1
    assert "cheapest" not in alone["routers"]
    assert alone["routers"]["two-stage"]["cost"] == {"mean": None, "std": None}
    for i, row in enumerate([*train, *test]):
        del row["scores"][MODELS[i % 4]]
    holes = to_json(compare(tmp_path, train + train[:3], test + test[:2] + train[:1]))
    assert len(holes["notes"]) == 4
    assert 0 <= holes["routers"]["two-stage"]["macro"]["mean"] <= 1


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="two different prompts"):
        compare(tmp_path, records(1) * 3, records(3, seed=1))
    with pytest.raises(BadDataFile, match="at least one model's score"):
        compare(tmp_path, records(9), [{"prompt": "p", "source": "s", "scores": {"a": None}}])
    with pytest.raises(InvalidInput, match="no subfolder holds"):
        pairs(tmp_path)


def test_a_folder_is_searched_for_pairs(tmp_path: Path) -> None:
    write(tmp_path / "one" / "train.jsonl", records(3))
    write(tmp_path / "one" / "test.jsonl.gz", records(3))
    write(tmp_path / "half" / "train.jsonl", records(3))
    assert {n: (a.name, b.name) for n, (a, b) in pairs(tmp_path).items()} == {"one": ("train.jsonl", "test.jsonl.gz")}


def test_costs_are_those_of_the_chosen_models(result: Result) -> None:
    always = result.routers["best single"][0]
    assert np.nanmean(always.cost) == pytest.approx(COSTS[result.singles[0].name] * 1.05, rel=0.02)
