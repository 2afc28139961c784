"""The review of models that have joined, by what is known of them at the time.

One on trial is adopted or declined; one that was adopted is declined once it is likely to be better nowhere; and one that was
declined gets another trial, or its probes where none were made, once a refresh, a price or the others' scores say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from sqlalchemy import select

from agent.choice.adoption import AdoptionConfig, TaskStanding, adoption, predicted_effect, standing, too_dear
from agent.errors import NoCandidate, SnapshotCorrupt
from agent.router import Router
from agent.snapshot import Snapshot
from agent.types import Encoded, RouteRequest
from jobs.context import JobContext
from jobs.onboard.realised import as_json, read_effect
from jobs.refresh.seed import known_texts
from store.joins import REVIEWED, Join, JoinState, JoinStore
from store.log_pages import LogPages
from store.outcomes import known_outcomes
from store.prompts import ENCODED, encoded, turns_of
from store.tables import PromptTable

PAGE = 1000

RECONSIDERED = 0.6
"""A model that was declined gets another trial where it is better on a task with this probability; more than a half, so that
none goes to and fro."""


def review(ctx: JobContext) -> dict[str, Any]:
    """Move the models that joined, by what is known of them; model -> its state and why, of those that moved."""
    waiting = JoinStore(ctx.database, ctx.clock).current(*REVIEWED)
    names = {m.card.name for m, reason in ctx.models() if reason is None}
    waiting = {name: join for name, join in waiting.items() if name in names}
    champion = _readable_champion(ctx) if waiting else None
    if champion is None:
        return {}
    reviewer = Reviewer(ctx, champion)
    moved = {name: reviewer.review(join) for name, join in waiting.items()}
    return {name: {"state": join.state, "reason": join.reason} for name, join in moved.items() if join is not None}


def price_objection(ctx: JobContext, champion: Snapshot, model: str) -> str | None:
    """Why no answer of ``model`` can be worth its price; None where one may be."""
    return too_dear(Reviewer(ctx, champion).standings(model))


def _readable_champion(ctx: JobContext) -> Snapshot | None:
    try:
        champion = ctx.champion()
    except SnapshotCorrupt:
        return None
    return champion if champion is not None and champion.encoder == ctx.encoder.fingerprint else None


class Reviewer:
    """Reviews models by the champion and the whole feedback log."""

    def __init__(self, ctx: JobContext, champion: Snapshot) -> None:
        self._ctx = ctx
        self._champion = champion
        self._joins = JoinStore(ctx.database, ctx.clock)
        self._cards = ctx.cards()
        self._medoids = central_prompts(ctx, champion)
        self._router = caught_up(ctx, champion)

    def review(self, join: Join) -> Join | None:
        """Move a join on, where what is known of the model says so; the join then, else None."""
        found, n_scores = self.standings(join.model), self._router.n_scores().get(join.model, 0.0)
        verdict, reason = adoption(found, n_scores)
        state: JoinState = verdict
        more: dict[str, Any] = {}
        match join.state:
            case "declined":
                better = max((s.chance for s in found), default=0.0) >= RECONSIDERED
                if verdict == "trial" and n_scores < AdoptionConfig().n_scores and not join.found.get("probes"):
                    state, reason = "checked", "nothing is known of it yet, and its price no longer speaks against it"
                elif verdict != "adopted" and not better:
                    return None
                elif verdict == "declined":
                    state = "trial"
            case "adopted":
                state = "declined" if verdict == "declined" else "adopted"
        if state == "adopted" and join.state != "adopted":
            more["predicted"] = asdict(predicted_effect(found))
        kept = [asdict(s) | {"chance": s.chance} for s in found]
        self._joins.note(join.id, {"review": {"standings": kept, "n_scores": n_scores}, **self._effect(join)})
        return None if state == join.state else self._joins.move(join, state, reason, more)

    def standings(self, model: str) -> list[TaskStanding]:
        """How a model stands on every task beside those that answer requests."""
        alike = [replace(card, resting=None) if card.name == model else card for card in self._cards]
        self._router.set_models(alike)
        request, rng = RouteRequest((), explore=False), np.random.default_rng(0)
        total = sum(task.size for task in self._champion.tasks)
        found = []
        for task in self._champion.tasks:
            if task.id not in self._medoids:
                continue
            try:
                decision = self._router.route(self._medoids[task.id], request, rng)
            except NoCandidate:
                continue
            stands = standing(decision, model, task.size / total, request.cost_quality_tradeoff)
            if stands is not None:
                found.append(replace(stands, task=task.id, name=task.name))
        return found

    def _effect(self, join: Join) -> dict[str, Any]:
        """What a model that answers requests has changed since it does."""
        if join.state == "declined":
            return {}
        since = [event.at for event in self._joins.events(join.id) if event.state == join.state][-1]
        return {"realised": as_json(read_effect(self._ctx, self._champion, join.model, since), since)}


def caught_up(ctx: JobContext, champion: Snapshot) -> Router:
    """The champion's router, at the heads of the logs of feedback and of outcomes."""
    router = Router(champion, ctx.cards(), outcomes=known_outcomes(ctx.database))
    pages = LogPages(ctx.database, ctx.feedback, ctx.encoder)
    while True:
        page = pages.read(router.position, PAGE)
        router.learn_many(page.rows)
        if page.missing:
            pages.encode(page.missing)
        elif len(page.rows) < PAGE:
            return router


def central_prompts(ctx: JobContext, champion: Snapshot) -> Mapping[int, Encoded]:
    """task -> its most central prompt, of the tasks of which one can be encoded."""
    ids = [name for task in champion.tasks for name in task.medoids]
    query = select(PromptTable.id, *ENCODED).where(PromptTable.id.in_(ids))
    with ctx.database.session() as session:
        known = {row.id: encoded(row) for row in session.execute(query)}
    texts = known_texts(ctx.database, [name for name in ids if name not in known], champion.encoder)
    out = {}
    for task in champion.tasks:
        for name in task.medoids:
            if name in known:
                out[task.id] = known[name]
            elif name in texts:
                [out[task.id]] = ctx.encoder.encode([turns_of(texts[name])])
            else:
                continue
            break
    return out
