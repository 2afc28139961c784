"""The stream of one seed under one scenario: it holds every score and reveals the chosen model's alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from agent.types import Array
from jobs.replay.data import ReplayData
from jobs.replay.policy import Feedback, PolicyChoice, ProbeResult, Prompt, Start
from jobs.replay.scenario import Scenario

RATERS = 50
"""Number of users who give feedback, with equal frequency."""

SAMPLE = 500
"""Prompts of a cold stream that policies may cluster, without scores."""


class Stream:
    """One seed's stream.

    Parameters
    ----------
    data
        The prompts, scores and costs.
    scenario
        Changes of the pool, and how feedback is given.
    seed
        Of the shuffle and of feedback's randomness; a seed gives the same in every scenario, so that runs are comparable.

    Attributes
    ----------
    rows
        (n,) rows of the table in the order of the stream.
    truth, costs
        (n, m) score (NaN: unknown) and USD of each model at each step.
    """

    def __init__(self, data: ReplayData, scenario: Scenario, seed: int) -> None:
        self.data = data
        self.scenario = scenario
        self.seed = seed
        self.models = data.table.models
        # RandomState's streams are frozen by numpy: a seed gives the same shuffle for ever.
        rest = np.arange(data.warm_file, len(data.prompts))
        shuffled = rest[np.random.RandomState(seed).permutation(len(rest))]
        self.warm_rows = np.concatenate([np.arange(data.warm_file), shuffled[: data.warm]])
        self.rows = shuffled[data.warm :][: data.steps]
        self.truth = data.table.scores[self.rows].copy()
        self.costs = data.table.costs[self.rows]
        for change in scenario.degrades:
            column = self.models.index(change.model)
            self.truth[change.step :, column] = np.maximum(self.truth[change.step :, column] - change.delta, 0.0)
        self._chance = np.random.default_rng([seed, 1]).random((len(self.rows), 4))

    def __len__(self) -> int:
        return len(self.rows)

    def start(self, announced: bool = False) -> Start:
        """What is known before the first prompt; ``announced``: with the scores of degrading models lowered already."""
        data, table = self.data, self.data.table
        scores = table.scores[self.warm_rows].copy()
        for change in self.scenario.joins:
            scores[:, self.models.index(change.model)] = np.nan
        if announced:
            for change in self.scenario.degrades:
                column = self.models.index(change.model)
                scores[:, column] = np.maximum(scores[:, column] - change.delta, 0.0)
        sample = self.warm_rows if len(self.warm_rows) else self.rows[:SAMPLE]
        return Start(
            seed=self.seed,
            models=self.pools()[0],
            columns=self.models,
            cards=data.cards,
            prompts=[data.prompts[row] for row in self.warm_rows],
            scores=scores,
            costs=table.costs[self.warm_rows],
            sample=table.embeddings[sample],
            install=data.install,
            encoder=data.encoder,
        )

    def pools(self) -> dict[int, tuple[str, ...]]:
        """step -> the pool from that step on; step 0 is always a key."""
        moves = [(c.step, 1, c.model) for c in self.scenario.joins] + [
            (c.step, 0, c.model) for c in self.scenario.leaves
        ]
        pool = set(self.models) - {c.model for c in self.scenario.joins}
        pools = {0: tuple(m for m in self.models if m in pool)}
        for step, joins, model in sorted(moves):
            pool = pool | {model} if joins else pool - {model}
            pools[step] = tuple(m for m in self.models if m in pool)
        return pools

    def prompt(self, step: int) -> Prompt:
        return self.data.prompts[int(self.rows[step])]

    def scored(self, step: int, pool: Sequence[str]) -> list[str] | None:
        """The models of the pool that have a score at this step; None where all have."""
        known = np.isfinite(self.truth[step])
        if known.all():
            return None
        return [m for m in pool if known[self.models.index(m)]]

    def known(self, step: int, model: str) -> dict[str, Prompt]:
        """id -> the prompts that came before ``step``, warm ones included, and on which the model has a score."""
        scored = self.data.table.scores[:, self.models.index(model)]
        rows = np.concatenate([self.warm_rows, self.rows[:step]])
        found = (self.data.prompts[row] for row in rows if np.isfinite(scored[row]))
        return {prompt.id: prompt for prompt in found}

    def probed(self, model: str, prompt: Prompt) -> ProbeResult:
        """What a model answers to a known prompt is worth, and costs."""
        row, column = self._row_of[prompt.id], self.models.index(model)
        table = self.data.table
        return ProbeResult(float(table.scores[row, column]), float(table.costs[row, column]))

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return {prompt.id: row for row, prompt in enumerate(self.data.prompts)}

    def feedback(self, step: int, choice: PolicyChoice) -> Feedback | None:
        """The feedback on a choice; None where nobody gives any."""
        noise = self.scenario.noise
        given, judged, flips, who = self._chance[step]
        if given >= self.scenario.feedback_rate:
            return None
        score = float(self.truth[step, self.models.index(choice.model)])
        prompt = self.prompt(step)
        if noise.judge is not None and (noise.flip is None or judged < 0.5):
            return Feedback(step, prompt, choice, float(np.clip(score + noise.judge, 0.0, 1.0)), "judge", "judge")
        rater = int(who * RATERS)
        if rater < round(noise.malicious * RATERS):
            score = float(choice.model == self.worst())
        elif noise.flip is not None:
            score = float((score >= 0.5) != (flips < noise.flip))
        return Feedback(step, prompt, choice, score, "user", f"user-{rater}")

    def best(self) -> Array:
        """(n,) highest true score in the pool at each step."""
        out = np.zeros(len(self))
        for step, pool in self.pools().items():  # in the order of steps
            at = [self.models.index(m) for m in pool]
            out[step:] = np.nanmax(self.truth[step:, at], axis=1)
        return out

    def worst(self) -> str:
        """The model of lowest mean score on the stream."""
        return self.models[int(np.nanargmin(self._means))]

    def best_fixed(self) -> str:
        """The model of highest mean score among those that are in the pool throughout."""
        always = np.array([all(m in pool for pool in self.pools().values()) for m in self.models])
        assert always.any(), "expected a model that is in the pool throughout, as `scenario.check` asserts"
        return self.models[int(np.nanargmax(np.where(always, self._means, -1.0)))]

    @cached_property
    def _means(self) -> Array:
        return np.asarray(np.ma.masked_invalid(self.truth).mean(axis=0).filled(np.nan))
