"""The job `judge`: has answers to requests scored, those that tell most first, within the day's budget.

Answers come from what replicas kept. Of a request that was drawn for shadow traffic, a second model is asked here, long after
the client had its answer, and the two answers are compared. What is scored, or has waited too long, is deleted. Whatever is
known stands in SQL: a run that was killed is taken up by the next, and no call is made twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from agent.choice.judging import Judgeable, most_telling, second_model
from agent.errors import SnapshotCorrupt, ThalwegError
from agent.evaluation.challenger import Progress
from agent.evaluation.reference import Reference
from agent.feedback.state import ledger_after
from agent.types import ModelCard
from jobs.calls.asking import Asking
from jobs.calls.client import Answer, JobClient
from jobs.context import JobContext
from jobs.judge.judges import Bench, judges
from jobs.judge.panel import Answered, Panel
from store.decisions import DecisionLog, Outcome
from store.drifts import DriftStore
from store.evaluations import EvaluationStore
from store.join_calls import JoinBudget, JoinCalls
from store.kept_answers import KeptAnswer, KeptAnswers
from store.pool.file import PoolModel
from store.prompts import askable, turns_of

MOST = 50
"""Answers that one run has judged; other jobs wait meanwhile."""

CALIBRATED = 50.0
"""Answers of known worth that a judge scores too, until so many tell how far it can be believed."""

FIRST_SHARE = 0.1
"""Share of the day's budget that may be spent at once; the rest comes evenly over the day (UTC)."""

_MOST_CALLS = 1_000_000


@dataclass(slots=True)
class Judged:
    """What a run came to: numbers of answers and USD."""

    waiting: int = 0
    by_reference: int = 0
    scored: int = 0
    pairs: int = 0
    without_score: int = 0
    unreadable: int = 0
    expired: int = 0
    usd: float = 0.0
    reason: str = ""


def judge_answers(ctx: JobContext, progress: Progress, client: JobClient | None = None) -> dict[str, Any]:
    """Have kept answers judged; returns what that came to, as `Judged`.

    Parameters
    ----------
    progress
        Called with (stage, share done); what it raises ends the run.
    client
        By the settings where None.
    """
    s = ctx.settings
    own = client or JobClient(ctx.env, s.join_timeout_s, s.join_calls_per_minute)
    try:
        return asdict(_Judging(ctx, own).run(progress))
    finally:
        if client is None:
            own.close()


def allowance(daily_usd: float, now: datetime) -> JoinBudget:
    """What judging may have spent since midnight (UTC) by ``now``."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    share = max(FIRST_SHARE, (now - midnight) / timedelta(days=1))
    return JoinBudget(daily_usd * share, _MOST_CALLS, midnight)


class _Judging:
    """One run."""

    def __init__(self, ctx: JobContext, client: JobClient) -> None:
        self._ctx = ctx
        self._kept = KeptAnswers(ctx.database, ctx.writer, ctx.clock)
        self._calls = JoinCalls(ctx.database, ctx.clock)
        self._budget = allowance(ctx.settings.judge_daily_usd, ctx.clock())
        self._asking = Asking(client, self._calls, self._budget, None)
        self._models = {m.card.name: m for m, reason in ctx.models() if reason is None and m.provider.kind == "openai"}
        self._cards = {m.card.name: m.card for m in ctx.pool.list(include_removed=True)}
        self._references: Mapping[str, Reference] = {}
        self._out = Judged()

    def run(self, progress: Progress) -> Judged:
        """Score what tells most; the reason says why it ended, where that was early."""
        out, s = self._out, self._ctx.settings
        out.expired = self._kept.expire(self._ctx.clock() - timedelta(hours=s.judge_keep_hours))
        self._calls.lose(None)
        if not s.keeps_answers:
            out.reason = "the settings ask for no judging of answers (THALWEG_JUDGE_DAILY_USD), or keep no prompts"
            return out
        waiting = [kept for kept in self._kept.waiting() if askable(kept.prompt)]
        out.waiting = len(waiting)
        bench, position = self._bench()
        panel = Panel(bench, self._asking, self._ctx.feedback)
        self._references = EvaluationStore(self._ctx.database).references([kept.prompt_id for kept in waiting])
        known = [kept for kept in waiting if kept.prompt_id in self._references]
        for kept in known:
            panel.against_reference(self._references[kept.prompt_id], self._answered(kept))
        out.by_reference = len(known)
        chosen = self._chosen(waiting, bench, position) if bench else []
        before = self._calls.spent(None, since=self._budget.since).usd
        for done, kept in enumerate(chosen):
            progress("judging", done / len(chosen))
            if not self._judge(panel, kept):
                out.reason = "what the budget allows so far today is spent"
                break
        if not chosen and not out.reason:
            out.reason = "no judge can be called" if not bench else "no answer waits to be judged"
        self._kept.let_go([kept.decision_id for kept in known if kept not in chosen])
        out.usd = self._calls.spent(None, since=self._budget.since).usd - before
        return out

    def _bench(self) -> tuple[Bench, int]:
        """Who may judge, and the position of the champion."""
        try:
            champion = self._ctx.champion()
        except SnapshotCorrupt:
            champion = None
        if champion is None or self._ctx.settings.judge == "off":
            return Bench(), 0
        quality = dict(zip(champion.models, np.asarray(champion.tensors["overall"], float).tolist()))
        try:
            return judges(self._ctx.settings, self._models, quality, self._ctx.clock()), champion.position
        except ThalwegError as error:
            self._out.reason = error.message
            return Bench(), 0

    def _chosen(self, waiting: Sequence[KeptAnswer], bench: Bench, position: int) -> list[KeptAnswer]:
        """Which to judge: shadow traffic, some of known worth that tell of the judges, then those that tell most."""
        shadow = [kept for kept in waiting if kept.shadow][:MOST]
        known = [kept for kept in waiting if kept.prompt_id in self._references and not kept.shadow]
        if known:
            known = known[: min(self._uncalibrated(bench), MOST // 5)]
        drifts = DriftStore(self._ctx.database).latest(after=position)
        shifts = {model: abs(found.drift.shift) for model, found in drifts.items()}
        rest = [kept for kept in waiting if kept.prompt_id not in self._references and not kept.shadow]
        telling = {kept.decision_id: kept for kept in rest}
        order = most_telling([_judgeable(kept, shifts) for kept in rest], max(MOST - len(shadow) - len(known), 0))
        return [*shadow, *known, *(telling[name] for name in order)]

    def _uncalibrated(self, bench: Bench) -> int:
        """How many more answers of known worth the judge that knows fewest is to score."""
        champion = self._ctx.champion()
        start = champion.position if champion else 0
        ledger = ledger_after(champion, self._ctx.feedback.between(start, self._ctx.feedback.head()))
        known = {r.rater: sum(m.weight for m in r.models) for r in ledger.raters() if r.source == "judge"}
        return max(int(CALIBRATED - min(known.get(name, 0.0) for name in bench.names)), 0)

    def _judge(self, panel: Panel, kept: KeptAnswer) -> bool:
        """Have one answer judged, and let it go; False, and it stays, where the budget ended."""
        ours = self._answered(kept)
        if kept.shadow:
            theirs = self._second(kept)
            if theirs is None:
                return False
            if theirs is not _NOBODY:
                assert isinstance(theirs, Answered)
                if kept.prompt_id in self._references:
                    panel.against_reference(self._references[kept.prompt_id], theirs)
                pair = panel.compare(kept.decision_id, kept.prompt, ours, theirs)
                return self._ended(kept, pair.beyond, pair.unreadable, len(pair.by_judge), pair=True)
        alone = panel.grade(kept.decision_id, kept.prompt, ours)
        return self._ended(kept, alone.beyond, alone.unreadable, len(alone.by_judge))

    def _ended(self, kept: KeptAnswer, beyond: bool, unreadable: int, scores: int, *, pair: bool = False) -> bool:
        if beyond:
            return False
        self._out.unreadable += unreadable
        self._out.scored += bool(scores)
        self._out.pairs += pair and bool(scores)
        self._out.without_score += not scores
        if pair:
            self._calls.forget_answer("shadow", kept.decision_id)
        self._kept.let_go([kept.decision_id])
        return True

    def _answered(self, kept: KeptAnswer) -> Answered:
        card = self._cards.get(kept.model, ModelCard(kept.model))
        return Answered(kept.decision_id, card, kept.answer, f"live-{kept.decision_id}")

    def _second(self, kept: KeptAnswer) -> Answered | object | None:
        """The second model's answer; `_NOBODY` where none can be had, None where the budget ended."""
        name = second_model(
            _judgeable(kept, {}), [m for m in self._models if self._models[m].routed_card.resting is None]
        )
        if name is None:
            return _NOBODY
        model, decision_id = self._models[name], f"shadow-{kept.decision_id}"
        messages = [{"role": turn.role, "content": turn.text} for turn in turns_of(kept.prompt)]
        reply = self._asking.ask(
            "shadow",
            kept.decision_id,
            model,
            messages,
            self._ctx.settings.join_max_tokens,
            decide=lambda answer: self._decide(kept, model, answer, decision_id),
        )
        if reply.text is None:
            return None if reply.beyond else _NOBODY
        return Answered(decision_id, self._cards.get(reply.model, model.card), reply.text, f"live-{decision_id}")

    def _decide(self, kept: KeptAnswer, model: PoolModel, answer: Answer, decision_id: str) -> str:
        """Record the decision under which the second model's answer is scored: the request's, but for the model."""
        log = DecisionLog(self._ctx.database, self._ctx.writer, self._ctx.settings.store_prompts, self._ctx.clock)
        first = log.get(kept.decision_id)
        assert first is not None, "a kept answer has its decision"
        name = model.card.name
        candidates = tuple(replace(c, propensity=float(c.model == name)) for c in first.decision.candidates)
        decision = replace(
            first.decision, model=name, candidates=candidates, explored=False, trial=None,
            why=f"asked beside {kept.model}, for the two answers to be compared",
        )  # fmt: skip
        now = self._ctx.clock()
        record = replace(
            first, id=decision_id, created_at=now, decision=decision, kind="shadow", requested_model=name, key=None
        )
        log.append(record).result()
        outcome = Outcome(
            status="ok", latency_ms=answer.latency_ms, input_tokens=answer.input_tokens,
            output_tokens=answer.output_tokens, cost_usd=answer.cost(model),
        )  # fmt: skip
        log.complete(decision_id, outcome, decision.chosen.snapshot_cost).result()
        return decision_id


_NOBODY = object()
"""In place of a second model's answer."""


def _judgeable(kept: KeptAnswer, shifts: Mapping[str, float]) -> Judgeable[str]:
    own = next((c for c in kept.candidates if c.model == kept.model), None)
    complaint = max((own.quality - rating for rating in kept.ratings if rating < 0.5), default=0.0) if own else 0.0
    doubt = max(complaint, shifts.get(kept.model, 0.0))
    return Judgeable(kept.decision_id, kept.model, kept.task, kept.candidates, kept.explored, doubt)
