"""What is published of a model at an endpoint: prices and context length, from the data in the `genai-prices` package.

Nothing is fetched. An endpoint is known by its URL: a model of a known name behind another URL may cost anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version


@dataclass(frozen=True, slots=True)
class Published:
    """Prices in USD per million tokens (of the shortest requests, where they depend on that), context in tokens; None where
    it is not known. ``source`` names the data."""

    price_input: float | None
    price_output: float | None
    context: int | None
    source: str


def published_figures(model: str, base_url: str | None, now: datetime) -> Published | None:
    """What is published of ``model``, as the endpoint calls it; None where the endpoint or the model is not known."""
    if base_url is None:
        return None
    from genai_prices import data_snapshot  # a quarter of a second

    try:
        _, found = data_snapshot.get_snapshot().find_provider_model(model, None, None, base_url)
    except LookupError:
        return None
    prices = vars(found.get_prices(now))
    return Published(
        _base(prices.get("input_mtok")),
        _base(prices.get("output_mtok")),
        found.context_window,
        f"genai-prices {version('genai-prices')}",
    )


def _base(price: object) -> float | None:
    """A price as a number; of tiers, that of the lowest."""
    value = getattr(price, "base", price)
    return None if value is None else float(str(value))
