"""`thalweg tasks`: the champion's discovered tasks, and the lineage of these and of former champions' tasks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs.cli.console import Json, context, show, table, when

if TYPE_CHECKING:
    from agent.snapshot import Snapshot
    from jobs.context import JobContext
    from store.views import TaskView

app = typer.Typer(help="Discovered tasks and their experts.", no_args_is_help=True)


@app.command("list")
def list_tasks(
    limit: Annotated[int, typer.Option(min=1, help="How many, the largest first.")] = 50,
    retired: Annotated[bool, typer.Option("--retired", help="Then also those that former champions had.")] = False,
    as_json: Json = False,
) -> None:
    """Tasks of the champion, the largest first."""
    from store.lineage import TaskLineage
    from store.views import TaskView

    with context() as ctx:
        snapshot = _champion(ctx)
        rows = TaskLineage(ctx.database).list(include_retired=True)
    found = TaskView.of_all(snapshot, rows, retired=retired)
    found = found[: min(limit, len(snapshot.tasks))] + found[len(snapshot.tasks) :]
    show(found, as_json, lambda: table(
        f"{len(snapshot.tasks)} tasks of snapshot {snapshot.version}",
        {"id": "right", "task": "left", "prompts": "right", "spawned in": "left", "best models (mean quality)": "left"},
        [
            (str(t.id), t.name, "-" if t.size is None else f"{t.size:,}", _origin(t), _best(t) or _end(t))
            for t in found
        ],
    ))  # fmt: skip


@app.command("show")
def show_task(
    task_id: Annotated[int, typer.Argument(help="As `list --retired` shows it.")], as_json: Json = False
) -> None:
    """One task: its lineage, and while a champion has it every model's quality and its most central prompts."""
    from agent.errors import InvalidInput
    from jobs.refresh.seed import known_texts
    from store.lineage import TaskLineage
    from store.views import TaskDetail

    with context() as ctx:
        snapshot = _champion(ctx)
        lineage = TaskLineage(ctx.database)
        row = lineage.get(task_id)
        if row is None:
            raise InvalidInput(
                f"snapshot {snapshot.version} has no task {task_id}, nor had a champion before it; "
                "`thalweg tasks list --retired` shows them",
                param="task_id",
            )
        medoids = [name for task in snapshot.tasks if task.id == task_id for name in task.medoids]
        texts = known_texts(ctx.database, medoids, snapshot.encoder)
        found = TaskDetail.of_row(row, snapshot, lineage.events(task_id), texts)

    def render() -> Any:
        from rich.console import Group
        from rich.text import Text

        state = _end(found) if found.size is None else f"{found.size:,} prompts"
        parts: list[Any] = [Text(f"task {found.id}: {found.name}, {state}", style="bold")]
        if found.quality is not None:
            parts += [
                table("", {"model": "left", "mean quality": "right", "scores": "right", "candidate": "left"}, [
                    (q.model, f"{q.mean:.3f}", f"{q.n_scores:,.1f}", "yes" if q.model in (found.candidates or ()) else "")
                    for q in found.quality
                ]),
                table("examples", {"prompt": "left"}, [
                    (" ".join((m.text or m.prompt_id).split())[:140],) for m in found.medoids or ()
                ]),
            ]  # fmt: skip
        parts.append(table("lineage", {"when": "left", "snapshot": "left", "event": "left", "why": "left"}, [
            (when(e.at), f"{e.snapshot}{'' if e.promoted else ' (not promoted)'}", e.kind, e.why) for e in found.lineage
        ]))  # fmt: skip
        return Group(*parts)

    show(found, as_json, render)


def _origin(task: TaskView) -> str:
    parents = f", from {', '.join(map(str, task.parents))}" if task.parents else ""
    return f"snapshot {task.spawned_in}{parents}"


def _end(task: TaskView) -> str:
    end = "retired" if task.successor is None else f"merged into {task.successor}"
    return f"{end} in snapshot {task.retired_in}"


def _best(task: TaskView) -> str:
    means = {q.model: q.mean for q in task.quality or ()}
    return ", ".join(f"{model.split('/')[-1]} {means[model]:.2f}" for model in (task.candidates or ())[:4])


def _champion(ctx: JobContext) -> Snapshot:
    from agent.errors import InvalidInput

    if (champion := ctx.champion()) is None:
        raise InvalidInput("there is no snapshot yet; `thalweg route` or `thalweg refresh` makes one", param="snapshot")
    return champion
