"""The scores that training may look at: values, and how much each is to be trusted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.types import Examples

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of m models on n prompts.

    Parameters
    ----------
    value
        (n, m), 0 where not observed.
    trust
        (n, m) weight beside an evaluation's, in [0, 1]; 0 where not observed.
    """

    value: Array
    trust: Array

    @classmethod
    def of(cls, examples: Examples) -> Scores:
        """All of them."""
        return cls(np.nan_to_num(examples.scores, nan=0.0), examples.trust)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(n, m) what counts at all."""
        return self.trust > 0.0

    @property
    def complete(self) -> bool:
        """Whether every model has an evaluation on every prompt."""
        return bool((self.trust == 1.0).all())

    def without(self, rows: NDArray[np.bool_]) -> Scores:
        """The same, but nothing known of ``rows`` (n,)."""
        return Scores(self.value, np.where(rows[:, None], 0.0, self.trust))

    def residual(self, estimate: Array) -> Array:
        """(n, m) score less ``estimate``, 0 where not observed."""
        return np.where(self.seen, self.value - estimate, 0.0)
