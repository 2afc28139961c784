"""What a model inherits from the one that it replaces, a new version of the same model say: its estimates, with doubt.

In place of a newcomer's prior, of which nothing is known (`agent.online.prior`), stands one around the predecessor's estimate
on the prompt, much narrower and still wide: it weighs as much as some eight scores of its own. The scores of the successor
move it as they move any model.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agent.online.effects import Gaussian
from agent.online.prior import COMMON_VARIANCE, OVERALL_SD, OWN_VARIANCE
from agent.types import Array

INHERITED_OVERALL_SD = 0.15
"""Standard deviation of a successor's overall quality around its predecessor's."""

INHERITED_OWN_VARIANCE = 0.02
"""Variance of that difference from task to task."""


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


def inherit(effects: Gaussian, heirs: Array, *, overall: bool) -> Inheritance:
    """Replace the prior of the models that inherit.

    Parameters
    ----------
    effects
        Of K models beside what is expected of an unknown one.
    heirs
        (K,) which of them inherit.
    overall
        Whether the effects are those over all tasks; else on one prompt.

    Examples
    --------
    >>> unknown = Gaussian(np.zeros(2), np.diag([0.02, 0.09]))
    >>> found = inherit(unknown, np.array([False, True]), overall=True)
    >>> found.weight.tolist(), np.sqrt(np.diag(found.effects.covariance)).round(2).tolist()
    ([0.0, 1.0], [0.14, 0.15])
    >>> scored = Gaussian(np.array([0.0, -0.2]), np.diag([0.02, 0.01]))  # some scores were .2 lower than expected
    >>> inherit(scored, np.array([False, True]), overall=True).weight.round(2).tolist()
    [0.0, 0.33]
    """
    before = OVERALL_SD**2 + (0.0 if overall else OWN_VARIANCE + COMMON_VARIANCE)
    after = INHERITED_OVERALL_SD**2 + (0.0 if overall else INHERITED_OWN_VARIANCE)
    variance = np.diag(effects.covariance)
    scores = np.maximum(1.0 / variance - 1.0 / before, 0.0)  # precision of what the scores say
    left = np.where(heirs, 1.0 / (scores + 1.0 / after), variance)
    share = left / variance
    root = np.sqrt(share)
    return Inheritance(
        Gaussian(effects.mean * share, effects.covariance * np.outer(root, root)), np.where(heirs, left / after, 0.0)
    )
