"""`thalweg evaluate`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.cli.console import STDOUT, Plots, ReportFile, context, progress, show, write_report


def evaluate(
    train: Annotated[Path | None, typer.Option(help="Scored prompts to train on.")] = None,
    test: Annotated[Path | None, typer.Option(help="Scored prompts to route.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="Instead: every subfolder's train and test file, in one table.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Repeat what is random this often.")] = 1,
    costs: Annotated[
        bool, typer.Option("--costs", help="Instead: expected against true cost, before and after outcomes of calls.")
    ] = False,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Also train two-stage without each of its parts: what each is worth.")
    ] = False,
    out: ReportFile = None,
    plots: Plots = None,
) -> None:
    """Train on one file, route another, and compare with a dozen other routers."""
    from agent.errors import InvalidInput
    from jobs.context import PACKAGED_POOL
    from jobs.evaluate import costs as expected
    from jobs.evaluate.plots import draw
    from jobs.evaluate.report import render, render_summary, to_json
    from jobs.evaluate.run import evaluate as compare
    from jobs.evaluate.run import pairs
    from store.pool.file import PoolFile

    if folder is not None and (train or test):
        raise InvalidInput("give either --folder, or --train and --test", param="folder")
    if folder is None and not (train and test):
        raise InvalidInput("--train FILE and --test FILE are wanted, or --folder DIR", param="train")
    sets = pairs(folder) if folder is not None else {_name(test): (train, test)}
    reports: dict[str, dict[str, Any]] = {}
    with context() as ctx:
        cards = [m.card for m in PoolFile.load(ctx.settings.pool or PACKAGED_POOL)]
        priors = {c.name: sum(c.priors.values()) / len(c.priors) for c in cards if c.priors}
        for name, (trained_on, tested_on) in sets.items():
            if costs:
                with progress(name) as report:
                    found = expected.measure(
                        Path(str(trained_on)),
                        Path(str(tested_on)),
                        encoder=ctx.cached_encoder,
                        cards=cards,
                        progress=report,
                    )
                if found is not None:
                    reports[name] = found
                    if out != STDOUT:
                        show(None, False, partial(expected.render, name, found))
                continue
            with progress(name) as report:
                result = compare(
                    Path(str(trained_on)),
                    Path(str(tested_on)),
                    encoder=ctx.cached_encoder,
                    seeds=seeds,
                    priors=priors,
                    ablate=ablate,
                    progress=report,
                )
            files = {"train": str(trained_on), "test": str(tested_on), "encoder": ctx.encoder.fingerprint}
            reports[name] = files | to_json(result)
            if plots is not None:
                draw(result, plots / name if folder is not None else plots, name)
            if out != STDOUT:
                show(None, False, partial(render, name, reports[name]))
    if costs and not reports:
        raise InvalidInput("no data set holds costs in both of its files", param="costs")
    if folder is not None and out != STDOUT and not costs:
        show(None, False, lambda: render_summary(reports))
    if out is not None:
        write_report({"sets": reports} if folder is not None else next(iter(reports.values())), out)


def _name(test: Path | None) -> str:
    """The name of a pair of files: the test file's folder."""
    assert test is not None, "both files were asked for"
    return test.absolute().parent.name or test.name
