"""A `Result` as JSON and as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from agent.types import Array
from jobs.evaluate.harness import OURS, Result, SingleModel
from jobs.evaluate.metrics import COST_LEVELS, RouterResult, cost_at, macro, per_source


def to_json(result: Result) -> dict[str, Any]:
    """The result as plain JSON; qualities in 0..1, costs in USD a prompt, shares of the reference model's cost."""
    return {
        "prompts": {"train": len(result.train), "test": len(result.test)},
        "seeds": len(result.trained),
        "notes": result.notes,
        "reference": _single(result.reference),
        "best_single": result.singles[0].name,
        "models": {s.name: {k: v for k, v in _single(s).items() if k != "name"} for s in result.singles},
        "routers": {name: _router(result, seeds) for name, seeds in result.routers.items()},
        "bootstrap": {
            name: {"macro": asdict(by_macro), "micro": asdict(by_micro)}
            for name, (by_macro, by_micro) in result.differences.items()
        },
        "tuned": dict(result.tuned),
        "tasks": {
            "found": mean_and_std([len(t.snapshot.tasks) for t in result.trained]),
            "true": len(np.unique(result.test.labels)),
            "nmi": mean_and_std(result.nmi),
        },
        "training": {
            "wall_s": mean_and_std([t.wall_s for t in result.trained]),
            "peak_rss_mb": max(t.peak_rss_mb for t in result.trained),
        },
        "routing_ms": mean_and_std([t.routing_ms for t in result.trained]),
    }


def _router(result: Result, seeds: Sequence[RouterResult]) -> dict[str, Any]:
    sources = result.test.sources
    by_source = [per_source(r.quality, sources) for r in seeds]
    reached = [cost_at(r, result.reference.micro, result.reference.cost) for r in seeds if len(r.curve)]
    costs = [float(np.nanmean(r.cost)) for r in seeds if np.isfinite(r.cost).any()]
    return {
        "macro": mean_and_std([macro(r.quality, sources) for r in seeds]),
        "micro": mean_and_std([float(r.quality.mean()) for r in seeds]),
        "cost": mean_and_std(costs),
        "cost_at": {str(level): _all_or_none([r[str(level)] for r in reached]) for level in COST_LEVELS},
        "per_source": {s: float(np.mean([means[s] for means in by_source])) for s in by_source[0]},
        "curve": frontier(seeds[0].curve).tolist(),
    }


def frontier(curve: Array) -> Array:
    """The points (cost, quality) of a curve that no other point beats in both, cheapest first."""
    kept: list[int] = []
    for i in np.lexsort((-curve[:, 1], curve[:, 0])):
        if not kept or curve[i, 1] > curve[kept[-1], 1]:
            kept.append(int(i))
    return curve[kept]


def mean_and_std(values: Sequence[float]) -> dict[str, float | None]:
    """Mean and standard deviation over seeds; both None where there is no value."""
    if not values:
        return {"mean": None, "std": None}
    return {"mean": float(np.mean(values)), "std": float(np.std(values))}


def mean_and_stderr(values: Sequence[float]) -> dict[str, float | None]:
    """Mean over seeds and its standard error, which is None of a single value."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "stderr": error}


def _all_or_none(values: Sequence[float | None]) -> float | None:
    """The mean over seeds; None where there is none, or any seed's value is None."""
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known and len(known) == len(values) else None


def _single(model: SingleModel) -> dict[str, Any]:
    return asdict(model) | {"cost": None if np.isnan(model.cost) else model.cost}


def render(title: str, report: Mapping[str, Any]) -> RenderableType:
    """The tables of one evaluation."""
    grid = Grid(title=title, title_justify="left", title_style="bold", caption=_caption(report), caption_justify="left")
    grid.add_column("router")
    costs = (f"cost at {level} %" for level in COST_LEVELS)
    for column in ("macro %", "micro %", "$ per 1,000", *costs, "two-stage minus it"):
        grid.add_column(column, justify="right")
    for name, router in report["routers"].items():
        difference = report["bootstrap"].get(name)
        grid.add_row(
            name,
            _percent(router["macro"]),
            _percent(router["micro"]),
            _figure(router["cost"]["mean"], 1000, ".3f"),
            *(_figure(router["cost_at"][str(level)], 1, ".3f") for level in COST_LEVELS),
            _difference(difference["macro"]) if difference else "",
            style="bold" if name == OURS else None,
        )
    return Group(grid, *(Text(f"note: {note}", style="yellow") for note in report["notes"]))


def render_summary(reports: Mapping[str, Mapping[str, Any]]) -> RenderableType:
    """All data sets in one table: each router's macro and micro quality."""
    grid = Grid(title="quality, %: macro / micro", title_justify="left", title_style="bold")
    grid.add_column("router")
    for name in reports:
        grid.add_column(name, justify="right")
    for router in dict.fromkeys(r for report in reports.values() for r in report["routers"]):
        rows = (report["routers"].get(router) for report in reports.values())
        cells = ("-" if r is None else f"{_percent(r['macro'])} / {_percent(r['micro'])}" for r in rows)
        grid.add_row(router, *cells, style="bold" if router == OURS else None)
    return grid


def _caption(report: Mapping[str, Any]) -> str:
    reference, training, tasks = report["reference"], report["training"], report["tasks"]
    return (
        f"{report['prompts']['train']:,} training and {report['prompts']['test']:,} test prompts, {report['seeds']} seed(s). "
        f"Costs are shares of {reference['name']}'s at that share of its quality. Best single models are chosen in hindsight. "
        f"{tasks['found']['mean']:.0f} tasks found (NMI {tasks['nmi']['mean']:.3f} with {tasks['true']} labels). "
        f"Training took {training['wall_s']['mean']:.1f} s and {training['peak_rss_mb']:,.0f} MB, "
        f"routing {report['routing_ms']['mean']:.2f} ms a prompt, encoding apart."
    )


def _percent(value: Mapping[str, float]) -> str:
    deviation = f" +-{100 * value['std']:.2f}" if value["std"] > 0 else ""
    return f"{100 * value['mean']:.2f}{deviation}"


def _figure(value: float | None, scale: float, form: str) -> str:
    return "-" if value is None else format(value * scale, form)


def _difference(value: Mapping[str, float]) -> str:
    sign = "*" if value["low"] > 0 or value["high"] < 0 else ""
    return f"{100 * value['mean']:+.2f} [{100 * value['low']:+.2f}, {100 * value['high']:+.2f}]{sign}"
