"""What a model inherits from the one that it replaces, a new version of the same model say: its estimates, with wider errors.

In place of a newcomer's prior, of which nothing is known (`agent.online.prior`), stands one around the predecessor's estimate
on the prompt, much narrower and still wide: it weighs as much as some eight scores of its own. The scores of the successor
move it as they move any model.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agent.online.effects import Gaussian
from agent.types import Array

OVERALL_VARIANCE = 0.15**2
"""Of a successor's overall quality around its predecessor's."""

PROMPT_VARIANCE = OVERALL_VARIANCE + 0.02
"""Of its quality on a prompt, the difference from task to task included."""


class Inheritance(NamedTuple):
    """Estimates of K models in which some have replaced their prior.

    Parameters
    ----------
    effects
        Mean (K,) of what scores have changed, and covariance (K, K) of what is left open.
    weight
        (K,) how much the predecessor's estimate counts, in [0, 1]; 0 for a model that inherits nothing.
    """

    effects: Gaussian
    weight: Array


def inherit(effects: Gaussian, heirs: Array, before: Array, after: float) -> Inheritance:
    """Replace the prior of the models that inherit.

    Parameters
    ----------
    effects
        Of K models beside what is expected of an unknown one.
    heirs
        (K,) which of them inherit.
    before
        (K,) variance of their effects before any score.
    after
        Variance that takes its place, `OVERALL_VARIANCE` or `PROMPT_VARIANCE`.

    Examples
    --------
    >>> unknown = Gaussian(np.zeros(2), np.diag([0.02, 0.09]))
    >>> found = inherit(unknown, np.array([False, True]), np.full(2, 0.09), OVERALL_VARIANCE)
    >>> found.weight.tolist(), np.sqrt(np.diag(found.effects.covariance)).round(2).tolist()
    ([0.0, 1.0], [0.14, 0.15])
    >>> scored = Gaussian(np.array([0.0, -0.2]), np.diag([0.02, 0.01]))  # some scores were .2 lower than expected
    >>> inherit(scored, np.array([False, True]), np.full(2, 0.09), OVERALL_VARIANCE).weight.round(2).tolist()
    [0.0, 0.33]
    """
    variance = np.diag(effects.covariance)
    scores = np.maximum(1.0 / variance - 1.0 / before, 0.0)  # precision of what the scores say
    left = np.where(heirs, 1.0 / (scores + 1.0 / after), variance)
    share = left / variance
    root = np.sqrt(share)
    return Inheritance(
        Gaussian(effects.mean * share, effects.covariance * np.outer(root, root)), np.where(heirs, left / after, 0.0)
    )
