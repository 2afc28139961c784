"""The routers of a replay by name, each with the setting that served it best where it has one to choose.

Settings were chosen on reasoning_gym, warm and cold apart, on shuffles that no published figure uses (seeds 100 to 103);
see `docs/log.md`.
"""

from __future__ import annotations

from collections.abc import Callable

from jobs.replay.bandits import EpsilonGreedy, LinUCB, Thompson
from jobs.replay.pareto import ParetoBandit
from jobs.replay.policy import Policy, Start
from jobs.replay.thalweg import Thalweg, ThalwegConfig

OURS = "thalweg"
BEST_FIXED = "best fixed"
"""The model that earns most, known in hindsight."""

PARETO = "ParetoBandit"

MAKERS: dict[str, Callable[[Start], Policy]] = {
    OURS: Thalweg,
    "frozen": lambda start: Thalweg(start, ThalwegConfig(learn=False)),
    "epsilon-greedy": lambda start: EpsilonGreedy(start, epsilon=0.005, strength=4.0 if start.prompts else 2.0),
    "Thompson": lambda start: Thompson(start, deviation=0.05, strength=6.0 if start.prompts else 1.0),
    "LinUCB": lambda start: LinUCB(start, alpha=1.0, beta=1.0),
    PARETO: ParetoBandit,
}

POLICIES = (OURS, BEST_FIXED, *(name for name in MAKERS if name != OURS))
"""In the order of the table."""

SPEND = {
    OURS: (1.0, 0.98, 0.95, 0.9, 0.8, 0.6, 0.4, 0.2, 0.1, 0.08, 0.065, 0.05, 0.0),
    PARETO: (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 1.0),
}
"""Settings of what a dollar is worth: Thalweg's ``cost_quality_tradeoff``, ParetoBandit's ``cost_penalty``."""


def maker(name: str, cost_weight: float | None = None) -> Callable[[Start], Policy]:
    """What makes the policy of this name, minding costs as ``cost_weight`` says; not at all where None."""
    if cost_weight is None:
        return MAKERS[name]
    if name == OURS:
        return lambda start: Thalweg(start, ThalwegConfig(tradeoff=cost_weight))
    assert name == PARETO, f"{name} has no setting of what a dollar is worth"
    return lambda start: ParetoBandit(start, cost_penalty=cost_weight)
