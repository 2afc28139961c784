"""The choice among the eligible models: utilities, caution toward newcomers, and exact choice probabilities.

Everything that the choice depends on is taken from the eligible models alone, so one that cannot be chosen changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from agent.choice.exploration import ArmPosterior, ChoiceConfig, choice_probabilities, trial_weights, values_of_trials
from agent.choice.newcomers import caution, uncertainty_caution, unproven
from agent.choice.utility import cost_weight, dearest_extra, shrinkage
from agent.online.prior import noise_variance
from agent.types import Array, Part, RouteRequest


@dataclass(frozen=True, slots=True)
class PoolPosterior:
    """Posterior of K models' qualities for one prompt.

    Parameters
    ----------
    names
        (K,) names of the models.
    cost
        (K,) expected USD of the request.
    quality, covariance
        (K,) expected, in [0, 1], and (K, K) the covariance of what further scores on the prompt's task could still change.
    overall, overall_covariance
        (K,) and (K, K) the same over all tasks.
    task_variance
        (K,) variance of a model's quality from task to task.
    n_scores
        (K,) scores of each model, those of the snapshot included.
    added
        (K,) models that the snapshot does not know.
    heirs
        (K,) those of them that inherit the estimates of a model that they replace: they may lead before they have scores.
    on_trial
        (K,) models that have joined, and may yet be found to be needed or not.
    pulls_left
        (K,) scores that a model still lacks of its initial pulls.
    under_sampled
        (K,) models that are also explored task by task.
    task_n_scores
        Scores of the prompt's tasks.
    parts
        What each quality is made of.
    """

    names: Sequence[str]
    cost: Array
    quality: Array
    covariance: Array
    overall: Array
    overall_covariance: Array
    task_variance: Array
    n_scores: Array
    added: NDArray[np.bool_]
    heirs: NDArray[np.bool_]
    on_trial: NDArray[np.bool_]
    pulls_left: Array
    under_sampled: NDArray[np.bool_]
    task_n_scores: float
    parts: Sequence[Mapping[str, Part]]


@dataclass(frozen=True, slots=True)
class Choice:
    """What is chosen with which probability, and why; all (K,).

    ``utility = quality + shrinkage - cost_penalty - caution``; propensity and caution of a model that is not eligible are 0.
    """

    shrinkage: Array
    cost_penalty: Array
    caution: Array
    utility: Array
    propensity: Array


def choose(
    pool: PoolPosterior,
    eligible: NDArray[np.int64],
    request: RouteRequest,
    share: float,
    config: ChoiceConfig = ChoiceConfig(),
) -> Choice:
    """Utilities and choice probabilities.

    Parameters
    ----------
    eligible
        At least one column of the pool.
    request
        Its tradeoff, whether it may be explored, and what that may cost.
    share
        By which estimates are drawn toward the models' overall means, see `agent.choice.utility`.
    """
    scores, sd = pool.n_scores[eligible], np.sqrt(np.diag(pool.overall_covariance))[eligible]
    uncertain = uncertainty_caution(sd, scores, config.caution)
    held_back = unproven(scores, pool.added[eligible], config.caution) & ~pool.heirs[eligible]
    # lambda's scale: a model of which little is known does not change how the others are weighed
    known_cost = pool.cost[eligible][(uncertain == 0.0) & ~held_back]
    per_dollar = cost_weight(request.cost_quality_tradeoff, float(known_cost.max()))
    cost_penalty = per_dollar * pool.cost
    shrunk_by = shrinkage(pool.quality, pool.overall, share, per_dollar * float(known_cost.mean()))
    mean = pool.quality + shrunk_by - cost_penalty
    lowered_by, propensity = np.zeros(len(mean)), np.zeros(len(mean))
    lowered_by[eligible] = caution(mean[eligible], uncertain, held_back)
    utility = mean - lowered_by
    if request.explore:
        known = ~held_back & (uncertain == 0.0)
        propensity[eligible] = _propensities(
            pool, eligible, held_back, known, mean, lowered_by, cost_penalty, request, config
        )
    else:
        propensity[eligible[utility[eligible].argmax()]] = 1.0
    return Choice(shrunk_by, cost_penalty, lowered_by, utility, propensity)


def _propensities(
    pool: PoolPosterior,
    eligible: NDArray[np.int64],
    held_back: NDArray[np.bool_],
    known: NDArray[np.bool_],
    mean: Array,
    lowered_by: Array,
    cost_penalty: Array,
    request: RouteRequest,
    config: ChoiceConfig,
) -> Array:
    """Choice probabilities of the ``eligible`` columns, given which are held back or known, and utilities before caution."""
    block = np.ix_(eligible, eligible)
    mean, lowered_by, penalty = mean[eligible], lowered_by[eligible], cost_penalty[eligible]
    noise = noise_variance(pool.quality[eligible])
    overall = ArmPosterior(
        pool.overall[eligible] - penalty, pool.overall_covariance[block], noise + pool.task_variance[eligible]
    )
    on_task = ArmPosterior(mean, pool.covariance[block], noise)
    value = values_of_trials(
        mean, lowered_by, overall, config, on_task, pool.under_sampled[eligible], held_back | pool.on_trial[eligible]
    )
    lead = int((mean - lowered_by).argmax())
    price = np.maximum(mean[lead] - mean, 0.0)
    price += dearest_extra(request.cost_quality_tradeoff, pool.cost[eligible], penalty)
    limits = request.affordable or {}
    affordable = np.array([limits.get(pool.names[i], np.inf) for i in eligible])
    # what the others cost is limited by the key's tokens alone, unless no scores of them come in
    affordable = np.where(known & (affordable >= 0.0), np.inf, affordable)
    # beside models that are proven, a newcomer is tried as long as that is worth its price, and no longer
    pulls_left = np.where(held_back, 0.0, pool.pulls_left[eligible])
    trials = trial_weights(value, pulls_left, price, affordable, lead, config)
    gamma = config.gamma + config.gamma_growth * pool.task_n_scores
    return choice_probabilities(mean - lowered_by, trials, gamma, config.cap)
