"""The promotion gate: a challenger is promoted when it is proven better than the champion, rejected when it is proven worse,
and goes on trial (`agent.evaluation.trial`) when it is neither.

The evidence is of two kinds, on data that neither was trained on: *evaluations*, where several models' scores are known and
the two routes are compared prompt by prompt, and recent *feedback*, where only the chosen model's score is known and the
difference is estimated doubly robustly. To be proven better the pooled difference must be above ``margin`` with one-sided
confidence, and neither kind may prove the challenger worse.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from agent.evaluation.off_policy import ScoredChoices, Value, doubly_robust_terms, mean_value
from agent.types import Array

Outcome = Literal["promote", "trial", "reject"]

MIN_PROPENSITY = 0.005
"""Decisions on which the two differ are used only where both choices had at least this propensity."""


@dataclass(frozen=True, slots=True)
class GateConfig:
    """``margin``: least difference in quality (0 = better at all); ``confidence``: one-sided; ``least``: fewest prompts."""

    margin: float = 0.0
    confidence: float = 0.95
    least: int = 30


@dataclass(frozen=True, slots=True)
class GateReport:
    """The verdict and its evidence; differences are challenger minus champion, in quality.

    Parameters
    ----------
    outcome
        What becomes of the challenger. A refresh acts on it so: one that is to be promoted is the champion at once, and a
        hold-back tests it against its predecessor, where there is one that can be compared; one on trial is compared by
        experiment; a rejected one is never to serve.
    reason
        For people.
    evaluations, feedback, pooled
        The two kinds of evidence, and both together; None where there is none, or too little.
    """

    outcome: Outcome
    reason: str
    evaluations: Value | None
    feedback: Value | None
    pooled: Value | None

    @property
    def promote(self) -> bool:
        """Whether the challenger is to serve at once."""
        return self.outcome == "promote"


def evaluation_difference(champion: Array, challenger: Array, scores: Array) -> Value:
    """Paired difference of the two greedy routes on fully or partly scored prompts.

    Parameters
    ----------
    champion, challenger
        (n, m) utilities; each routes to its best model *among those with a score*.
    scores
        (n, m) with NaN where unseen; prompts with fewer than two scores are not used.

    Notes
    -----
    Where the routes seldom differ, few prompts decide and the normal bound is too narrow: three wins in three would do.
    One win and one loss of typical size are added to the variance (after Agresti & Min 2005).
    """
    useful = (~np.isnan(scores)).sum(axis=1) >= 2
    seen = ~np.isnan(scores[useful])
    value = scores[useful]
    rows = np.arange(len(value))

    def earned(utility: Array) -> Array:
        choice = np.where(seen, utility[useful], -np.inf).argmax(axis=1)
        return np.asarray(value[rows, choice], np.float64)

    terms = earned(challenger) - earned(champion)
    plain, unlike = mean_value(terms, np.ones(len(terms))), terms[terms != 0.0]
    added = 2.0 * float(np.mean(unlike**2)) / len(terms) ** 2 if len(unlike) else 0.0
    return Value(plain.mean, (plain.stderr**2 + added) ** 0.5, plain.n)


def feedback_difference(champion: Array, challenger: Array, quality: Array, log: ScoredChoices) -> Value:
    """Doubly robust difference of two policies (n, m) of choice probabilities on logged decisions.

    Parameters
    ----------
    champion, challenger
        Both choose among the models that were eligible.
    quality
        (n, m) estimates that were not fitted to these scores.
    log
        The decisions.

    Returns
    -------
    Value
        Over the decisions in which both policies' choices had a propensity of at least `MIN_PROPENSITY`, or in which the
        policies agree. Which ones these are does not depend on what was chosen, so the selection does not bias, and
        no weight needs clipping.

    Notes
    -----
    The standard error is not that of the terms: where a choice was seldom tried, a sample without any trial of it looks
    certain. Propensities are exact, so the variance of each term over what might have been chosen is known up to the
    noise of scores: ``sum_a (challenger_a - champion_a)^2 / propensity_a * noise_a``.
    """
    apart = challenger - champion  # (n, m)
    usable: NDArray[np.bool_] = np.all((apart == 0.0) | (log.propensity >= MIN_PROPENSITY), axis=1)
    apart, quality = apart[usable], quality[usable]
    log = ScoredChoices(log.chosen[usable], log.score[usable], log.score_weight[usable], log.propensity[usable])
    terms = doubly_robust_terms(apart, quality, log, max_weight=np.inf)
    plain = mean_value(terms, log.score_weight)
    if plain.n == 0:
        return plain
    expected = (apart * quality).sum(axis=1)
    inverse = np.divide(apart**2, log.propensity, out=np.zeros_like(apart), where=apart != 0.0)
    by_luck = (inverse * _noise(quality, log)).sum(axis=1)
    share = log.score_weight / log.score_weight.sum()
    variance = share**2 * (by_luck + (expected - float(share @ expected)) ** 2)
    # plus one more term as large as the largest, which may merely not have happened, or have happened by a rare choice
    largest = (share**2 * np.maximum(by_luck, terms**2)).max()
    return Value(plain.mean, float((variance.sum() + largest) ** 0.5), plain.n)


def _noise(quality: Array, log: ScoredChoices) -> Array:
    """(n, m) variance of a score around ``quality``: a Bernoulli variable's, scaled to the logged squared errors."""
    chance = np.clip(quality, 0.1, 0.9)
    bernoulli = chance * (1.0 - chance)
    squared_error = (log.score - log.of_chosen(quality)) ** 2
    out: Array = bernoulli * squared_error.mean() / log.of_chosen(bernoulli).mean()
    return out


def judge(evaluations: Value | None, feedback: Value | None, config: GateConfig = GateConfig()) -> GateReport:
    """Promote what is proven better, reject what is proven worse, and send all else on trial."""

    kinds = {
        kind: value
        for kind, value in (("evaluations", evaluations), ("feedback", feedback))
        if value is not None and value.n >= config.least
    }
    if not kinds:
        n_evaluations, n_feedback = (0 if value is None else value.n for value in (evaluations, feedback))
        lack = (
            f"too little held-out evidence ({n_evaluations} evaluated prompts and {n_feedback} decisions with feedback; "
            f"at least {config.least} of either are needed)"
        )
        return GateReport("trial", f"on trial: {lack}", evaluations, feedback, None)
    pooled = pool(list(kinds.values()))
    confidence = f"with {config.confidence:.0%} confidence"
    for kind, value in [*kinds.items(), ("all evidence", pooled)]:
        if value.upper(config.confidence) < min(config.margin, 0.0):
            return GateReport(
                "reject", f"rejected: worse by {kind} {confidence} ({describe(value)})", evaluations, feedback, pooled
            )
    if pooled.lower(config.confidence) > config.margin:
        return GateReport(
            "promote", f"promoted: better {confidence} ({describe(pooled)})", evaluations, feedback, pooled
        )
    undecided = f"neither proven better nor worse by held-out evidence ({describe(pooled)})"
    return GateReport("trial", f"on trial: {undecided}", evaluations, feedback, pooled)


def describe(difference: Value | None) -> str:
    """A difference for people; None stands for too little evidence."""
    if difference is None:
        return "too little held-out evidence to compare them"
    return f"difference {difference.mean:+.4f} +- {difference.stderr:.4f} over {difference.n:,} prompts"


def pool(values: list[Value]) -> Value:
    """Independent values joined by inverse variance; a standard error counts as at least 1/n, since n equal terms do not
    prove that the next is equal."""
    weight = np.array([max(v.stderr, 1.0 / v.n) ** -2.0 for v in values])
    mean = float(weight @ [v.mean for v in values] / weight.sum())
    return Value(mean, float(weight.sum() ** -0.5), sum(v.n for v in values))
