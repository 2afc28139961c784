"""What all runs of a replay share: the prompts, what every model scored and cost on them, and what an installation knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from glob import glob
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from agent.choice.utility import TYPICAL_OUTPUT_TOKENS
from agent.errors import InvalidInput
from agent.examples import Examples
from agent.types import ModelCard
from jobs.data.files import read
from jobs.evaluate.table import Table, build, merge_duplicates
from jobs.refresh.seed import seed_examples
from jobs.replay.policy import Prompt
from jobs.replay.scenario import Scenario, check
from store.encoders.cache import CachedEncoder
from store.evaluations import EvaluationRow
from store.prompts import text_id

CONTEXT = 1_000_000
"""Of every model, in tokens: the data say which model answered which prompt, so no prompt is too long."""


@dataclass(frozen=True, slots=True)
class Material:
    """What all runs of a replay share.

    Parameters
    ----------
    prompts, table
        Every prompt, with its scores and costs; the warm file's first.
    warm_file
        Prompts that come from a warm file: never streamed, never shuffled.
    warm
        Prompts at the head of each shuffled stream that are scored in full and not routed.
    steps
        Prompts routed at most; None for all.
    cards
        By model.
    install
        What a fresh installation knows, for every model of the table.
    encoder
        Fingerprint of the encoder.
    notes
        What a reader of the results must know.
    """

    prompts: tuple[Prompt, ...]
    table: Table
    warm_file: int
    warm: int
    steps: int | None
    cards: Mapping[str, ModelCard]
    install: Examples
    encoder: str
    notes: tuple[str, ...] = ()


def load(
    stream: Sequence[str],
    *,
    encoder: CachedEncoder,
    scenario: Scenario,
    warm: str | None = None,
    steps: int | None = None,
    progress: Callable[[str, float], None] | None = None,
) -> Material:
    """Read, check and encode the prompts of a replay; the parameters are those of `jobs.replay.run.replay`."""
    tell = progress or (lambda what, share: None)
    if steps is not None and steps < 1:
        raise InvalidInput(f"--steps {steps}: give 1 or more", param="steps")
    streamed = [row for path in _files(stream) for row in read(path)]
    counted = warm is not None and warm.isdigit()
    before = merge_duplicates(read(Path(warm))) if warm is not None and not counted else []
    models = sorted({m for row in [*before, *streamed] for m in row.scores})
    routed, notes = _routable(streamed, models, scenario)
    head = int(warm) if warm is not None and counted else 0
    if head >= len(routed):
        raise InvalidInput(
            f"--warm {head}: the stream holds {len(routed):,} prompts, and some must be left to route", param="warm"
        )
    left = len(routed) - head
    check(scenario, models, left if steps is None else min(steps, left))
    repeated = len({row.prompt for row in before} & {row.prompt for row in routed})
    if repeated:
        notes.append(f"{repeated} streamed prompts are also in the warm file: results on them say little")
    rows = [*before, *routed]
    encoded = encoder.encode([row.prompt for row in rows], lambda share: tell("encoding", share))
    table = build(rows, encoded, models)
    cards = _cards(table, np.array([e.tokens for e in encoded]))
    return Material(
        prompts=tuple(Prompt(text_id(r.prompt, encoder.fingerprint), r.prompt, e) for r, e in zip(rows, encoded)),
        table=table,
        warm_file=len(before),
        warm=head,
        steps=steps,
        cards={card.name: card for card in cards},
        install=seed_examples(encoder, cards),
        encoder=encoder.fingerprint,
        notes=tuple(notes),
    )


def _files(patterns: Sequence[str]) -> list[Path]:
    """The files that paths and patterns name, each once, in order."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        matched = [pattern] if Path(pattern).exists() else sorted(glob(pattern, recursive=True))
        if not matched:
            raise InvalidInput(f"--stream {pattern}: no such file", param="stream")
        found.update(dict.fromkeys(Path(m) for m in matched))
    return list(found)


def _routable(
    rows: list[EvaluationRow], models: Sequence[str], scenario: Scenario
) -> tuple[list[EvaluationRow], list[str]]:
    """The rows on which some model that is there throughout has a score, and notes of what is missing."""
    steady = set(models) - {c.model for c in (*scenario.joins, *scenario.leaves)}
    kept = [row for row in rows if steady & row.scores.keys()]
    notes = []
    if len(kept) < len(rows) and steady:
        notes.append(
            f"{len(rows) - len(kept)} prompts without a score of a model that is there throughout are left out"
        )
    holes = sum(len(models) - len(row.scores) for row in kept)
    if holes:
        notes.append(f"{holes} scores of the stream are missing: each prompt is routed among its scored models")
    return (kept if steady else rows), notes


def _cards(table: Table, tokens: NDArray[np.int64]) -> list[ModelCard]:
    """Cards at the list prices that explain the data's costs best; free where no costs are known."""
    prices = [_prices(tokens, table.costs[:, j]) for j in range(len(table.models))]
    return [
        ModelCard(name, price_input=price_in, price_output=price_out, context=CONTEXT)
        for name, (price_in, price_out) in zip(table.models, prices)
    ]


def _prices(tokens: NDArray[np.int64], costs: NDArray[np.float64]) -> tuple[float, float]:
    """USD per million tokens in and out, by least squares over what was paid; answers are taken to be of typical length."""
    known = np.isfinite(costs)
    if not known.any():
        return 0.0, 0.0
    inputs = np.column_stack([tokens[known], np.full(known.sum(), TYPICAL_OUTPUT_TOKENS)]) / 1e6
    price_in, price_out = nnls(inputs, costs[known])[0]
    return float(price_in), float(price_out)
