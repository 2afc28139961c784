"""The test of a trial: whether the challenger is proven better or worse than the champion by the requests that a coin decided.

For each scored decision on which the two routers differ, a doubly robust term estimates the challenger's utility less the
champion's. Propensities are exact, so the terms are unbiased whatever the estimates are worth; the estimates, the mean of both
routers' and corrected by the mean error of earlier scores, only reduce the variance. The terms less their mean are a
martingale, so their sum may be tested at every look.

The test is a group-sequential one with continuous looks. With S the sum of the terms, and V its variance at the planned last
look, ``P(max S > b sqrt(V)) = 2 (1 - Phi(b))`` where the challenger is no better (the reflection principle; the terms' sum
is a Brownian motion in the limit: Hall & Heyde 1980, theorem 4.1). That is the boundary of O'Brien & Fleming (1979) in
continuous time. A trial that ends early, for a reason that does not depend on the scores, spends what is left of alpha at a
last look (Lan & DeMets 1983). A confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024) would need no planned
end and is less powerful (docs/log.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import inf, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr, ndtri

from agent.evaluation.off_policy import effective_size
from agent.feedback.ledger import Ledger
from agent.feedback.state import latest_ratings
from agent.observations import Observation
from agent.trial import TrialKind
from agent.types import Array

TrialVerdict = Literal["continue", "promote", "reject", "end"]


@dataclass(frozen=True, slots=True)
class TrialConfig:
    """How sure, and how long.

    Parameters
    ----------
    alpha
        Probability, over all looks together, of calling a challenger better that is not; and one worse that is not.
    share
        Of the requests on which the two differ that the coin decides, in (0, 1].
    most
        Scored decisions (effective, by score weight) at which the trial ends: the planned last look.
    most_decisions
        It also ends after this many decisions on which the two differ, scored or not.
    max_regret
        And when it was expected to have cost this much utility, summed over its decisions.
    least
        Fewest scored decisions (effective) before a verdict: the test is asymptotic.
    shift_prior
        The mean error of the estimates is shrunken toward 0 as by this many scores.
    """

    alpha: float = 0.05
    share: float = 1.0
    most: float = 1200.0
    most_decisions: int = 20_000
    max_regret: float = 8.0
    least: float = 50.0
    shift_prior: float = 10.0


TRIAL = TrialConfig()
"""Of a challenger on trial."""

HOLD_BACK = TrialConfig(share=0.5, most=700.0, max_regret=5.0)
"""Of a champion that a refresh or a trial made."""


@dataclass(frozen=True, slots=True)
class TrialEvidence:
    """The scored decisions of a trial, n in the order of their first scores.

    Parameters
    ----------
    score
        (n,) calibrated, less the chosen model's cost penalty.
    score_weight
        (n,) in (0, 1].
    chosen
        (n,) 1 where the challenger's model answered, -1 where the champion's did, 0 where a third one did.
    champion_propensity, challenger_propensity
        (n,) of the two's models.
    champion_utility, challenger_utility
        (n,) as estimated, see `agent.types.TrialChoice`.
    decisions
        On which the two differ, scored or not.
    expected_regret
        Summed over these.
    """

    score: Array
    score_weight: Array
    chosen: NDArray[np.int8]
    champion_propensity: Array
    challenger_propensity: Array
    champion_utility: Array
    challenger_utility: Array
    decisions: int
    expected_regret: float

    def __len__(self) -> int:
        return len(self.score)


@dataclass(frozen=True, slots=True)
class TrialReport:
    """The verdict and its figures.

    Parameters
    ----------
    kind
        ``trial`` or ``hold-back``.
    verdict
        ``continue``; ``promote``: the challenger is proven better, and is to be the champion (in a hold-back: the
        predecessor is put back); ``reject``: it is proven worse (in a hold-back: the champion is proven better, and keeps
        its place); ``end``: its time is over and nothing is proven, the champion keeps its place.
    reason
        For people.
    mean, stderr
        Of the challenger's utility less the champion's, a decision on which the two differ.
    lower, upper
        Its limits, each with confidence ``1 - alpha`` at every look together.
    n
        Scored decisions.
    effective
        Equally weighted ones that they are worth.
    decisions, expected_regret
        See `TrialEvidence`.
    """

    kind: TrialKind
    verdict: TrialVerdict
    reason: str
    mean: float
    stderr: float
    lower: float
    upper: float
    n: int
    effective: float
    decisions: int
    expected_regret: float


def trial_evidence(
    rows: Iterable[Observation], trial: int, ledger: Ledger, *, decisions: int, expected_regret: float
) -> TrialEvidence:
    """The evidence of the trial with id ``trial``.

    Parameters
    ----------
    rows
        Of the feedback log since the trial began, in order. Those of other decisions are skipped, and what cannot be used:
        answers of a model that was not eligible (the chosen one failed), and figures that are missing.
    ledger
        Calibrates and weights the ratings: as it was when the trial began, since a later one is calibrated by what the
        champion expects.
    decisions, expected_regret
        Of all decisions of this trial, see `TrialEvidence`.
    """
    ratings = [
        o for o in rows
        if o.trial is not None and o.trial.trial == trial and o.other is None and 0.0 <= o.score <= 1.0
    ]  # fmt: skip
    last = latest_ratings(ratings)
    scores = ledger.mean_scores(replace(o, prompt_id=o.decision_id) for o in last)
    found = []
    for o in {o.decision_id: o for o in last}.values():
        mean, choice, action = scores.get((o.decision_id, o.model)), o.trial, {a.model: a for a in o.actions}
        if mean is None or choice is None or not {o.model, choice.champion, choice.challenger} <= action.keys():
            continue
        chosen = 1 if o.model == choice.challenger else -1 if o.model == choice.champion else 0
        net = mean.value - action[o.model].cost_penalty
        pair = action[choice.champion].propensity, action[choice.challenger].propensity
        utilities = choice.champion_utility, choice.challenger_utility
        if min(pair) > 0.0 and np.isfinite((net, *utilities)).all():
            found.append((net, mean.weight, chosen, *pair, *utilities))
    score, weight, arm, p_champion, p_challenger, u_champion, u_challenger = np.array(found).reshape(-1, 7).T
    return TrialEvidence(
        score, weight, arm.astype(np.int8), p_champion, p_challenger, u_champion, u_challenger,
        decisions, expected_regret,
    )  # fmt: skip


def judge_trial(kind: TrialKind, evidence: TrialEvidence, config: TrialConfig, *, last: bool = False) -> TrialReport:
    """Whether the trial is over, and how it ended.

    Parameters
    ----------
    kind
        Says how the verdict reads.
    evidence
        All of it so far.
    config
        The same at every look.
    last
        Whether the trial is to end now in any case, for a reason that does not depend on the scores, such as its time.
    """
    weight = evidence.score_weight
    effective, total = effective_size(weight), float(weight.sum())
    last = last or effective >= config.most or evidence.decisions >= config.most_decisions
    if effective >= 2.0:
        terms = _terms(evidence, config)
        mean = float(weight @ terms) / total
        squares = (weight * (terms - mean)) ** 2
        # plus one more term as large as the largest, which may merely not have happened
        stderr = sqrt(float(squares.sum() + squares.max())) / total
        radius = stderr * critical_value(effective / config.most, config.alpha, last=last)
    else:
        mean, stderr, radius = 0.0, inf, inf
    lower, upper = mean - radius, mean + radius
    enough = effective >= config.least
    verdict: TrialVerdict
    if enough and lower > 0.0:
        verdict = "promote"
    elif enough and upper < 0.0:
        verdict = "reject"
    else:
        verdict = "end" if last or evidence.expected_regret >= config.max_regret else "continue"
    report = TrialReport(
        kind, verdict, "", mean, stderr, lower, upper, len(evidence), effective, evidence.decisions,
        evidence.expected_regret,
    )  # fmt: skip
    return replace(report, reason=_reason(report, config))


def critical_value(fraction: float, alpha: float, *, last: bool) -> float:
    """Standard errors by which a mean must differ from 0, at a look with this ``fraction`` of the planned information.

    Examples
    --------
    >>> [round(critical_value(f, 0.05, last=False), 2) for f in (0.25, 0.5, 1.0)]
    [3.92, 2.77, 1.96]
    >>> [round(critical_value(f, 0.05, last=True), 2) for f in (0.25, 0.5, 1.0)]
    [1.64, 1.65, 1.96]
    """
    boundary = -float(ndtri(alpha / 2.0)) / sqrt(min(fraction, 1.0))
    if not last or fraction >= 1.0:
        return boundary
    # P(above c at the end, or above the boundary before and below c at the end), by reflection at the boundary
    return float(brentq(lambda c: ndtr(-c) + ndtr(c - 2.0 * boundary) - alpha, 0.0, boundary))


def _terms(evidence: TrialEvidence, config: TrialConfig) -> Array:
    """(n,) doubly robust estimates of the challenger's utility less the champion's."""
    won, lost = evidence.chosen == 1, evidence.chosen == -1
    expected = np.where(won, evidence.challenger_utility, evidence.champion_utility)
    error = (evidence.score - expected) * (won | lost)
    weight = evidence.score_weight * (won | lost)
    # the mean error of what was scored before, so that each term's correction does not depend on its own score
    before = np.concatenate([[0.0], np.cumsum(weight * error)[:-1]])
    error = error - before / (config.shift_prior + np.concatenate([[0.0], np.cumsum(weight)[:-1]]))
    apart: Array = evidence.challenger_utility - evidence.champion_utility
    apart = apart + np.where(won, error / evidence.challenger_propensity, 0.0)
    return apart - np.where(lost, error / evidence.champion_propensity, 0.0)


def _reason(report: TrialReport, config: TrialConfig) -> str:
    confidence = f"with {1.0 - config.alpha:.0%} confidence"
    figures = (
        f"difference {report.mean:+.4f} +- {report.stderr:.4f} over {report.n:,} scored requests on which the two differ"
        if report.effective >= 2.0
        else "fewer than two scored requests on which the two differ"
    )
    held = report.kind == "hold-back"
    if report.verdict == "promote":
        return f"{'rolled back: worse than its predecessor' if held else 'promoted: better on trial'} {confidence} ({figures})"
    if report.verdict == "reject":
        return f"{'kept: better than its predecessor' if held else 'rejected: worse on trial'} {confidence} ({figures})"
    if report.verdict == "end":
        why = "its regret is used up" if report.expected_regret >= config.max_regret else "its time is over"
        outcome = (
            "kept: not proven worse than its predecessor"
            if held
            else "let go: neither proven better nor worse on trial"
        )
        return f"{outcome}, and {why} ({figures})"
    return f"{'held back from' if held else 'on trial'}: nothing is proven yet ({figures})"
