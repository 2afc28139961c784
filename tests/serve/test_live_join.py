"""A model that is added to a live server under load is checked, probed, judged, tried and adopted, and no request fails."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agent.encoding.encoder import WindowedEncoder
from store.encoders.cache import CachedEncoder
from tests.serve.conftest import KINDS, WORDS, new_home
from tests.serve.joining import LOCAL, Answered, Newcomer, Scores, Stage, stage

OLD, NEW = "up/old", "up/new"
JUDGE = "side/judge"
"""Good at nothing else: it judges, since nobody judges its own answers."""

GOOD_AT = {OLD: {"river", "poem"}, NEW: {"sum", "code"}}


def score(model: str, kind: str) -> float:
    return 0.9 if kind in GOOD_AT.get(model, ()) else 0.1


PROMPTS = {template.format(word): kind for kind, template in KINDS.items() for word in WORDS.split()}


def scores(model: str) -> Scores:
    return {prompt: score(model, kind) for prompt, kind in PROMPTS.items()}


def misrouted(answers: Sequence[Answered]) -> dict[str, list[str]]:
    """Kinds of prompts of which too few went to the model that is best, and who answered them."""
    out = {}
    for kind in KINDS:
        models, best = [a.model for a in answers if PROMPTS[a.prompt] == kind], NEW if kind in GOOD_AT[NEW] else OLD
        if models.count(best) < 0.6 * len(models):
            out[kind] = models
    return out


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, cache_dir: Path, encoder: WindowedEncoder) -> Iterator[Stage]:
    home = new_home(tmp_path_factory.mktemp("join") / "home", cache_dir)
    rows = [(prompt, {model: score(model, kind) for model in (OLD, JUDGE, LOCAL)}) for prompt, kind in PROMPTS.items()]
    settings = {"join_probes": 12, "join_calls_per_minute": 60_000, "join_review_schedule": "interval: 5s"}
    cached = CachedEncoder(encoder, tmp_path_factory.mktemp("embeddings"))
    with stage(home, cached, rows, list(PROMPTS), **settings) as live:
        yield live


def test_a_model_joins_under_load_and_takes_the_tasks_that_it_wins_without_a_failed_request(running: Stage) -> None:
    with (
        running.load(clients=2, pause_s=0.05, feedback=0.3),
        running.joining(Newcomer(NEW, scores(NEW))) as (upstream, _),
    ):
        state = running.wait(NEW, 120.0)
        assert state == "adopted", running.join(NEW)["steps"]
        found = running.join(NEW)
        assert [step["state"] for step in found["steps"]] == [
            "added", "checked", "probing", "judging", "trial", "adopted",
        ]  # fmt: skip
        probed = len(found["found"]["probes"])
        assert found["found"]["judged"]["scored"] == probed == 12
        batches = [running.requests(60)]
        while misrouted(batches[-1]) and len(batches) < 8:  # what it wins is learned from requests too
            batches.append(running.requests(60))
        after = batches[-1]
        with running.live.http as http:
            report = http.get(f"/v1/models/{NEW}/report", params={"format": "json"}).raise_for_status().json()
            assert "Against whom" in http.get(f"/v1/models/{NEW}/report").raise_for_status().text
    assert [answer.error for answer in running.answers if answer.error] == []
    assert not misrouted(after)
    assert {s["role"]: s["calls"] for s in report["spending"]} == {
        "check": 7, "probe": probed, "rival": probed, "judge": 2 * probed,
    }  # fmt: skip
    assert 0.0 < report["usd"] < 2.0 and report["predicted"]["quality"] > 0.1
    assert len(upstream.received) >= 7 + probed + sum(a.model == NEW for a in after)
