"""What a request is expected to cost, and what a dollar is worth in quality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.types import ModelCard, RouteRequest

TYPICAL_OUTPUT_TOKENS = 350
"""Expected length of an answer where nothing better is known."""

EVEN_PREMIUM = 0.25
"""At a tradeoff of one half, the dearest model of the pool must be this much better than a free one to be chosen."""

_CHEAPEST = 1e6


def expected_costs(cards: Sequence[ModelCard], tokens: int, request: RouteRequest) -> NDArray[np.float64]:
    """(models,) USD: the prompt's ``tokens`` in, a typical (or the request's shorter) answer out, at list price."""
    output = min(request.output_tokens or TYPICAL_OUTPUT_TOKENS, TYPICAL_OUTPUT_TOKENS)
    price_in = np.array([c.price_input for c in cards])
    price_out = np.array([c.price_output for c in cards])
    cost: NDArray[np.float64] = (tokens * price_in + output * price_out) / 1e6
    return cost


def cost_weight(tradeoff: float, dearest: float) -> float:
    """Lambda of ``utility = quality - lambda * cost``.

    Parameters
    ----------
    tradeoff
        0 = cheapest, 1 = best quality; ``lambda * dearest = EVEN_PREMIUM * (1 - tradeoff) / tradeoff``.
    dearest
        Expected USD of this request at the pool's dearest model; the unit that makes lambda a number of the pool.

    Examples
    --------
    >>> cost_weight(1.0, 0.01)
    0.0
    >>> cost_weight(0.5, 0.01)
    25.0
    """
    if tradeoff >= 1.0 or dearest <= 0.0:
        return 0.0
    premium = EVEN_PREMIUM * (1.0 - tradeoff) / tradeoff if tradeoff > 0.0 else _CHEAPEST
    return min(premium, _CHEAPEST) / dearest
