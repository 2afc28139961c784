"""Four pictures of a replay: cumulative regret, moving quality, traffic by model, and number of tasks over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.types import Array
from jobs.evaluate.plots import save
from jobs.replay.harness import Trace
from jobs.replay.measures import moving, regret
from jobs.replay.policies import OURS
from jobs.replay.run import Replay

WINDOW = 200
"""Steps over which quality and traffic are averaged."""


def draw(replay: Replay, folder: Path, title: str) -> list[Path]:
    """Write ``regret.png``, ``quality.png``, ``traffic.png`` and ``tasks.png``; returns their paths."""
    pictures = {"regret": _regret, "quality": _quality, "traffic": _traffic, "tasks": _tasks}
    return [save(picture(replay, title), folder / f"{name}.png") for name, picture in pictures.items()]


def _regret(replay: Replay, title: str) -> Any:
    figure, axes = _axes(replay, f"{title}: regret against the best model on each prompt, cumulative")
    _lines(axes, {name: np.mean([regret(t) for t in traces], axis=0) for name, traces in replay.traces.items()})
    return _finish(figure, axes)


def _quality(replay: Replay, title: str) -> Any:
    figure, axes = _axes(replay, f"{title}: quality, mean of {WINDOW} prompts")
    _lines(axes, {name: _moving_quality(traces) for name, traces in replay.traces.items()})
    if OURS in replay.references:
        reference = _moving_quality(replay.references[OURS])
        axes.plot(reference, label=f"{OURS}, reference run", color="crimson", ls=":", lw=1.5)
    return _finish(figure, axes)


def _traffic(replay: Replay, title: str) -> Any:
    name, traces = _leading(replay)
    figure, axes = _axes(replay, f"{title}: traffic of {name} by model, mean of {WINDOW} prompts")
    shares = [
        np.mean([moving((t.model == j).astype(float), WINDOW) for t in traces], axis=0)
        for j in range(len(replay.models))
    ]
    axes.stackplot(np.arange(replay.steps), shares, labels=replay.models, colors=_colours(len(shares)))
    axes.set_ylim(0, 1)
    return _finish(figure, axes)


def _tasks(replay: Replay, title: str) -> Any:
    name, traces = _leading(replay)
    figure, axes = _axes(replay, f"{title}: number of tasks of {name}, a line a seed")
    for trace in traces:
        axes.step(np.arange(replay.steps), trace.tasks, color="crimson", alpha=0.5)
    axes.set_ylim(bottom=0)
    return figure


def _moving_quality(traces: Sequence[Trace]) -> Array:
    """(n,) mean over seeds; NaN before there are enough prompts."""
    out = np.asarray(np.mean([moving(t.quality, WINDOW) for t in traces], axis=0))
    out[: WINDOW // 2] = np.nan
    return out


def _leading(replay: Replay) -> tuple[str, Sequence[Trace]]:
    """Thalweg where it ran, else the first policy."""
    name = OURS if OURS in replay.traces else next(iter(replay.traces))
    return name, replay.traces[name]


def _axes(replay: Replay, title: str) -> tuple[Any, Any]:
    """Axes over the steps, with a line at each event."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5))
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("prompts")
    axes.grid(alpha=0.25)
    scenario = replay.scenario
    for verb, changes in (("joins", scenario.joins), ("leaves", scenario.leaves), ("degrades", scenario.degrades)):
        for change in changes:
            axes.axvline(change.step, color="0.5", lw=1, ls="--")
            what, at = f"{change.model} {verb}", (change.step, 0.02)
            axes.annotate(what, at, xycoords=("data", "axes fraction"), rotation=90, fontsize=7, ha="right")
    return figure, axes


def _lines(axes: Any, values: Mapping[str, Array]) -> None:
    for (name, line), colour in zip(values.items(), _colours(len(values))):
        style = (
            {"color": "crimson", "lw": 2.4, "zorder": 5} if name == OURS else {"color": colour, "lw": 1.2, "zorder": 3}
        )
        axes.plot(line, label=name, **style)


def _finish(figure: Any, axes: Any) -> Any:
    axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure


def _colours(n: int) -> list[Any]:
    import matplotlib

    return [matplotlib.colormaps["tab20"](i % 20) for i in range(n)]
