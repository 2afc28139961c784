"""Caution: how far a choice leans to what is best over all prompts.

The model that looks best on a prompt is often the one whose estimate erred most in its favour (Smith & Winkler 2006, "The
Optimizer's Curse"). So before the best is taken, estimates are drawn to the models' overall means. How far is learned: by
what choices earned on prompts whose scores were hidden. Where cost decides, it breaks near-ties by itself, and caution fades.
"""

from __future__ import annotations

import numpy as np

from agent.examples import Scores
from agent.types import Array

SHARES = np.linspace(0.0, 0.9, 10)
"""How far estimates may be drawn; the first is not at all."""

USUAL = 0.5
"""A share is expected to be about so large: a priori it is exponentially distributed with this mean."""

FADE = 0.005
"""Quality that a typical request costs at which caution has fallen to 1/e."""

FEWEST = 30
"""Prompts with scores of several models below which nothing is learned, and the usual is taken."""


def fit_shrinkage(estimate: Array, overall: Array, scores: Scores) -> float:
    """The share, in [0, 0.9]: its posterior mean, given what each share's choices earned.

    Parameters
    ----------
    estimate
        (n, m) estimates that did not see the prompt's own scores.
    overall
        (m,) means over all prompts.
    scores
        Of the n prompts; those with one score tell nothing.
    """
    if not scores.seen.any():
        return 0.0  # published figures alone have not erred yet
    rows = np.flatnonzero((scores.score_weight == 1.0).sum(axis=1) >= 2)
    usual = np.exp(-SHARES / USUAL)
    if len(rows) < FEWEST:
        return float(usual @ SHARES / usual.sum())
    seen, value, estimate = scores.score_weight[rows] == 1.0, scores.value[rows], estimate[rows]

    def earned(share: float) -> Array:
        choice = np.where(seen, shrink_to_mean(estimate, overall, share), -np.inf).argmax(axis=1)
        return np.asarray(value[np.arange(len(value)), choice], np.float64)

    earnings = np.array([earned(share) for share in SHARES])  # (shares, n)
    short = earnings[earnings.mean(axis=1).argmax()] - earnings
    errors = np.maximum(short.std(axis=1) / np.sqrt(len(rows)), 1e-9)
    posterior = usual * np.exp(-0.5 * (short.mean(axis=1) / errors) ** 2)
    return float(posterior @ SHARES / posterior.sum())


def shrink_to_mean(quality: Array, overall: Array, share: float, pressure: float = 0.0) -> Array:
    """(n, m) ``quality`` drawn to ``overall`` (m,) by ``share``, less so the more cost decides.

    ``pressure`` is the price of quality times the cost of a typical request: what such a request costs in quality.
    """
    out: Array = quality + share * np.exp(-pressure / FADE) * (overall - quality)
    return out
