"""From utilities to a choice whose propensity is exact.

Who leads is decided by the *value of trying*: the leader by expectation gives way to a model that may be better over
all tasks, where what a few trials would teach is worth more over the requests to come than what they cost (Frazier,
Powell & Dayanik's knowledge gradient, looking several trials ahead). The same question asked of each task alone cost
more than it taught (docs/log.md). Around the leader, inverse-gap weighting (SquareCB, Foster & Rakhlin 2020) keeps
every model's propensity positive.
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
        Greed at no evidence: a model that is worse by a gap is chosen with probability ``1 / (K + gamma * gap)``.
    gamma_growth
        Gamma grows by this with every score that stands behind the prompt's task.
    cap
        Most of a request's probability that may go to other models than the leader.
    horizon, trials
        Requests that a lesson learned now is thought to serve, and the numbers of trials weighed.
    initial_pulls
        Scores that every model gets first of which the snapshot knows nothing at all.
    task_horizon
        Requests of one task that a lesson on it is thought to serve.
    under_sampled
        Scores a task, on average, below which a model is still tried task by task.
    """

    gamma: float = 5000.0
    gamma_growth: float = 100.0
    cap: float = 0.05
    horizon: float = 500.0
    trials: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    initial_pulls: float = 8.0
    task_horizon: float = 10.0
    under_sampled: float = 4.0


@dataclass(frozen=True, slots=True)
class ArmPosterior:
    """What is known of K candidates over all tasks.

    Parameters
    ----------
    utility
        (K,) expected.
    covariance
        (K, K) of what further scores could teach.
    noise
        (K,) variance of one score around it: that of the score, and that from task to task.
    """

    utility: Array
    covariance: Array
    noise: Array


def knowledge_gradient(outlook: ArmPosterior, horizon: float, trials: Sequence[int]) -> Array:
    """What the best plan "try this model n times, then choose for the other requests" earns a trial; 0 for the leader.

    Parameters
    ----------
    outlook
        Of K candidates.
    horizon
        How many choices are ahead, trials included.
    trials
        The n that are weighed.

    Returns
    -------
    NDArray
        (K,) in utility; negative where trying costs more than it teaches.

    Examples
    --------
    >>> look = ArmPosterior(np.array([0.7, 0.6]), np.diag([0.0, 0.04]), np.array([0.25, 0.25]))
    >>> knowledge_gradient(look, 100, (1, 4)).round(3).tolist(), knowledge_gradient(look, 2, (1, 4)).round(3).tolist()
    ([0.0, 0.26], [0.0, -0.097])
    """
    best = int(outlook.utility.argmax())
    n = np.array(trials, np.float64)[:, None]  # (t, 1)
    gap = outlook.utility[best] - outlook.utility
    own = np.maximum(np.diag(outlook.covariance), 1e-12)
    # standard deviation that n scores of a model will give to the estimate of its lead
    reach = np.abs(outlook.covariance[best] - own) / np.sqrt(own + outlook.noise / n) + 1e-9
    z = gap / reach
    gain = reach * _DENSITY * np.exp(-0.5 * z * z) - gap * ndtr(-z)  # (t, K)
    plan = np.maximum(horizon - n, 0.0) * gain / n - gap
    value: Array = plan.max(axis=0)
    value[best] = 0.0
    return value


def add_knowledge_gradient(
    utility: Array,
    outlook: ArmPosterior,
    pulls_left: Array,
    config: ChoiceConfig = ChoiceConfig(),
    near: ArmPosterior | None = None,
    under_sampled: NDArray[np.bool_] | None = None,
) -> Array:
    """(K,) ``utility`` on this prompt, plus the value of trying where that is positive; the largest is to lead.

    Parameters
    ----------
    utility
        (K,) expected on this prompt: a trial costs what it costs here.
    outlook
        Over all tasks.
    pulls_left
        (K,) scores that a model which nobody knows still lacks of its welcome; 0 for the others.
    near
        On the prompt's task.
    under_sampled
        (K,) which models are still tried task by task.
    """
    value = knowledge_gradient(outlook, config.horizon, config.trials)
    dearer = (utility.max() - utility) - (outlook.utility.max() - outlook.utility)
    value = np.where(value > 0.0, np.maximum(value - np.maximum(dearer, 0.0), 0.0), 0.0)
    if near is not None and under_sampled is not None and under_sampled.any():
        value = np.maximum(
            value, np.where(under_sampled, knowledge_gradient(near, config.task_horizon, config.trials), 0.0)
        )
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
    weight = 1.0 / (len(utility) + gamma * (utility[best] - utility))
    weight[best] = 0.0
    explored = weight.sum()
    if explored > cap:
        weight *= cap / explored
    weight[best] = 1.0 - weight.sum()
    out: Array = weight
    return out
