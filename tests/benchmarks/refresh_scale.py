"""Time and memory of a refresh by number of remembered prompts.

``python -m tests.benchmarks.refresh_scale --prompts 10000 30000 100000 --scores one all`` prints the tables of `docs/scale.md`.

Prompts are made up: unit vectors around `CENTRES` centres whose sizes follow a power law, with plain features and words by
centre, and eleven models whose quality depends on the centre. What is measured is `train_challenger` with a champion that was
trained on nine tenths of the prompts, so that lineage and gate run as well, and the making of a router from the result; with
``--store`` it is a whole refresh of evaluations in SQLite, reading and publishing included. Each is measured in a process of
its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from agent.encoding import features as text
from agent.encoding.features import BUCKETS, PLAIN
from agent.evaluation.challenger import RefreshData, train_challenger
from agent.examples import Examples
from agent.fit import fit
from agent.observations import Observation
from agent.router import Router
from agent.snapshot import Snapshot
from agent.types import Encoded, LoggedAction, ModelCard, Turn
from jobs.refresh.run import refresh
from jobs.settings import JobSettings
from store.database import Database
from store.evaluations import EvaluationRow, EvaluationStore
from store.snapshots import SnapshotStore

ENCODER = "made-up"
DIMENSION = 384
CENTRES = 300
MODELS = tuple(f"vendor/model-{i}" for i in range(11))
NEW = 10
"""One prompt in so many came after the champion."""

VOCABULARY = 40
"""Word buckets that the prompts of one centre use."""


def made_up(n: int, scores: str, seed: int = 0) -> Examples:
    """``n`` prompts with a score of every model (``all``) or of one drawn at random, of weight one half (``one``)."""
    rng = np.random.default_rng(seed)
    size = (1.0 + np.arange(CENTRES)) ** -0.8
    centre = rng.choice(CENTRES, n, p=size / size.sum())
    centres = rng.standard_normal((CENTRES, DIMENSION)).astype(np.float32) / np.float32(np.sqrt(DIMENSION))
    within = rng.standard_normal((32, DIMENSION)).astype(np.float32) / np.float32(np.sqrt(DIMENSION))
    embeddings = centres[centre]
    embeddings += 0.12 * rng.standard_normal((n, 32), np.float32) @ within  # directions in which all clusters spread
    embeddings += np.float32(0.4 / np.sqrt(DIMENSION)) * rng.standard_normal((n, DIMENSION), np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)

    features = np.zeros((n, len(PLAIN) + BUCKETS), np.float32)
    form = rng.random((CENTRES, len(PLAIN)), np.float32)
    features[:, : len(PLAIN)] = form[centre] + 0.3 * rng.standard_normal((n, len(PLAIN)), np.float32)
    own = rng.integers(0, BUCKETS, (CENTRES, VOCABULARY))
    common = (BUCKETS * rng.random((n, 20)) ** 3).astype(np.int64)  # few buckets hold most words
    words = np.concatenate([own[centre[:, None], rng.integers(0, VOCABULARY, (n, 20))], common], axis=1)
    np.add.at(features, (np.arange(n)[:, None], len(PLAIN) + words), 1.0)
    np.log1p(features[:, len(PLAIN) :], out=features[:, len(PLAIN) :])

    level = 0.55 + 0.1 * rng.standard_normal(len(MODELS))
    quality = level + 0.2 * rng.standard_normal((CENTRES, len(MODELS)))
    ease = 0.2 * rng.standard_normal((n, 1))
    value = np.clip(quality[centre] + ease + 0.25 * rng.standard_normal((n, len(MODELS))), 0.0, 1.0)
    weights = None
    if scores == "one":
        value[rng.integers(0, len(MODELS), (n, 1)) != np.arange(len(MODELS))] = np.nan
        weights = np.where(np.isnan(value), 0.0, 0.5)
    return Examples(
        ids=tuple(f"{seed}-{i}" for i in range(n)),
        embeddings=embeddings,
        features=features,
        scores=value,
        models=MODELS,
        costs=np.where(np.isnan(value), np.nan, 1e-3 * np.exp(0.3 * rng.standard_normal(value.shape))),
        texts=tuple(f"topic{c:03d} question number" for c in centre.tolist()),
        weights=weights,
    )


def first(examples: Examples, n: int) -> Examples:
    """The first ``n`` prompts."""
    return replace(
        examples,
        ids=examples.ids[:n],
        embeddings=examples.embeddings[:n],
        features=examples.features[:n],
        scores=examples.scores[:n],
        costs=None if examples.costs is None else examples.costs[:n],
        texts=examples.texts[:n],
        weights=None if examples.weights is None else examples.weights[:n],
    )


def logged(examples: Examples, start: int) -> list[Observation]:
    """Feedback on the prompts from ``start`` on, one row for each score, of decisions that could choose every model."""
    share = 1.0 / len(MODELS)
    actions = tuple(LoggedAction(m, share, 0.5, 0.0, 1e-3) for m in MODELS)
    rows = []
    for i in range(start, len(examples)):
        j = int(np.flatnonzero(~np.isnan(examples.scores[i]))[0])
        encoded = Encoded(examples.embeddings[i], examples.features[i], 20)
        rows.append(
            Observation(
                i, f"d{i}", examples.ids[i], MODELS[j], float(examples.scores[i, j]), "user", f"r{i % 500}", encoded,
                propensity=share, expected=0.5, actions=actions, encoder=ENCODER,
            )
        )  # fmt: skip
    return rows


@dataclass
class Stopwatch:
    """Wall and CPU seconds by stage, as ``progress`` names them."""

    wall: dict[str, float] = field(default_factory=dict)
    cpu: dict[str, float] = field(default_factory=dict)
    _stage: str = ""
    _since: tuple[float, float] = (0.0, 0.0)

    def __call__(self, stage: str, share: float = 0.0) -> None:
        now = (time.perf_counter(), time.process_time())
        if self._stage:
            for taken, start, end in zip((self.wall, self.cpu), self._since, now):
                taken[self._stage] = taken.get(self._stage, 0.0) + end - start
        self._stage, self._since = stage, now


def refresh_data(n: int, scores: str) -> tuple[RefreshData, Examples]:
    """What a refresh reads, and what its champion knew."""
    examples = made_up(n, scores)
    known = n - n // NEW
    if scores == "all":
        return RefreshData(examples, examples, (), 0), first(examples, known)
    return RefreshData(examples, first(examples, 0), logged(examples, known), n), first(examples, known)


def measure(n: int, scores: str, champion: bool = True) -> dict[str, Any]:
    """A training of ``n`` prompts, in this process."""
    data, known = refresh_data(n, scores)
    before = fit(known, encoder=ENCODER) if champion else None
    del known
    watch = Stopwatch()
    challenger = train_challenger(data, before, encoder=ENCODER, seed=0, progress=watch).snapshot
    watch("")
    return figures(n, scores, watch, challenger)


def figures(n: int, scores: str, watch: Stopwatch, challenger: Snapshot) -> dict[str, Any]:
    """What is printed of a training; the router is timed here."""
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.process_time()
    Router(challenger, [ModelCard(name) for name in challenger.models])
    return {
        "prompts": n,
        "scores": scores,
        "tasks": len(challenger.tasks),
        "wall": watch.wall,
        "cpu": watch.cpu,
        "router_s": time.process_time() - start,
        "snapshot_mb": sum(t.nbytes for t in challenger.tensors.values()) / 1e6,
        "rss_mb": rss,
        "load": os.getloadavg()[0],
    }


class MadeUpEncoder:
    """Encodes the seed prompts, which are no part of what is measured."""

    fingerprint, dimension = ENCODER, DIMENSION

    def encode(self, conversations: Sequence[Sequence[Turn]]) -> list[Encoded]:
        """A random vector each, by its text."""
        return [self._one(turns) for turns in conversations]

    def _one(self, turns: Sequence[Turn]) -> Encoded:
        vector = np.random.default_rng(list(turns[-1].text.encode())).standard_normal(DIMENSION)
        return Encoded((vector / np.linalg.norm(vector)).astype(np.float32), text.features(turns), 20)


def fill(folder: Path, n: int, scores: str) -> None:
    """A store with ``n`` evaluated prompts, and a champion that knows nine tenths of them."""
    settings = JobSettings.from_env({"THALWEG_HOME": str(folder)})
    database = Database.open(settings.database_url)
    examples = made_up(n, scores)

    def rows(which: range) -> Iterator[EvaluationRow]:
        for i in which:
            known = np.flatnonzero(~np.isnan(examples.scores[i])).tolist()
            score = {MODELS[j]: float(examples.scores[i, j]) for j in known}
            yield EvaluationRow(str(i), "made-up", None, score, {MODELS[j]: 1e-3 for j in known})

    def encode(texts: list[str]) -> list[Encoded]:
        return [Encoded(examples.embeddings[int(t)], examples.features[int(t)], 20) for t in texts]

    for part in (range(n - n // NEW), range(n - n // NEW, n)):
        EvaluationStore(database).add("made-up", "train", rows(part), encode, ENCODER)
        if part.start == 0:
            refresh(database, settings, encoder=MadeUpEncoder(), seed=0)
    database.close()


def measure_store(n: int, scores: str) -> dict[str, Any]:
    """A whole refresh of ``n`` prompts, in this process."""
    with tempfile.TemporaryDirectory() as home:
        filling = get_context("spawn").Process(target=fill, args=(Path(home), n, scores))
        filling.start()
        filling.join()
        settings = JobSettings.from_env({"THALWEG_HOME": home})
        database, watch = Database.open(settings.database_url), Stopwatch()
        done = refresh(database, settings, encoder=MadeUpEncoder(), seed=0, progress=watch)
        return figures(n, scores, watch, SnapshotStore(database).load(done.version))


def exponent(prompts: Sequence[int], seconds: Sequence[float]) -> float:
    """Slope of log seconds over log prompts, by least squares."""
    return float(np.polyfit(np.log(prompts), np.log(seconds), 1)[0])


def table(results: Sequence[dict[str, Any]]) -> str:
    """A row a measurement, and the exponents of wall and CPU time."""
    stages = list(dict.fromkeys(stage for r in results for stage in r["wall"]))
    head = ["prompts", "scores", "wall s", "CPU s", *stages, "tasks", "peak GB", "snapshot MB", "router s", "load"]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for r in results:
        total = [f"{sum(r[kind].values()):.1f}" for kind in ("wall", "cpu")]
        by_stage = [f"{r['cpu'].get(stage, 0.0):.1f}" for stage in stages]
        rest = [str(r["tasks"]), f"{r['rss_mb'] / 1024:.2f}", f"{r['snapshot_mb']:.0f}"]
        rest += [f"{r['router_s']:.1f}", f"{r['load']:.1f}"]
        lines.append("| " + " | ".join([f"{r['prompts']:,}", r["scores"], *total, *by_stage, *rest]) + " |")
    for scores in dict.fromkeys(r["scores"] for r in results):
        rows = [r for r in results if r["scores"] == scores]
        if len(rows) > 1:
            wall, cpu = (
                exponent([r["prompts"] for r in rows], [sum(r[k].values()) for r in rows]) for k in ("wall", "cpu")
            )
            lines.append(f"exponent, {scores}: wall {wall:.2f}, CPU {cpu:.2f}")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--scores", nargs="+", choices=("one", "all"), default=["one", "all"])
    parser.add_argument("--no-champion", action="store_true", help="train without lineage and gate")
    parser.add_argument("--store", action="store_true", help="read from SQLite and publish, too")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        of = (given.prompts[0], given.scores[0])
        print(json.dumps(measure_store(*of) if given.store else measure(*of, not given.no_champion)))
        return
    results = []
    for scores in given.scores:
        for n in given.prompts:
            command = [sys.executable, "-m", "tests.benchmarks.refresh_scale", "--child", "--prompts", str(n)]
            command += ["--scores", scores] + ["--no-champion"] * given.no_champion + ["--store"] * given.store
            results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
            print(table(results[-1:]).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
