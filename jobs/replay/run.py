"""From files and options to a `Replay`: read, check, encode (cached), and run every policy on every seed."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from glob import glob
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from agent.cost import TYPICAL_OUTPUT_TOKENS
from agent.errors import InvalidInput
from agent.types import ModelCard
from jobs.cache import CachedEncoder
from jobs.datafile import read
from jobs.evaluate.table import Table, build, merge_duplicates
from jobs.replay import roster
from jobs.replay.harness import Trace, run, run_fixed
from jobs.replay.policy import Prompt
from jobs.replay.scenario import Scenario, check
from jobs.replay.world import Material, World
from jobs.seed import seed_examples
from store.evaluations import EvaluationRow
from store.prompts import text_id

Progress = Callable[[str, float], None]

CONTEXT = 1_000_000
"""Of every model, in tokens: the data say which model answered which prompt, so no prompt is too long."""


@dataclass(frozen=True, slots=True)
class Unit:
    """One run: of which policy, with which seed, as the reference or not."""

    policy: str
    seed: int
    reference: bool = False


@dataclass(frozen=True, slots=True)
class Replay:
    """What `replay` found.

    Parameters
    ----------
    models
        Of the data.
    scenario
        What happened.
    steps, warm, seeds
        Prompts routed and prompts scored beforehand, in each run; number of runs.
    traces, references
        policy -> what it did, one entry a seed; and what it did where it was spared all trouble.
    notes
        What a reader must know.
    """

    models: tuple[str, ...]
    scenario: Scenario
    steps: int
    warm: int
    seeds: int
    traces: dict[str, list[Trace]]
    references: dict[str, list[Trace]]
    notes: list[str]


def replay(
    stream: Sequence[str],
    *,
    encoder: CachedEncoder,
    scenario: Scenario = Scenario(),
    warm: str | None = None,
    steps: int | None = None,
    seeds: int = 1,
    policies: Sequence[str] = roster.POLICIES,
    tradeoff: float = 1.0,
    workers: int = 1,
    progress: Progress | None = None,
) -> Replay:
    """Stream scored prompts past several routers.

    Parameters
    ----------
    stream
        Data files, or patterns of them, joined and shuffled by seed.
    warm
        A data file of prompts scored beforehand, or how many prompts of the shuffled stream are; None: a cold start.
    steps
        Prompts routed at most.
    policies
        Of `jobs.replay.roster.POLICIES`.
    tradeoff
        0 = cheapest, 1 = best quality.
    workers
        Processes.

    Raises
    ------
    BadDataFile, InvalidInput
        Where a file or an option cannot be used.
    """
    for name in policies:
        if name not in roster.POLICIES:
            raise InvalidInput(
                f"--policies {name}: no such policy; there are {', '.join(roster.POLICIES)}", param="policies"
            )
    if seeds < 1 or workers < 1:
        raise InvalidInput(f"--seeds {seeds}, --workers {workers}: give 1 or more", param="seeds")
    tell: Progress = progress or (lambda what, share: None)
    material, notes = load(stream, warm, steps, encoder, tell)
    world = World(material, scenario, 0)
    check(scenario, material.table.models, len(world))
    units = [
        Unit(policy, seed, reference)
        for seed in range(seeds)
        for policy in policies
        for reference in ((False, True) if scenario.disturbed else (False,))
    ]
    found: dict[Unit, Trace] = {}
    for done, (unit, trace) in enumerate(execute(material, scenario, tradeoff, units, workers, tell), 1):
        found[unit] = trace
        tell(f"{unit.policy}, seed {unit.seed}", done / len(units))
    collected = [
        {p: [found[Unit(p, s, reference)] for s in range(seeds)] for p in policies if Unit(p, 0, reference) in found}
        for reference in (False, True)
    ]
    return Replay(
        models=material.table.models,
        scenario=scenario,
        steps=len(world),
        warm=len(world.warm_rows),
        seeds=seeds,
        traces=collected[0],
        references=collected[1],
        notes=notes,
    )


def load(
    stream: Sequence[str], warm: str | None, steps: int | None, encoder: CachedEncoder, tell: Progress
) -> tuple[Material, list[str]]:
    """The prompts with their scores, encoded, and what is odd about them."""
    streamed = [row for path in _files(stream) for row in read(path)]
    before: list[EvaluationRow] = []
    head = 0
    if warm is not None and warm.isdigit():
        head = int(warm)
        if head >= len(streamed):
            raise InvalidInput(
                f"--warm {head}: the stream holds {len(streamed):,} prompts, and some must be left to route",
                param="warm",
            )
    elif warm is not None:
        before = merge_duplicates(read(Path(warm)))
    if steps is not None and steps < 1:
        raise InvalidInput(f"--steps {steps}: give 1 or more", param="steps")
    rows = [*before, *streamed]
    models = sorted({m for row in rows for m in row.scores})
    encoded = encoder.encode([row.prompt for row in rows], lambda share: tell("encoding", share))
    table = build(rows, encoded, models)
    names = [text_id(row.prompt, encoder.fingerprint) for row in rows]
    cards = _cards(table, np.array([e.tokens for e in encoded]))
    notes = []
    overlap = len(set(names[: len(before)]) & set(names[len(before) :]))
    if overlap:
        notes.append(f"{overlap} streamed prompts are also in the warm file: results on them say little")
    material = Material(
        prompts=tuple(Prompt(name, row.prompt, e) for name, row, e in zip(names, rows, encoded)),
        table=table,
        warm_file=len(before),
        warm=head,
        steps=steps,
        cards={card.name: card for card in cards},
        install=seed_examples(encoder, cards),
        encoder=encoder.fingerprint,
    )
    return material, notes


def execute(
    material: Material, scenario: Scenario, tradeoff: float, units: Sequence[Unit], workers: int, tell: Progress
) -> Iterator[tuple[Unit, Trace]]:
    """Run every unit, in this process or in several; a unit's result does not depend on which."""
    if workers == 1:
        for i, unit in enumerate(units):
            yield unit, _run(material, scenario, tradeoff, unit, partial(_tell_share, tell, unit, i, len(units)))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _prepare, (material, scenario, tradeoff)) as pool:
        waiting = {pool.submit(_run_here, unit): unit for unit in units}
        for future in as_completed(waiting):
            yield waiting[future], future.result()


def _tell_share(tell: Progress, unit: Unit, i: int, units: int, share: float) -> None:
    tell(f"{unit.policy}, seed {unit.seed}", (i + share) / units)


def _run(
    material: Material, scenario: Scenario, tradeoff: float, unit: Unit, tell: Callable[[float], None] | None = None
) -> Trace:
    world = World(material, scenario.reference() if unit.reference else scenario, unit.seed)
    if unit.policy == roster.BEST_FIXED:
        return run_fixed(world)
    return run(world, roster.maker(unit.policy, tradeoff), tell)


_shared: tuple[Material, Scenario, float]


def _prepare(material: Material, scenario: Scenario, tradeoff: float) -> None:
    global _shared
    _shared = (material, scenario, tradeoff)


def _run_here(unit: Unit) -> Trace:
    return _run(*_shared, unit)


def _files(patterns: Sequence[str]) -> list[Path]:
    """The files that paths and patterns name, each once, in order."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        matched = [pattern] if Path(pattern).exists() else sorted(glob(pattern, recursive=True))
        if not matched:
            raise InvalidInput(f"--stream {pattern}: no such file", param="stream")
        found.update(dict.fromkeys(Path(m) for m in matched))
    return list(found)


def _cards(table: Table, tokens: np.ndarray) -> list[ModelCard]:
    """Cards of the models at the list prices that explain the data's costs best; free where no costs are known."""
    return [
        ModelCard(name, price_input=a, price_output=b, context=CONTEXT)
        for name, (a, b) in zip(table.models, (_prices(tokens, table.costs[:, j]) for j in range(len(table.models))))
    ]


def _prices(tokens: np.ndarray, costs: np.ndarray) -> tuple[float, float]:
    """USD per million tokens in and out, by least squares over what was paid; answers are taken to be of typical length."""
    known = np.isfinite(costs)
    if not known.any():
        return 0.0, 0.0
    inputs = np.column_stack([tokens[known], np.full(known.sum(), TYPICAL_OUTPUT_TOKENS)]) / 1e6
    price_in, price_out = nnls(inputs, costs[known])[0]
    return float(price_in), float(price_out)
