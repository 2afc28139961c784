"""`thalweg import`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.console import Json, context, progress, show, table

if TYPE_CHECKING:
    from jobs.data.importer import DataFile


def import_files(
    files: Annotated[
        list[Path], typer.Argument(help="Data files: .jsonl(.gz), RouterBench's CSV, LLMRouterBench's folder.")
    ],
    dataset: Annotated[str | None, typer.Option(help="Name of the data set; the file's folder by default.")] = None,
    split: Annotated[str | None, typer.Option(help="Name of the split; the file's name by default.")] = None,
    as_json: Json = False,
) -> None:
    """Import scored prompts, for `refresh` to train on. Every file is checked whole before anything is written."""
    from jobs.data.importer import load, store_file

    with progress("checking") as tell:
        loaded = []
        for i, file in enumerate(files):
            tell(file.name, i / len(files))
            loaded.append(load(file, dataset, split))
    done = []
    with context() as world, progress("importing") as tell:
        for data in loaded:
            report = store_file(
                data,
                world.database,
                world.encoder,
                prompts=world.settings.store_prompts,
                progress=partial(_tell, tell, data),
            )
            done.append((data, report))
    show(
        [
            {
                "file": data.path, "dataset": data.dataset, "split": data.split, "rows": report.rows,
                "new_prompts": report.new_prompts, "scores": report.scores, "duplicates": report.duplicates,
            }
            for data, report in done
        ],
        as_json,
        lambda: table(
            "imported",
            {"data set": "left", "split": "left", "rows": "right", "prompts encoded": "right", "scores": "right",
             "known already": "right"},
            [
                (f.dataset, f.split, f"{r.rows:,}", f"{r.new_prompts:,}", f"{r.scores:,}", f"{r.duplicates:,}")
                for f, r in done
            ],
        ),
    )  # fmt: skip


def _tell(tell: Callable[[str, float], None], file: DataFile, rows: int) -> None:
    tell(f"{file.dataset}/{file.split}", rows / len(file.rows))
