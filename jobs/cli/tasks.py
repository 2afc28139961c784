"""`thalweg tasks`: what the champion discovered, and what became of what others had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.console import Json, context, show, table, when

if TYPE_CHECKING:
    from agent.snapshot import Snapshot, TaskInfo
    from jobs.context import Context
    from store.lineage import TaskLife

app = typer.Typer(help="Discovered tasks and their experts.", no_args_is_help=True)


@app.command("list")
def list_tasks(
    limit: Annotated[int, typer.Option(min=1, help="How many, the largest first.")] = 50,
    retired: Annotated[bool, typer.Option("--retired", help="Then also those that former champions had.")] = False,
    as_json: Json = False,
) -> None:
    """Tasks of the champion, the largest first."""
    from store.lineage import TaskLineage

    with context() as world:
        snapshot = _champion(world)
        lives = {life.id: life for life in TaskLineage(world.database).list(include_retired=True)}
    found = sorted(snapshot.tasks, key=lambda task: -task.size)[:limit]
    gone = [life for life in lives.values() if retired and life.retired_in is not None]
    data = [_life(lives[t.id]) | {"size": t.size, "candidates": t.candidates} for t in found]
    show(data + [_life(life) for life in gone], as_json, lambda: table(
        f"{len(snapshot.tasks)} tasks of snapshot {snapshot.version}",
        {"id": "right", "task": "left", "prompts": "right", "born in": "left", "best models (mean quality)": "left"},
        [(str(t.id), t.name, f"{t.size:,}", _birth(lives[t.id]), _best(t)) for t in found]
        + [(str(life.id), life.name, "-", _birth(life), _end(life)) for life in gone],
    ))  # fmt: skip


@app.command("show")
def show_task(
    task_id: Annotated[int, typer.Argument(help="As `list --retired` shows it.")], as_json: Json = False
) -> None:
    """One task: where it came from and what became of it; while it lives, every model's quality and central prompts."""
    from agent.errors import InvalidInput
    from jobs.data.texts import known_texts
    from store.lineage import TaskLineage

    with context() as world:
        snapshot = _champion(world)
        life = TaskLineage(world.database).get(task_id)
        if life is None:
            raise InvalidInput(
                f"snapshot {snapshot.version} has no task {task_id}, nor had a champion before it; "
                "`thalweg tasks list --retired` shows them",
                param="task_id",
            )
        task = next((t for t in snapshot.tasks if t.id == task_id), None)
        events = TaskLineage(world.database).events(task_id)
        texts = known_texts(world.database, task.medoids, snapshot.encoder) if task else {}
    means = sorted(task.means.items(), key=lambda item: -item[1][0]) if task else []
    data = _life(life) | {
        "lineage": [
            {"snapshot": e.snapshot, "at": e.at, "promoted": e.promoted, "kind": e.event.kind,
             "parents": e.event.parents, "evidence": dict(e.event.evidence), "why": e.why}
            for e in events
        ],
    }  # fmt: skip
    if task:
        data |= {
            "size": task.size, "candidates": task.candidates,
            "models": [{"model": m, "mean": mean, "scores": count} for m, (mean, count) in means],
            "examples": [texts.get(i, i) for i in task.medoids],
        }  # fmt: skip

    def render() -> Any:
        from rich.console import Group
        from rich.text import Text

        now = f"{task.size:,} prompts" if task else _end(life)
        parts: list[Any] = [Text(f"task {life.id}: {life.name}, {now}", style="bold")]
        if task:
            parts += [
                table("", {"model": "left", "mean quality": "right", "scores": "right", "candidate": "left"}, [
                    (m, f"{mean:.3f}", f"{count:,.1f}", "yes" if m in task.candidates else "")
                    for m, (mean, count) in means
                ]),
                table("examples", {"prompt": "left"}, [(" ".join(text.split())[:140],) for text in data["examples"]]),
            ]  # fmt: skip
        parts.append(table("lineage", {"when": "left", "snapshot": "left", "event": "left", "why": "left"}, [
            (when(e.at), f"{e.snapshot}{'' if e.promoted else ' (not promoted)'}", e.event.kind, e.why) for e in events
        ]))  # fmt: skip
        return Group(*parts)

    show(data, as_json, render)


def _life(life: TaskLife) -> dict[str, Any]:
    return {
        "id": life.id, "name": life.name, "born_in": life.born_in, "born_at": life.created_at,
        "born_from": life.born_from, "merged_into": life.merged_into, "retired_in": life.retired_in,
        "retired_at": life.retired_at,
    }  # fmt: skip


def _birth(life: TaskLife) -> str:
    kin = f", from {', '.join(map(str, life.born_from))}" if life.born_from else ""
    return f"snapshot {life.born_in}{kin}"


def _end(life: TaskLife) -> str:
    end = "retired" if life.merged_into is None else f"merged into {life.merged_into}"
    return f"{end} in snapshot {life.retired_in}"


def _best(task: TaskInfo) -> str:
    return ", ".join(f"{m.split('/')[-1]} {task.means[m][0]:.2f}" for m in task.candidates[:4])


def _champion(world: Context) -> Snapshot:
    from agent.errors import InvalidInput

    version = world.snapshots.champion_version()
    if version is None:
        raise InvalidInput("there is no snapshot yet; `thalweg route` or `thalweg refresh` makes one", param="snapshot")
    return world.snapshots.load(version)
