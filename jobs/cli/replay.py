"""`thalweg replay`."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from jobs.cli.console import STDOUT, Plots, ReportFile, context, progress, show, write_report


def replay(
    stream: Annotated[
        list[str], typer.Option(help="Scored prompts to route, joined and shuffled; repeat for more files.")
    ],
    warm: Annotated[
        str | None, typer.Option(help="Prompts with all scores to train on first: a file, or how many of the stream.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Route at most so many prompts.")] = None,
    join: Annotated[list[str] | None, typer.Option(help="MODEL@STEP: the model is added at this step.")] = None,
    join_weak: Annotated[
        str | None,
        typer.Option(help="STEP:BELOW: a made-up model, this much below the models' mean on each prompt, is added."),
    ] = None,
    probes: Annotated[
        int, typer.Option(help="A model that joins first answers so many prompts of the past, which a judge scores.")
    ] = 0,
    leave: Annotated[list[str] | None, typer.Option(help="MODEL@STEP: the model is removed at this step.")] = None,
    degrade: Annotated[
        list[str] | None, typer.Option(help="MODEL@STEP:DELTA: its scores fall by so much, unannounced.")
    ] = None,
    noise: Annotated[
        list[str] | None,
        typer.Option(help="judge:BIAS, flip:SHARE, malicious:SHARE; or bias (judge:-0.2,flip:0.2), malicious."),
    ] = None,
    feedback_rate: Annotated[float, typer.Option(help="Share of decisions that ever get feedback.")] = 1.0,
    delay: Annotated[int, typer.Option(help="Steps until feedback comes.")] = 0,
    seeds: Annotated[int, typer.Option(help="Repeat with so many shuffles.")] = 1,
    policies: Annotated[str, typer.Option(help="Comma-separated; all where not given.")] = "",
    spend: Annotated[
        bool,
        typer.Option("--spend", help="Also compare quality at equal spend, over a range of cost weights."),
    ] = False,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Also run Thalweg without each of its parts: what each is worth.")
    ] = False,
    workers: Annotated[int, typer.Option(help="Processes.")] = 1,
    out: ReportFile = None,
    plots: Plots = None,
) -> None:
    """Replay scored prompts as a stream to Thalweg and other policies, which see only the chosen model's score."""
    from jobs.replay.plots import draw
    from jobs.replay.report import render, to_json
    from jobs.replay.run import replay as run
    from jobs.replay.scenario import parse

    scenario = parse(
        join=join or (), join_weak=join_weak, leave=leave or (), degrade=degrade or (), noise=noise or (),
        feedback_rate=feedback_rate, delay=delay, probes=probes,
    )  # fmt: skip
    with context() as ctx, progress("replay") as report:
        result = run(
            stream,
            encoder=ctx.cached_encoder,
            scenario=scenario,
            warm=warm,
            steps=steps,
            seeds=seeds,
            policies=[p.strip() for p in policies.split(",") if p.strip()],
            spend=spend,
            ablate=ablate,
            workers=workers,
            progress=report,
        )
    figures = to_json(result)
    if plots is not None:
        draw(result, plots, "replay")
    if out != STDOUT:
        show(None, False, partial(render, "replay", figures))
    if out is not None:
        write_report(figures, out)
