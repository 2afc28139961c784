"""What one voice and one new model move on a fresh pool, over HTTP: `python -m tests.benchmarks.fresh_pool`.

It starts a server with the default pool (all of whose models count as callable; none is called) and prints

- by how much one thumb down by one rater lowers the estimate of the model that it is about, on prompts of the same kind, and at
  most on other kinds, for several prompts one after another (later thumbs weigh more, as their source is better known);
- after 200 scored answers, the share of the next requests of a model that was added without any figure and that nobody scores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import tempfile
from pathlib import Path

import httpx
import numpy as np

from tests.serve.conftest import WORDS as CITIES
from tests.serve.test_live import REPOSITORY, Live, ask

KINDS = {
    "river": "Name a river that flows through {}.",
    "sum": "What is {} plus 17 times 3? Give only the number.",
    "code": "Write a Python function that sorts a list of {} by name and returns the first.",
    "poem": "Write a short poem about {} in the rain.",
    "law": "Which contract law applies to the sale of {} to a foreigner?",
}
WORDS = CITIES.split()
POOL = REPOSITORY / "store" / "data" / "pool.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--cache", type=Path, help="folder of encoders' graphs, of an earlier run")
    arguments = parser.parse_args()
    for name in re.findall(r"api_key_env: *(\w+)", POOL.read_text()):
        os.environ.setdefault(name, "not-used")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        home.mkdir()
        if arguments.cache:
            (home / "cache").symlink_to(arguments.cache)
        live = Live(home, POOL)
        try:
            live.start()
            with live.http as http:
                thumbs = [thumb(http, kind) for kind in KINDS]
                share = newcomers_share(http, arguments.requests)
        finally:
            live.stop()
    print(json.dumps({"thumbs": thumbs, "newcomer": share}, indent=1))


def route(http: httpx.Client, kind: str, word: str, **steering: object) -> dict[str, object]:
    asked = http.post("/v1/route", json=ask(KINDS[kind].format(word), thalweg=steering))
    decision: dict[str, object] = asked.raise_for_status().json()
    return decision


def thumb(http: httpx.Client, kind: str) -> dict[str, object]:
    """One thumb down on the leader for a prompt of this kind; before and after it, the leader's estimate on each kind."""
    decision = route(http, kind, "Vienna", explore=False)
    model = str(decision["model"])

    def estimates() -> dict[str, float]:
        found = {}
        for other in KINDS:
            candidates = route(http, other, "Malta", explore=False)["candidates"]
            found[other] = next(c["quality"] for c in candidates if c["model"] == model)  # type: ignore[attr-defined]
        return found

    before = estimates()
    receipt = http.post(
        "/feedback", json={"decision_id": decision["decision_id"], "thumb": "down", "rater": f"ann-{kind}"}
    )
    seq = receipt.raise_for_status().json()["results"][0]["seq"]
    while http.get("/readyz").json()["position"] < seq:
        pass
    moved = {other: round(before[other] - quality, 4) for other, quality in estimates().items()}
    here = moved.pop(kind)
    return {"kind": kind, "model": model, "same_kind": here, "elsewhere_most": max(moved.values())}


def newcomers_share(http: httpx.Client, requests: int) -> dict[str, float]:
    """Share of requests of a model that is added after 200 scored answers."""
    rng = np.random.default_rng(0)
    names, kinds = WORDS, list(KINDS)
    for n in range(200):
        decision = route(http, kinds[n % len(kinds)], f"{names[n % 20]} and {names[n // 10]}")
        score = {"decision_id": decision["decision_id"], "score": float(rng.random() < 0.8), "source": "judge"}
        http.post("/feedback", json=score).raise_for_status()
    provider = {"kind": "openai", "base_url": "http://127.0.0.1:9/v1"}
    added = {"name": "new/model", "price_input": 1, "price_output": 3, "provider": provider, "check": False}
    http.post("/v1/models", json=added).raise_for_status()
    while "new/model" not in {c["model"] for c in route(http, "sum", "1")["candidates"]}:  # type: ignore[attr-defined]
        pass
    chosen = []
    for _ in range(requests):
        words = rng.choice(names, 2)
        chosen.append(route(http, str(rng.choice(kinds)), f"{words[0]} or {words[1]}")["model"] == "new/model")
    return {"requests": requests, "share": float(np.mean(chosen))}


if __name__ == "__main__":
    main()
