"""The routers of a replay by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from jobs.replay.policy import Policy, Start
from jobs.replay.thalweg import Thalweg, ThalwegConfig

OURS = "thalweg"
BEST_FIXED = "best fixed"
POLICIES = (OURS, BEST_FIXED, "frozen")
"""In the order of the table. ``best fixed``: the model that earns most, known in hindsight."""


def maker(name: str, tradeoff: float) -> Callable[[Start], Policy]:
    """What makes the policy of this name."""
    if name == OURS:
        return partial(Thalweg, config=ThalwegConfig(tradeoff=tradeoff))
    return partial(Thalweg, config=ThalwegConfig(tradeoff=tradeoff, learn=False))
