"""Which answers to have judged: those whose scores would change most of what is chosen later."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from agent.types import Candidate

T = TypeVar("T")

NOISE = 0.25
"""Variance of one score around the quality that it is a score of: that of a coin."""

EXPLORED = 2.0
"""Factor on the value of an answer that was explored: its price is paid, and without a score nothing came of it."""


@dataclass(frozen=True, slots=True)
class Judgeable(Generic[T]):
    """An answer that may be judged.

    Parameters
    ----------
    key
        What names it.
    model, task
        Who answered, and on which task.
    candidates
        Of its decision.
    explored
        Whether the model was explored.
    doubt
        By how much the model's estimate may be off beyond its standard error: the shift of a silent change, or how far below
        it a user rated the answer.
    """

    key: T
    model: str
    task: int
    candidates: tuple[Candidate, ...]
    explored: bool = False
    doubt: float = 0.0


def most_telling(answers: Sequence[Judgeable[T]], count: int) -> list[T]:
    """At most ``count`` answers, the one whose score is worth most first; each makes others of its model and task tell less."""
    found: list[T] = []
    scored: Counter[tuple[str, int]] = Counter()
    left = [answer for answer in answers if any(c.model == answer.model for c in answer.candidates)]
    while left and len(found) < count:
        best = max(left, key=lambda a: (value_of_score(a, scored[a.model, a.task]), str(a.key)))
        left.remove(best)
        found.append(best.key)
        scored[best.model, best.task] += 1
    return found


def value_of_score(answer: Judgeable[T], n: int = 0) -> float:
    """Expected gain in utility of the next choice among the decision's models, once one more score of the answer is known.

    The knowledge gradient (Frazier et al. 2008) of one measurement, after ``n`` others on its model and task.

    Examples
    --------
    >>> sure, unsure = (Candidate("a", 0.7, s, 0.0, 0.7, 1.0) for s in (0.02, 0.3))
    >>> other = Candidate("b", 0.65, 0.1, 0.0, 0.65, 0.0)
    >>> [round(value_of_score(Judgeable(0, "a", 0, (own, other))), 4) for own in (sure, unsure)]
    [0.0, 0.0398]
    """
    own = next(c for c in answer.candidates if c.model == answer.model)
    rivals = [c.utility for c in answer.candidates if c.model != answer.model and c.excluded is None]
    gap = abs(own.utility - max(rivals)) if rivals else 0.0
    return _gradient(own.stderr**2 + answer.doubt**2, gap, n) * (EXPLORED if answer.explored else 1.0)


def second_model(answer: Judgeable[T], available: Sequence[str]) -> str | None:
    """Of the ``available`` models the one whose answer beside this one would tell most; None where there is none."""
    own = next((c for c in answer.candidates if c.model == answer.model), None)
    others = [c for c in answer.candidates if c.model in set(available) - {answer.model} and c.excluded is None]
    if own is None or not others:
        return None
    return max(others, key=lambda c: (_gradient(c.stderr**2, abs(own.utility - c.utility), 0), c.model)).model


def _gradient(variance: float, gap: float, n: int) -> float:
    """Of one score, where ``n`` are known that ``variance`` does not count."""
    variance = max(variance, 1e-12)
    left = variance * NOISE / (NOISE + n * variance)
    change = left / math.sqrt(left + NOISE)  # standard deviation of what a score changes in the estimate
    z = gap / change
    density = math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return change * (density - z * 0.5 * math.erfc(z / math.sqrt(2.0)))
