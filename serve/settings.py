"""What the serve room reads from the environment."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

import store
from agent.choice.limiter import ExplorationBudget
from store.encoders.backends import BUNDLED
from store.settings import AbsolutePath, StoreSettings

PACKAGED_POOL = Path(str(store.__file__)).parent / "data" / "pool.yaml"

_ApiKey = Annotated[str, StringConstraints(pattern=r"^[!-~]{8,}$")]


class ServeSettings(StoreSettings):
    """Settings of one serving replica.

    Parameters
    ----------
    api_key
        The bootstrap admin key; None to have one made at first start and kept in the home.
    pool
        The pool file; the packaged one where it is not set.
    encoder
        The bundled encoder, or a sentence-transformers name or folder.
    max_body
        Longest request body, in bytes.
    upstream_timeout_s
        Longest wait for an upstream's next byte.
    connect_timeout_s
        Longest wait for a connection to an upstream.
    explore_share, explore_burst
        Share of each key's requests that may be explored in the long run, and how many may be saved up, for a pool that
        is still cold.
    explore_regret, explore_income
        Utility that exploring one model, a newcomer say, may be expected to cost in a replica, whoever asks; and what each
        feedback row adds to that again.
    """

    api_key: _ApiKey | None = Field(default=None, repr=False, description="at least 8 ASCII characters without spaces")
    pool: AbsolutePath = PACKAGED_POOL
    encoder: str = BUNDLED
    max_body: int = Field(default=10_000_000, gt=0, description="a whole number above 0")
    upstream_timeout_s: float = Field(default=120.0, gt=0, allow_inf_nan=False, description="a number above 0")
    connect_timeout_s: float = Field(default=10.0, gt=0, allow_inf_nan=False, description="a number above 0")
    explore_share: float = Field(default=ExplorationBudget().share, ge=0, le=1, description="a number from 0 to 1")
    explore_burst: float = Field(
        default=ExplorationBudget().burst, gt=0, allow_inf_nan=False, description="a number above 0"
    )
    explore_regret: float = Field(
        default=ExplorationBudget().regret, ge=0, allow_inf_nan=False, description="a number of 0 or more"
    )
    explore_income: float = Field(
        default=ExplorationBudget().income, ge=0, allow_inf_nan=False, description="a number of 0 or more"
    )

    @property
    def explore(self) -> ExplorationBudget:
        """How much may be explored."""
        return ExplorationBudget(self.explore_share, self.explore_burst, self.explore_regret, self.explore_income)
