"""A `Replay` as JSON and as a table for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from agent.types import Array
from jobs.evaluate.report import spread
from jobs.replay.harness import Trace
from jobs.replay.measures import drift_delay, follow_steps, last_third, loss, regret
from jobs.replay.policies import OURS, PARETO
from jobs.replay.run import Replay
from jobs.replay.spend import compare, curve


def to_json(replay: Replay) -> dict[str, Any]:
    """The result as plain JSON; qualities in 0..1, costs in USD a prompt. All but ``timing`` depends on the seeds alone."""
    return {
        "steps": replay.steps,
        "warm": replay.warm,
        "seeds": replay.seeds,
        "models": list(replay.models),
        "scenario": asdict(replay.scenario),
        "notes": replay.notes,
        "policies": {name: _policy(replay, name, traces) for name, traces in replay.traces.items()},
        "spend": _spend(replay),
        "timing": {
            name: {"decide_us": spread([t.decide_us for t in traces]), "learn_us": spread([t.learn_us for t in traces])}
            for name, traces in replay.traces.items()
        },
    }


def _spend(replay: Replay) -> dict[str, Any] | None:
    """Each policy's curve of cost and quality, and ours beside ParetoBandit's; None where nobody asked."""
    if not replay.spend:
        return None
    curves = {name: curve(runs) for name, runs in replay.spend.items()}
    out: dict[str, Any] = {
        name: [
            {"setting": setting, "cost": float(cost), "quality": float(quality)}
            for setting, (cost, quality) in zip(replay.spend[name], points)
        ]
        for name, points in curves.items()
    }
    if OURS in curves and PARETO in curves:
        out["against"] = compare(curves[OURS], curves[PARETO])
    return out


def _policy(replay: Replay, name: str, traces: Sequence[Trace]) -> dict[str, Any]:
    references = replay.references.get(name, [])
    losses = [loss(t, r, replay.scenario) for t, r in zip(traces, references)]
    out: dict[str, Any] = {
        "mean_quality": spread([float(t.quality.mean()) for t in traces]),
        "last_third": spread([last_third(t) for t in traces]),
        "regret": spread([float(regret(t)[-1]) for t in traces]),
        "cost": spread(_means([t.cost for t in traces])),
        "explored": spread(_means([t.explored for t in traces])),
        "loss": spread([lost for lost in losses if lost is not None]),
        "reference": spread([float(r.quality.mean()) for r in references]),
        "traffic": {m: float(np.mean([(t.model == j).mean() for t in traces])) for j, m in enumerate(replay.models)},
        "tasks": spread([float(t.tasks[-1]) for t in traces]),
        "news": [[{"step": at, "kind": n.kind, "what": n.what} for at, n in t.news] for t in traces],
    }
    for key, changes in (("adoption_steps", replay.scenario.joins), ("abandonment_steps", replay.scenario.degrades)):
        out[key] = {
            c.model: [follow_steps(t, r, c, replay.models) for t, r in zip(traces, references)] for c in changes
        }
    out["drift_delays"] = {
        c.model: [drift_delay(t, c, replay.models) for t in traces] for c in replay.scenario.degrades
    }
    return out


def render(title: str, report: Mapping[str, Any]) -> RenderableType:
    """The table of a replay."""
    caption = (
        f"{report['steps']:,} prompts routed after {report['warm']:,} scored in full, {report['seeds']} seed(s). "
        "Regret is against the best model on each prompt; loss against the same run spared all trouble."
    )
    grid = Grid(title=title, title_justify="left", title_style="bold", caption=caption, caption_justify="left")
    grid.add_column("policy")
    for column in ("quality", "last third", "regret", "$ per 1,000", "explored %", "loss", "us a choice", "us a score"):
        grid.add_column(column, justify="right")
    for name, row in report["policies"].items():
        timing = report["timing"][name]
        grid.add_row(
            name,
            _cell(row["mean_quality"], 1, ".4f"),
            _cell(row["last_third"], 1, ".4f"),
            _cell(row["regret"], 1, ",.0f"),
            _cell(row["cost"], 1000, ".3f"),
            _cell(row["explored"], 100, ".1f"),
            _cell(row["loss"], 1, "+.4f"),
            _cell({**timing["decide_us"], "std": None}, 1, ",.0f"),
            _cell({**timing["learn_us"], "std": None}, 1, ",.0f"),
            style="bold" if name == OURS else None,
        )
    lines = [f"{name}: {line}" for name, row in report["policies"].items() for line in _events(row)]
    return Group(
        grid,
        *_spend_grids(report["spend"]),
        *(Text(line) for line in lines),
        *(Text(f"note: {n}", style="yellow") for n in report["notes"]),
    )


def _means(values: Sequence[Array]) -> list[float]:
    """The mean of what is known of each; those of which nothing is are left out."""
    return [float(np.nanmean(v)) for v in values if np.isfinite(v).any()]


def _spend_grids(spend: Mapping[str, Any] | None) -> list[Grid]:
    """Thalweg and ParetoBandit, each where the other spends or earns as much."""
    if not spend or "against" not in spend:
        return []
    by_cost = Grid(title="quality at equal spend", title_justify="left")
    for column in ("$ per 1,000", OURS, PARETO, "difference"):
        by_cost.add_column(column, justify="right")
    for row in spend["against"]["at_equal_spend"]:
        both = row["ours"] is not None and row["theirs"] is not None
        by_cost.add_row(
            f"{1000 * row['cost']:.4f}",
            _figure(row["ours"]),
            _figure(row["theirs"]),
            f"{row['ours'] - row['theirs']:+.4f}" if both else "-",
        )
    by_quality = Grid(title="$ per 1,000 at equal quality", title_justify="left")
    for column in ("quality", OURS, PARETO, "ratio"):
        by_quality.add_column(column, justify="right")
    for row in spend["against"]["at_equal_quality"]:
        both = row["ours"] is not None and row["theirs"] is not None
        by_quality.add_row(
            f"{row['quality']:.4f}",
            _figure(row["ours"], 1000),
            _figure(row["theirs"], 1000),
            f"{row['ours'] / row['theirs']:.2f}" if both else "-",
        )
    return [by_cost, by_quality]


def _figure(value: float | None, scale: float = 1.0) -> str:
    return "-" if value is None else f"{scale * value:.4f}"


def _events(row: Mapping[str, Any]) -> list[str]:
    """What happened to changed models, a line each."""
    lines = []
    for key, what in (
        ("adoption_steps", "adopted after {} steps"),
        ("abandonment_steps", "abandoned after {} steps"),
        ("drift_delays", "its change noticed after {} of its own scores"),
    ):
        for model, by_seed in row[key].items():
            if any(n is not None for n in by_seed):
                lines.append(f"{model} {what.format(', '.join('never' if n is None else str(n) for n in by_seed))}")
    return lines


def _cell(value: Mapping[str, float | None], scale: float, form: str) -> str:
    if value["mean"] is None:
        return "-"
    deviation = f" +-{format(scale * value['std'], form.lstrip('+'))}" if value["std"] else ""
    return format(scale * value["mean"], form) + deviation
