"""`thalweg judge`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.console import Json, context, progress, show, table
from jobs.cli.feedback import ledger

if TYPE_CHECKING:
    from agent.evaluation.agreement import Figure
    from store.judge_report import JudgeView

app = typer.Typer(help="Models that score answers.", no_args_is_help=True)


@app.command("report")
def report(as_json: Json = False) -> None:
    """How far each judge agrees with what answers are known to be worth, what it likes, and what it cost."""
    from store.judge_report import read_judges

    found_ledger = ledger()
    with context() as ctx:
        found = read_judges(ctx.database, found_ledger.raters())
    columns = ("judge", "scores", "known", "correlation", "bias", "pairs right", "own family", "first place",
               "orders agree", "unreadable", "USD", "found")  # fmt: skip
    show(found, as_json, lambda: table(
        "95 % intervals; bias: beside what answers are known to be worth",
        {name: "left" if name in ("judge", "found") else "right" for name in columns},
        [_row(judge) for judge in found],
        "no judge has scored an answer yet",
    ))  # fmt: skip


@app.command("measure")
def measure(
    prompts: Annotated[int, typer.Option(min=1, help="How many prompts whose right answer is known.")] = 30,
    usd: Annotated[float, typer.Option(min=0.0, help="Most that it may cost.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Have judges score answers to prompts with a reference, to see how far they can be believed; `report` shows it."""
    from jobs.judge.measure import measure as measured

    with context() as ctx, progress("measuring") as report_progress:
        found = measured(ctx, prompts, usd, report_progress)
    rows = [(name, f"{value:.4f}" if name == "usd" else str(value)) for name, value in asdict(found).items()]
    show(found, as_json, lambda: table("", {"measured": "left", "": "left"}, rows))


def _row(j: JudgeView) -> list[str]:
    figures = [_told(figure) for figure in (j.correlation, j.bias, j.pairwise, j.own_family, j.position, j.same_order)]
    return [
        j.judge, f"{j.scores:,}", f"{j.known:,}", *figures, f"{j.unreadable} of {j.verdicts}", f"{j.usd:.4f}",
        " ".join(j.findings) or "-",
    ]  # fmt: skip


def _told(figure: Figure | None) -> str:
    if figure is None:
        return "-"
    interval = "" if figure.low is None or figure.high is None else f" ({figure.low:.2f} to {figure.high:.2f})"
    return f"{figure.value:.2f}{interval}, n={figure.n}"
