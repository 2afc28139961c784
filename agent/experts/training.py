"""Training of the heads beyond their closed form, in two phases: the general heads, then the task heads.

`Experts` holds a change of every head on the trunk's leading features; zero is the closed form exactly. A phase minimises
`pair_loss` over the observed scores, full batch, and a proximal term that pulls each change to zero: first of the general
heads with task heads absent, then of the task heads with all else frozen (arXiv 2603.19415).

A training of all prompts does not show what a change is worth. Each phase is trained anew without the scores of each fold of
prompts, from a closed form that does not know them either, and what it so gains on the fold in the squared error of contrasts
decides by which factor in [0, 1] the change is believed; 0 is the closed form. Leave-one-out estimates in place of
the fold's own closed form would not do: each knows the scores of all other prompts, and what is trained on them unlearns those.

Only training needs this module, and torch; one thread, so that equal inputs give equal weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize

from agent.examples import Scores
from agent.tasks.means import Variances, prompt_share
from agent.types import Array

FEATURES = 32
"""Leading features of the trunk that the change of a general head reads."""

STEPS = 15
"""Of L-BFGS."""

TEMPERATURE = 0.1
"""Of the softmax of scores, and of estimates, in the listwise term."""

LISTWISE = 0.1
"""Weight of the listwise term beside the negative log likelihood of the squared error."""

CHANGE_SD = 0.01
"""Prior standard deviation of the change of a weight, of a feature whose mean square over the prompts is 1."""

STANDARD_ERRORS = 2.0
"""A gain below so many standard errors of it is not believed."""

Phase = Literal["general", "task"]


@dataclass(frozen=True, slots=True)
class Prompts:
    """n prompts with scores.

    Parameters
    ----------
    inputs
        (n, q) leading features of the trunk and a 1, of mean square 1.
    task_inputs
        (n, k) those that task heads read.
    labels
        (n,) tasks.
    scores
        (n, m).
    share
        (n,) see `agent.tasks.means.prompt_share`.
    noise
        Variance of a score's noise.
    """

    inputs: Array
    task_inputs: Array
    labels: NDArray[np.int64]
    scores: Scores
    share: Array
    noise: float

    @classmethod
    def of(
        cls, inputs: Array, task_inputs: Array, labels: NDArray[np.int64], scores: Scores, variances: Variances
    ) -> Prompts:
        """With the shares and the noise that ``variances`` make."""
        return cls(inputs, task_inputs, labels, scores, prompt_share(scores.score_weight, variances), variances.noise)

    def take(self, rows: NDArray[np.int64]) -> Prompts:
        """Those of ``rows``."""
        scores = Scores(self.scores.value[rows], self.scores.score_weight[rows])
        return Prompts(
            self.inputs[rows], self.task_inputs[rows], self.labels[rows], scores, self.share[rows], self.noise
        )


class Experts(torch.nn.Module):
    """General heads and low-rank task heads on the frozen trunk, as changes of their closed form.

    ``features`` (q), ``task_features`` (k) and ``allowed`` (T, m), which models have a head for a task, give the shapes of the
    parameters ``general`` (q, m) and ``task`` (T, k, m), both 0 at first.
    """

    allowed: torch.Tensor

    def __init__(self, features: int, task_features: int, allowed: NDArray[np.bool_]) -> None:
        super().__init__()
        tasks, models = allowed.shape
        self.general = torch.nn.Parameter(torch.zeros(features, models, dtype=torch.float64))
        self.task = torch.nn.Parameter(torch.zeros(tasks, task_features, models, dtype=torch.float64))
        self.register_buffer("allowed", torch.from_numpy(allowed[:, None, :].astype(np.float64)))

    def forward(
        self, closed_form: torch.Tensor, inputs: torch.Tensor, task_inputs: torch.Tensor, labels: torch.Tensor
    ) -> torch.Tensor:
        """(n, m) qualities, of (n, m) those of the closed form and the inputs of n prompts."""
        task = torch.einsum("nk,nkm->nm", task_inputs, (self.task * self.allowed)[labels])
        return closed_form + inputs @ self.general + task


def pair_loss(
    quality: torch.Tensor, value: torch.Tensor, weight: torch.Tensor, share: torch.Tensor, noise: float
) -> torch.Tensor:
    """(n,) loss of ``quality`` on the observed (prompt, model) pairs; all (n, m), ``share`` (n,).

    Squared errors, less what is due to the prompt's effect on all models, by twice the noise; and, where several models are
    scored, the listwise cross-entropy of the softmax of estimates to that of scores (Cao et al. 2007), weighted by the scores.
    """
    gap = weight * (value - quality)
    squared = (gap * (value - quality)).sum(1) - share * gap.sum(1) ** 2
    log_weight = torch.log(weight.clamp_min(1e-30))
    wanted = torch.softmax(value / TEMPERATURE + log_weight, 1)
    found = torch.log_softmax(quality / TEMPERATURE + log_weight, 1)
    several = ((weight > 0).sum(1) > 1) * weight.sum(1) / (weight > 0).sum(1).clamp_min(1)
    return squared / (2 * noise) - LISTWISE * several * (wanted * found * (weight > 0)).sum(1)


def train(phase: Phase, prompts: Prompts, closed_form: Array, allowed: NDArray[np.bool_]) -> Array:
    """The change of a phase's weights that ``prompts`` teach, from ``closed_form`` (n, m): (q, m) or (T, k, m)."""
    experts = Experts(prompts.inputs.shape[1], prompts.task_inputs.shape[1], allowed)
    experts.requires_grad_(False)
    parameter = getattr(experts, phase).requires_grad_(True)
    scores = prompts.scores
    given = [torch.from_numpy(np.ascontiguousarray(a, np.float64)) for a in (
        closed_form, prompts.inputs, prompts.task_inputs, scores.value, scores.score_weight, prompts.share)]  # fmt: skip
    closed, inputs, task_inputs, value, weight, share = given
    labels = torch.from_numpy(prompts.labels)

    def loss(flat: Array) -> tuple[float, Array]:
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(flat).view_as(parameter))
        parameter.grad = None
        total = pair_loss(experts(closed, inputs, task_inputs, labels), value, weight, share, prompts.noise).sum()
        total = total + (parameter**2).sum() / (2 * CHANGE_SD**2)
        total.backward()
        return total.item(), parameter.grad.numpy().ravel()

    found = minimize(loss, np.zeros(parameter.numel()), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    weights: Array = found.x.reshape(tuple(parameter.shape))
    return weights if phase == "general" else weights * allowed[:, None, :]


def change(phase: Phase, weights: Array, prompts: Prompts, probabilities: Array | None = None) -> Array:
    """(n, m) what `train`'s ``weights`` add to the quality of ``prompts``, by their task (n, T) ``probabilities``, or tasks."""
    if phase == "general":
        return prompts.inputs @ weights
    tasks, inputs, models = weights.shape
    if probabilities is None:
        heads = weights[prompts.labels]
    else:
        heads = (probabilities @ weights.reshape(tasks, -1)).reshape(-1, inputs, models)
    out: Array = (prompts.task_inputs[:, None, :] @ heads)[:, 0]
    return out


@dataclass(frozen=True, slots=True)
class Change:
    """What a phase changed: ``weights`` and out-of-fold ``oof`` (n, m), both times the ``factor`` by which it is believed."""

    weights: Array
    oof: Array
    factor: float


def cross_fit(
    phase: Phase,
    prompts: Prompts,
    rows: NDArray[np.int64],
    closed_form: Array,
    by_fold: Sequence[tuple[NDArray[np.bool_], Array]],
    allowed: NDArray[np.bool_],
    probabilities: Array,
) -> Change:
    """Train a phase on the prompts ``rows`` (s,), and find how far to believe it.

    ``closed_form`` (s, m) is of all scores, leave-one-out; ``by_fold`` gives (s,) which prompts are hidden and (s, m) the
    closed form without their scores. A hidden prompt is estimated by the (s, T) ``probabilities`` that its neighbours give its
    tasks: its own task was chosen by its scores too. Prompts outside ``rows`` are estimated by a training that knows none of
    their scores.
    """
    some = prompts.take(rows)
    found, base = np.zeros_like(closed_form), closed_form.copy()
    with one_thread():
        for hidden, without in by_fold:
            known = np.flatnonzero(~hidden)
            weights = train(phase, some.take(known), without[known], allowed)
            out = some.take(np.flatnonzero(hidden))
            found[hidden], base[hidden] = change(phase, weights, out, probabilities[hidden]), without[hidden]
        factor = believe(some.scores.residual(base), found, some)
        weights = train(phase, some, closed_form, allowed) if factor else np.zeros(())
    oof = np.zeros_like(prompts.scores.value)
    if factor:
        oof = factor * change(phase, weights, prompts)
        oof[rows] = factor * found
    return Change(factor * weights, oof, factor)


def believe(residual: Array, change: Array, prompts: Prompts) -> float:
    """The least-squares factor in [0, 1] of ``change`` for ``residual``, (n, m) both, in contrasts; 0 where its gain is not
    `STANDARD_ERRORS` above 0."""
    weight, share = prompts.scores.score_weight, prompts.share

    def product(left: Array, right: Array) -> Array:
        shared = share * (weight * left).sum(axis=1) * (weight * right).sum(axis=1)
        out: Array = (weight * left * right).sum(axis=1) - shared
        return out

    gain, power = product(residual, change), product(change, change)
    factor = float(np.clip(gain.sum() / max(power.sum(), 1e-12), 0.0, 1.0))
    better = 2.0 * factor * gain - factor**2 * power
    return factor if better.sum() > STANDARD_ERRORS * np.sqrt((better**2).sum()) else 0.0


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
