"""A panel of judges scores two answers to one prompt, which every judge sees in both orders; one order alone gives no score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from agent.evaluation.reference import Reference
from jobs.calls.asking import Asking
from jobs.judge.verdict import PairScore, Verdict, new_mark, pair_score, question, read_verdict, response_format
from store.feedback import FeedbackEvent, FeedbackLog
from store.pool.file import PoolModel

VERDICT_TOKENS = 1000
"""Most tokens of a verdict, thinking included."""

REFERENCE = "reference"
"""Rater of the scores by reference answers."""

ORDERS = ("ours first", "theirs first")


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer to be scored, and the decision that it is scored under.

    ``key`` begins the idempotency keys of its scores, so that none is recorded twice, however often a judge is asked.
    """

    decision_id: str
    text: str
    key: str


@dataclass(slots=True)
class PanelScore:
    """What a panel says of two answers: each judge's score, by its name, and the number of verdicts that could not be read."""

    by_judge: dict[str, PairScore] = field(default_factory=dict)
    unreadable: int = 0

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


class Panel:
    """Judges, asked through ``asking``, whose scores enter the feedback log ``log``."""

    def __init__(self, judges: Sequence[PoolModel], asking: Asking, log: FeedbackLog) -> None:
        self._judges = tuple(judges)
        self._asking = asking
        self._log = log

    def compare(self, name: str, prompt: str, ours: Answered, theirs: Answered) -> PanelScore:
        """Score two answers to ``prompt``; ``name`` is the pair's, among all that are booked alike."""
        out = PanelScore()
        for judge in self._judges:
            verdicts = [self._verdict(judge, name, prompt, ours, theirs, order) for order in ORDERS]
            out.unreadable += sum(v is _UNREADABLE for v in verdicts)
            first, second = verdicts
            if isinstance(first, Verdict) and isinstance(second, Verdict):
                score = out.by_judge[judge.card.name] = pair_score(first, second)
                self._record(judge, ours, theirs, score)
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
    ) -> Verdict | object | None:
        """A judge's verdict in one order; None where the budget ended, or the call failed."""
        first, second = (ours, theirs) if order == ORDERS[0] else (theirs, ours)
        mark = new_mark()
        reply = self._asking.ask(
            "judge",
            f"{name} {judge.card.name} {order}",
            judge,
            question(prompt, first.text, second.text, mark),
            VERDICT_TOKENS,
            more={"response_format": response_format()} if "json" in judge.card.capabilities else {},
            before=f"{mark}\n",
        )
        if reply.text is None:
            return None
        asked, _, text = reply.text.partition("\n")  # of a verdict that came before, its own mark
        return read_verdict(text, asked) or _UNREADABLE

    def _record(self, judge: PoolModel, ours: Answered, theirs: Answered, score: PairScore) -> None:
        """Write a judge's scores of both answers to the feedback log."""
        rater = judge.card.name
        events = [
            FeedbackEvent(
                decision_id=answer.decision_id,
                score=value,
                source="judge",
                rater=rater,
                comment=score.reason,
                idempotency_key=f"{answer.key}-{rater}",
            )
            for answer, value in ((ours, score.ours), (theirs, score.theirs))
        ]
        self._log.append(events).result()


_UNREADABLE = object()
"""In place of a verdict that cannot be read."""
