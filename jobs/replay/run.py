"""Every policy on every seed, in this process or in several, each with a reference run where the scenario has one."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Literal

from agent.errors import InvalidInput
from jobs.evaluate.harness import Progress
from jobs.replay.data import ReplayData, load
from jobs.replay.harness import Trace, run, run_fixed
from jobs.replay.policies import ABLATED, BEST_FIXED, COST_SETTINGS, PARETO, POLICIES, factory
from jobs.replay.scenario import Scenario
from jobs.replay.stream import Stream
from store.encoders.cache import CachedEncoder

RunKind = Literal["as it is", "reference", "without joins"]
"""Under the scenario as given, `Scenario.reference`, or `Scenario.without_joins`."""


@dataclass(frozen=True, slots=True)
class RunSpec:
    """One run: its policy and seed, under which of the scenario and what it is compared with, and the policy's cost setting."""

    policy: str
    seed: int
    kind: RunKind = "as it is"
    cost_setting: float | None = None

    def scenario(self, given: Scenario) -> Scenario:
        """The scenario of this run."""
        kinds = {"as it is": given, "reference": given.reference(), "without joins": given.without_joins()}
        return kinds[self.kind]


@dataclass(frozen=True, slots=True)
class Replay:
    """The outcome of `replay`.

    Parameters
    ----------
    models
        Of the data.
    scenario
        Changes of the pool, and how feedback was given.
    steps, warm, seeds
        Prompts routed and prompts scored beforehand, in each run; number of runs.
    traces, references, unjoined
        policy -> its trace, that of its reference run, and that of its run where no model joins, one entry a seed.
    spend
        policy -> cost setting -> its trace, one entry a seed.
    notes
        Peculiarities of the data and missing policies that a reader must know.
    """

    models: tuple[str, ...]
    scenario: Scenario
    steps: int
    warm: int
    seeds: int
    traces: dict[str, list[Trace]]
    references: dict[str, list[Trace]]
    unjoined: dict[str, list[Trace]]
    spend: dict[str, dict[float, list[Trace]]]
    notes: list[str]


def replay(
    files: Sequence[str],
    *,
    encoder: CachedEncoder,
    scenario: Scenario = Scenario(),
    warm: str | None = None,
    steps: int | None = None,
    seeds: int = 1,
    policies: Sequence[str] = (),
    spend: bool = False,
    ablate: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> Replay:
    """Route scored prompts by several policies.

    Parameters
    ----------
    files
        Data files, or patterns of them, joined and shuffled by seed.
    warm
        A data file of prompts scored beforehand, or how many prompts of the shuffled stream are; None: a cold start.
    steps
        Prompts routed at most.
    policies
        Of `jobs.replay.policies.POLICIES`; all that can run where empty.
    spend
        Whether policies with `COST_SETTINGS` also run at each of them.
    ablate
        Whether Thalweg also runs without each of its `jobs.replay.policies.ABLATED` parts.
    workers
        Processes.

    Raises
    ------
    BadDataFile, InvalidInput
        Where a file or an option cannot be used.
    """
    chosen, notes = _choose(policies)
    if ablate:
        chosen += ABLATED
    for option, value in (("steps", steps), ("seeds", seeds), ("workers", workers)):
        if value is not None and value < 1:
            raise InvalidInput(f"--{option} {value}: give 1 or more", param=option)
    report: Progress = progress or (lambda what, share: None)
    data = load(files, encoder=encoder, scenario=scenario, warm=warm, steps=steps, progress=report)
    if spend and not data.table.has_costs:
        raise InvalidInput("--spend: the data hold no costs", param="spend")
    referenced = chosen if scenario.perturbed else []
    joined = chosen if scenario.joins else []
    settings = {p: COST_SETTINGS[p] for p in chosen if spend and p in COST_SETTINGS}
    specs = [
        *(RunSpec(p, seed) for seed in range(seeds) for p in chosen),
        *(RunSpec(p, seed, "reference") for seed in range(seeds) for p in referenced),
        *(RunSpec(p, seed, "without joins") for seed in range(seeds) for p in joined),
        *(RunSpec(p, seed, cost_setting=value) for seed in range(seeds) for p in settings for value in settings[p]),
    ]
    found = dict(execute(data, scenario, specs, workers, report))

    def of(policy: str, kind: RunKind = "as it is", cost_setting: float | None = None) -> list[Trace]:
        return [found[RunSpec(policy, seed, kind, cost_setting)] for seed in range(seeds)]

    return Replay(
        models=data.table.models,
        scenario=scenario,
        steps=len(found[specs[0]].model),
        warm=data.warm_file + data.warm,
        seeds=seeds,
        traces={p: of(p) for p in chosen},
        references={p: of(p, "reference") for p in referenced},
        unjoined={p: of(p, "without joins") for p in joined},
        spend={p: {value: of(p, cost_setting=value) for value in settings[p]} for p in settings},
        notes=[*data.notes, *notes],
    )


def execute(
    data: ReplayData, scenario: Scenario, specs: Sequence[RunSpec], workers: int, progress: Progress
) -> Iterator[tuple[RunSpec, Trace]]:
    """Yield every run's trace, computed in this process or in several; a trace does not depend on which."""
    if workers == 1:
        for i, spec in enumerate(specs):
            yield spec, _run(data, scenario, spec, partial(_report, progress, spec, i, len(specs)))
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawn, _prepare, (data, scenario)) as pool:
        running = {pool.submit(_run_shared, spec): spec for spec in specs}
        for done, future in enumerate(as_completed(running), 1):
            yield running[future], future.result()
            _report(progress, running[future], done, len(specs), 0.0)


def _report(progress: Progress, spec: RunSpec, done: int, runs: int, share: float) -> None:
    progress(f"{spec.policy}, seed {spec.seed}", (done + share) / runs)


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


def _run(
    data: ReplayData, scenario: Scenario, spec: RunSpec, progress: Callable[[float], None] = lambda share: None
) -> Trace:
    stream = Stream(data, spec.scenario(scenario), spec.seed)
    if spec.policy == BEST_FIXED:
        return run_fixed(stream)
    return run(stream, factory(spec.policy, spec.cost_setting), progress)


_shared: tuple[ReplayData, Scenario]
"""What the runs of a worker process share: pickled once a process instead of once a run."""


def _prepare(data: ReplayData, scenario: Scenario) -> None:
    global _shared
    _shared = (data, scenario)


def _run_shared(spec: RunSpec) -> Trace:
    return _run(*_shared, spec)
