"""The probes of a model that joins: prompts of the past are put to it, and to the model that would have answered them; judges
score both answers, and the scores enter the feedback log.

Every answer belongs to a decision of kind ``probe``, so that what is learned of it is learned as of any answer. Whatever is
known stands in SQL: a run that was killed is taken up where it stopped, and no call is made twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

import numpy as np
from sqlalchemy import select

from agent.choice.probing import select_probes
from agent.errors import NoCandidate
from agent.evaluation.reference import Reference
from agent.router import Router
from agent.snapshot import Snapshot
from agent.types import TYPICAL_OUTPUT_TOKENS, ModelCard, RouteRequest, Turn
from jobs.calls.asking import Asking, Reply
from jobs.calls.client import Answer, JobClient
from jobs.context import JobContext
from jobs.judge.judges import Bench
from jobs.judge.panel import Answered, Panel
from jobs.judge.recording import AnswerLog
from jobs.refresh.seed import known_texts
from store.evaluations import EvaluationStore
from store.join_calls import JoinBudget, JoinCall, JoinCalls, Role
from store.joins import Join
from store.pool.file import PoolModel
from store.prompts import askable, turns_of
from store.tables import PromptTable


class ModelDown(Exception):
    """A model has stopped answering; the message says what it did in place of it."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What judging a model's probes came to.

    Parameters
    ----------
    prompts, scored
        Answered, and of these scored.
    unreadable
        Verdicts that could not be read.
    quality, rival_quality
        Mean scores of the model's answers and of the answers that they were compared with; None without any.
    position_bias
        By how much more the judges gave to the answer that stood first, before both orders were averaged; None without any.
    pairs
        Of every scored prompt: its id, the rival, and the scores of both answers.
    """

    prompts: int
    scored: int
    unreadable: int
    quality: float | None
    rival_quality: float | None
    position_bias: float | None
    pairs: list[dict[str, Any]]


class Probes:
    """Probes of one model.

    Parameters
    ----------
    ctx
        Its logs take what comes of it.
    calls, budget
        Where calls are booked, and what they may cost.
    join
        Whose probes.
    model
        The one that joins.
    others
        name -> the models of the pool that can be called, without it.
    snapshot
        The champion.
    """

    def __init__(
        self,
        ctx: JobContext,
        client: JobClient,
        calls: JoinCalls,
        budget: JoinBudget,
        join: Join,
        model: PoolModel,
        others: Mapping[str, PoolModel],
        snapshot: Snapshot,
    ) -> None:
        self._ctx = ctx
        self._calls = calls
        self._asking = Asking(client, calls, budget, join.id)
        self._join = join
        self._model = model
        self._others = others
        self._snapshot = snapshot
        # the joining model is routed to for its probes, though no request is
        cards = [replace(m.card, available=True) for m in (model, *others.values())]
        self._router = Router(snapshot, cards)
        self._log = AnswerLog(ctx, self._router)
        self._rng = np.random.default_rng(ctx.settings.seed)
        self._texts: dict[str, str] = {}

    def choose(self, count: int, *, referenced: bool = False) -> list[str]:
        """Ids of at most ``count`` prompts to ask, of those that fit and whose text is known (where ``referenced``, a right
        answer too)."""
        ids = self._snapshot.meta["indexed_prompts"]
        texts = known_texts(self._ctx.database, ids, self._snapshot.encoder)
        most = self._model.card.context - TYPICAL_OUTPUT_TOKENS
        with self._ctx.database.session() as session:
            long = set(session.scalars(select(PromptTable.id).where(PromptTable.tokens > most)))
        can = [name for name, text in texts.items() if name not in long and askable(text)]
        if referenced:
            known = EvaluationStore(self._ctx.database).references(can)
            can = [name for name in can if name in known]
        return select_probes(self._snapshot, can, count)

    def ask(self, prompts: Sequence[str]) -> bool:
        """Put the prompts to the model and its rivals; False where the budget ended before all were answered.

        Raises
        ------
        ModelDown
            Where the model no longer answers.
        """
        self._texts = known_texts(self._ctx.database, list(prompts), self._snapshot.encoder)
        return all(self._ask_one(name) for name in prompts if name in self._texts)

    def judge(self, prompts: Sequence[str], bench: Bench) -> Tally:
        """Score what was answered, by a reference where there is one, else by the judges; the scores enter the feedback log."""
        self._texts = known_texts(self._ctx.database, list(prompts), self._snapshot.encoder)
        answers: dict[tuple[str, str], JoinCall] = {
            (call.role, call.subject): call
            for call in self._calls.list(self._join.id, "probe", "rival")
            if call.state == "done" and call.decision_id
        }
        pairs = [(answers.get(("probe", name)), answers.get(("rival", name)), name) for name in prompts]
        known = [(ours, theirs, name) for ours, theirs, name in pairs if ours and theirs and name in self._texts]
        panel = Panel(bench, self._asking, self._ctx.feedback)
        references = EvaluationStore(self._ctx.database).references(prompts)
        scored: list[dict[str, Any]] = []
        biases: list[float] = []
        unreadable = 0
        for ours, theirs, name in known:
            pair: dict[str, Any] = {"prompt": name, "rival": theirs.model}
            if (reference := references.get(name)) is not None:
                right, others = panel.against_reference(reference, self._answered(ours), self._answered(theirs))
                scored.append(pair | {"ours": right, "theirs": others, "reason": _by_reference(reference)})
                continue
            score = panel.compare(name, self._texts[name], self._answered(ours), self._answered(theirs))
            unreadable += score.unreadable
            if (mean := score.mean) is not None:
                biases.append(mean.position_bias)
                scored.append(pair | {"ours": mean.ours, "theirs": mean.theirs, "reason": mean.reason})
        return Tally(
            prompts=len(known),
            scored=len(scored),
            unreadable=unreadable,
            quality=fmean(pair["ours"] for pair in scored) if scored else None,
            rival_quality=fmean(pair["theirs"] for pair in scored) if scored else None,
            position_bias=fmean(biases) if biases else None,
            pairs=scored,
        )

    def _ask_one(self, name: str) -> bool:
        """Put a prompt to the model, then to its rival; False where the budget ended."""
        turns = turns_of(self._texts[name])
        reply = self._answer("probe", name, turns, self._model)
        if reply.down is not None and self._asking.down(self._model.card.name):
            raise ModelDown(reply.down)
        rival = None if reply.text is None else self._rival(turns)
        if rival is not None:
            reply = self._answer("rival", name, turns, rival)
        return not reply.beyond

    def _rival(self, turns: tuple[Turn, ...]) -> PoolModel | None:
        """The model that would have answered; None where no other can."""
        if not self._others:
            return None
        request = RouteRequest(turns, cost_quality_tradeoff=1.0, candidates=tuple(self._others), explore=False)
        try:
            decision = self._router.route(self._ctx.encoder.encode([turns])[0], request, self._rng)
        except NoCandidate:
            return None
        return self._others[decision.model]

    def _answer(self, role: Role, name: str, turns: tuple[Turn, ...], model: PoolModel) -> Reply:
        """Get an answer, unless it was asked for before."""
        messages = [{"role": turn.role, "content": turn.text} for turn in turns]
        most = self._ctx.settings.join_max_tokens
        id, text = f"{role}-{self._join.id}-{name[:32]}", self._texts[name]

        def decide(answer: Answer) -> str | None:
            return self._log.record(id, "probe", text, model, answer)

        return self._asking.ask(role, name, model, messages, most, decide=decide)

    def _answered(self, call: JoinCall) -> Answered:
        card = next((m.card for m in (self._model, *self._others.values()) if m.card.name == call.model), None)
        key = f"join-{call.join}-{call.id}"
        return Answered(str(call.decision_id), card or ModelCard(call.model), call.answer or "", key)


def _by_reference(reference: Reference) -> str:
    return f"The right answer ({reference.kind}): {json.dumps(reference.value)[:200]}"
