"""`thalweg evaluate --costs`: expected beside true cost of each model on test prompts, before and after outcomes of calls.

The cost model is the one that routes (`agent.choice.utility.expected_costs`). *Cold* is that of a fresh installation; *trained*
that of a snapshot which knows the training file's costs. After outcomes, both have also seen calls to models drawn at random,
one on each of the first prompts of the shuffled test file; all figures are of the other prompts, the mean of a few draws.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import RenderableType
from rich.table import Table as Grid
from scipy.optimize import nnls

from agent.choice.utility import expected_costs
from agent.estimate import Estimates, Estimator
from agent.fit import fit
from agent.observations import CallOutcome
from agent.online.outcomes import OutcomeStatistics
from agent.snapshot import Snapshot
from agent.types import TYPICAL_OUTPUT_TOKENS, Array, ModelCard, RouteRequest
from jobs.data.files import read
from jobs.evaluate.harness import Progress
from jobs.evaluate.table import Table, align, build
from jobs.evaluate.twostage import examples
from jobs.refresh.seed import seed_examples
from store.encoders.cache import CachedEncoder

OUTCOMES = 500
"""Calls whose outcomes are seen; at most half of the test prompts."""

DRAWS = 5
"""How often they are drawn; figures are means over the draws, as a few dear answers among a model's calls weigh much."""

CONTEXT = 1_000_000
"""Context length of a model whose prices are fitted, in tokens: a prompt with a score was not too long."""

LIST = f"list price x {TYPICAL_OUTPUT_TOKENS} tokens"
STATES = (LIST, "cold", "cold, after outcomes", "trained", "trained, after outcomes")

NAMES = ("bias", "mae", "coverage")
Figures = dict[str, dict[str, float | None]]
"""model, or ``all`` -> each of `NAMES`."""

_REQUEST = RouteRequest(())


class CostTest:
    """Test prompts with their lengths and true costs, and what one snapshot estimates for them.

    Parameters
    ----------
    table, tokens
        n prompts, and (n,) their lengths.
    cards
        Of the table's models, in its order.
    """

    def __init__(self, table: Table, tokens: NDArray[np.int64], cards: Sequence[ModelCard], snapshot: Snapshot) -> None:
        self._table, self._tokens, self._cards = table, tokens, cards
        self._estimator = Estimator(snapshot)
        self._estimates: Estimates = self._estimator.estimate_batch(table.embeddings, table.features)

    def outcomes(self, rows: Sequence[int], draw: int) -> OutcomeStatistics:
        """What is known after a call on each of ``rows`` to a model drawn from those whose cost is known."""
        known, rng = OutcomeStatistics(), np.random.default_rng(draw)
        for seq, row in enumerate(rows, 1):
            at = int(rng.choice(np.flatnonzero(np.isfinite(self._table.costs[row]))))
            card, cost, tokens = self._cards[at], float(self._table.costs[row, at]), int(self._tokens[row])
            by_snapshot = self._estimator.costs(self._estimates, [card.name], row)[0]
            call = CallOutcome(
                seq, card.name, self._estimator.assign_task(self._estimates, row).id, "ok",
                output_tokens=implied_tokens(card, tokens, cost), cost_usd=cost,
                snapshot_cost=float(np.nan_to_num(by_snapshot[0])) or None,
            )  # fmt: skip
            known.learn_many([call])
        return known

    def expected(self, rows: Sequence[int], known: OutcomeStatistics) -> tuple[Array, Array]:
        """(rows, m) USD expected of each call, and what nine of ten stay within."""
        names = [card.name for card in self._cards]
        mean, upper = np.empty((2, len(rows), len(names)))
        for i, row in enumerate(rows):
            task = self._estimator.assign_task(self._estimates, row).id
            forecasts = [known.forecast(card, task) for card in self._cards]
            by_snapshot = self._estimator.costs(self._estimates, names, row)
            found = expected_costs(self._cards, int(self._tokens[row]), _REQUEST, forecasts, *by_snapshot)
            mean[i], upper[i] = found.mean, found.upper
        return mean, upper


def measure(
    train: Path, test: Path, *, encoder: CachedEncoder, cards: Sequence[ModelCard], progress: Progress | None = None
) -> dict[str, Any] | None:
    """Expected against true cost; the prices are those of ``cards``, or fitted to training's costs where these lack a model.

    Returns
    -------
    dict | None
        None where a file holds no costs. Else ``states``: state -> model -> ``bias`` and ``mae``, relative to the true mean,
        and ``coverage`` of the upper quantile (None: there is none), and the model ``all``: absolute bias, MAE and coverage
        averaged over models; with the ``fitted`` models, and the number of ``outcomes``, ``prompts`` and ``draws``.
    """
    report: Progress = progress or (lambda what, share: None)
    trained_on, tested_on, models, _ = align(read(train), read(test))
    rows = [*trained_on, *tested_on]
    encoded = encoder.encode([row.prompt for row in rows], lambda share: report("encoding", share))
    tokens = np.array([e.tokens for e in encoded])
    n = len(trained_on)
    before, table = build(trained_on, encoded[:n], models), build(tested_on, encoded[n:], models)
    if not before.has_costs or not table.has_costs:
        return None
    listed = {card.name: card for card in cards}
    own = [listed.get(m) or fitted_card(m, tokens[:n], before.costs[:, j]) for j, m in enumerate(models)]
    price_in, price_out = np.array([(c.price_input, c.price_output) for c in own]).T
    at_list = (tokens[n:, None] * price_in + TYPICAL_OUTPUT_TOKENS * price_out) / 1e6
    found: dict[str, list[Figures]] = {state: [] for state in STATES}
    splits = [_split(table, draw) for draw in range(DRAWS)]
    for _, rest in splits:
        found[LIST].append(figures(models, table.costs[rest], at_list[rest], None))
    for name, given in (("cold", seed_examples(encoder, own)), ("trained", examples(before, {}))):
        report(name, 0.0)
        tested = CostTest(table, tokens[n:], own, fit(given, encoder=encoder.fingerprint, seed=0))
        for draw, (seen, rest) in enumerate(splits):
            known = {name: OutcomeStatistics(), f"{name}, after outcomes": tested.outcomes(seen, draw)}
            for state, outcomes in known.items():
                found[state].append(figures(models, table.costs[rest], *tested.expected(rest, outcomes)))
    return {
        "states": {state: mean_figures(draws) for state, draws in found.items()},
        "fitted": [m for m in models if m not in listed],
        "outcomes": len(splits[0][0]),
        "prompts": len(splits[0][1]),
        "draws": DRAWS,
    }


def _split(table: Table, draw: int) -> tuple[list[int], list[int]]:
    """Rows whose outcomes are seen, and the others."""
    shuffled = np.random.RandomState(draw).permutation(len(table)).tolist()
    at = min(OUTCOMES, len(table) // 2)
    return [row for row in shuffled[:at] if np.isfinite(table.costs[row]).any()], shuffled[at:]


def mean_figures(draws: Sequence[Figures]) -> Figures:
    """The mean over draws, of what each of them has."""
    return {model: {name: _mean([d[model][name] for d in draws if model in d]) for name in NAMES} for model in draws[0]}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def figures(models: Sequence[str], true: Array, mean: Array, upper: Array | None) -> Figures:
    """See `measure`; all arrays (n, m), ``true`` NaN where unknown."""
    found: Figures = {}
    for j, model in enumerate(models):
        known = np.isfinite(true[:, j])
        if not known.any() or not (level := true[known, j].mean()) > 0.0:
            continue
        gap = mean[known, j] - true[known, j]
        within = None if upper is None else float((true[known, j] <= upper[known, j]).mean())
        found[model] = {
            "bias": float(gap.mean() / level), "mae": float(np.abs(gap).mean() / level), "coverage": within,
        }  # fmt: skip
    every = list(found.values())
    found["all"] = {
        "bias": float(np.mean([abs(f["bias"] or 0.0) for f in every])),
        "mae": float(np.mean([f["mae"] or 0.0 for f in every])),
        "coverage": None if upper is None else float(np.mean([f["coverage"] or 0.0 for f in every])),
    }
    return found


def fitted_card(model: str, tokens: NDArray[np.int64], costs: Array) -> ModelCard:
    """A card whose prices fit (n,) ``costs`` in USD by least squares, with answers of typical length; free without costs."""
    known = np.isfinite(costs)
    price_in, price_out = 0.0, 0.0
    if known.any():
        inputs = np.column_stack([tokens[known], np.full(known.sum(), TYPICAL_OUTPUT_TOKENS)]) / 1e6
        price_in, price_out = nnls(inputs, costs[known])[0]
    return ModelCard(model, price_input=float(price_in), price_output=float(price_out), context=CONTEXT)


def implied_tokens(card: ModelCard, tokens: int, cost: float) -> float | None:
    """Length of the answer to a prompt of ``tokens`` that cost ``cost`` USD at list price; None for a free model."""
    return max(cost * 1e6 - tokens * card.price_input, 0.0) / card.price_output if card.price_output > 0.0 else None


def render(title: str, report: Mapping[str, Any]) -> RenderableType:
    """The table of one data set."""
    grid = Grid(
        title=f"{title}: expected against true cost, {report['prompts']:,} prompts; bias / mean absolute error / coverage, %",
        caption=f"After {report['outcomes']} outcomes, one model each; means over {report['draws']} draws. Prices of models "
        "with a star are fitted to the training file's costs at typical length, which flatters list price. `all`: mean over "
        "models, of the absolute bias.",
        title_justify="left",
        caption_justify="left",
    )
    grid.add_column("model")
    for state in STATES:
        grid.add_column(state, justify="right")
    for model in report["states"][LIST]:
        star = " *" if model in report["fitted"] else ""
        grid.add_row(model + star, *(_cell(report["states"][state][model]) for state in STATES))
    return grid


def _cell(found: Mapping[str, float | None]) -> str:
    bias, mae, coverage = (None if v is None else 100 * v for v in (found["bias"], found["mae"], found["coverage"]))
    return f"{bias:+.0f} / {mae:.0f} / {'-' if coverage is None else format(coverage, '.0f')}"
