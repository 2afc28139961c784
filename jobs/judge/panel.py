"""A panel of judges scores two answers to one prompt, which every judge sees in both orders; one order alone gives no score."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import fmean

from agent.evaluation.reference import Reference
from agent.types import ModelCard
from jobs.calls.asking import Asking
from jobs.judge.judges import Bench
from jobs.judge.verdict import new_mark, question, question_alone, response_format
from store.feedback import FeedbackEvent, FeedbackLog
from store.pool.file import PoolModel
from store.verdicts import (
    ALONE,
    ORDERS,
    Grade,
    PairScore,
    Verdict,
    kept_with,
    pair_score,
    read_grade,
    read_verdict,
    taken_apart,
)

VERDICT_TOKENS = 1000
"""Most tokens of a verdict, thinking included."""

REFERENCE = "reference"
"""Rater of the scores by reference answers."""


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer of ``card``'s model to be scored, and the decision that it is scored under.

    ``key`` begins the idempotency keys of its scores, so that none is recorded twice, however often a judge is asked.
    """

    decision_id: str
    card: ModelCard
    text: str
    key: str


@dataclass(slots=True)
class PanelScore:
    """What a panel says of two answers: each judge's score, by its name, and the number of verdicts that could not be read;
    ``beyond``: the budget ended before all had judged."""

    by_judge: dict[str, PairScore] = field(default_factory=dict)
    unreadable: int = 0
    beyond: bool = False

    @property
    def mean(self) -> PairScore | None:
        """Over the judges; None where none gave a score."""
        scores = list(self.by_judge.values())
        if not scores:
            return None
        return PairScore(
            fmean(s.ours for s in scores),
            fmean(s.theirs for s in scores),
            fmean(s.position_bias for s in scores),
            scores[0].reason,
        )


@dataclass(slots=True)
class Grades:
    """What a panel says of one answer: each judge's score, by its name; else as `PanelScore`."""

    by_judge: dict[str, float] = field(default_factory=dict)
    unreadable: int = 0
    beyond: bool = False


class Panel:
    """The judges of a ``bench``, asked through ``asking``, whose scores enter the feedback log ``log``."""

    def __init__(self, bench: Bench, asking: Asking, log: FeedbackLog) -> None:
        self._bench = bench
        self._asking = asking
        self._log = log

    def compare(self, name: str, prompt: str, ours: Answered, theirs: Answered) -> PanelScore:
        """Score two answers to ``prompt``; ``name`` is the pair's, among all that are booked alike."""
        out = PanelScore()
        for judge in self._bench.judges_of(ours.card, theirs.card):
            verdicts = [self._verdict(judge, name, prompt, ours, theirs, order) for order in ORDERS]
            out.unreadable += sum(v is _UNREADABLE for v in verdicts)
            out.beyond |= any(v is _BEYOND for v in verdicts)
            first, second = verdicts
            if isinstance(first, Verdict) and isinstance(second, Verdict):
                score = out.by_judge[judge.card.name] = pair_score(first, second)
                self._record(judge, score.reason, (ours, score.ours), (theirs, score.theirs))
        return out

    def grade(self, name: str, prompt: str, answer: Answered) -> Grades:
        """Score one answer to ``prompt``; ``name`` is its own, among all that are booked alike."""
        out = Grades()
        for judge in self._bench.judges_of(answer.card):
            mark = new_mark()
            messages = question_alone(prompt, answer.text, mark)
            found = self._asked(judge, f"{name} {judge.card.name} {ALONE}", messages, mark, Grade, read_grade)
            out.unreadable += found is _UNREADABLE
            out.beyond |= found is _BEYOND
            if isinstance(found, Grade):
                out.by_judge[judge.card.name] = found.score
                self._record(judge, found.reason, (answer, found.score))
        return out

    def against_reference(self, reference: Reference, *answers: Answered) -> list[float]:
        """Score answers by a reference, which costs nothing. The scores are true, so their source is ``evaluation``."""
        scores = [reference.score(answer.text) for answer in answers]
        comment = f"by the {reference.kind} reference"
        events = [
            FeedbackEvent(answer.decision_id, score, "evaluation", REFERENCE, comment, f"{answer.key}-{REFERENCE}")
            for answer, score in zip(answers, scores, strict=True)
        ]
        self._log.append(events).result()
        return scores

    def _verdict(
        self, judge: PoolModel, name: str, prompt: str, ours: Answered, theirs: Answered, order: str
    ) -> object:
        """A judge's verdict in one order; else as `_asked`."""
        first, second = (ours, theirs) if order == ORDERS[0] else (theirs, ours)
        mark = new_mark()
        messages = question(prompt, first.text, second.text, mark)
        return self._asked(judge, f"{name} {judge.card.name} {order}", messages, mark, Verdict, read_verdict)

    def _asked(
        self,
        judge: PoolModel,
        subject: str,
        messages: list[dict[str, str]],
        mark: str,
        form: type[Verdict | Grade],
        read: Callable[[str, str], Verdict | Grade | None],
    ) -> object:
        """What a judge replied, read; `_BEYOND` the budget, `_UNREADABLE`, or None where the call failed."""
        more = {"response_format": response_format(form)} if "json" in judge.card.capabilities else {}
        reply = self._asking.ask(
            "judge", subject, judge, messages, VERDICT_TOKENS, more=more, before=kept_with(mark, "")
        )
        if reply.text is None:
            return _BEYOND if reply.beyond else None
        asked, text = taken_apart(reply.text)  # of a verdict that came before, with its own mark
        return read(text, asked) or _UNREADABLE

    def _record(self, judge: PoolModel, reason: str, *scores: tuple[Answered, float]) -> None:
        """Write a judge's scores of answers to the feedback log, but not of its own."""
        rater = judge.card.name
        events = [
            FeedbackEvent(
                decision_id=answer.decision_id,
                score=score,
                source="judge",
                rater=rater,
                comment=reason,
                idempotency_key=f"{answer.key}-{rater}",
            )
            for answer, score in scores
            if answer.card.name != rater
        ]
        self._log.append(events).result()


_UNREADABLE = object()
"""In place of a verdict that cannot be read."""

_BEYOND = object()
"""In place of a verdict that the budget did not allow."""
