"""What was said of one decision, and what that teaches about who said it.

The truth of an answer is known where it was evaluated. Else it is expected to be what the decision expected, moved to
what others said of the same answer, each other word being a reading of the truth with a noise of its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from agent.feedback.calibration import Basis, Kind, Lesson
from agent.types import Observation

_SUREST = 0.9
"""No word explains more of an outcome's variance than this."""


@dataclass(slots=True)
class Word:
    """Something said of a decision.

    Parameters
    ----------
    source, rater, other
        By whom; against which model, where it is a comparison.
    said
        As `agent.feedback.calibration.Lesson` has it.
    expected, variance, truth
        The outcome as the decision expected it, its variance around that, and as it was evaluated; None where unknown.
    claim, faith
        The outcome that it was read as, and what such a reading is worth before any cap.
    trust, weight
        With which it teaches, and with which it counted.
    evidence
        What it added to its rater's doubt; None where it taught no rater.
    """

    source: str
    rater: str
    other: str | None
    said: float
    expected: float | None
    variance: float
    truth: float | None
    claim: float = 0.0
    faith: float = 0.0
    trust: float = 0.0
    weight: float = 0.0
    evidence: float | None = None

    @classmethod
    def of(cls, o: Observation, truth: float | None, truth_other: float | None) -> Self:
        """A row of the log, not yet weighed; the evaluations of both answers, None where unknown."""
        if o.other is None:
            return cls(o.source, o.rater, None, o.score, _known(o.expected), outcome_variance(o.expected), truth)
        return cls(
            o.source,
            o.rater,
            o.other,
            2.0 * o.score - 1.0,
            _known(o.expected - o.expected_other),
            outcome_variance(o.expected) + outcome_variance(o.expected_other),
            None if truth is None or truth_other is None else truth - truth_other,
        )

    @property
    def kind(self) -> Kind:
        """Whether it scores the answer or compares it."""
        return "score" if self.other is None else "comparison"

    @property
    def who(self) -> tuple[str, str, str | None]:
        """What makes a later word a revision of it."""
        return self.source, self.rater, self.other

    @property
    def is_about_something(self) -> bool:
        """Whether anything is known of the outcome, so that the word can teach."""
        return self.expected is not None or self.truth is not None


def outcome_variance(expected: float) -> float:
    """Variance of an outcome around what was expected (NaN: unknown): that of a coin, and a little for a wrong guess."""
    p = 0.5 if math.isnan(expected) else min(max(expected, 0.0), 1.0)
    return 0.02 + p * (1.0 - p)


def outcome(word: Word, others: Sequence[Word]) -> tuple[float, float]:
    """Expectation of what a word is about, and how much of the outcome's variance that explains, in [0, 1].

    A word of faith f among the ``others`` reads the outcome, of variance v, with noise ``v * (1 / f - 1)``.
    """
    if word.truth is not None:
        return word.truth, 1.0
    assert word.expected is not None, "a word about an unknown outcome teaches nothing"
    heard = [] if word.other else [(min(w.faith, _SUREST), w.claim) for w in others if w.other is None]
    precision = sum(faith / (1.0 - faith) for faith, _ in heard)
    pulled = sum(faith / (1.0 - faith) * (claim - word.expected) for faith, claim in heard)
    moved = word.expected + pulled / (1.0 + precision)
    return (min(max(moved, 0.0), 1.0) if heard else moved), precision / (1.0 + precision)


def lessons(word: Word, words: Sequence[Word]) -> list[Lesson]:
    """What a word teaches its source, beside what other sources said among the decision's ``words``."""
    alone, explained = outcome(word, ())
    basis: Basis = "decision" if word.truth is None else "evaluation"
    taught = [Lesson(word.said, alone, word.variance, explained, word.trust, basis)]
    moved, explained = outcome(word, [w for w in words if w.source != word.source])
    if word.truth is None and explained:
        taught.append(Lesson(word.said, moved, word.variance, explained, word.trust, "others"))
    return taught


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
