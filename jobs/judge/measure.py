"""`thalweg judge measure`: how far the judges can be believed, before they judge anything that counts.

Prompts whose right answer is known are put to pairs of models. What these answer is scored by the reference, and by the judges
as they score any two answers. Both enter the feedback log: the models' true scores are learned, and the judges are calibrated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations, cycle, islice

import numpy as np

from agent.errors import InvalidInput
from agent.evaluation.challenger import Progress
from agent.evaluation.reference import Reference
from agent.router import Router
from jobs.calls.asking import Asking
from jobs.calls.client import JobClient
from jobs.context import JobContext
from jobs.judge.judges import judges
from jobs.judge.panel import Answered, Panel
from jobs.judge.recording import AnswerLog
from store.evaluations import EvaluationStore
from store.join_calls import JoinBudget, JoinCalls
from store.pool.file import PoolModel
from store.prompts import askable, turns_of


@dataclass(slots=True)
class Measured:
    """What a measurement came to: prompts asked, pairs that were judged, verdicts that could not be read, and USD."""

    prompts: int = 0
    pairs: int = 0
    unreadable: int = 0
    usd: float = 0.0
    reason: str = ""


def measure(ctx: JobContext, count: int, usd: float, progress: Progress, client: JobClient | None = None) -> Measured:
    """Have at most ``count`` pairs judged, for at most ``usd``; a prompt that was asked before is not asked again.

    Raises
    ------
    InvalidInput
        Where there is no champion, no judge, no prompt of which text and right answer are known, or where fewer than two
        models beside the judges can be called.
    """
    s = ctx.settings
    champion = ctx.champion()
    if champion is None:
        raise InvalidInput("there is no champion yet; start the server once, or run thalweg refresh", param="champion")
    models = {m.card.name: m for m, reason in ctx.models() if reason is None and m.provider.kind == "openai"}
    quality = dict(zip(champion.models, np.asarray(champion.tensors["overall"], float).tolist()))
    bench = judges(s, models, quality, ctx.clock())
    if not bench:
        raise InvalidInput(f"no judge can be called (THALWEG_JUDGE={s.judge})", param="THALWEG_JUDGE")
    pairs = [
        pair
        for pair in combinations(sorted(models), 2)
        if not {judge.card.name for judge in bench.judges_of(*(models[name].card for name in pair))} & set(pair)
    ]
    if not pairs:
        raise InvalidInput("two models that can be called are needed beside a judge", param="THALWEG_JUDGE")
    known = [row for row in EvaluationStore(ctx.database).referenced(champion.encoder) if askable(row[1])][:count]
    if not known:
        raise InvalidInput("no prompt has a reference; import some, with their texts", param="reference")
    calls, own = (
        JoinCalls(ctx.database, ctx.clock),
        client or JobClient(ctx.env, s.join_timeout_s, s.join_calls_per_minute),
    )
    before, began = calls.spent(None).usd, ctx.clock()
    asking = Asking(own, calls, JoinBudget(usd, 1_000_000, began), None)
    cards = [replace(m.card, available=True) for m in models.values()]
    answers = _Answers(ctx, asking, AnswerLog(ctx, Router(champion, cards)))
    panel, out = Panel(bench, asking, ctx.feedback), Measured()
    try:
        for done, (row, pair) in enumerate(zip(known, islice(cycle(pairs), len(known)), strict=True)):
            progress("measuring", done / len(known))
            if not _measure_one(panel, answers, row, [models[name] for name in pair], out):
                out.reason = "the budget ended"
                break
    finally:
        if client is None:
            own.close()
    out.usd = calls.spent(None).usd - before
    return out


def _measure_one(
    panel: Panel, answers: _Answers, row: tuple[str, str, Reference], pair: list[PoolModel], out: Measured
) -> bool:
    """Have one pair judged; False where the budget ended."""
    name, text, reference = row
    found = [answers.get(name, text, model) for model in pair]
    if any(answer is _BEYOND for answer in found):
        return False
    out.prompts += 1
    ours, theirs = found
    if isinstance(ours, Answered) and isinstance(theirs, Answered):
        panel.against_reference(reference, ours, theirs)
        score = panel.compare(f"measure {name[:32]} {pair[0].card.name}", text, ours, theirs)
        out.pairs += bool(score.by_judge)
        out.unreadable += score.unreadable
        return not score.beyond
    return True


class _Answers:
    """Answers of models, asked for once each."""

    def __init__(self, ctx: JobContext, asking: Asking, log: AnswerLog) -> None:
        self._ctx = ctx
        self._asking = asking
        self._log = log

    def get(self, name: str, text: str, model: PoolModel) -> Answered | object | None:
        """A model's answer to a prompt; None where it gave none, `_BEYOND` the budget."""
        id = f"measure-{name[:32]}-{model.card.name}"
        reply = self._asking.ask(
            "shadow",
            id,
            model,
            [{"role": turn.role, "content": turn.text} for turn in turns_of(text)],
            self._ctx.settings.join_max_tokens,
            decide=lambda answer: self._log.record(id, "shadow", text, model, answer),
        )
        if reply.text is None:
            return _BEYOND if reply.beyond else None
        return Answered(id, model.card, reply.text, id)


_BEYOND = object()
"""In place of an answer that the budget did not allow."""
