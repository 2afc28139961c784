"""The report of a join: how it went, where the model won and lost against whom, what it cost, and what is not sure.

As JSON (`JoinReport`), and as one HTML page that needs nothing else (`to_html`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from html import escape
from math import sqrt
from statistics import fmean, stdev
from typing import Any, Self

from sqlalchemy import select

from store.database import Database
from store.join_calls import JoinCall, JoinCalls, Role
from store.joins import Join, JoinStore
from store.tables import PromptTable
from store.views import JoinEventView, View

EXAMPLES = 3
"""Prompts shown of those that the model won, and of those that it lost."""

_SHOWN = 600
"""Characters shown of a text."""

_ROLES: tuple[Role, ...] = ("check", "probe", "rival", "judge")


class Comparison(View):
    """Scores of the model's answers beside those of one rival's; ``interval`` of the difference: 95 %, null for one prompt."""

    rival: str
    prompts: int
    quality: float
    rival_quality: float
    difference: float
    interval: tuple[float, float] | None


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
    interval: tuple[float, float]
    rival: str
    rival_quality: float
    gap: float
    chance: float


class Spending(View):
    """Calls and USD of one kind."""

    role: Role
    calls: int
    usd: float


class JoinReport(View):
    """How a model joined; ``predicted_gain``: of quality less cost a request, if it took the tasks on which it is ahead."""

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
    predicted_gain: float | None
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
            predicted_gain=sum(s.share * max(s.gap, 0.0) for s in standings) if standings else None,
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
    out.append(
        "The effect that was realised is not measured: see `thalweg snapshots value` for the value of the policy."
    )
    return out


def to_html(report: JoinReport) -> str:
    """The page."""
    r = report
    gain = "not known" if r.predicted_gain is None else f"{r.predicted_gain:+.4f} a request"
    parts = [
        f"<h1>{escape(r.model)}</h1><p><b>{r.state}</b>: {escape(r.reason)}</p>",
        f"<p>Joined {r.joined_at:%Y-%m-%d %H:%M} UTC. Spent ${r.usd:.4f}. Predicted gain: {gain}.</p>",
        _table("Steps", ["when", "state", "why"], [(f"{s.at:%m-%d %H:%M:%S}", s.state, s.reason) for s in r.steps]),
        _table("Check", ["what", "found"], [(name, value) for name, value in (r.check or {}).items()]),
        _table(
            "Against whom", ["rival", "prompts", "its score", "rival's", "difference", "95 %"],
            [(c.rival, c.prompts, f"{c.quality:.2f}", f"{c.rival_quality:.2f}", f"{c.difference:+.2f}",
              "-" if c.interval is None else f"{c.interval[0]:+.2f} to {c.interval[1]:+.2f}") for c in r.comparisons],
        ),
        _table(
            "By task", ["task", "share", "quality", "95 %", "best other", "its quality", "gap", "better with"],
            [(s.name, f"{s.share:.1%}", f"{s.quality:.2f}", f"{s.interval[0]:.2f} to {s.interval[1]:.2f}", s.rival,
              f"{s.rival_quality:.2f}", f"{s.gap:+.2f}", f"{s.chance:.0%}") for s in r.standings],
        ),
        _table("Spent", ["on", "calls", "USD"], [(s.role, s.calls, f"{s.usd:.4f}") for s in r.spending]),
        *(_examples(title, found) for title, found in (("Won", r.won), ("Lost", r.lost))),
        "<h2>Not sure</h2><ul>" + "".join(f"<li>{escape(line)}</li>" for line in r.unsure) + "</ul>",
    ]  # fmt: skip
    head = f'<meta charset="utf-8"><title>{escape(r.model)} joins</title><style>{_STYLE}</style>'
    return f"<!doctype html><html lang=en><head>{head}</head><body>{''.join(parts)}</body></html>"


_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}"
    "table{border-collapse:collapse;width:100%}td,th{border-bottom:1px solid #ddd;padding:.3rem .6rem;text-align:left;"
    "vertical-align:top}pre{white-space:pre-wrap;background:#f6f6f6;padding:.6rem}"
)


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<h2>{escape(title)}</h2><table><tr>{head}</tr>{body}</table>"


def _examples(title: str, found: Sequence[Example]) -> str:
    out = []
    for e in found:
        texts = (("prompt", e.prompt), ("its answer", e.answer), (f"answer of {e.rival}", e.rival_answer))
        shown = "".join(f"<p>{escape(what)}</p><pre>{escape(_short(text))}</pre>" for what, text in texts)
        out.append(
            f"<h3>{e.score:.2f} against {e.rival_score:.2f} of {escape(e.rival)}</h3>{shown}<p>{escape(e.reason)}</p>"
        )
    return f"<h2>{title}</h2>{''.join(out)}" if out else ""


def _short(text: str | None) -> str:
    if text is None:
        return "(not known)"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
