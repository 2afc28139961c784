"""Choice probabilities from utilities, so that every decision's propensity is exact.

The model that gets most of the probability (the leader) is the one with the highest utility, unless trying another is worth
more: the knowledge gradient (Frazier, Powell & Dayanik 2008, with a lookahead of several trials) compares what some
trials of a model over all tasks would improve later choices with what they cost; for under-sampled models it is made for
the prompt's task alone too. The other models share the rest by inverse-gap weighting (SquareCB, Foster & Rakhlin 2020), so
that every propensity is positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from agent.types import Array

_AHEAD = 1e-9
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
    lookahead
        Numbers of trials that are compared.
    initial_pulls
        A model without scores or priors is explored until it has this many scores.
    task_horizon
        Later requests of the same task over which a trial on it is expected to pay.
    under_sampled
        A model with fewer scores per task, on average, is also explored task by task.
    """

    gamma: float = 5000.0
    gamma_growth: float = 100.0
    cap: float = 0.05
    horizon: float = 500.0
    lookahead: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    initial_pulls: float = 8.0
    task_horizon: float = 10.0
    under_sampled: float = 4.0


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


def knowledge_gradient(arms: ArmPosterior, horizon: float, lookahead: Sequence[int]) -> Array:
    """Net gain per trial of the best plan "try this model n times, then take the better one"; 0 for the leader.

    Parameters
    ----------
    arms
        K candidates.
    horizon
        Number of choices ahead, trials included.
    lookahead
        The n that are compared.

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
    best = int(arms.utility.argmax())
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


def add_knowledge_gradient(
    utility: Array,
    overall: ArmPosterior,
    pulls_left: Array,
    config: ChoiceConfig = ChoiceConfig(),
    on_task: ArmPosterior | None = None,
    under_sampled: NDArray[np.bool_] | None = None,
) -> Array:
    """(K,) ``utility`` with the leader's raised to be the largest.

    Parameters
    ----------
    utility
        (K,) expected on this prompt.
    overall
        Over all tasks.
    pulls_left
        (K,) scores that a model without priors still lacks of its initial pulls; 0 for the others.
    on_task
        On the prompt's task.
    under_sampled
        (K,) models that are also explored task by task.
    """
    value = knowledge_gradient(overall, config.horizon, config.lookahead)
    # a trial that costs more here than on average is left to other prompts
    extra_gap = (utility.max() - utility) - (overall.utility.max() - overall.utility)
    value = np.where(value > 0.0, np.maximum(value - np.maximum(extra_gap, 0.0), 0.0), 0.0)
    if on_task is not None and under_sampled is not None and under_sampled.any():
        gradient = knowledge_gradient(on_task, config.task_horizon, config.lookahead)
        value = np.maximum(value, np.where(under_sampled, gradient, 0.0))
    index = utility + value
    if pulls_left.any():
        index[int(pulls_left.argmax())] = index.max() + 1.0
    elif value.any():
        index[int(value.argmax())] = index.max() + _AHEAD
    return index


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
