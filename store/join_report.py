"""The report of a join: how it went, where the model won and lost against whom, what it cost, what it changed, and what is
not sure; `store.join_page` makes a page of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from math import sqrt
from statistics import fmean, stdev
from typing import Any, Self

from sqlalchemy import select

from agent.choice.adoption import TaskStanding, predicted_effect
from store.database import Database
from store.join_calls import JoinCall, JoinCalls, Role
from store.joins import Join, JoinStore
from store.tables import PromptTable
from store.views import JoinEventView, View

EXAMPLES = 3
"""Prompts shown of those that the model won, and of those that it lost."""

_ROLES: tuple[Role, ...] = ("check", "probe", "rival", "judge")


Interval = tuple[float, float]


class Comparison(View):
    """Scores of the model's answers beside those of one rival's; ``interval`` of the difference: 95 %, null for one prompt."""

    rival: str
    prompts: int
    quality: float
    rival_quality: float
    difference: float
    interval: Interval | None


class Example(View):
    """A prompt, both answers, and what the judges gave them; texts are null where they are not known."""

    prompt: str | None
    rival: str
    score: float
    rival_score: float
    answer: str | None
    rival_answer: str | None
    reason: str


class Standing(View):
    """The model on a task beside the best of the others; ``interval`` of its quality, 95 %; ``chance`` that it is better."""

    task: int
    name: str
    share: float
    quality: float
    interval: Interval
    rival: str
    rival_quality: float
    gap: float
    chance: float


class Spending(View):
    """Calls and USD of one kind."""

    role: Role
    calls: int
    usd: float


class Prediction(View):
    """What a model's taking the tasks on which it is ahead would change for a mean request: quality, USD, and quality less
    cost; ``share`` of the prompts that it would answer."""

    share: float
    quality: float
    usd: float
    net: float


class Effect(View):
    """What a model has changed for a mean request ``since`` it is adopted (or on trial), beside the best of the others.

    ``requests`` were read, a ``share`` of them went to the model, and ``scored`` were scored. Intervals: 95 %.
    ``others_error``: by how much the others' scores exceeded their estimates, which are assumed to be right on average.
    Null: not known.
    """

    since: datetime
    requests: int
    share: float
    scored: int
    quality: float | None
    quality_interval: Interval | None
    usd: float | None
    usd_interval: Interval | None
    others_error: float | None

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Self:
        """From what a join keeps."""
        quality, usd = _read_value(found["quality"]), _read_value(found["usd"])
        return cls(
            since=datetime.fromisoformat(found["since"]),
            requests=found["requests"],
            share=found["answered"] / max(found["requests"], 1),
            scored=found["quality"]["n"],
            quality=quality[0],
            quality_interval=quality[1],
            usd=usd[0],
            usd_interval=usd[1],
            others_error=found["others_error"]["mean"],
        )


class JoinReport(View):
    """How a model joined: ``predicted`` when it was adopted, or now where it is not."""

    model: str
    state: str
    reason: str
    joined_at: datetime
    steps: list[JoinEventView]
    check: dict[str, Any] | None
    comparisons: list[Comparison]
    won: list[Example]
    lost: list[Example]
    position_bias: float | None
    standings: list[Standing]
    n_scores: float | None
    predicted: Prediction | None
    realised: Effect | None
    spending: list[Spending]
    usd: float
    unsure: list[str]

    @classmethod
    def of(cls, join: Join, joins: JoinStore, calls: JoinCalls, texts: Mapping[str, str]) -> Self:
        """The report of a join; ``texts`` maps the ids of its probes to their texts, as far as they are known."""
        judged, review = join.found.get("judged") or {}, join.found.get("review") or {}
        pairs: list[dict[str, Any]] = judged.get("pairs") or []
        made = calls.list(join.id)
        answers = {(c.role, c.subject): c.answer for c in made if c.state == "done"}
        examples = [_example(pair, answers, texts) for pair in pairs]
        ranked = sorted(examples, key=lambda e: e.score - e.rival_score, reverse=True)
        standings = [_standing(s) for s in review.get("standings", ())]
        spending = [Spending(role=role, **asdict(calls.spent(join.id, [role]))) for role in _ROLES]
        return cls(
            model=join.model,
            state=join.state,
            reason=join.reason,
            joined_at=join.started_at,
            steps=[JoinEventView(**asdict(event)) for event in joins.events(join.id)],
            check=join.found.get("check"),
            comparisons=_comparisons(pairs),
            won=[e for e in ranked[:EXAMPLES] if e.score > e.rival_score],
            lost=[e for e in reversed(ranked[-EXAMPLES:]) if e.score < e.rival_score],
            position_bias=judged.get("position_bias"),
            standings=sorted(standings, key=lambda s: s.chance, reverse=True),
            n_scores=review.get("n_scores"),
            predicted=_prediction(join.found),
            realised=Effect.of(effect) if (effect := join.found.get("realised")) and effect["requests"] else None,
            spending=spending,
            usd=sum(s.usd for s in spending),
            unsure=_unsure(join, made, judged, standings),
        )


def read_report(database: Database, join: Join, texts: Mapping[str, str] = {}) -> JoinReport:
    """The report of a join; ``texts`` are those of prompts that the store does not hold."""
    ids = [str(name) for name in join.found.get("probes") or ()]
    query = select(PromptTable.id, PromptTable.text).where(PromptTable.id.in_(ids))
    with database.session() as session:
        stored = {name: text for name, text in session.execute(query) if text is not None}
    return JoinReport.of(join, JoinStore(database), JoinCalls(database), {**texts, **stored})


def _comparisons(pairs: Sequence[Mapping[str, Any]]) -> list[Comparison]:
    """By rival, the one of most prompts first."""
    by_rival: dict[str, list[Mapping[str, Any]]] = {}
    for pair in pairs:
        by_rival.setdefault(pair["rival"], []).append(pair)
    found = []
    for rival, rows in by_rival.items():
        differences = [row["ours"] - row["theirs"] for row in rows]
        mean, interval = fmean(differences), None
        if len(rows) > 1:
            half = 1.96 * stdev(differences) / sqrt(len(rows))
            interval = (mean - half, mean + half)
        found.append(
            Comparison(
                rival=rival, prompts=len(rows), quality=fmean(row["ours"] for row in rows),
                rival_quality=fmean(row["theirs"] for row in rows), difference=mean, interval=interval,
            )
        )  # fmt: skip
    return sorted(found, key=lambda c: (-c.prompts, c.rival))


def _example(
    pair: Mapping[str, Any], answers: Mapping[tuple[Role, str], str | None], texts: Mapping[str, str]
) -> Example:
    name = pair["prompt"]
    return Example(
        prompt=texts.get(name), rival=pair["rival"], score=pair["ours"], rival_score=pair["theirs"],
        answer=answers.get(("probe", name)), rival_answer=answers.get(("rival", name)), reason=pair["reason"],
    )  # fmt: skip


def _standing(found: Mapping[str, Any]) -> Standing:
    half = 1.96 * found["stderr"]
    interval = (max(found["quality"] - half, 0.0), min(found["quality"] + half, 1.0))
    return Standing(interval=interval, **{name: found[name] for name in Standing.model_fields if name != "interval"})


def _unsure(
    join: Join, calls: Sequence[JoinCall], judged: Mapping[str, Any], standings: Sequence[Standing]
) -> list[str]:
    """What is not known, in sentences."""
    out = []
    if not judged:
        out.append("No probes were judged; what is known comes from requests that were scored.")
    if unread := judged.get("unreadable", 0):
        out.append(f"{unread} verdicts could not be read, and gave no score.")
    if judged and judged["scored"] < judged["prompts"]:
        out.append(f"{judged['prompts'] - judged['scored']} answers have no score.")
    for state, what in (("lost", "calls may have been paid, and their answers are lost"), ("failed", "calls failed")):
        if n := sum(call.state == state for call in calls):
            out.append(f"{n} {what}.")
    if any(call.state == "done" and call.cost_usd is None for call in calls):
        out.append("Of some calls the cost is not known; they count as the most that they can have cost.")
    open_tasks = [s for s in standings if 0.1 < s.chance < 0.9]
    if open_tasks:
        out.append(f"On {len(open_tasks)} of {len(standings)} tasks it is not clear whether it is better.")
    if not standings:
        out.append("It has not been reviewed yet, task by task.")
    effect = join.found.get("realised") or {"requests": 0, "quality": {"mean": None}}
    if join.state in ("trial", "adopted") and effect["quality"]["mean"] is None:
        scored = "too few of them were scored" if effect["requests"] else "no request was routed since"
        out.append(f"What it changed is not known: {scored}.")
    return out


def _prediction(found: Mapping[str, Any]) -> Prediction | None:
    """At adoption, else by the latest review; None before."""
    if made := found.get("predicted"):
        return Prediction(**made)
    standings = (found.get("review") or {}).get("standings")
    if not standings:
        return None
    known = [TaskStanding(**{n: s[n] for n in TaskStanding.__dataclass_fields__ if n in s}) for s in standings]
    return Prediction(**asdict(predicted_effect(known)))


def _read_value(value: Mapping[str, Any]) -> tuple[float | None, Interval | None]:
    """A mean and its interval."""
    mean, stderr = value["mean"], value["stderr"]
    return mean, None if stderr is None else (mean - 1.96 * stderr, mean + 1.96 * stderr)
