"""Every policy on every seed, each run in this process or in another, and beside it the run that is spared all trouble."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from agent.errors import InvalidInput
from jobs.replay.harness import Trace, run, run_fixed
from jobs.replay.material import Material, load
from jobs.replay.policies import BEST_FIXED, PARETO, POLICIES, SPEND, maker
from jobs.replay.scenario import Scenario
from jobs.replay.world import World
from store.encoders.cache import CachedEncoder

Progress = Callable[[str, float], None]


@dataclass(frozen=True, slots=True)
class Unit:
    """One run: of which policy, with which seed, as the reference or not, and what it makes of costs."""

    policy: str
    seed: int
    reference: bool = False
    cost_weight: float | None = None


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
    spend
        policy -> the setting of what a dollar is worth -> what it did, one entry a seed.
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
    spend: dict[str, dict[float, list[Trace]]]
    notes: list[str]


def replay(
    stream: Sequence[str],
    *,
    encoder: CachedEncoder,
    scenario: Scenario = Scenario(),
    warm: str | None = None,
    steps: int | None = None,
    seeds: int = 1,
    policies: Sequence[str] = (),
    spend: bool = False,
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
        Of `jobs.replay.policies.POLICIES`; all that can run where empty.
    spend
        Whether policies that weigh costs also run at every setting of what a dollar is worth.
    workers
        Processes.

    Raises
    ------
    BadDataFile, InvalidInput
        Where a file or an option cannot be used.
    """
    chosen, notes = _choose(policies)
    if seeds < 1:
        raise InvalidInput(f"--seeds {seeds}: give 1 or more", param="seeds")
    if workers < 1:
        raise InvalidInput(f"--workers {workers}: give 1 or more", param="workers")
    tell: Progress = progress or (lambda what, share: None)
    material = load(stream, encoder=encoder, scenario=scenario, warm=warm, steps=steps, progress=tell)
    if spend and not material.table.has_costs:
        raise InvalidInput("--spend: the data hold no costs", param="spend")
    kinds = [(p, reference, None) for p in chosen for reference in ((False, True) if scenario.perturbed else (False,))]
    cost_weights = [(p, False, cost_weight) for p in chosen if spend for cost_weight in SPEND.get(p, ())]
    units = [
        Unit(p, seed, reference, cost_weight)
        for seed in range(seeds)
        for p, reference, cost_weight in [*kinds, *cost_weights]
    ]
    found = dict(execute(material, scenario, units, workers, tell))

    def of(policy: str, reference: bool = False, cost_weight: float | None = None) -> list[Trace]:
        return [found[Unit(policy, seed, reference, cost_weight)] for seed in range(seeds)]

    return Replay(
        models=material.table.models,
        scenario=scenario,
        steps=len(found[units[0]].model),
        warm=material.warm_file + material.warm,
        seeds=seeds,
        traces={p: of(p) for p in chosen},
        references={p: of(p, True) for p in chosen} if scenario.perturbed else {},
        spend={
            p: {cost_weight: of(p, cost_weight=cost_weight) for cost_weight in SPEND[p]} for p in chosen if p in SPEND
        }
        if spend
        else {},
        notes=[*material.notes, *notes],
    )


def execute(
    material: Material, scenario: Scenario, units: Sequence[Unit], workers: int, tell: Progress
) -> Iterator[tuple[Unit, Trace]]:
    """Run every unit, in this process or in several; what a unit gives does not depend on which."""
    if workers == 1:
        for i, unit in enumerate(units):
            yield unit, _run(material, scenario, unit, partial(_tell, tell, unit, i, len(units)))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _prepare, (material, scenario)) as pool:
        running = {pool.submit(_run_here, unit): unit for unit in units}
        for done, future in enumerate(as_completed(running), 1):
            yield running[future], future.result()
            _tell(tell, running[future], done, len(units), 0.0)


def _choose(policies: Sequence[str]) -> tuple[list[str], list[str]]:
    """The policies to run, and a note about one that cannot."""
    for name in policies:
        if name not in POLICIES:
            raise InvalidInput(f"--policies {name}: no such policy; there are {', '.join(POLICIES)}", param="policies")
    chosen = [name for name in POLICIES if not policies or name in policies]
    if PARETO in chosen and find_spec("pareto_bandit") is None:
        chosen.remove(PARETO)
        return chosen, [f"{PARETO} is left out: its package is not installed; pip install 'thalweg[bench]'"]
    return chosen, []


def _run(material: Material, scenario: Scenario, unit: Unit, tell: Callable[[float], None] | None = None) -> Trace:
    world = World(material, scenario.reference() if unit.reference else scenario, unit.seed)
    if unit.policy == BEST_FIXED:
        return run_fixed(world)
    return run(world, maker(unit.policy, unit.cost_weight), tell)


def _tell(tell: Progress, unit: Unit, before: int, units: int, share: float) -> None:
    tell(f"{unit.policy}, seed {unit.seed}", (before + share) / units)


_shared: tuple[Material, Scenario]
"""What the units of a worker process share; pickled once a process instead of once a unit."""


def _prepare(material: Material, scenario: Scenario) -> None:
    global _shared
    _shared = (material, scenario)


def _run_here(unit: Unit) -> Trace:
    return _run(*_shared, unit)
