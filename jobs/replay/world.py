"""The stream of one seed under one scenario: it knows every score, and reveals that of the chosen model alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.types import Array
from jobs.replay.material import Material
from jobs.replay.policy import Event, Pick, Prompt, Start
from jobs.replay.scenario import Scenario

RATERS = 50
"""Users who give feedback, each as often as any other."""

SAMPLE = 500
"""Prompts of a cold stream that routers may cluster, without scores."""


class World:
    """One seed's stream.

    Parameters
    ----------
    material
        What is streamed.
    scenario
        What happens meanwhile.
    seed
        Of the shuffle and of who gives which feedback; equal in every scenario, so that runs can be compared.

    Attributes
    ----------
    rows
        (n,) rows of the table in the order of the stream.
    truth, costs
        (n, m) what each model would score (NaN: unknown) and cost at each step.
    """

    def __init__(self, material: Material, scenario: Scenario, seed: int) -> None:
        self.material = material
        self.scenario = scenario
        self.seed = seed
        self.models = material.table.models
        # RandomState's streams are frozen by numpy: a seed names the same shuffle for ever.
        rest = np.arange(material.warm_file, len(material.prompts))
        shuffled = rest[np.random.RandomState(seed).permutation(len(rest))]
        self.warm_rows = np.concatenate([np.arange(material.warm_file), shuffled[: material.warm]])
        self.rows = shuffled[material.warm :][: material.steps]
        self.truth = material.table.scores[self.rows].copy()
        self.costs = material.table.costs[self.rows]
        for change in scenario.degrades:
            column = self.models.index(change.model)
            self.truth[change.step :, column] = np.maximum(self.truth[change.step :, column] - change.delta, 0.0)
        self._chance = np.random.default_rng([seed, 1]).random((len(self.rows), 4))

    def __len__(self) -> int:
        return len(self.rows)

    def start(self, retold: bool = False) -> Start:
        """What is known before the first prompt; ``retold``: with the scores of degrading models lowered already."""
        material, table = self.material, self.material.table
        scores = table.scores[self.warm_rows].copy()
        costs = table.costs[self.warm_rows].copy()
        for change in self.scenario.joins:
            scores[:, self.models.index(change.model)] = np.nan
            costs[:, self.models.index(change.model)] = np.nan
        if retold:
            for change in self.scenario.degrades:
                column = self.models.index(change.model)
                scores[:, column] = np.maximum(scores[:, column] - change.delta, 0.0)
        pool = self.pools()[0]
        sample = self.warm_rows if len(self.warm_rows) else self.rows[:SAMPLE]
        return Start(
            seed=self.seed,
            models=pool,
            columns=self.models,
            cards=material.cards,
            prompts=[material.prompts[row] for row in self.warm_rows],
            scores=scores,
            costs=costs,
            sample=table.embeddings[sample],
            install=material.install,
            encoder=material.encoder,
        )

    def pools(self) -> dict[int, tuple[str, ...]]:
        """step -> the pool from that step on; 0 is always there."""
        moves = sorted(
            [(c.step, 1, c.model) for c in self.scenario.joins] + [(c.step, 0, c.model) for c in self.scenario.leaves]
        )
        pool = [m for m in self.models if m not in {c.model for c in self.scenario.joins}]
        pools = {0: tuple(pool)}
        for step, joins, model in moves:
            pool = [m for m in self.models if (m in pool and m != model) or (joins and m == model)]
            pools[step] = tuple(pool)
        return pools

    def prompt(self, step: int) -> Prompt:
        """The prompt of a step."""
        return self.material.prompts[int(self.rows[step])]

    def scored(self, step: int, pool: Sequence[str]) -> list[str] | None:
        """The models of the pool that have a score at this step; None where all have."""
        known = np.isfinite(self.truth[step])
        if known.all():
            return None
        return [m for m in pool if known[self.models.index(m)]]

    def feedback(self, step: int, pick: Pick) -> Event | None:
        """What is said of a choice; None where nobody says anything."""
        noise = self.scenario.noise
        speaks, judged, flips, who = self._chance[step]
        if speaks >= self.scenario.feedback_rate:
            return None
        score = float(self.truth[step, self.models.index(pick.model)])
        prompt = self.prompt(step)
        if noise.judge is not None and (noise.flip is None or judged < 0.5):
            return Event(step, prompt, pick, float(np.clip(score + noise.judge, 0.0, 1.0)), "judge", "judge")
        rater = int(who * RATERS)
        if rater < round(noise.malicious * RATERS):
            score = float(pick.model == self.worst())
        elif noise.flip is not None:
            score = float((score >= 0.5) != (flips < noise.flip))
        return Event(step, prompt, pick, score, "user", f"user-{rater}")

    def best(self) -> Array:
        """(n,) highest true score in the pool at each step."""
        out = np.zeros(len(self))
        for step, pool in self.pools().items():  # in the order of steps
            at = [self.models.index(m) for m in pool]
            out[step:] = np.nanmax(self.truth[step:, at], axis=1)
        return out

    def worst(self) -> str:
        """The model with the lowest mean score on the stream."""
        return self.models[int(np.nanargmin(self._means()))]

    def best_fixed(self) -> str:
        """The model that would have earned most of those that are there throughout."""
        always = np.array([all(m in pool for pool in self.pools().values()) for m in self.models])
        assert always.any(), "the scenario was checked for a model that is there throughout"
        return self.models[int(np.nanargmax(np.where(always, self._means(), -1.0)))]

    def _means(self) -> Array:
        known = np.isfinite(self.truth)
        total = np.where(known, self.truth, 0.0).sum(axis=0)
        return np.where(known.any(axis=0), total / np.maximum(known.sum(axis=0), 1), np.nan)
