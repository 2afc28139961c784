"""Probation: whether a promoted champion is proven worse, live, than the snapshot that it replaced.

The gate promised that the champion is better. What is said of decisions since then holds it to that: of the two greedy
policies, the doubly robust difference in utility (quality, less what the request's tradeoff makes of cost). The champion
is worse than promised where the upper confidence limit of that difference is below 0.

That is asked again and again while feedback comes in, so the limit is that of a *confidence sequence*: over all looks
together it is wrong with probability ``alpha`` at most, whenever and however often one looks (Waudby-Smith, Arbour, Sinha,
Kennedy & Ramdas 2024, "Time-uniform central limit theory and asymptotic confidence sequences", one-sided, appendix B).

Only one of two answers is ever seen, mostly the champion's; what the other would have been worth rests on the mean of the
two snapshots' own estimates, as at the gate. When all models score lower than both expect (a judge turned harsh, prompts
became harder), that would count against the champion alone. So the estimates are moved by what is seen where both snapshots
choose the same model: there the difference is 0 for certain, and all that is left is how far everything is off.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, log, sqrt

import numpy as np

from agent.estimate import Estimator
from agent.evaluation.logged import LoggedDecisions
from agent.evaluation.off_policy import Logged, effective_size, importance
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
        Fewest decisions (effective: trust is uneven) that prove anything; the sequence is asymptotic.
    most
        So many rows of feedback end the probation.
    tuned
        Decisions at which the sequence is tightest.
    doubt
        Decisions on which the snapshots agree that weigh as much as the belief that nothing has shifted.
    """

    alpha: float = 0.05
    least: float = 50.0
    most: int = 5000
    tuned: float = 250.0
    doubt: float = 10.0


@dataclass(frozen=True, slots=True)
class LiveComparison:
    """How a champion does against the snapshot that it replaced.

    Parameters
    ----------
    worse
        Whether it is proven worse.
    mean, stderr
        Of the difference in utility, champion less predecessor.
    upper
        Limit above the difference, at every look together with confidence ``1 - alpha``.
    decisions, effective
        How many, and how many equally trusted ones they are worth.
    apart
        Share of them (by trust) on which the two choose differently.
    shift
        How far scores are from what both expected, where they choose the same.
    """

    worse: bool
    mean: float
    stderr: float
    upper: float
    decisions: int
    effective: float
    apart: float
    shift: float


def compare_live(
    champion: Snapshot, predecessor: Snapshot, found: LoggedDecisions, config: MonitorConfig = MonitorConfig()
) -> LiveComparison:
    """How ``champion`` does on decisions that neither snapshot was trained on."""
    if not len(found):
        return LiveComparison(False, 0.0, inf, inf, 0, 0.0, 0.0, 0.0)
    now, before = (found.expected(Estimator(s)) for s in (champion, predecessor))
    return compare_policies(
        found.greedy(now), found.greedy(before), (now + before) / 2, found.cost_penalty, found.log, config
    )


def compare_policies(
    champion: Array,
    predecessor: Array,
    quality: Array,
    cost_penalty: Array,
    logged: Logged,
    config: MonitorConfig = MonitorConfig(),
) -> LiveComparison:
    """The same for two policies (n, m) of choice probabilities, by estimates of ``quality`` (n, m) that favour neither.

    Parameters
    ----------
    cost_penalty
        (n, m) what cost takes off a model's utility.

    Notes
    -----
    Not by `agent.evaluation.gate.feedback_difference`, which leaves out what was hardly ever tried: of a champion that serves,
    that is nearly all on which the two differ. By that, no bad champion was found at all (docs/log.md).
    """
    n = len(logged)
    rows, chosen = np.arange(n), logged.chosen
    score_weight = np.ones(n) if logged.score_weight is None else logged.score_weight
    share = score_weight / score_weight.sum()
    off = logged.score - quality[rows, chosen]
    weight = importance(champion, logged) - importance(predecessor, logged)
    plain = ((champion - predecessor) * (quality - cost_penalty)).sum(axis=1)

    alike = (champion * predecessor)[rows, chosen] == 1.0
    evidence = float(score_weight @ alike) + config.doubt
    shift = float((score_weight * alike) @ off) / evidence
    leverage = float(share @ weight)
    terms = plain + weight * (off - shift)
    mean = float(share @ terms)
    # each decision's influence on the mean, the shift's own uncertainty included
    influence = terms - mean - leverage * float(score_weight.sum()) / evidence * alike * (off - shift)

    effective = effective_size(score_weight)
    spread = sqrt(float(share @ influence**2))
    upper = mean + spread * reach(effective, config)
    return LiveComparison(
        worse=bool(effective >= config.least and upper < 0.0),
        mean=mean,
        stderr=spread / sqrt(effective),
        upper=upper,
        decisions=n,
        effective=effective,
        apart=float(share @ np.any(champion != predecessor, axis=1)),
        shift=shift,
    )


def reach(n: float, config: MonitorConfig = MonitorConfig()) -> float:
    """Standard deviations of one decision between a mean of n and its one-sided confidence sequence.

    Examples
    --------
    >>> [round(reach(n) * n**0.5, 2) for n in (50, 250, 5000)]
    [3.08, 2.78, 3.11]
    """
    two = 2.0 * config.alpha
    squared = (1.0 - 2.0 * log(two) + log(1.0 - 2.0 * log(two))) / config.tuned
    spread = n * squared + 1.0
    return sqrt(2.0 * spread / (n * n * squared) * log(1.0 + sqrt(spread) / two))
