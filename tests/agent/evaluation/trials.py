"""Trials and hold-backs in a world whose truth is known: how often which verdict, and after how many decisions.

``python -m tests.agent.evaluation.trials`` prints the table that `docs/log.md` quotes. Prompts, scores and exploration are
those of `tests.agent.evaluation.refreshes`; every decision is scored, and the test looks after every 40 on which the
two differ. Estimates know a prompt's difficulty within .05, or (`Simulated.blind`) nothing of it, or err by whole tasks
(`Simulated.by_task`).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.evaluation.trial import HOLD_BACK, TRIAL, TrialConfig, TrialEvidence, TrialReport, judge_trial
from agent.trial import TrialKind
from agent.types import Array
from tests.agent.evaluation.refreshes import Prompts, Setting, prompts, propensities, scores

LOOK_EVERY = 40
PER_DECISION = (
    "score", "score_weight", "chosen", "champion_propensity", "challenger_propensity", "champion_utility",
    "challenger_utility",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Simulated:
    """A trial in the simulation.

    Parameters
    ----------
    better
        By how much the challenger (in a hold-back: the predecessor) is better, in quality over all prompts.
    differ
        Share of prompts on which the two routes differ.
    decisions
        After which the trial is cut off.
    kind, config
        As in `judge_trial`.
    spread, top
        See `Setting`.
    blind
        Whether the estimates know nothing of a prompt's difficulty.
    shift
        By how much all scores are below what they should be.
    by_task
        Whether prompts, and errors of the estimates, come from `task_prompts`; ``differ``, ``spread``, ``top`` do not count.
    """

    better: float
    differ: float = 0.4
    decisions: int = 3000
    kind: TrialKind = "trial"
    config: TrialConfig = TRIAL
    spread: float = 0.12
    top: int = 4
    blind: bool = False
    shift: float = 0.0
    by_task: bool = False


@dataclass(frozen=True, slots=True)
class Path:
    """A trial's decisions, k of them such that the two routers differ.

    Parameters
    ----------
    evidence
        Of all k.
    at
        (k,) position of each among all decisions.
    expected_regret, true_regret
        (k,) what the coin cost up to each, beside the champion's own choices: as `route_on_trial` expects it, by the mean
        of both routers' estimates and at least 0 a decision; and by the true qualities.
    """

    evidence: TrialEvidence
    at: Array
    expected_regret: Array
    true_regret: Array

    def __len__(self) -> int:
        return len(self.evidence)

    def until(self, k: int) -> TrialEvidence:
        """What is known after ``k`` of them."""
        part = {name: getattr(self.evidence, name)[:k] for name in PER_DECISION}
        spent = float(self.expected_regret[k - 1]) if k else 0.0
        return replace(self.evidence, **part, decisions=k, expected_regret=spent)


def task_prompts(n: int, better: float, rng: np.random.Generator) -> Prompts:
    """Of 20 tasks, with 5 models, where the challenger is ``better`` by that within .005.

    Both routers know each model on each task within .1; a champion that is worse has learned the opposite of the truth on
    some tasks. The routes then differ on two prompts in three, else on half of them.
    """
    rows = np.arange(n)
    while True:
        mean = np.clip(rng.normal(0.65, 0.12, 5) + rng.normal(0.0, 0.1, (20, 5)), 0.05, 0.95)
        task = rng.integers(20, size=n)
        truth = np.clip(mean[task] + rng.normal(0.0, 0.1, (n, 5)), 0.0, 1.0)
        old, new = (mean + rng.normal(0.0, 0.1, mean.shape) for _ in range(2))
        wrong = rng.random(20) < 3.0 * better
        old[wrong] = 1.3 - mean[wrong]
        champion, challenger = (known[task] + rng.normal(0.0, 0.05, truth.shape) for known in (old, new))
        apart = truth[rows, challenger.argmax(axis=1)] - truth[rows, champion.argmax(axis=1)]
        if abs(apart.mean() - better) <= 0.005:
            return Prompts(truth, champion, challenger, champion)


def path(world: Simulated, rng: np.random.Generator) -> Path:
    """All of it."""
    n = world.decisions
    setting = Setting(world.better, differ=world.differ, noise=0.0, spread=world.spread, top=world.top)
    asked = task_prompts(n, world.better, rng) if world.by_task else prompts(n, setting, rng)
    rows, mine, theirs = np.arange(n), asked.champion.argmax(axis=1), asked.challenger.argmax(axis=1)
    alone = propensities(asked.champion)
    chance = (1.0 - world.config.share) * alone
    for leader in (mine, theirs):
        chance[rows, leader] += world.config.share / 2
    chosen = (chance.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    score = scores(np.clip(asked.truth - world.shift, 0.001, 0.999), rng)[rows, chosen]
    utility = (asked.champion + asked.challenger) / 2
    if world.blind:
        utility = utility - utility.mean(axis=1, keepdims=True) + utility.mean()
    at, position = np.flatnonzero(mine != theirs), np.arange(1.0, n + 1.0)
    arm = np.where(chosen == theirs, 1, np.where(chosen == mine, -1, 0)).astype(np.int8)
    found = TrialEvidence(
        score=score[at], score_weight=np.ones(len(at)), chosen=arm[at],
        champion_propensity=chance[rows, mine][at], challenger_propensity=chance[rows, theirs][at],
        champion_utility=utility[rows, mine][at], challenger_utility=utility[rows, theirs][at],
        decisions=len(at), expected_regret=0.0,
    )  # fmt: skip
    expected, true = (((alone - chance) * quality).sum(axis=1)[at] for quality in (utility, asked.truth))
    return Path(found, position[at], np.maximum(expected, 0.0).cumsum(), true.cumsum())


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a simulated trial ended: its last report, after how many decisions it came, and what the trial truly cost."""

    report: TrialReport
    decisions: float
    true_regret: float


def outcome(world: Simulated, seed: int) -> Outcome:
    """Of the trial of this seed."""
    found = path(world, np.random.default_rng(seed))
    for look in [*range(LOOK_EVERY, len(found), LOOK_EVERY), len(found)]:
        report = judge_trial(world.kind, found.until(look), world.config)
        if report.verdict != "continue":
            break
    return Outcome(report, float(found.at[look - 1]), float(found.true_regret[look - 1]))


@dataclass(frozen=True, slots=True)
class Row:
    """Of many trials: shares of those that promote and that reject, the median number of decisions until either (NaN
    where there was none), the mean number until any end, and mean regret (in utility, summed over a trial)."""

    promoted: float
    rejected: float
    sure_after: float
    lasted: float
    expected_regret: float
    true_regret: float


def many(world: Simulated, times: int) -> Row:
    """Of ``times`` trials."""
    found = [outcome(world, seed) for seed in range(times)]
    promoted, rejected = (np.mean([o.report.verdict == which for o in found]) for which in ("promote", "reject"))
    sure = [o.decisions for o in found if o.report.verdict in ("promote", "reject")]
    expected = np.mean([o.report.expected_regret for o in found])
    return Row(
        float(promoted), float(rejected), float(np.median(sure)) if sure else np.nan,
        float(np.mean([o.decisions for o in found])), float(expected), float(np.mean([o.true_regret for o in found])),
    )  # fmt: skip


_HELD = Simulated(0.0, decisions=1000, kind="hold-back", config=HOLD_BACK, top=8)
HELD = {
    "differ 40 %": replace(_HELD, differ=0.42, spread=0.3),
    "differ 60 %": replace(_HELD, differ=0.6, spread=0.2),
    "differ 60 %, blind": replace(_HELD, differ=0.6, spread=0.2, blind=True),
    "differ 60 %, harsh": replace(_HELD, differ=0.6, spread=0.2, shift=0.1),
    "errors by task": replace(_HELD, by_task=True),
}
"""Hold-backs of 1,000 decisions."""


def main(times: int = 400) -> None:
    """Print the table."""
    worlds: Sequence[tuple[str, Simulated]] = [
        *((f"trial, better by {b:+.2f}", Simulated(b)) for b in (0.02, 0.0, -0.02)),
        *((f"trial, better by {b:+.2f}, blind", Simulated(b, blind=True)) for b in (0.02, 0.0, -0.02)),
        *((f"trial, better by {b:+.2f}, differ 20 %", Simulated(b, differ=0.2, decisions=6000)) for b in (0.01, 0.0)),
        *(
            (f"hold-back, predecessor better by {b:+.2f}, {name}", replace(world, better=b))
            for name, world in HELD.items()
            for b in (0.1, 0.0, -0.02)
        ),
    ]
    for name, world in worlds:
        found = many(world, times)
        print(
            f"{name:50s} promoted {found.promoted:6.1%} rejected {found.rejected:6.1%} sure after {found.sure_after:5.0f} "
            f"lasted {found.lasted:5.0f} regret expected {found.expected_regret:6.2f} true {found.true_regret:+6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
