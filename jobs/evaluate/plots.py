"""Three pictures of an evaluation: quality by cost, a map of the tasks, and each model's quality by task."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np

from jobs.evaluate.harness import OURS, Result
from jobs.evaluate.report import frontier

COLOURS = {
    OURS: "crimson", "stage 1 only": "sandybrown", "stage 2 only": "gold", "best single": "black", "cheapest": "dimgray",
    "random": "silver", "kNN": "royalblue", "k-means": "mediumseagreen", "linear": "mediumpurple", "MLP": "hotpink",
    "label control": "darkcyan", "oracle": "lightgray",
}  # fmt: skip
MAP_PROMPTS = 2500
NAMED_TASKS = 16
HEAT_TASKS = 40


def draw(result: Result, folder: Path, title: str) -> list[Path]:
    """Write ``cost_quality.png``, ``task_map.png`` and ``task_quality.png``; returns their paths."""
    pictures = {"cost_quality": _cost_quality, "task_map": _task_map, "task_quality": _task_quality}
    return [save(picture(result, title), folder / f"{name}.png") for name, picture in pictures.items()]


def new_axes(width: float, height: float) -> Any:
    """The axes of a new matplotlib figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height)).add_subplot()


def save(figure: Any, path: Path) -> Path:
    """Write a matplotlib figure."""
    import matplotlib

    matplotlib.use("Agg")
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # names may be in scripts that matplotlib's font lacks
        figure.savefig(path, dpi=130, bbox_inches="tight")
    return path


def _cost_quality(result: Result, title: str) -> Any:
    """Every router's curve, every model a dot; a bar of qualities where no costs are known."""
    axes = new_axes(9, 6)
    axes.set_title(f"{title}: cost and quality")
    if not any(len(seeds[0].curve) for seeds in result.routers.values()):
        means = {name: 100 * float(seeds[0].quality.mean()) for name, seeds in result.routers.items()}
        axes.barh(list(means), list(means.values()), color=[COLOURS[name] for name in means])
        axes.invert_yaxis()
        axes.set_xlim(left=max(0.0, min(means.values()) - 5))
        axes.set_xlabel("micro quality, % (no costs are known)")
        return axes.figure
    for name, seeds in result.routers.items():
        points = frontier(seeds[0].curve)
        if len(points):
            axes.plot(
                1000 * points[:, 0], 100 * points[:, 1], label=name, color=COLOURS[name], drawstyle="steps-post",
                marker="o" if len(points) == 1 else "", lw=2.6 if name == OURS else 1.3, zorder=5 if name == OURS else 3,
            )  # fmt: skip
    for single in result.singles:
        if np.isfinite(single.cost):
            at, name = (1000 * single.cost, 100 * single.micro), single.name.split("/")[-1]
            axes.scatter(*at, s=18, color="0.4", zorder=4)
            axes.annotate(name, at, fontsize=6, color="0.35", xytext=(3, -7), textcoords="offset points")
    axes.set_xscale("log")
    axes.set_xlabel("USD per 1,000 prompts")
    axes.set_ylabel("micro quality, %")
    axes.grid(alpha=0.25)
    axes.legend(fontsize=8)
    return axes.figure


def _task_map(result: Result, title: str) -> Any:
    """Test prompts in two dimensions (t-SNE of their embeddings), coloured by task, the largest tasks named."""
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    rows = np.random.default_rng(0).permutation(len(result.test))[:MAP_PROMPTS]
    vectors = result.test.embeddings[rows]
    vectors = PCA(min(30, *vectors.shape), random_state=0).fit_transform(vectors)
    flat = vectors[:, :2] if vectors.shape[1] >= 2 else np.column_stack([vectors[:, 0], np.zeros(len(vectors))])
    if len(rows) >= 50:
        tsne = TSNE(2, init="pca", perplexity=min(30, len(rows) // 4), max_iter=500, random_state=0)
        flat = tsne.fit_transform(vectors)
    trained = result.trained[0]
    task = trained.estimates.task_probabilities[rows].argmax(axis=1)
    axes = new_axes(10, 8)
    axes.scatter(flat[:, 0], flat[:, 1], c=task * 7 % 20, cmap="tab20", s=7, lw=0)
    found, sizes = np.unique(task, return_counts=True)
    for t in found[np.argsort(-sizes)][:NAMED_TASKS]:
        label, centre = trained.snapshot.tasks[t].name, tuple(np.median(flat[task == t], axis=0))
        axes.annotate(label, centre, fontsize=7, ha="center", bbox={"fc": "white", "alpha": 0.7, "lw": 0})
    axes.set_title(f"{title}: {len(trained.snapshot.tasks)} tasks")
    axes.set_xticks([])
    axes.set_yticks([])
    return axes.figure


def _task_quality(result: Result, title: str) -> Any:
    """Mean quality of each model on each of the largest tasks."""
    snapshot = result.trained[0].snapshot
    tasks = sorted(snapshot.tasks, key=lambda t: -t.size)[:HEAT_TASKS]
    means = np.array([[task.means[model][0] for model in snapshot.models] for task in tasks])  # (tasks, models)
    axes = new_axes(2.5 + 0.6 * len(snapshot.models), 1.8 + 0.24 * len(tasks))
    image = axes.imshow(100 * means, aspect="auto", cmap="viridis", vmin=0, vmax=100)
    axes.set_xticks(
        range(len(snapshot.models)), [m.split("/")[-1] for m in snapshot.models], rotation=60, ha="right", fontsize=7
    )
    axes.set_yticks(range(len(tasks)), [f"{t.name} ({t.size})" for t in tasks], fontsize=7)
    axes.set_title(f"{title}: mean quality by task, %")
    axes.figure.colorbar(image, shrink=0.6)
    return axes.figure
