"""The gate: a challenger is promoted only when it is proven better than the champion.

Two kinds of proof, on data that neither was trained on: *evaluations*, where several models' scores are known and the
two routes are compared prompt by prompt, and recent *feedback*, where only the chosen model's score is known and the
difference is estimated doubly robustly. The pooled difference must be above ``margin`` with one-sided confidence, and
neither kind may prove the challenger worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.off_policy import Logged, Value, mean_value
from agent.types import Array

LEAST_PROPENSITY = 0.005
"""A model chosen less often than this was not tried: one score would weigh as much as 200."""


@dataclass(frozen=True, slots=True)
class GateConfig:
    """``margin``: least difference in quality (0 = better at all); ``confidence``: one-sided; ``least``: fewest prompts."""

    margin: float = 0.0
    confidence: float = 0.95
    least: int = 30


@dataclass(frozen=True, slots=True)
class GateReport:
    """The verdict and what it rests on; differences are challenger minus champion, in quality.

    ``proven_worse``: whether one kind of evidence, or all together, is below the margin with the same confidence.
    """

    promote: bool
    reason: str
    evaluations: Value | None
    feedback: Value | None
    pooled: Value | None
    proven_worse: bool = False


def evaluation_difference(champion: Array, challenger: Array, scores: Array) -> Value:
    """Paired difference of the two greedy routes on fully or partly scored prompts.

    Parameters
    ----------
    champion, challenger
        (n, m) utilities; each routes to its best model *among those with a score*.
    scores
        (n, m) with NaN where unseen; prompts with fewer than two scores say nothing and are left out.

    Notes
    -----
    Where the routes seldom differ, a handful of prompts decides and the normal bound is too sure of itself: three wins
    in three would do. One win and one loss of typical size are added to the spread (after Agresti & Min 2005).
    """
    useful = (~np.isnan(scores)).sum(axis=1) >= 2
    seen = ~np.isnan(scores[useful])
    value = scores[useful]
    rows = np.arange(len(value))

    def earned(utility: Array) -> Array:
        choice = np.where(seen, utility[useful], -np.inf).argmax(axis=1)
        return np.asarray(value[rows, choice], np.float64)

    terms = earned(challenger) - earned(champion)
    plain, unlike = mean_value(terms), terms[terms != 0.0]
    added = 2.0 * float(np.mean(unlike**2)) / len(terms) ** 2 if len(unlike) else 0.0
    return Value(plain.mean, (plain.stderr**2 + added) ** 0.5, plain.n)


def feedback_difference(champion: Array, challenger: Array, quality: Array, log: Logged) -> Value:
    """Doubly robust difference of two policies (n, m) of choice probabilities on logged decisions.

    Parameters
    ----------
    champion, challenger
        Both choose among the models that could be chosen.
    quality
        (n, m) expected, not fitted on these scores.
    log
        With its ``options``.

    Returns
    -------
    Value
        Over the decisions that could tell: those in which both policies' choices had a propensity of at least
        `LEAST_PROPENSITY`. Which ones these are does not depend on what was chosen, so nothing is selected by luck, and
        no weight needs clipping.

    Notes
    -----
    The standard error is not that of the terms: where a choice was hardly ever tried, a sample without any trial looks
    certain. Propensities are exact, so the variance of each term over what might have been chosen is known up to the
    noise of scores: ``sum_a (challenger_a - champion_a)^2 / propensity_a * noise_a``.
    """
    assert log.options is not None, "a difference needs every model's propensity"
    shift = challenger - champion  # (n, m)
    could: NDArray[np.bool_] = np.all((shift == 0.0) | (log.options >= LEAST_PROPENSITY), axis=1)
    shift, quality, options, chosen = shift[could], quality[could], log.options[could], log.chosen[could]
    score_weight = np.ones(len(log)) if log.score_weight is None else log.score_weight
    rows = np.arange(len(chosen))
    expected = (shift * quality).sum(axis=1)
    terms = expected + shift[rows, chosen] / log.propensity[could] * (log.score[could] - quality[rows, chosen])
    plain = mean_value(terms, score_weight[could])
    if plain.n == 0:
        return plain
    chance = np.divide(shift**2, options, out=np.zeros_like(shift), where=shift != 0.0)
    by_luck = (chance * _noise(quality, log, could)).sum(axis=1)
    share = score_weight[could] / score_weight[could].sum()
    mean = float(share @ expected)
    variance = share**2 * (by_luck + (expected - mean) ** 2)
    # one more term like the largest: what a single draw can do is never ruled out by its not having happened
    return Value(plain.mean, float((variance.sum() + (share**2 * by_luck).max()) ** 0.5), plain.n)


def _noise(quality: Array, log: Logged, rows: NDArray[np.bool_]) -> Array:
    """(n, m) variance of a score around ``quality``: a coin's, scaled to how far the logged scores lay off."""
    coin = _coin(quality)
    at = np.arange(len(coin))
    off = (log.score[rows] - quality[at, log.chosen[rows]]) ** 2
    out: Array = coin * off.mean() / coin[at, log.chosen[rows]].mean()
    return out


def _coin(quality: Array) -> Array:
    """Variance of a coin, of one that is not too sure."""
    chance = np.clip(quality, 0.1, 0.9)
    return chance * (1.0 - chance)


def judge(evaluations: Value | None, feedback: Value | None, config: GateConfig = GateConfig()) -> GateReport:
    """Promote or reject; no evidence at all rejects."""
    parts = [v for v in (evaluations, feedback) if v is not None and v.n >= config.least]
    if not parts:
        seen = ", ".join(str(v.n) for v in (evaluations, feedback) if v is not None) or "none"
        return GateReport(
            False, f"too little held-out evidence ({seen}; at least {config.least} needed)", evaluations, feedback, None
        )
    pooled = pool(parts)
    worse = [v for v in [*parts, pooled] if v.upper(config.confidence) < min(config.margin, 0.0)]
    bound = pooled.lower(config.confidence)
    figures = f"{pooled.mean:+.4f} +- {pooled.stderr:.4f} over {pooled.n} prompts, bound {bound:+.4f}"
    if worse:
        return GateReport(False, f"evidence proves it worse ({figures})", evaluations, feedback, pooled, True)
    if bound > config.margin:
        return GateReport(
            True, f"better with {config.confidence:.0%} confidence: {figures}", evaluations, feedback, pooled
        )
    return GateReport(False, f"not proven better: {figures}", evaluations, feedback, pooled)


def pool(values: list[Value]) -> Value:
    """Independent values joined by inverse variance; n equal terms do not prove that the next is equal, hence the floor."""
    weight = np.array([max(v.stderr, 1.0 / v.n) ** -2.0 for v in values])
    mean = float(weight @ [v.mean for v in values] / weight.sum())
    return Value(mean, float(weight.sum() ** -0.5), sum(v.n for v in values))
