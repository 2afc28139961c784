"""How far a judge can be believed: its scores beside what answers are known to be worth, its liking for places and families.

Intervals are 95 % ones: Fisher's z of a correlation, Wilson's of a share, the normal one of a mean.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import correlation, fmean, variance

Z = 1.96

FOUND = 0.05
"""A bias smaller than this is no finding, however sure it is."""


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate from ``n`` cases with its interval; ``low`` and ``high`` are None where there are too few for one."""

    value: float
    low: float | None
    high: float | None
    n: int

    @property
    def is_sure(self) -> bool:
        """Whether its interval is known and without 0."""
        return self.low is not None and self.high is not None and (self.low > 0.0 or self.high < 0.0)


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    """An answer of known worth (``truth``) that a judge scored, both in [0, 1]; ``own``: it is of the judge's family."""

    prompt: str
    score: float
    truth: float
    own: bool


@dataclass(frozen=True, slots=True)
class BothOrders:
    """A judge's verdicts on a pair in both orders.

    Parameters
    ----------
    bias
        By how much more the first place was given, see `store.verdicts.PairScore`.
    same
        Whether the same answer was the better one in both, or neither.
    """

    bias: float
    same: bool


@dataclass(frozen=True, slots=True)
class Agreement:
    """A judge beside the truth, and beside itself; None where nothing is known.

    Parameters
    ----------
    correlation
        Of its scores with the truth.
    bias
        By how much more than the truth it gives: below 0, it is harsh.
    pairwise
        Share of pairs of answers to one prompt, of different worth, that it puts in the right order; a tie is half right.
    own_family
        By how much more it gives to its own family's answers, beyond what it gives too much to others.
    position
        By how much more it gives to the first of two answers, before both orders are averaged.
    same_order
        Share of pairs on which its verdicts in both orders agree.
    """

    correlation: Figure | None
    bias: Figure | None
    pairwise: Figure | None
    own_family: Figure | None
    position: Figure | None
    same_order: Figure | None

    @property
    def findings(self) -> list[str]:
        """What stands out, in sentences."""
        found = []
        if self.bias and self.bias.is_sure and abs(self.bias.value) >= FOUND:
            found.append(f"It is {'harsh' if self.bias.value < 0 else 'generous'} by {abs(self.bias.value):.2f}.")
        if self.own_family and self.own_family.is_sure and abs(self.own_family.value) >= FOUND:
            how = "flatters" if self.own_family.value > 0 else "is hard on"
            found.append(f"It {how} its own family by {abs(self.own_family.value):.2f}.")
        if self.position and self.position.is_sure and abs(self.position.value) >= FOUND:
            place = "first" if self.position.value > 0 else "second"
            found.append(f"It favours the {place} place by {abs(self.position.value):.2f}; both orders are averaged.")
        if self.pairwise and (self.pairwise.low or 0.0) <= 0.5:
            found.append("It may find the better of two answers no more often than a coin does.")
        return found


def agreement(answers: Sequence[JudgedAnswer], pairs: Sequence[BothOrders] = ()) -> Agreement:
    """What is known of one judge.

    Examples
    --------
    >>> harsh = [JudgedAnswer(f"p{i // 2}", 0.6 * (i % 2) + 0.1, 0.6 * (i % 2) + 0.3, False) for i in range(40)]
    >>> found = agreement(harsh)
    >>> found.findings, found.pairwise.value, round(found.correlation.value, 3)
    (['It is harsh by 0.20.'], 1.0, 1.0)
    """
    errors = [a.score - a.truth for a in answers]
    ordered = _ordered(answers)
    own = [e for e, a in zip(errors, answers, strict=True) if a.own]
    others = [e for e, a in zip(errors, answers, strict=True) if not a.own]
    return Agreement(
        correlation=_correlation(answers),
        bias=_mean(errors),
        pairwise=_share(sum(ordered), len(ordered)),
        own_family=_difference(own, others),
        position=_mean([pair.bias for pair in pairs]),
        same_order=_share(sum(pair.same for pair in pairs), len(pairs)),
    )


def _ordered(answers: Sequence[JudgedAnswer]) -> list[float]:
    """Of each pair of answers to one prompt of which one is worth more: 1 where the judge gave it more, 0.5 for a tie."""
    by_prompt: dict[str, list[JudgedAnswer]] = defaultdict(list)
    for answer in answers:
        by_prompt[answer.prompt].append(answer)
    return [
        0.5 if a.score == b.score else float((a.score > b.score) == (a.truth > b.truth))
        for alike in by_prompt.values()
        for a, b in combinations(alike, 2)
        if a.truth != b.truth
    ]


def _correlation(answers: Sequence[JudgedAnswer]) -> Figure | None:
    scores, truths = [a.score for a in answers], [a.truth for a in answers]
    n = len(answers)
    if n < 2 or len(set(scores)) < 2 or len(set(truths)) < 2:
        return None
    r = min(max(correlation(scores, truths), -1.0), 1.0)
    if n < 4:
        return Figure(r, None, None, n)
    z, half = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12)), Z / math.sqrt(n - 3)
    return Figure(r, math.tanh(z - half), math.tanh(z + half), n)


def _mean(values: Sequence[float]) -> Figure | None:
    if not values:
        return None
    mean, n = fmean(values), len(values)
    half = Z * math.sqrt(variance(values) / n) if n > 1 else None
    return Figure(mean, None if half is None else mean - half, None if half is None else mean + half, n)


def _difference(own: Sequence[float], others: Sequence[float]) -> Figure | None:
    """Of two means; ``n`` is the number of the fewer."""
    if not own or not others:
        return None
    value, n = fmean(own) - fmean(others), min(len(own), len(others))
    if n < 2:
        return Figure(value, None, None, n)
    half = Z * math.sqrt(variance(own) / len(own) + variance(others) / len(others))
    return Figure(value, value - half, value + half, n)


def _share(hits: float, n: int) -> Figure | None:
    if n == 0:
        return None
    share, z2 = hits / n, Z * Z
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n)) / (1 + z2 / n)
    return Figure(share, middle - half, middle + half, n)
