"""`thalweg import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jobs.cli.console import Json, context, progress, show, table


def import_files(
    files: Annotated[
        list[Path], typer.Argument(help="Data files: .jsonl(.gz), RouterBench's CSV, LLMRouterBench's folder.")
    ],
    dataset: Annotated[str | None, typer.Option(help="Name of the data set; the file's folder by default.")] = None,
    split: Annotated[str | None, typer.Option(help="Name of the split; the file's name by default.")] = None,
    as_json: Json = False,
) -> None:
    """Import scored prompts, for `refresh` to train on. Every file is checked whole before anything is written."""
    from jobs.data.files import load, store_file

    with progress("checking") as report:
        loaded = []
        for i, file in enumerate(files):
            report(file.name, i / len(files))
            loaded.append(load(file, dataset, split))
    imported = []
    with context() as ctx, progress("importing") as report:
        for data in loaded:
            done = store_file(
                data, ctx.database, ctx.encoder, prompts=ctx.settings.store_prompts,
                progress=lambda rows, data=data: report(f"{data.dataset}/{data.split}", rows / len(data.rows)),  # type: ignore[misc]
            )  # fmt: skip
            imported.append({
                "file": data.path, "dataset": data.dataset, "split": data.split, "rows": done.rows,
                "new_prompts": done.new_prompts, "scores": done.scores, "duplicates": done.duplicates,
            })  # fmt: skip
    columns = {"dataset": "data set", "split": "split", "rows": "rows", "new_prompts": "prompts encoded",
               "scores": "scores", "duplicates": "known already"}  # fmt: skip
    show(imported, as_json, lambda: table(
        "imported",
        {heading: "left" if key in ("dataset", "split") else "right" for key, heading in columns.items()},
        [[f"{file[key]:,}" if isinstance(file[key], int) else str(file[key]) for key in columns] for file in imported],
    ))  # fmt: skip
