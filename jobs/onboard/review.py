"""The review of models that have joined.

One on trial is adopted or declined, and one that was declined gets another trial, once what is known of it says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from sqlalchemy import select

from agent.choice.adoption import TaskStanding, adoption, standing
from agent.errors import NoCandidate, SnapshotCorrupt
from agent.router import Router
from agent.snapshot import Snapshot
from agent.types import Encoded, RouteRequest
from jobs.context import JobContext
from jobs.refresh.seed import known_texts
from store.joins import Join, JoinStore
from store.log_pages import LogPages
from store.prompts import ENCODED, encoded, turns_of
from store.tables import PromptTable

PAGE = 1000

RECONSIDERED = 0.5
"""A model that was declined gets another trial where it is better on a task with this probability."""


def review(ctx: JobContext) -> dict[str, Any]:
    """Move the models that are on trial, or were declined; model -> its state and why, of those that moved."""
    joins = JoinStore(ctx.database, ctx.clock)
    waiting = joins.current("trial", "declined")
    names = {m.card.name for m, reason in ctx.models() if reason is None}
    waiting = {name: join for name, join in waiting.items() if name in names}
    if not waiting:
        return {}
    try:
        champion = ctx.champion()
    except SnapshotCorrupt:
        return {}
    if champion is None or champion.encoder != ctx.encoder.fingerprint:
        return {}
    router = caught_up(ctx, champion)
    medoids = central_prompts(ctx, champion)
    n_scores, out = router.n_scores(), {}
    for name, join in waiting.items():
        found = standings(router, champion, medoids, name)
        moved = _moved(joins, join, found, n_scores.get(name, 0.0))
        if moved is not None:
            out[name] = {"state": moved.state, "reason": moved.reason}
    return out


def _moved(joins: JoinStore, join: Join, found: list[TaskStanding], n_scores: float) -> Join | None:
    verdict, reason = adoption(found, n_scores)
    kept = {"standings": [asdict(s) | {"chance": s.chance} for s in found], "n_scores": n_scores}
    if join.state == "declined":
        best = max(found, key=lambda s: s.chance, default=None)
        if verdict != "adopted" and (best is None or best.chance < RECONSIDERED):
            return None
        verdict = "adopted" if verdict == "adopted" else "trial"
    joins.note(join.id, {"review": kept})
    return None if verdict == join.state else joins.move(join, verdict, reason)


def caught_up(ctx: JobContext, champion: Snapshot) -> Router:
    """The champion's router, at the head of the feedback log; every model of the pool that can be called is rated alike."""
    router = Router(champion, [replace(card, resting=None) for card in ctx.cards()])
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


def standings(router: Router, champion: Snapshot, medoids: Mapping[int, Encoded], model: str) -> list[TaskStanding]:
    """How a model stands on every task."""
    total = sum(task.size for task in champion.tasks)
    rng = np.random.default_rng(0)
    found = []
    for task in champion.tasks:
        if task.id not in medoids:
            continue
        try:
            decision = router.route(medoids[task.id], RouteRequest((), explore=False), rng)
        except NoCandidate:
            continue
        stands = standing(decision, model, task.size / total)
        if stands is not None:
            found.append(replace(stands, task=task.id, name=task.name))
    return found
