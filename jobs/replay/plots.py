"""Four pictures of a replay: cumulative regret, moving quality, traffic by model, and number of tasks over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.types import Array
from jobs.evaluate.plots import new_axes, save
from jobs.replay.harness import Trace
from jobs.replay.measures import moving, regret
from jobs.replay.policies import OURS
from jobs.replay.run import Replay

WINDOW = 200
"""Steps over which quality and traffic are averaged."""


def draw(replay: Replay, folder: Path, title: str) -> list[Path]:
    """Write ``regret.png``, ``quality.png``, ``traffic.png`` and ``tasks.png``; returns their paths."""
    pictures = {"regret": _regret, "quality": _quality, "traffic": _traffic, "tasks": _tasks}
    return [save(_picture(replay, title, paint), folder / f"{name}.png") for name, paint in pictures.items()]


def _picture(replay: Replay, title: str, paint: Callable[[Replay, Any], str]) -> Any:
    """Axes over the steps that ``paint`` fills and names, with a line at each change of the scenario."""
    axes = new_axes(9, 5)
    axes.set_title(f"{title}: {paint(replay, axes)}", fontsize=10)
    axes.set_xlabel("prompts")
    axes.grid(alpha=0.25)
    scenario = replay.scenario
    for verb, changes in (("joins", scenario.joins), ("leaves", scenario.leaves), ("degrades", scenario.degrades)):
        for change in changes:
            axes.axvline(change.step, color="0.5", lw=1, ls="--")
            what, at = f"{change.model} {verb}", (change.step, 0.02)
            axes.annotate(what, at, xycoords=("data", "axes fraction"), rotation=90, fontsize=7, ha="right")
    if axes.get_legend_handles_labels()[0]:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return axes.figure


def _regret(replay: Replay, axes: Any) -> str:
    _lines(axes, {name: np.mean([regret(t) for t in traces], axis=0) for name, traces in replay.traces.items()})
    return "regret against the best model on each prompt, cumulative"


def _quality(replay: Replay, axes: Any) -> str:
    _lines(axes, {name: _moving_quality(traces) for name, traces in replay.traces.items()})
    if OURS in replay.references:
        reference = _moving_quality(replay.references[OURS])
        axes.plot(reference, label=f"{OURS}, reference run", color="crimson", ls=":", lw=1.5)
    return f"quality, mean of {WINDOW} prompts"


def _traffic(replay: Replay, axes: Any) -> str:
    name, traces = _leading(replay)
    shares = [
        np.mean([moving((t.model == j).astype(float), WINDOW) for t in traces], axis=0)
        for j in range(len(replay.models))
    ]
    axes.stackplot(np.arange(replay.steps), shares, labels=replay.models, colors=_colours(len(shares)))
    axes.set_ylim(0, 1)
    return f"traffic of {name} by model, mean of {WINDOW} prompts"


def _tasks(replay: Replay, axes: Any) -> str:
    name, traces = _leading(replay)
    for trace in traces:
        axes.step(np.arange(replay.steps), trace.tasks, color="crimson", alpha=0.5)
    axes.set_ylim(bottom=0)
    return f"number of tasks of {name}, a line a seed"


def _moving_quality(traces: Sequence[Trace]) -> Array:
    """(n,) mean over seeds; NaN before there are enough prompts."""
    out = np.asarray(np.mean([moving(t.quality, WINDOW) for t in traces], axis=0))
    out[: WINDOW // 2] = np.nan
    return out


def _leading(replay: Replay) -> tuple[str, Sequence[Trace]]:
    """Thalweg where it ran, else the first policy."""
    name = OURS if OURS in replay.traces else next(iter(replay.traces))
    return name, replay.traces[name]


def _lines(axes: Any, values: Mapping[str, Array]) -> None:
    for (name, line), colour in zip(values.items(), _colours(len(values))):
        ours = name == OURS
        colour = "crimson" if ours else colour
        axes.plot(line, label=name, color=colour, lw=2.4 if ours else 1.2, zorder=5 if ours else 3)


def _colours(n: int) -> list[Any]:
    import matplotlib

    return [matplotlib.colormaps["tab20"](i % 20) for i in range(n)]
