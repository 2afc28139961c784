"""The data that all runs of a replay share: prompts, every model's scores and costs, and model cards."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from glob import glob
from pathlib import Path

import numpy as np

from agent.errors import InvalidInput
from agent.examples import Examples
from agent.types import ModelCard
from jobs.data.files import read
from jobs.evaluate.costs import fitted_card
from jobs.evaluate.harness import Progress
from jobs.evaluate.table import Table, build, merge_duplicates
from jobs.refresh.seed import seed_examples
from jobs.replay.policy import Prompt
from jobs.replay.scenario import WEAK, Scenario, check
from store.encoders.cache import CachedEncoder
from store.evaluations import EvaluationRow
from store.prompts import text_id


@dataclass(frozen=True, slots=True)
class ReplayData:
    """The data that all runs of a replay share.

    Parameters
    ----------
    prompts, table
        Every prompt, with its scores and costs; those of the warm file first.
    warm_file
        Number of prompts from a warm file; they are not streamed or shuffled.
    warm
        Number of prompts at the head of each shuffled stream that are scored in full and not routed.
    steps
        Prompts routed at most; None for all.
    cards, install, encoder
        As in `Start`.
    notes
        Peculiarities of the data that a reader must know.
    """

    prompts: tuple[Prompt, ...]
    table: Table
    warm_file: int
    warm: int
    steps: int | None
    cards: Mapping[str, ModelCard]
    install: Examples
    encoder: str
    notes: tuple[str, ...] = ()


def load(
    files: Sequence[str],
    *,
    encoder: CachedEncoder,
    scenario: Scenario,
    warm: str | None = None,
    steps: int | None = None,
    progress: Progress | None = None,
) -> ReplayData:
    """Read, check and encode the prompts of a replay; the parameters are those of `jobs.replay.run.replay`."""
    report = progress or (lambda what, share: None)
    streamed = [row for path in _paths(files) for row in read(path)]
    head = int(warm) if warm is not None and warm.isdigit() else 0
    before = [] if warm is None or warm.isdigit() else merge_duplicates(read(Path(warm)))
    models = sorted({m for row in [*before, *streamed] for m in row.scores})
    routed, notes = _routable(streamed, models, scenario)
    if head >= len(routed):
        raise InvalidInput(
            f"--warm {head}: the stream holds {len(routed):,} prompts, and some must be left to route", param="warm"
        )
    if scenario.weak is not None and WEAK in models:
        raise InvalidInput(f"--join-weak: the data hold a model of that name, {WEAK!r}", param="join-weak")
    check(scenario, models if scenario.weak is None else [*models, WEAK], len(routed[head:][:steps]))
    repeated = len({row.prompt for row in before} & {row.prompt for row in routed})
    if repeated:
        notes.append(f"{repeated} streamed prompts are also in the warm file: results on them mean little")
    rows = [*before, *routed]
    encoded = encoder.encode([row.prompt for row in rows], lambda share: report("encoding", share))
    table = build(rows, encoded, models)
    if scenario.weak is not None:
        table = with_weak(table, scenario.weak)
        models = [*models, WEAK]
    tokens = np.array([e.tokens for e in encoded])
    cards = [fitted_card(model, tokens, table.costs[:, j]) for j, model in enumerate(models)]
    return ReplayData(
        prompts=tuple(Prompt(text_id(r.prompt, encoder.fingerprint), r.prompt, e) for r, e in zip(rows, encoded)),
        table=table,
        warm_file=len(before),
        warm=head,
        steps=steps,
        cards={card.name: card for card in cards},
        install=seed_examples(encoder, cards),
        encoder=encoder.fingerprint,
        notes=tuple(notes),
    )


def with_weak(table: Table, below: float) -> Table:
    """The table with the model `WEAK`: on each prompt right with the models' mean probability less ``below``, at their median
    cost. It has a score wherever another model has one, the same for every seed.
    """
    known = np.isfinite(table.scores)
    mean = np.where(known, table.scores, 0.0).sum(axis=1) / known.sum(axis=1)
    chance = np.random.RandomState(0).random_sample(len(table))  # its streams are frozen by numpy
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # no cost is known of a prompt
        cost = np.nanmedian(table.costs, axis=1)
    return replace(
        table,
        scores=np.column_stack([table.scores, (chance < mean - below).astype(np.float64)]),
        costs=np.column_stack([table.costs, cost]),
        models=(*table.models, WEAK),
    )


def _paths(patterns: Sequence[str]) -> list[Path]:
    """The files that paths and patterns name, each once, in order."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        matched = [pattern] if Path(pattern).exists() else sorted(glob(pattern, recursive=True))
        if not matched:
            raise InvalidInput(f"--stream {pattern}: no such file", param="stream")
        found.update(dict.fromkeys(Path(m) for m in matched))
    return list(found)


def _routable(
    rows: list[EvaluationRow], models: Sequence[str], scenario: Scenario
) -> tuple[list[EvaluationRow], list[str]]:
    """The rows on which some model that is in the pool throughout has a score, and notes on missing scores."""
    steady = set(models) - {c.model for c in (*scenario.joins, *scenario.leaves)}
    kept = [row for row in rows if steady & row.scores.keys()]
    notes = []
    if len(kept) < len(rows) and steady:
        notes.append(
            f"{len(rows) - len(kept)} prompts without a score of a model that never joins or leaves are left out"
        )
    holes = sum(len(models) - len(row.scores) for row in kept)
    if holes:
        notes.append(f"{holes} scores of the stream are missing: each prompt is routed among its scored models")
    return (kept if steady else rows), notes
