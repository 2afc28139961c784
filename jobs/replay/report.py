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
from jobs.evaluate.report import mean_and_std, mean_and_stderr
from jobs.replay import measures
from jobs.replay.harness import Trace
from jobs.replay.policies import ABLATED, OURS
from jobs.replay.run import Replay

COLUMNS = {
    "quality": ("mean_quality", 1, ".4f"), "last third": ("last_third", 1, ".4f"), "regret": ("regret", 1, ",.0f"),
    "$ per 1,000": ("cost", 1000, ".3f"), "explored %": ("explored", 100, ".1f"), "loss": ("loss", 1, "+.4f"),
}  # fmt: skip
"""Heading -> key of the JSON, scale and format."""


def to_json(replay: Replay) -> dict[str, Any]:
    """The result as plain JSON; qualities in 0..1, costs in USD a prompt. Equal seeds give equal figures, except ``timing``."""
    return {
        "steps": replay.steps,
        "warm": replay.warm,
        "seeds": replay.seeds,
        "models": list(replay.models),
        "scenario": asdict(replay.scenario),
        "notes": replay.notes,
        "policies": {name: _policy(replay, name, traces) for name, traces in replay.traces.items()},
        "spend": _spend(replay),
        "ablation": _ablation(replay),
        "timing": {
            name: {key: mean_and_std([getattr(t, key) for t in traces]) for key in ("decide_us", "learn_us")}
            for name, traces in replay.traces.items()
        },
    }


def _spend(replay: Replay) -> dict[str, Any] | None:
    """The spend curve of each policy, and the comparison of ours with the others'; None without `--spend`."""
    if not replay.spend:
        return None
    curves = {name: measures.spend_curve(runs) for name, runs in replay.spend.items()}
    out: dict[str, Any] = {
        name: [
            {"setting": setting, "cost": float(cost), "quality": float(quality)}
            for setting, (cost, quality) in zip(replay.spend[name], points)
        ]
        for name, points in curves.items()
    }
    if OURS in curves:
        out["comparisons"] = {
            name: measures.compare_spend(curves[OURS], theirs) for name, theirs in curves.items() if name != OURS
        }
    return out


def _ablation(replay: Replay) -> dict[str, dict[str, float | None]] | None:
    """What each part that was left out is worth: mean quality with it less without it; None where none was."""
    if OURS not in replay.traces:
        return None
    whole = np.array([t.quality.mean() for t in replay.traces[OURS]])
    worth = {
        part: whole - [t.quality.mean() for t in replay.traces[name]]
        for name, part in ABLATED.items()
        if name in replay.traces
    }
    return {part: mean_and_stderr(gain.tolist()) for part, gain in worth.items()} or None


def _policy(replay: Replay, name: str, traces: Sequence[Trace]) -> dict[str, Any]:
    references = replay.references.get(name, [])
    losses = [measures.loss(t, r, replay.scenario) for t, r in zip(traces, references)]
    out: dict[str, Any] = {
        "mean_quality": mean_and_std([float(t.quality.mean()) for t in traces]),
        "last_third": mean_and_std([measures.last_third(t) for t in traces]),
        "regret": mean_and_std([float(measures.regret(t)[-1]) for t in traces]),
        "cost": mean_and_std(_means([t.cost for t in traces])),
        "explored": mean_and_std(_means([t.explored for t in traces])),
        "loss": mean_and_std([lost for lost in losses if lost is not None]),
        "reference": mean_and_std([float(r.quality.mean()) for r in references]),
        "traffic": {m: float(np.mean([(t.model == j).mean() for t in traces])) for j, m in enumerate(replay.models)},
        "tasks": mean_and_std([float(t.tasks[-1]) for t in traces]),
        "events": [[{"step": at, **asdict(event)} for at, event in t.events] for t in traces],
    }
    for key, changes in (("adoption_steps", replay.scenario.joins), ("abandonment_steps", replay.scenario.degrades)):
        out[key] = {
            c.model: [measures.follow_steps(t, r, c, replay.models) for t, r in zip(traces, references)]
            for c in changes
        }
    if name in replay.unjoined:
        unjoined = replay.unjoined[name]
        out["join"] = measures.join_figures(traces, references, unjoined, replay.scenario.joins, replay.models)
    out["drift_delays"] = {
        c.model: [measures.drift_delay(t, c, replay.models) for t in traces] for c in replay.scenario.degrades
    }
    out["false_alarms"] = [measures.false_alarms(t, replay.scenario.degrades) for t in traces]
    return out


def render(title: str, report: Mapping[str, Any]) -> RenderableType:
    """The table of a replay."""
    caption = (
        f"{report['steps']:,} prompts routed after {report['warm']:,} scored in full, {report['seeds']} seed(s). "
        "Regret is to the best model on each prompt; loss is to the reference run (announced changes, full and true feedback)."
    )
    grid = Grid(title=title, title_justify="left", title_style="bold", caption=caption, caption_justify="left")
    grid.add_column("policy", min_width=max(map(len, report["policies"])))
    for column in (*COLUMNS, "us a choice", "us a score"):
        grid.add_column(column, justify="right")
    for name, row in report["policies"].items():
        cells = (_cell(row[key], scale, form) for key, scale, form in COLUMNS.values())
        times = (f"{report['timing'][name][key]['mean']:,.0f}" for key in ("decide_us", "learn_us"))
        grid.add_row(name, *cells, *times, style="bold" if name == OURS else None)
    lines = [f"{name}: {line}" for name, row in report["policies"].items() for line in _changes(row)]
    return Group(
        grid,
        *_spend_grids(report["spend"]),
        *(
            Text(
                f"{part}: worth {_cell({**worth, 'std': worth['stderr']}, 1, '+.4f')} of quality (+- its standard error)"
            )
            for part, worth in (report["ablation"] or {}).items()
        ),
        *(Text(line) for line in lines),
        *(Text(f"note: {n}", style="yellow") for n in report["notes"]),
    )


def _means(values: Sequence[Array]) -> list[float]:
    """The mean of the known values of each array that has any."""
    return [float(np.nanmean(v)) for v in values if np.isfinite(v).any()]


def _spend_grids(spend: Mapping[str, Any] | None) -> list[Grid]:
    """Quality at equal spend and spend at equal quality, of Thalweg and each of the others."""
    grids = []
    for rival, found in (spend or {}).get("comparisons", {}).items():
        by_cost = [(1000 * r["cost"], r) for r in found["at_equal_spend"]]
        by_quality = [(r["quality"], r) for r in found["at_equal_quality"]]
        grids += [
            _spend_grid(rival, "quality at equal spend", "$ per 1,000", by_cost, 1, "difference"),
            _spend_grid(rival, "$ per 1,000 at equal quality", "quality", by_quality, 1000, "ratio"),
        ]
    return grids


def _spend_grid(
    rival: str, title: str, at: str, rows: Sequence[tuple[float, Mapping[str, Any]]], scale: float, comparison: str
) -> Grid:
    grid = Grid(title=title, title_justify="left")
    for column in (at, OURS, rival, comparison):
        grid.add_column(column, justify="right")
    for level, row in rows:
        ours, theirs = row["ours"], row["theirs"]
        cells = ("-" if value is None else f"{scale * value:.4f}" for value in (ours, theirs))
        if ours is None or theirs is None:
            compared = "-"
        else:
            compared = f"{ours - theirs:+.4f}" if comparison == "difference" else f"{ours / theirs:.2f}"
        grid.add_row(f"{level:.4f}", *cells, compared)
    return grid


def _changes(row: Mapping[str, Any]) -> list[str]:
    """How a policy followed the changed models, a line each."""
    lines = []
    for key, what in (
        ("adoption_steps", "adopted after {} steps"),
        ("abandonment_steps", "abandoned after {} steps"),
        ("drift_delays", "told by an alarm within {} of its own scores"),
    ):
        for model, by_seed in row[key].items():
            if any(n is not None for n in by_seed):
                lines.append(f"{model} {what.format(', '.join('never' if n is None else str(n) for n in by_seed))}")
    if join := row.get("join"):
        shares = (
            f"{'-' if (v := join[f'gain_share_{n}']) is None else f'{v:.0%}'} in {n}" for n in measures.GAIN_STEPS
        )
        traffic = join["traffic_share_300"]
        lines.append(
            f"share of the join's gain realised: {', '.join(shares)} steps; "
            f"share of the requests 300 steps later: {'-' if traffic is None else f'{traffic:.1%}'}"
        )
    if any(row["false_alarms"]) or row["drift_delays"]:
        lines.append(f"false alarms: {', '.join(map(str, row['false_alarms']))}")
    return lines


def _cell(value: Mapping[str, float | None], scale: float, form: str) -> str:
    if value["mean"] is None:
        return "-"
    deviation = f" +-{format(scale * value['std'], form.lstrip('+'))}" if value["std"] else ""
    return format(scale * value["mean"], form) + deviation
