"""Whether a model on trial is adopted or declined, by what is known of it on every task beside the best of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from scipy.special import ndtr

from agent.choice.utility import cost_weight
from agent.types import Decision


@dataclass(frozen=True, slots=True)
class TaskStanding:
    """How a model stands on a task beside the best of the others.

    Parameters
    ----------
    task, name, share
        The task, and its share of the prompts.
    quality, stderr
        Of the model, on the task's most central prompt.
    rival, rival_quality, rival_stderr
        The best of the others there.
    gap
        Quality less cost penalty, beside the rival's.
    cost, rival_cost
        Expected USD of the request at either.
    ceiling
        The gap if every answer of the model were without fault, and many were known.
    """

    task: int
    name: str
    share: float
    quality: float
    stderr: float
    rival: str
    rival_quality: float
    rival_stderr: float
    gap: float
    cost: float = 0.0
    rival_cost: float = 0.0
    ceiling: float = 1.0

    @property
    def chance(self) -> float:
        """Probability that the model is better there; the two errors are taken for independent."""
        return float(ndtr(self.gap / max(sqrt(self.stderr**2 + self.rival_stderr**2), 1e-9)))


@dataclass(frozen=True, slots=True)
class AdoptionConfig:
    """When a trial is over.

    Parameters
    ----------
    sure
        A model is adopted where it is better on some task with this probability; and declined where on every task it is not.
    nowhere
        It is also declined where it is ahead on no task, and expected to be better on at most this share of the prompts.
    narrow
        It is also adopted where it is ahead on some task, and the standard error of its quality there is at most this.
    n_scores
        Fewest scores before either.
    """

    sure: float = 0.9
    nowhere: float = 0.2
    narrow: float = 0.125
    n_scores: float = 8.0


Verdict = Literal["adopted", "declined", "trial"]


def standing(decision: Decision, model: str, share: float, tradeoff: float) -> TaskStanding | None:
    """How ``model`` stands by a decision on a task's central prompt; None where it, or every other model, cannot be chosen.

    Parameters
    ----------
    share
        Of the task in the prompts.
    tradeoff
        Of the decision's request, see `agent.choice.utility.cost_weight`.
    """
    eligible = {c.model: c for c in decision.candidates if c.excluded is None}
    own = eligible.pop(model, None)
    if own is None or not eligible:
        return None
    rival = max(eligible.values(), key=lambda c: (c.quality - c.cost_penalty, c.model))
    # as if it were known: lambda is then scaled by its price too
    per_dollar = cost_weight(tradeoff, max(own.cost, *(c.cost for c in eligible.values())))
    return TaskStanding(
        task=decision.task.id,
        name=decision.task.name,
        share=share,
        quality=own.quality,
        stderr=own.stderr,
        rival=rival.model,
        rival_quality=rival.quality,
        rival_stderr=rival.stderr,
        gap=(own.quality - own.cost_penalty) - (rival.quality - rival.cost_penalty),
        cost=own.cost,
        rival_cost=rival.cost,
        ceiling=1.0 - rival.quality - per_dollar * (own.cost - rival.cost),
    )


@dataclass(frozen=True, slots=True)
class PredictedEffect:
    """What a model's taking the tasks on which it is ahead would change for a mean request.

    Parameters
    ----------
    share
        Of the prompts that it would answer.
    quality, usd
        Difference in quality and in expected USD.
    net
        Difference in quality less cost penalty.
    """

    share: float
    quality: float
    usd: float
    net: float


def predicted_effect(standings: Sequence[TaskStanding]) -> PredictedEffect:
    """By what is known of the model on every task.

    Examples
    --------
    >>> won = TaskStanding(1, "code", 0.5, 0.9, 0.05, "b", 0.7, 0.05, gap=0.2, cost=0.004, rival_cost=0.002)
    >>> lost = TaskStanding(2, "poems", 0.5, 0.4, 0.05, "b", 0.7, 0.05, gap=-0.3, cost=0.004, rival_cost=0.002)
    >>> effect = predicted_effect([won, lost])
    >>> effect.share, round(effect.quality, 3), effect.usd, effect.net
    (0.5, 0.1, 0.001, 0.1)
    """
    won = [s for s in standings if s.gap > 0.0]
    return PredictedEffect(
        share=sum(s.share for s in won),
        quality=sum(s.share * (s.quality - s.rival_quality) for s in won),
        usd=sum(s.share * (s.cost - s.rival_cost) for s in won),
        net=sum(s.share * s.gap for s in won),
    )


def adoption(
    standings: Sequence[TaskStanding], n_scores: float, config: AdoptionConfig = AdoptionConfig()
) -> tuple[Verdict, str]:
    """What becomes of a model, and why.

    Parameters
    ----------
    standings
        Of the model on every task that the champion knows.
    n_scores
        The model's.

    Examples
    --------
    >>> tie = TaskStanding(1, "sums", 0.5, 0.7, 0.1, "b", 0.7, 0.1, 0.0)
    >>> won = TaskStanding(2, "code", 0.5, 0.9, 0.05, "b", 0.7, 0.05, 0.2)
    >>> lost = TaskStanding(3, "poems", 0.5, 0.4, 0.05, "b", 0.7, 0.05, -0.3)
    >>> [adoption(s, 20)[0] for s in ([tie, lost], [tie, won], [lost])], adoption([won], 3)[0]
    (['trial', 'adopted', 'declined'], 'trial')
    """
    if why := too_dear(standings):
        return "declined", why
    if n_scores < config.n_scores or not standings:
        return "trial", f"{n_scores:.0f} scores are too few to decide"
    won = [s for s in standings if s.chance >= config.sure or (s.gap > 0.0 and s.stderr <= config.narrow)]
    if won:
        best = ", ".join(f"{s.name} ({s.chance:.0%})" for s in sorted(won, key=lambda s: -s.share)[:3])
        share = sum(s.share for s in won)
        tasks = "1 task" if len(won) == 1 else f"{len(won)} tasks"
        return "adopted", f"it is ahead of every other model on {tasks}, {share:.0%} of the prompts: {best}"
    closest = max(standings, key=lambda s: s.chance)
    better = sum(s.share * s.chance for s in standings) / sum(s.share for s in standings)
    if closest.chance <= 1.0 - config.sure or (closest.gap <= 0.0 and better <= config.nowhere):
        return "declined", (
            f"on none of {len(standings)} tasks is it likely to be better, and it is expected to be on {better:.0%} of the "
            f"prompts: at best with {closest.chance:.0%}, on {closest.name}, {closest.quality:.2f} beside "
            f"{closest.rival_quality:.2f} of {closest.rival}"
        )
    return "trial", f"nothing is proven: on {closest.name} it is better with a probability of {closest.chance:.0%}"


def too_dear(standings: Sequence[TaskStanding]) -> str | None:
    """Why no answer of a model can be worth its price, whatever its scores will be; None where one may be.

    Examples
    --------
    >>> dear = TaskStanding(1, "sums", 1.0, 0.8, 0.3, "b", 0.7, 0.1, gap=-5.0, cost=0.2, rival_cost=0.002, ceiling=-4.8)
    >>> too_dear([dear])
    'its price: on no task would even answers without fault be worth it; on sums, $0.2 a request beside $0.002 of b'
    """
    if not standings or any(s.ceiling > 0.0 for s in standings):
        return None
    closest = max(standings, key=lambda s: s.ceiling)
    return (
        "its price: on no task would even answers without fault be worth it; "
        f"on {closest.name}, ${closest.cost:.2g} a request beside ${closest.rival_cost:.2g} of {closest.rival}"
    )
