"""The ledger: what every word of feedback is worth, learned from all that was said before it.

A word is calibrated by its source's line, weighed by its rater's record, and rationed: whoever speaks much, and whatever
is much spoken of, adds less and less. What the truth was, nobody tells; it is expected to be what the decision expected,
moved to what others said of the same decision, or it is known where the same answer was evaluated.

The ledger is a function of the ordered log alone, so every replica computes the same; its state is JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, Protocol, Self

from agent.feedback.calibration import BASES, GUESSES, Basis, Kind, RaterRecord, Reading, SourceLine, Tally
from agent.feedback.quota import Post, RationConfig, Rations
from agent.feedback.ratings import Word, lessons, outcome
from agent.online.drift import since_changed
from agent.types import Drift, Observation

Truth = Callable[[str, str], float | None]
"""(prompt id, model) -> its evaluated score, where there is one."""


_LEAST_WEIGHT = 0.01
"""A mean that weighs less is not known at all."""


@dataclass(frozen=True, slots=True)
class LedgerConfig:
    """What the ledger allows and remembers.

    Parameters
    ----------
    rations
        What raters and keys may weigh on a task.
    decision_cap
        Most that all feedback on one decision may weigh, in units of a clean evaluation.
    decisions
        Decisions held, latest first, so that their words can be revised and compared.
    words
        Words held of one decision; later ones are weighed, but teach nothing about sources and raters.
    raters
        Raters remembered, latest first.
    """

    rations: RationConfig = field(default_factory=RationConfig)
    decision_cap: float = 2.0
    decisions: int = 2048
    words: int = 8
    raters: int = 10_000


@dataclass(frozen=True, slots=True)
class Heard:
    """What a word says, and what it weighs.

    Parameters
    ----------
    score
        Estimate of the answer's quality (of a comparison: of its quality less the other's), unbiased rather than clipped.
    weight
        In [0, 1], beside a clean evaluation.
    """

    score: float
    weight: float


class Scored(Post, Protocol):
    """A row of the log that scores an answer."""

    @property
    def seq(self) -> int: ...
    @property
    def prompt_id(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def score(self) -> float: ...


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What is known of a source: ``y = bias + slope * truth``, ``noise`` times a clean evaluation's; its ``weight``."""

    source: str
    kind: Kind
    words: int
    bias: float
    slope: float
    noise: float
    weight: float


@dataclass(frozen=True, slots=True)
class RaterReport:
    """What is known of a rater: probability of honesty as ``weight``, and how far above the source's line they speak."""

    source: str
    rater: str
    words: int
    weight: float
    level: float


@dataclass(slots=True)
class _Case:
    """A decision: what its feedback weighs together, and the words that are held of it."""

    spent: float = 0.0
    words: list[Word] = field(default_factory=list)

    def outcome(self, word: Word) -> float:
        """What a word is about, given all others."""
        return outcome(word, [w for w in self.words if w is not word])[0]


class Ledger:
    """Hears feedback in the log's order.

    Parameters
    ----------
    config
        See `LedgerConfig`.
    truth
        Looks evaluations up; a live replica has none.
    grounds
        Evaluated prompts that the decisions' expectations rest on. What nobody evaluated cannot blame a source: without
        grounds, an optimist would take every honest source for a harsh one.

    Examples
    --------
    >>> import numpy as np
    >>> from agent.types import Encoded
    >>> ledger, prompt = Ledger(), Encoded(np.zeros(4, np.float32), np.zeros(2, np.float32), 9)
    >>> for i in range(400):  # a judge who takes off 0.2
    ...     truth = 0.3 + 0.4 * (i % 2)
    ...     word = Observation(i, f"d{i}", "p", "m", truth - 0.2, "judge", "", prompt, expected=truth)
    ...     heard = ledger.hear(word)
    >>> abs(heard.score - 0.7) < 0.05, heard.weight > 0.8
    (True, True)
    """

    def __init__(
        self, config: LedgerConfig = LedgerConfig(), truth: Truth | None = None, grounds: float = GUESSES
    ) -> None:
        self.config = config
        self._guesses = min(GUESSES, grounds)
        self._truth = truth
        self._lines: dict[tuple[str, Kind], SourceLine] = {}
        self._raters: dict[tuple[str, str], RaterRecord] = {}
        self._rations = Rations(config.rations)
        self._cases: dict[str, _Case] = {}

    def hear(self, observation: Observation) -> Heard:
        """Take the next row of the log in: what it says, and what it weighs.

        A revision replaces the word that it revises where that is still held, and teaches nothing where it is not.
        """
        case = self._case(observation.decision_id)
        truths = (self._evaluated(observation, model) for model in (observation.model, observation.other))
        word = Word.of(observation, *truths)
        self._unteach(case)
        before = next((w for w in case.words if w.who == word.who), None)
        if before is not None:
            case.words.remove(before)
            case.spent = max(case.spent - before.weight, 0.0)
            self._rations.spend(observation, -before.weight)
        heard = self._weigh(case, word, observation)
        case.spent += heard.weight
        self._rations.spend(observation, heard.weight)
        is_new = before is None and observation.revises is None
        self._line(word).words += is_new
        if before is not None or (is_new and len(case.words) < self.config.words):
            case.words.append(word)
        self._teach(case)
        return heard

    def appraise(self, source: str, rater: str, score: float) -> Heard:
        """What a score says and weighs by all that was heard until now, rations apart; nothing is learned of it."""
        line = self._lines.get((source, "score"), SourceLine("score")).reading()
        return _read(score, "score", line, self._raters.get((source, rater)))

    def means(self, rows: Iterable[Scored], drifts: Sequence[Drift] = ()) -> dict[tuple[str, str], Heard]:
        """(prompt, model) -> what its scores say together and weigh together, at most 1; no comparison, nothing revised.

        Rows are rationed among themselves, so they come in the log's order. Those from before a model changed
        (``drifts``) are moved by as much as it did, and count for little.
        """
        rations = Rations(self.config.rations)
        sums: dict[tuple[str, str], tuple[float, float]] = {}  # (weight, weight * score)
        for row in rows:
            word = self.appraise(row.source, row.rater, row.score)
            weight = word.weight * rations.left(row)
            rations.spend(row, weight)
            shift, counts = since_changed(row.model, row.seq, drifts)
            weight *= counts
            total, weighted = sums.get((row.prompt_id, row.model), (0.0, 0.0))
            sums[row.prompt_id, row.model] = (total + weight, weighted + weight * (word.score + shift))
        return {
            pair: Heard(weighted / total, min(total, 1.0))
            for pair, (total, weighted) in sums.items()
            if total >= _LEAST_WEIGHT
        }

    def sources(self) -> tuple[SourceReport, ...]:
        """Every source that spoke, by name and kind."""
        reports = []
        for (source, kind), line in sorted(self._lines.items()):
            r = line.reading()
            reports.append(SourceReport(source, kind, line.words, r.intercept, r.slope, r.noise, r.weight))
        return tuple(reports)

    def raters(self, limit: int | None = None) -> tuple[RaterReport, ...]:
        """Named raters, the least reliable first."""
        lines = {source: line.reading() for (source, kind), line in self._lines.items() if kind == "score"}
        reports = [
            RaterReport(
                source,
                rater,
                int(record.scores.words + record.comparisons.words),
                record.reliability,
                record.level("score", lines[source]) if source in lines else 0.0,
            )
            for (source, rater), record in self._raters.items()
        ]
        return tuple(sorted(reports, key=lambda r: (r.weight, -r.words, r.source, r.rater))[:limit])

    def state(self) -> dict[str, Any]:
        """Everything learned, as JSON."""
        return {
            "lines": [
                [*which, line.words, {basis: list(sums) for basis, sums in line.sums.items()}]
                for which, line in self._lines.items()
            ],
            "raters": [[*who, r.doubt, astuple(r.scores), astuple(r.comparisons)] for who, r in self._raters.items()],
            "rations": self._rations.state(),
            "cases": [[name, case.spent, [astuple(w) for w in case.words]] for name, case in self._cases.items()],
        }

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Any] | None,
        config: LedgerConfig = LedgerConfig(),
        truth: Truth | None = None,
        grounds: float = GUESSES,
    ) -> Self:
        """A ledger that goes on where `state` was taken; a new one for None."""
        ledger = cls(config, truth, grounds)
        if state is None:
            return ledger
        for source, kind, words, sums in state["lines"]:
            known: dict[Basis, list[float]] = {basis: list(sums[basis]) for basis in BASES}
            ledger._lines[source, kind] = SourceLine(kind, words, known, ledger._guesses)
        for source, rater, doubt, scores, comparisons in state["raters"]:
            ledger._raters[source, rater] = RaterRecord(doubt, Tally(*scores), Tally(*comparisons))
        ledger._rations.restore(state["rations"])
        for name, spent, words in state["cases"]:
            ledger._cases[name] = _Case(spent, [Word(*word) for word in words])
        return ledger

    def _evaluated(self, o: Observation, model: str | None) -> float | None:
        """What a model scored on a row's prompt in an evaluation, where there was one."""
        return None if self._truth is None or model is None else self._truth(o.prompt_id, model)

    def _weigh(self, case: _Case, word: Word, o: Observation) -> Heard:
        """Calibrate and weigh a word by all that was heard before it."""
        record, line = self._rater(word), self._line(word)
        read = _read(word.said, word.kind, line.reading(), record)
        left = self._rations.left(o)
        word.claim, word.faith = read.score, read.weight
        word.trust = left * (record.reliability if record else 1.0)
        word.weight = read.weight * left * (1.0 - min(case.spent / self.config.decision_cap, 1.0))
        return Heard(read.score, word.weight)

    def _teach(self, case: _Case) -> None:
        """Let every word of a decision teach its source and its rater, beside what the others said."""
        for word in case.words:
            if not word.is_about_something:
                continue
            for lesson in lessons(word, case.words):
                self._line(word).learn(lesson)
            record = self._raters.get((word.source, word.rater))
            if record is not None:
                word.evidence = record.learn(word.kind, word.said, case.outcome(word), self._line(word).reading())

    def _unteach(self, case: _Case) -> None:
        """Take back what the words of a decision taught."""
        for word in case.words:
            if not word.is_about_something:
                continue
            for lesson in lessons(word, case.words):
                self._line(word).learn(lesson, -1.0)
            record = self._raters.get((word.source, word.rater))
            if record is not None and word.evidence is not None:
                record.unlearn(word.kind, word.said, case.outcome(word), word.evidence)
            word.evidence = None

    def _case(self, decision_id: str) -> _Case:
        case = self._cases.pop(decision_id, None) or _Case()
        self._cases[decision_id] = case
        if len(self._cases) > self.config.decisions:
            del self._cases[next(iter(self._cases))]
        return case

    def _line(self, word: Word) -> SourceLine:
        return self._lines.setdefault((word.source, word.kind), SourceLine(word.kind, guesses=self._guesses))

    def _rater(self, word: Word) -> RaterRecord | None:
        """The record of who spoke, the latest last; None for nobody in particular."""
        if not word.rater:
            return None
        who = (word.source, word.rater)
        record = self._raters.pop(who, None) or RaterRecord()
        self._raters[who] = record
        if len(self._raters) > self.config.raters:
            oldest = next(iter(self._raters))
            del self._raters[oldest]
            self._rations.forget(oldest)
        return record


def _read(said: float, kind: Kind, line: Reading, record: RaterRecord | None) -> Heard:
    """What a word says by its source's line and its rater's record (None: nobody's), before any cap."""
    level, reliability = (record.level(kind, line), record.reliability) if record else (0.0, 1.0)
    return Heard((said - line.intercept - level) / line.slope, line.weight * reliability)
