"""Shared by the commands: settings, output as tables or as JSON, and a progress bar on stderr."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import RenderableType

    from jobs.context import JobContext

Json = Annotated[bool, typer.Option("--json", help="Print JSON on stdout and nothing else.")]

ReportFile = Annotated[Path | None, typer.Option("--json", help="Write the figures here; - for stdout, and no tables.")]
Plots = Annotated[Path | None, typer.Option(help="Write the pictures into this folder.")]
STDOUT = Path("-")


def context() -> JobContext:
    """The job context of this process's environment, for a ``with`` statement; the one place where a command reads it."""
    from jobs.context import JobContext
    from jobs.settings import JobSettings

    return JobContext(JobSettings.from_env(os.environ))


def show(data: Any, as_json: bool, render: Callable[[], RenderableType]) -> None:
    """Print ``data`` (views, dataclasses, lists and dicts of them) as JSON, or what ``render`` returns."""
    if as_json:
        from store.views import to_json

        print(to_json(data))
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 160  # a pipe has no width
    console.print(render())


def confirm(data: Any, as_json: bool, message: str) -> None:
    """Print ``data`` as JSON on stdout, or ``message`` on stderr."""
    if as_json:
        show(data, True, str)
    else:
        print(message, file=sys.stderr)


def write_report(data: Any, out: Path) -> None:
    """Write ``data`` as JSON into the file ``out``, or to stdout where it is ``-``."""
    text = json.dumps(data, indent=2, allow_nan=False)
    if out == STDOUT:
        print(text)
    else:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text)


def table(title: str, columns: Mapping[str, str], rows: Sequence[Sequence[str]], empty: str = "none") -> RenderableType:
    """A table; ``columns`` maps headings to ``left`` or ``right``, ``empty`` stands where there are no rows."""
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return Text(f"{title}: {empty}" if title else empty)
    grid = Table(title=title or None, title_justify="left", title_style="bold")
    for heading, side in columns.items():
        grid.add_column(heading, justify="right" if side == "right" else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text.from_ansi(cell) for cell in row))
    return grid


@contextmanager
def progress(title: str) -> Iterator[Callable[[str, float], None]]:
    """A progress bar on stderr; yields the callback that moves it, called with (stage, share done)."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda stage, share: bar.update(task, completed=share, description=f"{title}: {stage}")


def when(moment: datetime | None) -> str:
    """A time in UTC, to the second."""
    return moment.strftime("%Y-%m-%d %H:%M:%S") if moment else "-"
