"""The job `onboard`: brings every model that joins a step further, as far as its budget goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from agent.errors import SnapshotCorrupt, ThalwegError
from agent.evaluation.challenger import Progress
from agent.snapshot import Snapshot
from jobs.calls.asking import Asking
from jobs.calls.client import JobClient
from jobs.context import JobContext
from jobs.judge.judges import Bench, judges
from jobs.onboard.check import Check, Found
from jobs.onboard.longest import measured_context
from jobs.onboard.probe import ModelDown, Probes, Tally
from jobs.onboard.review import price_objection, review
from store.join_calls import JoinBudget, JoinCalls
from store.joins import ONBOARDING, Join, JoinStore
from store.pool.file import PoolModel


def onboard(ctx: JobContext, progress: Progress, client: JobClient | None = None) -> dict[str, Any]:
    """Check and probe the models that wait for it; returns model -> its state and why.

    Parameters
    ----------
    progress
        Called with (stage, share done); what it raises ends the run.
    client
        By the settings where None.
    """
    s = ctx.settings
    own = client or JobClient(ctx.env, s.join_timeout_s, s.join_calls_per_minute)
    out: dict[str, Any] = {}
    try:
        waiting = JoinStore(ctx.database, ctx.clock).current(*ONBOARDING)
        for done, (name, join) in enumerate(waiting.items()):
            progress(name, done / len(waiting))
            model = next((m for m in ctx.pool.list() if m.card.name == name), None)
            if model is not None:  # else it was removed since
                moved = _Onboarding(ctx, own, join, model).run()
                out[name] = {"state": moved.state, "reason": moved.reason}
    finally:
        if client is None:
            own.close()
    return out | review(ctx)


@dataclass(frozen=True, slots=True)
class _Panel:
    """Who judges a model's probes, or why there are none; ``unjudged``: why only prompts with a reference are put to it."""

    bench: Bench
    others: Mapping[str, PoolModel]
    lack: str | None = None
    unjudged: str | None = None


class _Onboarding:
    """One model's way from where it is to its trial."""

    def __init__(self, ctx: JobContext, client: JobClient, join: Join, model: PoolModel) -> None:
        self._ctx = ctx
        self._client = client
        self._joins = JoinStore(ctx.database, ctx.clock)
        self._calls = JoinCalls(ctx.database, ctx.clock)
        self._budget = JoinBudget(ctx.settings.join_budget_usd, ctx.settings.join_max_calls)
        self._join = join
        self._model = model

    def run(self) -> Join:
        """Go as far as can be; the join as it is then."""
        self._calls.lose(self._join.id)
        if self._join.state == "added":
            self._check()
        if self._join.state in ("checked", "probing", "judging"):
            self._probe()
        return self._join

    def _move(self, state: Any, reason: str, found: Mapping[str, Any] | None = None) -> None:
        moved = self._joins.move(self._join, state, reason, found) or self._joins.get(self._join.model)
        assert moved is not None, "a join is not deleted"
        self._join = moved

    def _check(self) -> None:
        """Check the model, and write what was found on its card."""
        model, join = self._model, self._join
        if model.provider.kind != "openai":
            self._move("trial", "it runs here: no check, and no probes")
            return
        if missing := sorted(model.unknown & {"price_input", "price_output"}):
            why = f"its {' and '.join(missing)} is not known; give it (0 where it is free), and it is checked again"
            self._move("failed", why)
            return

        def note(found: Mapping[str, Any]) -> None:
            self._joins.note(join.id, {"check": dict(found)})

        found = Check(self._client, self._calls, self._budget, join.id, model).run(join.found.get("check", {}), note)
        if found.failed:
            self._move("failed", found.failed, {"check": asdict(found)})
            return
        if patch := _corrections(model, found):
            self._model = self._ctx.pool.update(model.card.name, **patch)
        self._move("checked", _told(model, found), {"check": asdict(found)})

    def _probe(self) -> None:
        """Probe the model and have its answers judged; it goes on trial whatever that comes to."""
        champion, lack = self._champion()
        if champion is None:
            self._move("trial", f"no probes: {lack}")
            return
        panel = self._panel(champion)
        if self._join.state == "checked" and (why := price_objection(self._ctx, champion, self._model.card.name)):
            self._move("declined", f"no probes were made: {why}")
            return
        if panel.lack is not None:
            self._move("trial", f"no probes: {panel.lack}")
            return
        self._client.limits[self._model.card.name] = self._join.found.get("check", {}).get("limit")
        to_choose = self._join.state == "checked"
        shorter = self._measure_context(champion) if to_choose and panel.unjudged is None else ""
        probes = Probes(
            self._ctx, self._client, self._calls, self._budget, self._join, self._model, panel.others, champion
        )
        prompts = self._join.found.get("probes")
        if to_choose:
            prompts = probes.choose(self._ctx.settings.join_probes, referenced=panel.unjudged is not None)
            if not prompts:
                self._move("trial", f"no probes: {panel.unjudged or 'no prompt whose text is known fits it'}{shorter}")
                return
            names = ", ".join(panel.bench.names) or "their references"
            self._move("probing", f"{len(prompts)} prompts, to be judged by {names}{shorter}", {"probes": prompts})
        assert prompts, "chosen before it is probing"
        if self._join.state == "probing":
            ended = down = ""
            try:
                if not probes.ask(prompts):
                    ended = "; the budget ended before all were answered"
            except ModelDown as error:
                down = str(error)
            asked = sum(call.state == "done" for call in self._calls.list(self._join.id, "probe"))
            if down:
                again = "once it is changed in any way, it is checked again"
                self._move("failed", f"it stopped answering after {asked} of {len(prompts)} prompts: {down} ({again})")
                return
            self._move("judging", f"{asked} of {len(prompts)} prompts were answered{ended}")
        if self._join.state == "judging":
            tally = probes.judge(prompts, panel.bench)
            spent = self._calls.spent(self._join.id)
            kept = {"judged": asdict(tally), "spent": asdict(spent)}
            self._move("trial", f"{_judged(tally)}; {spent.calls} calls, ${spent.usd:.4f}", kept)

    def _measure_context(self, champion: Snapshot) -> str:
        """Correct a context that is shorter than the card claims; what to add to the reason of the next state."""
        claimed = self._model.card.context
        asking = Asking(self._client, self._calls, self._budget, self._join.id)
        context = measured_context(self._ctx, asking, self._model, champion)
        if context is None:
            return ""
        self._model = self._ctx.pool.update(self._model.card.name, context=context)
        return (
            f"; its card claims a context of {claimed:,} tokens, but it refused a prompt that fits: {context:,} counts"
        )

    def _champion(self) -> tuple[Snapshot | None, str]:
        """The champion, or why it cannot be probed by."""
        try:
            champion = self._ctx.champion()
        except SnapshotCorrupt as error:
            return None, error.message
        if champion is None:
            return None, "there is no champion yet"
        if champion.encoder != self._ctx.encoder.fingerprint:
            return None, f"the champion reads the embeddings of another encoder, {champion.encoder}"
        return champion, ""

    def _panel(self, champion: Snapshot) -> _Panel:
        """Judges, and the models whose answers are compared."""
        s = self._ctx.settings
        others = {
            m.card.name: m
            for m, reason in self._ctx.models()
            if reason is None
            and m.routed_card.resting is None
            and m.card.name != self._model.card.name
            and m.provider.kind == "openai"
        }
        if s.join_probes == 0 or s.judge == "off":
            return _Panel(Bench(), others, "the settings ask for none")
        if not others:
            return _Panel(Bench(), others, "no other model can be called")
        quality = dict(zip(champion.models, np.asarray(champion.tensors["overall"], float).tolist()))
        try:
            found = judges(s, others, quality, self._ctx.clock())
        except ThalwegError as error:
            return _Panel(Bench(), others, unjudged=error.message)
        lack = None if found else f"no judge can be called (THALWEG_JUDGE={s.judge})"
        return _Panel(found, others, unjudged=lack)


def _corrections(model: PoolModel, found: Found) -> dict[str, Any]:
    """What the card lacks of what the check has shown, or claims beyond it."""
    shown = {"tools": found.tools, "json": found.json, "vision": found.images}
    able = {name for name, can in shown.items() if can}
    unable = {name for name, can in shown.items() if can is False}
    capabilities = model.card.capabilities - unable | able
    patch: dict[str, Any] = {} if capabilities == model.card.capabilities else {"capabilities": sorted(capabilities)}
    if found.context is not None and ("context" in model.unknown or found.context < model.card.context):
        patch["context"] = found.context
    return patch


def _told(model: PoolModel, found: Found) -> str:
    """What was found, in words."""
    can = {
        "streams": found.streams,
        "takes a temperature": found.temperature,
        "calls tools": found.tools,
        "keeps to a JSON schema": found.json,
        "sees images": found.images,
    }
    parts = ["it answers", f"the length of answers is limited by {found.limit}" if found.limit else "takes no limit"]
    for verdict, what in ((True, ""), (False, "not: "), (None, "not known: ")):
        names = [name for name, value in can.items() if value is verdict]
        parts += [f"{what}{', '.join(names)}"] if names else []
    if found.context is not None:
        parts.append(f"its endpoint lists a context of {found.context:,} tokens")
        if "context" not in model.unknown and model.card.context > found.context:
            parts.append(f"its card claimed {model.card.context:,}, and the endpoint's counts")
    return "; ".join(parts)


def _judged(tally: Tally) -> str:
    """What the judges said, in words."""
    if not tally.scored:
        return f"none of {tally.prompts} answers was scored"
    unread = f", {tally.unreadable} verdicts could not be read" if tally.unreadable else ""
    return (
        f"{tally.scored} of {tally.prompts} answers were scored: {tally.quality:.2f} on average, "
        f"those of the models that would have answered {tally.rival_quality:.2f}{unread}"
    )
