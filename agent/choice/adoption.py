"""Whether a model on trial is adopted or declined, by what is known of it on every task beside the best of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from scipy.special import ndtr

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
    narrow
        It is also adopted where it is ahead on some task, and the standard error of its quality there is at most this.
    n_scores
        Fewest scores before either.
    """

    sure: float = 0.9
    narrow: float = 0.125
    n_scores: float = 8.0


Verdict = Literal["adopted", "declined", "trial"]


def standing(decision: Decision, model: str, share: float) -> TaskStanding | None:
    """How ``model`` stands by a decision on a task's central prompt; None where it, or every other model, cannot be chosen."""
    eligible = {c.model: c for c in decision.candidates if c.excluded is None}
    own = eligible.pop(model, None)
    if own is None or not eligible:
        return None
    rival = max(eligible.values(), key=lambda c: (c.quality - c.cost_penalty, c.model))
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
    if n_scores < config.n_scores or not standings:
        return "trial", f"{n_scores:.0f} scores are too few to decide"
    won = [s for s in standings if s.chance >= config.sure or (s.gap > 0.0 and s.stderr <= config.narrow)]
    if won:
        best = ", ".join(f"{s.name} ({s.chance:.0%})" for s in sorted(won, key=lambda s: -s.share)[:3])
        share = sum(s.share for s in won)
        tasks = "1 task" if len(won) == 1 else f"{len(won)} tasks"
        return "adopted", f"it is ahead of every other model on {tasks}, {share:.0%} of the prompts: {best}"
    closest = max(standings, key=lambda s: s.chance)
    if closest.chance <= 1.0 - config.sure:
        return "declined", (
            f"on none of {len(standings)} tasks is it likely to be better: at best {closest.chance:.0%}, on {closest.name}, "
            f"{closest.quality:.2f} beside {closest.rival_quality:.2f} of {closest.rival}"
        )
    return "trial", f"nothing is proven: on {closest.name} it is better with a probability of {closest.chance:.0%}"
