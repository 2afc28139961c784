"""Models that join a live server under load: ``python -m tests.benchmarks.join_live [--case good ...] [--reports FOLDER]``.

It starts ``serve run`` with SmolLM2 and two models whose answers say what they are worth by recorded scores
(`tests.serve.joining`), trained on the scores of some prompts. Clients ask others without end, by the ``openai`` client, and
score some of the answers. Then models join by ``POST /v1/models``, one after another, with default settings but for the pace
(calls a minute, reviews): a good one, a bad one, one that holds less context than it claims, one that dies half-way through
its probes, and one that is as good as the best and costs 100 times more. What became of each is printed as a table.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from store.encoders.backends import BUNDLED, load_encoder
from store.encoders.cache import CachedEncoder
from tests.serve.conftest import new_home
from tests.serve.joining import LOCAL, PRICE, Answered, Newcomer, Scores, Stage, stage
from tests.upstream import Body

TRAINED, ASKED = 400, 1000
"""Prompts whose scores are known at the start, and prompts that the load asks."""

LONGEST = 1000
"""Characters of a prompt: SmolLM2 reads longer ones for seconds."""

PRESENT = ("meta-llama/llama-4-maverick", "mistralai/mistral-small-3.1-24b-instruct")
BEST = "openai/o3-mini"
CASES = ("good", "bad", "liar", "dies", "dear")
LIES_AT = 500
"""Characters beyond which the liar refuses a request, though it claims 128,000 tokens."""


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs="*", choices=CASES, default=CASES)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/reasoning_gym/train.jsonl.gz"))
    parser.add_argument("--reports", type=Path, help="a folder for each model's report, as page and JSON")
    parser.add_argument("--cache", type=Path, help="folder of encoders' graphs and embeddings, of an earlier run")
    parser.add_argument("--timeout", type=float, default=180.0, help="seconds that a model may take")
    parser.add_argument(
        "--pause", type=float, default=0.2, help="seconds that each of two clients waits between requests"
    )
    parser.add_argument("--after", type=int, default=300, help="requests after a join that are looked at")
    arguments = parser.parse_args()
    if not arguments.data.exists():
        raise SystemExit(f"there are no recorded scores at {arguments.data}; give --data")
    rows, asked = recorded(arguments.data)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with tempfile.TemporaryDirectory() as folder:
        cache = arguments.cache or Path(folder) / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        home = new_home(Path(folder) / "home", cache.resolve())
        encoder = CachedEncoder(load_encoder(BUNDLED, cache), cache)
        known = [(row["prompt"], present(row["scores"])) for row in rows]
        with stage(home, encoder, known, [row["prompt"] for row in asked], **pace()) as running:
            for model in (*PRESENT, LOCAL):
                of = {row["prompt"]: row["scores"].get(model, 0.0) for row in (*rows, *asked)}
                running.recorded[model] = of
            found = [join(running, case, [*rows, *asked], arguments) for case in arguments.case]
    table = Table(*found[0].keys())
    for row in found:
        table.add_row(*row.values())
    Console(width=200).print(table)


def pace() -> dict[str, Any]:
    """Settings by which the walk takes minutes, not hours."""
    return {"join_calls_per_minute": 6000, "join_review_schedule": "interval: 5s", "upstream_timeout_s": 120}


def recorded(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Scored prompts to train on, and to ask."""
    with gzip.open(path, "rt") as lines:
        rows = [json.loads(line) for line in lines]
    wanted = {*PRESENT, BEST}
    rows = [row for row in rows if wanted <= row["scores"].keys() and len(row["prompt"]) <= LONGEST]
    random.Random(0).shuffle(rows)
    return rows[:TRAINED], rows[TRAINED : TRAINED + ASKED]


def present(scores: Scores) -> dict[str, float]:
    """Those of the models that are there from the start; SmolLM2's are 0."""
    return {model: scores.get(model, 0.0) for model in (*PRESENT, LOCAL)}


def newcomer(case: str, rows: Sequence[dict[str, Any]]) -> Newcomer:
    """The model of a case."""
    best = {row["prompt"]: row["scores"][BEST] for row in rows}
    made = Newcomer(f"new/{case}", best)
    if case == "bad":
        return replace(made, scores=dict.fromkeys(best, 0.0))
    if case == "liar":
        return replace(made, context=128_000, manners={"context": LIES_AT})
    if case == "dies":
        return replace(made, manners={"fault": dies(12)})
    if case == "dear":
        top = max(PRESENT, key=lambda model: fmean(row["scores"][model] for row in rows))
        scores = {row["prompt"]: row["scores"][top] for row in rows}
        return replace(made, scores=scores, price=(100 * PRICE[0], 100 * PRICE[1]))
    return made


def dies(after: int) -> Any:
    """A fault that ends an upstream within the answer to request ``after``."""
    made = 0

    def fault(body: Body) -> str | None:
        nonlocal made
        made += 1
        return "die" if made == after else None

    return fault


def join(running: Stage, case: str, rows: Sequence[dict[str, Any]], arguments: Any) -> dict[str, str]:
    """Let a model join under load; a row of the table."""
    model = newcomer(case, rows)
    with running.load(clients=2, pause_s=arguments.pause, feedback=0.5):
        before = running.requests(60)
        with running.joining(model) as (upstream, added):
            begin = len(running.answers)
            running.wait(model.name, arguments.timeout)
            took = time.monotonic() - added
            during = running.answers[begin:]
            after = running.requests(arguments.after)
            found = running.join(model.name)
            with running.live.http as http:
                report = http.get(f"/v1/models/{model.name}/report", params={"format": "json"}).json()
                page = http.get(f"/v1/models/{model.name}/report").text
            if arguments.reports:
                arguments.reports.mkdir(parents=True, exist_ok=True)
                (arguments.reports / f"{case}.html").write_text(page)
                (arguments.reports / f"{case}.json").write_text(json.dumps(report, indent=1))
        left = running.requests(20)
    asked = [*before, *during, *after, *left]
    failed = [a.error for a in asked if a.error]
    for error in sorted(set(map(str, failed)))[:3]:
        print(f"{case}: {error}", flush=True)
    print(case, found["state"], found["state_reason"], flush=True)
    for event in report["steps"]:
        print("   ", event["at"], event["state"], event["reason"], flush=True)
    calls = sum(s["calls"] for s in report["spending"])
    return {
        "model": case,
        "came to": found["state"],
        "after s": f"{took:.0f}",
        "calls": str(calls),
        "USD": f"{report['usd']:.4f}",
        "calls to it": str(len(upstream.received)),
        "requests": str(len(asked)),
        "failed": str(len(failed)),
        "its share before": f"{share(during, model.name):.1%}",
        "after": f"{share(after, model.name):.1%}",
        "quality before": f"{fmean(a.score for a in before):.3f}",
        "after ": f"{fmean(a.score for a in after):.3f}",
        "left": f"{share(left, model.name):.0%}",
    }


def share(answers: Sequence[Answered], model: str) -> float:
    """Of the answers, those of a model."""
    return fmean([a.model == model for a in answers] or [0.0])


if __name__ == "__main__":
    main()
