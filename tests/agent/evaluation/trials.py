"""Trials and hold-backs in a world whose truth is known: how often which verdict, and after how many decisions.

``python -m tests.agent.evaluation.trials`` prints the table that `docs/log.md` quotes. Prompts, scores and exploration are
those of `tests.agent.evaluation.refreshes`; every decision is scored, and the test looks after every 40 on which the
two differ. Estimates know a prompt's difficulty within .05, or (`Simulated.blind`) nothing of it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.evaluation.trial import HOLD_BACK, TRIAL, TrialConfig, TrialEvidence, TrialReport, judge_trial
from agent.trial import TrialKind
from agent.types import Array
from tests.agent.evaluation.refreshes import Setting, prompts, propensities, scores

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


def evidence(world: Simulated, rng: np.random.Generator) -> tuple[TrialEvidence, Array]:
    """All of it, and the position of each decision on which the two differ among all decisions."""
    n = world.decisions
    asked = prompts(n, Setting(world.better, differ=world.differ, noise=0.0, spread=world.spread, top=world.top), rng)
    rows, mine, theirs = np.arange(n), asked.champion.argmax(axis=1), asked.challenger.argmax(axis=1)
    chance = (1.0 - world.config.share) * propensities(asked.champion)
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
    return found, position[at]


def outcome(world: Simulated, seed: int) -> tuple[TrialReport, float]:
    """The last report, and after how many decisions it came."""
    found, at = evidence(world, np.random.default_rng(seed))
    looks = [*range(LOOK_EVERY, len(found), LOOK_EVERY), len(found)]
    for look in looks:
        seen = replace(found, **{name: getattr(found, name)[:look] for name in PER_DECISION}, decisions=look)
        report = judge_trial(world.kind, seen, world.config)
        if report.verdict != "continue":
            break
    return report, float(at[look - 1])


def verdicts(world: Simulated, times: int) -> tuple[float, float, float]:
    """Shares of trials that promote and that reject, and the median number of decisions until either."""
    found = [outcome(world, seed) for seed in range(times)]
    shares = [float(np.mean([report.verdict == which for report, _ in found])) for which in ("promote", "reject")]
    sure = [at for report, at in found if report.verdict in ("promote", "reject")]
    return shares[0], shares[1], float(np.median(sure)) if sure else np.nan


_HELD = Simulated(0.0, decisions=1000, kind="hold-back", config=HOLD_BACK, top=8)
HELD = {
    "differ 40 %": replace(_HELD, differ=0.42, spread=0.3),
    "differ 60 %": replace(_HELD, differ=0.6, spread=0.2),
    "differ 60 %, blind": replace(_HELD, differ=0.6, spread=0.2, blind=True),
    "differ 60 %, harsh": replace(_HELD, differ=0.6, spread=0.2, shift=0.1),
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
        promoted, rejected, median = verdicts(world, times)
        print(f"{name:55s} promoted {promoted:6.1%}  rejected {rejected:6.1%}  sure after {median:5.0f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
