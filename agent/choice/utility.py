"""``utility = quality - lambda * cost``: the expected cost of a request, and lambda."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from agent.types import ModelCard, RouteRequest

TYPICAL_OUTPUT_TOKENS = 350
"""Length that is assumed of an answer."""

EVEN_PREMIUM = 0.25
"""At a tradeoff of one half, the pool's dearest model must be this much better than a free one to be chosen."""

_MAX_PREMIUM = 1e6


def expected_costs(cards: Sequence[ModelCard], tokens: int, request: RouteRequest) -> NDArray[np.float64]:
    """(models,) USD: the prompt's ``tokens`` in, a typical (or the request's shorter) answer out, at list price."""
    output = min(request.output_tokens or TYPICAL_OUTPUT_TOKENS, TYPICAL_OUTPUT_TOKENS)
    price_in = np.array([c.price_input for c in cards])
    price_out = np.array([c.price_output for c in cards])
    cost: NDArray[np.float64] = (tokens * price_in + output * price_out) / 1e6
    return cost


def cost_weight(tradeoff: float, dearest: float) -> float:
    """Lambda, in quality per USD.

    Parameters
    ----------
    tradeoff
        0 = cheapest, 1 = best quality; ``lambda * dearest = EVEN_PREMIUM * (1 - tradeoff) / tradeoff``.
    dearest
        Expected USD of this request at the pool's dearest model; scales lambda to the pool's prices.

    Examples
    --------
    >>> cost_weight(1.0, 0.01)
    0.0
    >>> cost_weight(0.5, 0.01)
    25.0
    """
    if tradeoff >= 1.0 or dearest <= 0.0:
        return 0.0
    premium = EVEN_PREMIUM * (1.0 - tradeoff) / tradeoff if tradeoff > 0.0 else _MAX_PREMIUM
    return min(premium, _MAX_PREMIUM) / dearest
