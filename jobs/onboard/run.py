"""The job `onboard`: brings every model that joins a step further, as far as its budget goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from agent.evaluation.challenger import Progress
from jobs.context import JobContext
from jobs.onboard.check import Check, Found
from jobs.onboard.client import JobClient
from store.join_calls import JoinBudget, JoinCalls
from store.joins import Join, JoinStore
from store.pool.file import PoolModel


def onboard(ctx: JobContext, progress: Progress, client: JobClient | None = None) -> dict[str, Any]:
    """Check the models that were added; returns model -> its state and why.

    Parameters
    ----------
    progress
        Called with (stage, share done); what it raises ends the run.
    client
        By the settings where None.
    """
    joins, calls, s = JoinStore(ctx.database, ctx.clock), JoinCalls(ctx.database, ctx.clock), ctx.settings
    budget = JoinBudget(s.join_budget_usd, s.join_max_calls)
    own = client or JobClient(ctx.env, s.join_timeout_s, s.join_calls_per_minute)
    out: dict[str, Any] = {}
    try:
        waiting = joins.current("added")
        for done, (name, join) in enumerate(waiting.items()):
            progress(name, done / len(waiting))
            model = next((m for m in ctx.pool.list() if m.card.name == name), None)
            if model is None:
                continue  # it was removed since
            calls.lose(join.id)
            moved = _check(ctx, joins, join, model, Check(own, calls, budget, join.id, model))
            if moved is not None:
                out[name] = {"state": moved.state, "reason": moved.reason}
    finally:
        if client is None:
            own.close()
    return out


def _check(ctx: JobContext, joins: JoinStore, join: Join, model: PoolModel, check: Check) -> Join | None:
    """Check a model, and write what was found on its card; the join as it is then."""
    if model.provider.kind != "openai":
        return joins.move(join, "trial", "it runs here, and needs no check")
    if missing := sorted(model.unknown & {"price_input", "price_output"}):
        why = f"its {' and '.join(missing)} is not known; give it (0 where it is free), and it is checked again"
        return joins.move(join, "failed", why)
    known: dict[str, Any] = dict(join.found.get("check", {}))

    def note(found: Mapping[str, Any]) -> None:
        joins.note(join.id, {"check": dict(found)})

    found = check.run(known, note)
    if found.failed:
        return joins.move(join, "failed", found.failed, {"check": asdict(found)})
    capabilities = _capabilities(model, found)
    if capabilities != model.card.capabilities:
        ctx.pool.update(model.card.name, capabilities=sorted(capabilities))
    checked = joins.move(join, "checked", _told(found), {"check": asdict(found)})
    return None if checked is None else joins.move(checked, "trial", "no probes are made; requests explore it")


def _capabilities(model: PoolModel, found: Found) -> frozenset[str]:
    """The card's, with what the check has shown; images are not tried."""
    shown = {"tools": found.tools, "json": found.json}
    able = {name for name, can in shown.items() if can}
    unable = {name for name, can in shown.items() if can is False}
    return frozenset(model.card.capabilities - unable | able)


def _told(found: Found) -> str:
    """What was found, in words."""
    can = {
        "streams": found.streams,
        "takes a temperature": found.temperature,
        "calls tools": found.tools,
        "keeps to a JSON schema": found.json,
    }
    parts = ["it answers", f"the length of answers is limited by {found.limit}" if found.limit else "takes no limit"]
    for verdict, what in ((True, ""), (False, "not: "), (None, "not known: ")):
        names = [name for name, value in can.items() if value is verdict]
        parts += [f"{what}{', '.join(names)}"] if names else []
    return "; ".join(parts)
