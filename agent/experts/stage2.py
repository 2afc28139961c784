"""Stage 2's training: general heads and task heads in closed form, and what training them further changes.

Task heads may start from their parents' (`agent.experts.parents`). What training changes (`agent.experts.training`) is believed
as far as its out-of-fold estimates deserve; a task whose heads the closed form does not believe gets none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from agent.examples import Scores
from agent.experts.general_heads import GeneralHeads, Trunk, cross_fitted, fit_general_heads
from agent.experts.task_heads import (
    Start,
    TaskHeads,
    allowed_heads,
    feature_basis,
    fit_task_heads,
    head_inputs,
    hide,
)
from agent.tasks.means import Variances
from agent.types import Array

Folds = Sequence[tuple[NDArray[np.bool_], Array]]
"""By fold, (n,) which prompts' scores are hidden, and (n, m) estimates of stage 1 of all prompts then."""


@dataclass(frozen=True, slots=True)
class Stage2:
    """``oof`` (n, m) are the out-of-fold estimates of both kinds of heads; ``general_factor`` and ``task_factor`` in [0, 1] say
    how far the trained changes of each are believed, ``start`` what task heads could start from."""

    general: GeneralHeads
    tasks: TaskHeads
    oof: Array
    general_factor: float
    task_factor: float
    start: Start | None


def fit_stage2(
    trunk: Trunk,
    scores: Scores,
    variances: Variances,
    labels: NDArray[np.int64],
    expected: Array,
    folds: Folds,
    penalties: list[Array],
    candidates: list[tuple[int, ...]],
    rows: NDArray[np.int64],
    probabilities: Array,
    inherit: Callable[[Array], Start | None],
) -> Stage2:
    """Fit both kinds of heads to the ``scores`` of the training prompts.

    Parameters
    ----------
    labels, expected
        (n,) tasks of the prompts, and (n, m) out-of-fold estimates of stage 1.
    penalties
        Cost penalties, (m,) each, over which the models' competition is averaged.
    candidates
        By task, the models that get a head; none: no task head counts.
    rows, probabilities
        (s,) prompts that the changes are trained on, with (s, T) the ``probabilities`` that their neighbours give their tasks.
    inherit
        From inputs (n, q) of the task heads to the heads that they may start from.
    """
    from agent.experts.training import FEATURES, Change, Prompts, cross_fit  # torch, which only training needs

    general = fit_general_heads(trunk, scores, expected, penalties)
    hidden = [fold[rows] for fold, _ in folds]
    if scores.complete:
        by_fold = list(cross_fitted(trunk, general, rows, hidden))
    else:  # missing scores are filled by stage 1's estimates, which must not know the scores that the heads are judged by
        oof, by_fold = np.zeros_like(expected), []
        for fold, estimate in folds:
            without = fit_general_heads(trunk, scores.without(fold), estimate, penalties).oof
            oof[fold] = without[fold]
            by_fold.append(without[rows])
        general = replace(general, oof=oof)

    inputs, allowed = head_inputs(trunk), allowed_heads(candidates, scores.value.shape[1])
    features = min(FEATURES, trunk.basis.shape[1])
    wide = np.concatenate([trunk.basis[:, :features] * np.sqrt(len(labels)), np.ones((len(labels), 1))], axis=1)
    prompts = Prompts.of(wide.astype(np.float64), inputs, labels, scores, variances)
    changed: Change = cross_fit(
        "general", prompts, rows, general.oof[rows], list(zip(hidden, by_fold)), allowed, probabilities
    )
    if changed.factor:
        weight = general.weight + feature_basis(trunk, features) @ changed.weights
        general = replace(general, weight=weight, oof=general.oof + changed.oof)
        by_fold = [base + changed.oof[rows] for base in by_fold]

    start = inherit(inputs)
    tasks = fit_task_heads(trunk, scores, general.oof, labels, allowed, start)
    allowed &= (tasks.alpha > 0.0)[:, None]  # heads that are not believed are neither trained nor stored
    if not allowed.any():
        return Stage2(general, tasks, general.oof + tasks.oof, changed.factor, 0.0, start)
    closed = []
    for (fold, _), base in zip(folds, by_fold):
        whole = general.oof.copy()
        whole[rows] = base
        closed.append(base + hide(tasks, trunk, scores.without(fold), whole, labels, allowed, start)[rows])
    task_folds = list(zip(hidden, closed))
    further = cross_fit("task", prompts, rows, (general.oof + tasks.oof)[rows], task_folds, allowed, probabilities)
    if further.factor:
        tasks = replace(tasks, weights=tasks.weights + further.weights, oof=tasks.oof + further.oof)
    return Stage2(general, tasks, general.oof + tasks.oof, changed.factor, further.factor, start)
