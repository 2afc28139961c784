"""The champion monitor: whether a promoted champion is proven worse, live, than the snapshot that it replaced.

The evidence is the feedback on decisions since its promotion: the doubly robust difference of the two greedy policies in
utility (quality less lambda times cost). The champion is worse where the upper confidence limit of that difference is
below 0.

The question is asked again with every batch of feedback, so the limit is that of a *confidence sequence*: over all looks
together it is wrong with probability ``alpha`` at most, whenever and however often one looks (Waudby-Smith, Arbour, Sinha,
Kennedy & Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence sequences", one-sided, appendix B).

Mostly only the champion's answer is seen; the value of the other's choice rests on the mean of the two snapshots' own
estimates. When scores of all models fall below both estimates (a judge became harsher, prompts became harder), that would
count against the champion alone. So the estimates are corrected by the mean error on decisions where both snapshots
choose the same model: there the difference is 0 for certain.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log, sqrt

import numpy as np

from agent.estimate import Estimator
from agent.evaluation.logged import LoggedDecisions
from agent.evaluation.off_policy import ScoredChoices, doubly_robust_terms, effective_size, importance
from agent.snapshot import Snapshot
from agent.types import Array


@dataclass(frozen=True, slots=True)
class MonitorConfig:
    """How sure, and how long.

    Parameters
    ----------
    alpha
        Probability, over all looks together, of calling a champion worse that is not.
    least
        Fewest decisions on which the two choose differently (effective, by score weight) before the champion may be called
        worse: the sequence is asymptotic, and the other decisions add zeros.
    most
        The monitor stops after this many rows of feedback.
    tuned_at
        Number of decisions at which the sequence is tightest.
    shift_prior
        The mean error is shrunken toward 0 as by this many decisions on which the snapshots agree.
    """

    alpha: float = 0.05
    least: float = 50.0
    most: int = 5000
    tuned_at: float = 250.0
    shift_prior: float = 10.0


@dataclass(frozen=True, slots=True)
class LiveComparison:
    """A champion against the snapshot that it replaced, on live decisions.

    Parameters
    ----------
    worse
        Whether it is proven worse.
    mean, stderr
        Of the difference in utility, champion less predecessor.
    upper
        Upper limit of the difference, at every look together with confidence ``1 - alpha``.
    decisions, effective
        Number of decisions, and of equally weighted ones that they are worth.
    effective_apart
        The same of those on which the two choose differently.
    shift
        Mean error of the estimates where the two choose the same model.
    """

    worse: bool
    mean: float
    stderr: float
    upper: float
    decisions: int
    effective: float
    effective_apart: float
    shift: float


def compare_live(
    champion: Snapshot, predecessor: Snapshot, decisions: LoggedDecisions, config: MonitorConfig = MonitorConfig()
) -> LiveComparison:
    """Compare on decisions that neither snapshot was trained on."""
    if not len(decisions):
        return LiveComparison(False, 0.0, inf, inf, 0, 0.0, 0.0, 0.0)
    new, old = (decisions.estimates(Estimator(s)) for s in (champion, predecessor))
    utility = (new + old) / 2 - decisions.cost_penalty
    return compare_policies(decisions.greedy(new), decisions.greedy(old), utility, decisions.net(), config)


def compare_policies(
    champion: Array,
    predecessor: Array,
    utility: Array,
    decisions: ScoredChoices,
    config: MonitorConfig = MonitorConfig(),
) -> LiveComparison:
    """The same for two policies (n, m) of choice probabilities.

    Parameters
    ----------
    utility
        (n, m) estimates that favour neither policy.
    decisions
        With scores less cost penalties.

    Notes
    -----
    `agent.evaluation.gate.feedback_difference` leaves out what was seldom tried. Of a champion that serves, that is nearly
    everything on which the two differ: by it no bad champion was found at all (docs/log.md).
    """
    score_weight = decisions.score_weight
    share = score_weight / score_weight.sum()
    apart = champion - predecessor
    error = decisions.score - decisions.of_chosen(utility)

    same = decisions.of_chosen(champion * predecessor) == 1.0
    evidence = float(score_weight @ same) + config.shift_prior
    shift = float((score_weight * same) @ error) / evidence
    terms = doubly_robust_terms(apart, utility + shift, decisions)
    mean = float(share @ terms)
    # each decision's influence on the mean, that through the shift included
    leverage = float(share @ importance(apart, decisions)) * float(score_weight.sum()) / evidence
    influence = terms - mean - leverage * same * (error - shift)

    effective = effective_size(score_weight)
    effective_apart = effective_size(score_weight * np.any(apart != 0.0, axis=1))
    spread = sqrt(float(share @ influence**2))
    upper = mean + spread * radius(effective, config)
    return LiveComparison(
        worse=effective_apart >= config.least and upper < 0.0,
        mean=mean,
        stderr=spread / sqrt(effective),
        upper=upper,
        decisions=len(decisions),
        effective=effective,
        effective_apart=effective_apart,
        shift=shift,
    )


def radius(n: float, config: MonitorConfig = MonitorConfig()) -> float:
    """Distance of the one-sided confidence sequence from a mean of n, in standard deviations of one decision.

    Examples
    --------
    >>> [round(radius(n) * n**0.5, 2) for n in (50, 250, 5000)]
    [3.08, 2.78, 3.11]
    """
    two = 2.0 * config.alpha
    squared = (1.0 - 2.0 * log(two) + log(1.0 - 2.0 * log(two))) / config.tuned_at
    variance = n * squared + 1.0
    return sqrt(2.0 * variance / (n * n * squared) * log(1.0 + sqrt(variance) / two))
