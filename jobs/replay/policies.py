"""The policies of a replay by name, each with its best settings.

Settings were chosen on reasoning_gym, warm and cold apart, on shuffles that no published figure uses (seeds 100 to 103);
see `docs/log.md`.
"""

from __future__ import annotations

from functools import partial

from jobs.replay.bandits import EpsilonGreedy, LinUCB, Thompson
from jobs.replay.pareto import ParetoBandit
from jobs.replay.policy import PolicyFactory, Start
from jobs.replay.thalweg import ABLATIONS, Thalweg

OURS = "thalweg"
BEST_FIXED = "best fixed"
"""The single model of highest mean score, chosen in hindsight."""

PARETO = "ParetoBandit"

THOMPSON = "Thompson"


def thompson(start: Start, cost_weight: float = 0.0) -> Thompson:
    """Thompson sampling by task; ``cost_weight`` as in `jobs.replay.bandits.TaskMeans`."""
    return Thompson(start, score_std=0.05, prior_weight=6.0 if start.prompts else 1.0, cost_weight=cost_weight)


FACTORIES: dict[str, PolicyFactory] = {
    OURS: Thalweg,
    "frozen": lambda start: Thalweg(start, learn=False),
    "epsilon-greedy": lambda start: EpsilonGreedy(start, epsilon=0.005, prior_weight=4.0 if start.prompts else 2.0),
    THOMPSON: thompson,
    "LinUCB": lambda start: LinUCB(start, alpha=1.0, beta=1.0),
    PARETO: ParetoBandit,
}

POLICIES = (OURS, BEST_FIXED, *(name for name in FACTORIES if name != OURS))
"""In the order of the table."""

ABLATED = {f"{OURS} without {part}": part for part in ABLATIONS}
"""Thalweg without one of its parts: what `--ablate` adds."""

COST_SETTINGS = {
    OURS: (1.0, 0.98, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.08, 0.065, 0.05, 0.0),
    PARETO: (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0),
    THOMPSON: (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0),
}
"""Settings of `--spend`: Thalweg's ``cost_quality_tradeoff``, the others' cost weights."""


def factory(name: str, cost_setting: float | None = None) -> PolicyFactory:
    """The factory of a policy, with one of its `COST_SETTINGS`; with costs ignored where None."""
    if name in ABLATED:
        return partial(Thalweg, without=ABLATED[name])
    if cost_setting is None:
        return FACTORIES[name]
    if name == OURS:
        return lambda start: Thalweg(start, tradeoff=cost_setting)
    assert name in (PARETO, THOMPSON), f"{name} has no setting that weighs costs"
    of = ParetoBandit if name == PARETO else thompson
    return lambda start: of(start, cost_weight=cost_setting)
