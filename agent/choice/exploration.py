"""Choice probabilities from utilities, so that every decision's propensity is exact.

The model that gets most of the probability is the leader, the one with the highest utility, unless trying others is worth
more: the knowledge gradient (Frazier, Powell & Dayanik 2008, with a lookahead of several trials) compares what some
trials of a model over all tasks would improve later choices with what they cost; for under-sampled models it is made for
the prompt's task alone too. A trial must be affordable: what it is expected to cost is limited. The other models share the
rest by inverse-gap weighting (SquareCB, Foster & Rakhlin 2020), so that every propensity is positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from agent.choice.newcomers import CautionConfig
from agent.types import Array

_DENSITY = float(1.0 / np.sqrt(2.0 * np.pi))


@dataclass(frozen=True, slots=True)
class ChoiceConfig:
    """How much is explored.

    Parameters
    ----------
    gamma
        Greed without any scores: a model whose utility is lower by a gap has probability ``1 / (K + gamma * gap)``.
    gamma_growth
        Gamma grows by this with every score of the prompt's task.
    cap
        Most probability of a request that the models beside the leader may have together.
    horizon
        Later requests over which a trial is expected to pay.
    newcomer_horizon
        The same for a newcomer beside models that are proven: it may stay for long, and a few scores decide whether it is used.
    lookahead
        Numbers of trials that are compared.
    initial_pulls, published_pulls
        Where few models are proven, one without priors, or with some, is explored until it has this many scores.
    task_horizon
        Later requests of the same task over which a trial on it is expected to pay.
    under_sampled
        A model with fewer scores per task, on average, is also explored task by task.
    alike
        Models whose trials are worth at least this share of the most valuable one are tried alike.
    max_price
        Most utility that a trial may be expected to cost.
    caution
        When little is known of a model, and how far that lowers its utility.
    """

    gamma: float = 5000.0
    gamma_growth: float = 100.0
    cap: float = 0.05
    horizon: float = 500.0
    newcomer_horizon: float = 2000.0
    lookahead: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    initial_pulls: float = 8.0
    published_pulls: float = 2.0
    task_horizon: float = 10.0
    under_sampled: float = 4.0
    alike: float = 0.5
    max_price: float = 0.5
    caution: CautionConfig = CautionConfig()

    def pulls_left(self, has_priors: bool, n_scores: float) -> float:
        """Scores that a model still lacks of its initial pulls."""
        return max((self.published_pulls if has_priors else self.initial_pulls) - n_scores, 0.0)


@dataclass(frozen=True, slots=True)
class ArmPosterior:
    """Gaussian posterior of K candidates' utilities, over all tasks or on one.

    Parameters
    ----------
    utility
        (K,) expected.
    covariance
        (K, K) of what further scores could still change.
    noise
        (K,) variance of one score around it; over all tasks, the model's variance from task to task included.
    """

    utility: Array
    covariance: Array
    noise: Array


def knowledge_gradient(
    arms: ArmPosterior, horizon: float | Array, lookahead: Sequence[int], best: int | None = None
) -> Array:
    """Net gain per trial of the best plan "try this model n times, then take the better one"; 0 for the leader.

    Parameters
    ----------
    arms
        K candidates.
    horizon
        Number of choices ahead, trials included; of all candidates, or (K,) of each.
    lookahead
        The n that are compared.
    best
        The leader; None for the one of highest utility.

    Returns
    -------
    NDArray
        (K,) in utility; negative where the trials cost more than they are expected to gain.

    Examples
    --------
    >>> arms = ArmPosterior(np.array([0.7, 0.6]), np.diag([0.0, 0.04]), np.array([0.25, 0.25]))
    >>> knowledge_gradient(arms, 100, (1, 4)).round(3).tolist(), knowledge_gradient(arms, 2, (1, 4)).round(3).tolist()
    ([0.0, 0.26], [0.0, -0.097])
    """
    best = int(arms.utility.argmax()) if best is None else best
    n = np.array(lookahead, np.float64)[:, None]  # (t, 1)
    gap = arms.utility[best] - arms.utility
    own = np.maximum(np.diag(arms.covariance), 1e-12)
    # standard deviation of the change that n scores of a model will make to its estimated gap
    change = np.abs(arms.covariance[best] - own) / np.sqrt(own + arms.noise / n) + 1e-9
    z = gap / change
    gain = change * _DENSITY * np.exp(-0.5 * z * z) - gap * ndtr(-z)  # (t, K)
    value: Array = (np.maximum(horizon - n, 0.0) * gain / n - gap).max(axis=0)
    value[best] = 0.0
    return value


def values_of_trials(
    utility: Array,
    caution: Array,
    overall: ArmPosterior,
    config: ChoiceConfig = ChoiceConfig(),
    on_task: ArmPosterior | None = None,
    under_sampled: NDArray[np.bool_] | None = None,
    newcomer: NDArray[np.bool_] | None = None,
) -> Array:
    """(K,) what trying each candidate on this prompt is worth beyond what it costs; 0 where it is worth nothing.

    To choose the leader may be worth something too, where another model leads over all tasks.

    Parameters
    ----------
    utility
        (K,) expected on this prompt.
    caution
        (K,) what is subtracted from utilities before the leader is chosen, see `agent.choice.newcomers`.
    overall
        Over all tasks.
    on_task
        On the prompt's task.
    under_sampled
        (K,) models that are also explored task by task.
    newcomer
        (K,) models that lack scores beside others that are proven; their trials pay over a horizon of their own.
    """
    horizon = config.horizon if newcomer is None else np.where(newcomer, config.newcomer_horizon, config.horizon)
    lead, best = int((utility - caution).argmax()), int((overall.utility - caution).argmax())
    value = knowledge_gradient(overall, horizon, config.lookahead, best)
    # a trial that costs more here than on average is left to other prompts
    extra_gap = (utility[lead] - utility) - (overall.utility[best] - overall.utility)
    value = np.where(value > 0.0, np.maximum(value - np.maximum(extra_gap, 0.0), 0.0), 0.0)
    if on_task is not None and under_sampled is not None and under_sampled.any():
        gradient = knowledge_gradient(on_task, config.task_horizon, config.lookahead, lead)
        value = np.maximum(value, np.where(under_sampled, gradient, 0.0))
    return value


def trial_weights(
    value: Array, pulls_left: Array, price: Array, affordable: Array, lead: int, config: ChoiceConfig
) -> Array:
    """Probabilities of the candidates that are worth trying; all 0 where none is, or none more than the leader.

    Parameters
    ----------
    value
        (K,) of `values_of_trials`.
    pulls_left
        (K,) scores that a model still lacks of its initial pulls.
    price
        (K,) utility that choosing each is expected to cost here.
    affordable
        (K,) most that it may cost.
    lead
        The leader.

    Returns
    -------
    NDArray
        (K,) equal for all that are worth about as much as the best of them: one model alone is not tried while scores are out.

    Examples
    --------
    >>> free, ample = np.zeros(3), np.ones(3)
    >>> trial_weights(np.array([0.0, 0.3, 0.2]), free, free, ample, 0, ChoiceConfig()).tolist()
    [0.0, 0.5, 0.5]
    >>> trial_weights(np.array([0.0, 0.3, 0.2]), free, np.array([0.0, 2.0, 0.0]), ample, 0, ChoiceConfig()).tolist()
    [0.0, 0.0, 1.0]
    """
    within = price <= np.minimum(affordable, config.max_price)
    pulls = np.where(within, pulls_left, 0.0)
    worth, alike = (pulls, 1.0) if pulls.any() else (np.where(within, value, 0.0), config.alike)
    out = np.zeros(len(worth))
    if worth.any() and int(worth.argmax()) != lead:
        out[(worth > 0.0) & (worth >= alike * worth.max())] = 1.0
        out[lead] = 0.0
        out /= out.sum()
    return out


def choice_probabilities(utility: Array, trials: Array, gamma: float, cap: float) -> Array:
    """(K,) choice probabilities: of ``trials`` (K,) where any is worth trying, else of the leader; the rest by inverse gaps.

    Parameters
    ----------
    utility
        (K,) after caution.
    trials
        Of `trial_weights`.
    gamma, cap
        As in `inverse_gap_weights`.
    """
    greedy = inverse_gap_weights(utility, gamma, cap)
    out: Array = (1.0 - cap) * trials + cap * greedy if trials.any() else greedy
    return out


def inverse_gap_weights(utility: Array, gamma: float, cap: float) -> Array:
    """Choice probabilities over K candidates.

    ``p_i = 1 / (K + gamma * (u_best - u_i))`` for all but the best, which takes the rest; where the others together
    would exceed ``cap``, they are scaled down to it.

    Parameters
    ----------
    utility
        (K,) finite.
    gamma
        At least 0; higher is greedier.
    cap
        In [0, 1]; 0 chooses the best always.

    Returns
    -------
    NDArray
        (K,) positive (where cap > 0), sums to 1.

    Examples
    --------
    >>> inverse_gap_weights(np.array([0.9, 0.4]), gamma=16.0, cap=1.0)
    array([0.9, 0.1])
    """
    best = int(utility.argmax())
    weight: Array = 1.0 / (len(utility) + gamma * (utility[best] - utility))
    weight[best] = 0.0
    explored = weight.sum()
    if explored > cap:
        weight *= cap / explored
    weight[best] = 1.0 - weight.sum()
    return weight
